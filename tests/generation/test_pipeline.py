"""The pipeline on tiny random weights: prompts to pictures, step by step."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from jepa_app.checkpoint import load_config, save_network, write_manifest
from jepa_app.config import TokenizerConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.tokenizers.tokenizer import make_tokenizer
from jepa_app.pixels import picture_grid, to_pil

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pipeline(tiny_weights: Path) -> JepaTPipeline:
    return JepaTPipeline.from_pretrained(tiny_weights)


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pixels(pipeline: JepaTPipeline, prompt: str | list[str] = "red apple", **settings: object) -> torch.Tensor:
    generator = settings.pop("generator", None) or seeded()
    images = pipeline(prompt, num_inference_steps=4, generator=generator, output_type="pt", **settings).images
    assert isinstance(images, torch.Tensor)
    return images


def test_steps_show_known_patches_and_grey_elsewhere(pipeline: JepaTPipeline) -> None:
    steps = list(pipeline.stream("red apple", num_inference_steps=5, generator=seeded()))
    assert [(step.index, step.total) for step in steps] == [(index, 5) for index in range(5)]
    for step in steps:
        assert step.image.shape == (1, 3, 32, 32)
        assert float(step.image.abs().max()) <= 1
        patches = step.image[0].unfold(1, 8, 8).unfold(2, 8, 8).permute(1, 2, 0, 3, 4).flatten(0, 1)  # (N, 3, 8, 8)
        grey = (patches == 0).flatten(1).all(dim=1)
        assert torch.equal(grey, ~step.known[0])
    whole = pipeline.image_tokenizer.decode(steps[-1].tokens)
    assert torch.equal(steps[-1].image, whole)


def test_facts_about_the_pipeline(pipeline: JepaTPipeline) -> None:
    assert (pipeline.image_size, pipeline.grid) == (32, 4)
    assert (pipeline.device.type, pipeline.dtype, pipeline.attention_backend) == ("cpu", torch.float32, "sdpa")


def test_the_same_seed_gives_the_same_bits(pipeline: JepaTPipeline) -> None:
    assert torch.equal(pixels(pipeline), pixels(pipeline))
    assert not torch.equal(pixels(pipeline), pixels(pipeline, generator=seeded(8)))


def test_random_state_outside_is_neither_used_nor_changed(pipeline: JepaTPipeline) -> None:
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = pixels(pipeline)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    assert torch.equal(pixels(pipeline), first)


def test_without_a_generator_every_picture_is_another(pipeline: JepaTPipeline) -> None:
    torch.manual_seed(0)
    first = pipeline("red apple", num_inference_steps=2, output_type="pt").images
    torch.manual_seed(0)
    assert not torch.equal(pipeline("red apple", num_inference_steps=2, output_type="pt").images, first)


def test_in_a_batch_with_other_prompts_the_picture_stays(pipeline: JepaTPipeline) -> None:
    prompts = ["red apple", "a joyful cat in front of a very old house under the midnight sun", "rose"]
    together = pixels(pipeline, prompts, generator=[seeded(index) for index in range(3)])
    for index, prompt in enumerate(prompts):
        alone = pixels(pipeline, prompt, generator=seeded(index))
        assert float((together[index] - alone[0]).abs().max()) <= 2 / 127.5


def test_negative_prompts(pipeline: JepaTPipeline) -> None:
    base = pixels(pipeline)
    assert torch.equal(pixels(pipeline, negative_prompt=" "), base)
    assert not torch.allclose(pixels(pipeline, negative_prompt="blurry"), base, atol=1e-3)
    off = pixels(pipeline, guidance_scale=1.0)
    assert torch.equal(pixels(pipeline, guidance_scale=1.0, negative_prompt="blurry"), off)


@pytest.mark.parametrize("prompt", ["🍎", "красное яблоко", "りんご", "👩‍🚀", "\x00 \ud800 apple"], ids=ascii)
def test_prompts_in_any_script(pipeline: JepaTPipeline, prompt: str) -> None:
    assert bool(torch.isfinite(pixels(pipeline, prompt)).all())


@pytest.mark.parametrize("prompt", ["", "  \n", [], ["red apple", ""], ["red apple", None]], ids=repr)
def test_empty_prompts_are_refused(pipeline: JepaTPipeline, prompt: str | list[str]) -> None:
    count = len(prompt) if isinstance(prompt, list) else 1
    with pytest.raises(ValueError, match="a prompt is empty; describe the picture"):
        pipeline(prompt, generator=[seeded() for _ in range(count)])


def test_over_long_prompts_are_refused(pipeline: JepaTPipeline) -> None:
    for settings in ({"prompt": "apple " * 2000}, {"negative_prompt": "apple " * 2000}):
        with pytest.raises(ValueError, match="2002 word pieces; allowed: up to 128"):
            pixels(pipeline, **settings)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_inference_steps": 0}, "steps is 0; allowed: 1 to 16"),
        ({"num_inference_steps": 17}, "steps is 17"),
        ({"guidance_scale": float("nan")}, "guidance is nan"),
        ({"temperature": -1}, "temperature is -1"),
        ({"guidance_schedule": "cosine"}, "guidance_schedule is 'cosine'; allowed: constant or linear"),
        ({"generator": [seeded(), seeded()]}, "got 2 generators for 1 pictures"),
        ({"output_type": "latent"}, "output_type is 'latent'; allowed: pil, np, pt"),
    ],
)
def test_absurd_settings_are_refused(pipeline: JepaTPipeline, settings: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipeline("red apple", **settings)


def test_the_call_of_diffusers(pipeline: JepaTPipeline) -> None:
    seen = []
    out = pipeline(
        ["red apple", "rose"],
        num_inference_steps=3,
        num_images_per_prompt=2,
        generator=[seeded(index) for index in range(4)],
        callback_on_step_end=lambda _, step, total, tensors: seen.append((step, total, sorted(tensors))) or tensors,
    )
    assert [image.size for image in out.images] == [(32, 32)] * 4
    assert seen == [(step, 3, ["known", "tokens"]) for step in range(3)]
    second = pipeline("red apple", num_inference_steps=3, generator=seeded(1)).images[0]
    difference = np.asarray(second, dtype=int) - np.asarray(out.images[1], dtype=int)
    assert abs(difference).max() <= 2


def test_output_types_show_the_same_picture(pipeline: JepaTPipeline) -> None:
    pil, array, tensor = (
        pipeline("rose", num_inference_steps=2, generator=seeded(), output_type=kind).images
        for kind in ("pil", "np", "pt")
    )
    assert array.shape == (1, 32, 32, 3)
    assert np.allclose(array[0], np.asarray(pil[0]) / 255, atol=0.5 / 255 + 1e-6)
    assert np.allclose(array, (tensor.permute(0, 2, 3, 1).numpy() + 1) / 2)


def test_pictures_and_grids() -> None:
    black, white = to_pil(torch.stack([torch.full((3, 16, 16), -1.0), torch.full((3, 16, 16), 3.0)]))
    assert (black.getpixel((0, 0)), white.getpixel((0, 0))) == ((0, 0, 0), (255, 255, 255))
    grid = picture_grid([black] * 3, columns=2)
    assert grid.size == (33, 33)
    assert grid.getpixel((16, 0)) == (255, 255, 255)
    assert grid.getpixel((17, 17)) == (255, 255, 255)
    assert grid.getpixel((0, 17)) == (0, 0, 0)
    assert isinstance(grid, Image.Image)


def test_saved_pipelines_load_and_draw_the_same(pipeline: JepaTPipeline, tmp_path: Path) -> None:
    pipeline.save_pretrained(tmp_path / "saved")
    assert torch.equal(pixels(JepaTPipeline.from_pretrained(tmp_path / "saved")), pixels(pipeline))


def swap_parts(weights: Path) -> None:
    (weights / "tokenizer").rename(weights / "held")
    (weights / "jepa-t").rename(weights / "tokenizer")
    (weights / "held").rename(weights / "jepa-t")
    write_manifest(weights)


def give_another_tokenizer(weights: Path) -> None:
    config = TokenizerConfig(image_size=32, patch_size=8, channels=10)
    save_network(weights / "tokenizer", make_tokenizer(config), config)
    write_manifest(weights)


def corrupt(weights: Path) -> None:
    path = weights / "jepa-t" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (swap_parts, "expected: TokenizerConfig; were they swapped"),
        (give_another_tokenizer, "makes 16 tokens of 10 channels, the network takes 16 of 12"),
        (corrupt, "is corrupt"),
        (lambda weights: shutil.rmtree(weights / "jepa-t"), "is missing"),
    ],
    ids=["swapped", "another tokenizer", "corrupt", "missing"],
)
def test_weights_that_do_not_fit_are_refused(
    tiny_weights: Path, tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    weights = Path(shutil.copytree(tiny_weights, tmp_path / "weights"))
    assert load_config(weights / "tokenizer", TokenizerConfig).channels == 12
    damage(weights)
    with pytest.raises(ValueError, match=message):
        JepaTPipeline.from_pretrained(weights)


@pytest.mark.slow  # two processes with the bundled weights: tiny networks are never split between threads
def test_a_seed_draws_the_same_picture_whatever_the_number_of_threads() -> None:
    script = (
        "import sys, hashlib, torch\n"
        "from jepa_app.generation.pipeline import JepaTPipeline\n"
        "pipeline = JepaTPipeline.from_pretrained('weights')\n"
        "torch.set_num_threads(int(sys.argv[1]))\n"
        "made = pipeline(['apple, noto style', 'cat'], generator=[torch.Generator().manual_seed(n) for n in (1, 2)])\n"
        "print([hashlib.sha256(image.tobytes()).hexdigest() for image in made.images])\n"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", script, threads], capture_output=True, text=True, check=True, cwd=ROOT
        ).stdout
        for threads in ("1", "2", "4")
    ]
    assert told[0].count("'") == 4
    assert told[0] == told[1] == told[2]
