"""The diffusion transformer: it learns, its pictures follow from their seeds, it saves and loads whole."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from jepa_app.checkpoint import save_network
from jepa_app.models.text import TextEncoder
from jepa_app.models.tokenizers.tokenizer import Tokenizer, make_tokenizer
from tests.conftest import TINY_TOKENIZER, awake
from training.data.batches import Batch
from training.judging.weights import load_generators
from training.objectives.text_cache import TextCache
from training.optimisation.muon import make_optimizers
from training.peers.dit import Dit, DitConfig, DitPipeline
from training.peers.dit_objective import DitLoss, DitObjective

TINY = DitConfig(num_tokens=16, channels=12, width=32, num_heads=2, depth=2)
PROMPTS = ["red apple, noto style", "cat"]


def seeds(*numbers: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(number) for number in numbers]


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    torch.manual_seed(0)
    tokenizer = make_tokenizer(TINY_TOKENIZER)
    tokenizer.fit([torch.rand(64, 3, 32, 32) * 2 - 1])
    return tokenizer


@pytest.fixture(scope="module")
def pipeline(tokenizer: Tokenizer, text_encoder: TextEncoder) -> DitPipeline:
    torch.manual_seed(0)
    network = awake(Dit(TINY))
    assert isinstance(network, Dit)
    return DitPipeline(tokenizer, network, text_encoder)


def pictures(pipeline: DitPipeline, prompts: list[str], *numbers: int, **settings: float) -> torch.Tensor:
    made = pipeline(prompts, num_inference_steps=4, generator=seeds(*numbers), output_type="pt", **settings)
    return made.images


def test_the_loss_falls_on_one_batch_and_the_average_follows(tokenizer: Tokenizer, text_encoder: TextEncoder) -> None:
    torch.manual_seed(0)
    objective = DitObjective(Dit(TINY), tokenizer, TextCache(text_encoder), ema_decay=0.8, loss=DitLoss())
    optimizers = make_optimizers(objective.network, matrix_lr=1e-2, other_lr=1e-2, weight_decay=0)
    pixels = torch.rand(4, 3, 32, 32, generator=seeds(1)[0]) * 2 - 1
    batch = Batch(pixels=pixels, captions=["sun", "cat", "rose", "red heart"], indices=torch.arange(4))
    before = objective.validate(batch, seeds(9)[0])["joint_denoising_loss"]
    for step in range(60):
        objective(batch, seeds(step)[0])["loss"].backward()
        missing = [name for name, parameter in objective.network.named_parameters() if parameter.grad is None]
        assert step == 0 or not missing  # the null text is met by chance
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
        objective.after_step(step)
    assert objective.validate(batch, seeds(9)[0])["joint_denoising_loss"] < 0.7 * before


def test_a_picture_follows_from_its_seed_whatever_else_is_made(pipeline: DitPipeline) -> None:
    together = pictures(pipeline, PROMPTS, 5, 6)
    assert together.shape == (2, 3, 32, 32)
    assert torch.equal(together, pictures(pipeline, PROMPTS, 5, 6))
    assert torch.allclose(together[1:], pictures(pipeline, PROMPTS[1:], 6), atol=1e-4)
    assert not torch.allclose(together[1:], pictures(pipeline, PROMPTS[1:], 7), atol=1e-2)


def test_guidance_moves_away_from_the_null_text(pipeline: DitPipeline) -> None:
    usual, none, away = (pictures(pipeline, PROMPTS, 5, 6, guidance_scale=scale) for scale in (3.0, 1.0, 0.0))
    assert not torch.allclose(usual, none, atol=1e-3)
    assert torch.allclose(away, pictures(pipeline, ["sun", "house"], 5, 6, guidance_scale=0.0), atol=1e-4)
    assert not torch.allclose(none, pictures(pipeline, ["sun", "house"], 5, 6, guidance_scale=1.0), atol=1e-3)


def test_every_token_sees_every_other_in_its_place(pipeline: DitPipeline) -> None:
    text = pipeline.text_encoder.encode(["cat"])
    x, time = torch.randn(1, 16, 12, generator=seeds(2)[0]), torch.tensor([0.3])
    changed = x.clone()
    changed[:, 5] += 1
    moved = (pipeline.network(changed, time, text) - pipeline.network(x, time, text)).abs().amax(dim=(0, 2))
    assert moved.min() > 1e-5
    assert moved.argmax() == 5


def test_weights_are_whole_and_found_by_the_evaluation(
    pipeline: DitPipeline, text_encoder: TextEncoder, tmp_path: Path
) -> None:
    objective = DitObjective(
        pipeline.network, pipeline.image_tokenizer, TextCache(text_encoder), ema_decay=0.8, loss=DitLoss()
    )
    objective.save(tmp_path)
    (loaded,) = load_generators(tmp_path, "cpu")
    assert isinstance(loaded, DitPipeline)
    assert loaded.image_size == 32
    assert torch.allclose(pictures(loaded, PROMPTS, 5, 6), pictures(pipeline, PROMPTS, 5, 6), atol=0.05)
    shutil.copytree(tmp_path, tmp_path / "both" / "weights")
    shutil.copytree(tmp_path / "dit", tmp_path / "both" / "weights" / "jepa-t")
    with pytest.raises(ValueError, match="holds jepa-t and dit; allowed: one of them"):
        list(load_generators(tmp_path / "both" / "weights", "cpu"))
    other = replace(TINY_TOKENIZER, channels=3)
    save_network(tmp_path / "tokenizer", make_tokenizer(other), other)
    with pytest.raises(ValueError, match="16 tokens of 3 channels, the network takes 16 of 12"):
        DitPipeline.from_pretrained(tmp_path)
    (tmp_path / "dit" / "model.safetensors").unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        DitPipeline.from_pretrained(tmp_path)


def test_mistakes_are_refused(pipeline: DitPipeline) -> None:
    with pytest.raises(ValueError, match="1 generators for 2 pictures"):
        pictures(pipeline, PROMPTS, 5)
    with pytest.raises(ValueError, match="guidance is 99"):
        pictures(pipeline, PROMPTS, 5, 6, guidance_scale=99.0)
    with pytest.raises(ValueError, match="guidance_schedule is 'linear'; allowed: constant"):
        pictures(pipeline, PROMPTS, 5, 6, guidance_schedule="linear")
    with pytest.raises(ValueError, match="num_inference_steps is 0; allowed: 1 or more"):
        pipeline(PROMPTS, num_inference_steps=0, generator=seeds(5, 6))
    with pytest.raises(ValueError, match="0 generators for 2 pictures"):
        pictures(pipeline, PROMPTS)
    with pytest.raises(ValueError, match="a prompt is empty"):
        pictures(pipeline, ["red apple", " "], 5, 6)
    with pytest.raises(ValueError, match="text_drop is 2"):
        DitLoss(text_drop=2)
    with pytest.raises(ValueError, match="allowed: numbers, std >= 0"):
        DitLoss(time_mean=float("nan"))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_tokens": 60}, "not a square"),
        ({"width": 30, "num_heads": 4}, "multiple of 2"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DitConfig(**values)
