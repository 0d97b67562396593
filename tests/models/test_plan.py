"""A picture is planned, then painted: positions, orders, steps, the network, sampling and a plan's soft picture."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from jepa_app.__main__ import main as command_line
from jepa_app.checkpoint import save_network, write_manifest
from jepa_app.config import JepaTConfig, TokenizerConfig
from jepa_app.engines.thread import ThreadEngine
from jepa_app.generation.flow import make_denoising
from jepa_app.generation.picture import Picture, Shown, TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import cosine_schedule
from jepa_app.matching.scoring import Scorer
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer, make_tokenizer
from jepa_app.plan import centres, draw_order, level_ranges, random_orders_and_blocks, reveal_counts, steps_of_levels
from jepa_app.studio.requests import Edit, GenerateRequest
from jepa_app.studio.studio import Studio
from tests.conftest import TINY_JEPA_T, TINY_TI_JEPA, TINY_TOKENIZER, awake, write_tiny_weights
from tests.generation.test_sampling import run, text_of
from training.judging.picture_figures import Sampling
from training.judging.weights import suited

PLAN = (1, 2)
N, P, T = 16, 5, 21
PLANNED = replace(TINY_JEPA_T, plan=PLAN)
SETTINGS = SamplingSettings(steps=9, denoising_steps=2)


def network_of(config: JepaTConfig) -> JepaT:
    torch.manual_seed(0)
    return awake(JepaT(config)).eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny weights with a plan, the tokenizer fitted on smooth pictures, which a plan can tell something of."""
    tokenizer_config = replace(TINY_TOKENIZER, plan=PLAN)
    return write_tiny_weights(tmp_path_factory.mktemp("planned"), tokenizer_config, PLANNED, smooth(64))


@pytest.fixture(scope="module")
def pipeline(weights: Path) -> JepaTPipeline:
    return JepaTPipeline.from_pretrained(weights)


def smooth(count: int) -> Tensor:
    """Pictures (B, 3, 32, 32) of a few soft blobs."""
    small = torch.rand(count, 3, 3, 3, generator=torch.Generator().manual_seed(5)) * 2 - 1
    return torch.nn.functional.interpolate(small, size=(32, 32), mode="bicubic").clamp(-1, 1)


def test_levels_stand_behind_the_picture_at_the_centres_of_what_they_cover() -> None:
    assert level_ranges(N, PLAN) == [range(16, 17), range(17, 21)]
    places = centres(4, PLAN)
    assert places.shape == (T, 2)
    assert places[:6].tolist() == [[0, 0], [0, 1], [0, 2], [0, 3], [1, 0], [1, 1]]
    assert places[16].tolist() == [1.5, 1.5]
    assert places[17:].tolist() == [[0.5, 0.5], [0.5, 2.5], [2.5, 0.5], [2.5, 2.5]]


def test_the_plan_comes_first_and_leaves_the_order_of_the_picture_as_it_was() -> None:
    order = draw_order(N, PLAN, torch.Generator().manual_seed(3))
    assert order[0] == 16
    assert sorted(order[1:5].tolist()) == [17, 18, 19, 20]
    assert torch.equal(order[5:], draw_order(N, (), torch.Generator().manual_seed(3)))


@pytest.mark.parametrize(
    ("steps", "given"), [(1, None), (2, None), (3, [1, 1]), (8, [1, 1]), (12, [1, 3]), (16, [1, 4]), (64, [1, 4])]
)
def test_a_third_of_the_steps_plans(steps: int, given: list[int] | None) -> None:
    assert steps_of_levels([1, 4], steps) == given
    counts = reveal_counts(64, [1, 4], steps)
    assert len(counts) == steps
    assert sum(counts) == (69 if given else 64)
    if given:
        assert sum(counts[: sum(given)]) == 5
        assert counts[sum(given) :] == cosine_schedule(64, steps - sum(given))


@pytest.mark.parametrize("steps", [0, 65])
def test_steps_that_do_not_fit_the_picture_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {steps}; allowed: 1 to 64"):
        reveal_counts(64, [1, 4], steps)


def test_training_draws_every_level_in_an_order_and_steps_of_its_own() -> None:
    order, blocks = random_orders_and_blocks(40, N, PLAN, torch.Generator().manual_seed(0))
    assert order.shape == blocks.shape == (40, T)
    assert bool((order[:, 0] == 16).all())
    assert bool((order[:, 1:5].sort(dim=1).values == torch.arange(17, 21)).all())
    assert bool((order[:, 5:].sort(dim=1).values == torch.arange(N)).all())
    assert bool((blocks.diff(dim=1) >= 0).all())
    assert bool((blocks[:, 1] > blocks[:, 0]).all())
    assert bool((blocks[:, 5] > blocks[:, 4]).all())
    assert len(torch.unique(blocks[:, 4])) > 2  # levels of one step and of several


@pytest.mark.parametrize(
    ("config", "values", "told"),
    [
        (JepaTConfig, {"plan": (2, 1)}, "plan is \\(2, 1\\); allowed: rising numbers of tokens, below the grid's 8"),
        (JepaTConfig, {"plan": (8,)}, "below the grid's 8"),
        (JepaTConfig, {"plan": (1,), "backbone": "bidirectional"}, "only the cached backbone makes a plan first"),
        (TokenizerConfig, {"plan": (0,)}, "rising numbers"),
        (TokenizerConfig, {"plan": (1,), "kind": "vae", "channels": 16}, "allowed for a VAE: \\(\\)"),
        (TokenizerConfig, {"plan": (1,), "channels": 200, "patch_size": 16}, "allowed with a plan: at most 192"),
    ],
)
def test_plans_that_no_network_can_make_are_refused(config: type, values: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        config(**values)


def test_training_and_sampling_give_the_same_conditions() -> None:
    network, generator = network_of(PLANNED).double(), torch.Generator().manual_seed(1)
    order, blocks = random_orders_and_blocks(1, N, PLAN, generator)
    tokens = torch.randn(1, T, PLANNED.channels, generator=generator, dtype=torch.float64)
    text = text_of(4).to("cpu", torch.float64)
    whole = network.extend(network.start(text).at(blocks), tokens, order)
    expected = network.predict(whole.at(blocks), order)
    context = network.start(text)
    for block in blocks.unique():
        here = (blocks[0] == block).nonzero()[:, 0]
        turn = context.at(blocks[:, here])
        torch.testing.assert_close(network.predict(turn, order[:, here]), expected[:, here])
        context = network.extend(turn, tokens[:, here], order[:, here])


def test_sampling_plans_first_and_then_paints() -> None:
    (steps,) = run(network_of(PLANNED), SETTINGS)
    assert [len(step.painted) for step in steps[:3]] == [0, 0, 0]
    assert [step.planned for step in steps] == [1, 3, 5, 5, 5, 5, 5, 5, 5]
    assert [step.is_whole for step in steps] == [False] * 8 + [True]
    assert sorted(position for step in steps for position in step.painted) == list(range(N))
    assert steps[0].num_tokens == N
    assert steps[0].total == 9


def test_pictures_with_a_plan_are_the_same_beside_others_and_alone() -> None:
    network = network_of(PLANNED)
    alone = [run(network, SETTINGS, seeds=(seed,))[0][-1].tokens for seed in (1, 2)]
    together = [steps[-1].tokens for steps in run(network, SETTINGS, seeds=(1, 2))]
    torch.testing.assert_close(torch.stack(together), torch.stack(alone), atol=1e-4, rtol=1e-3)


def test_too_few_steps_leave_the_plan_out() -> None:
    for steps in run(network_of(PLANNED), replace(SETTINGS, steps=2)):
        assert [step.planned for step in steps] == [0, 0]
        assert steps[-1].is_whole
        assert not bool(steps[-1].known[N:].any())


def finish(network: JepaT, picture_of: dict[str, object], settings: SamplingSettings = SETTINGS) -> list[TokenStep]:
    """Steps of a picture that starts with something, through the engine's own sampler."""
    picture = Picture.begin(network, settings, torch.Generator().manual_seed(7), **picture_of)
    sampler = Sampler(network, make_denoising(network.config.denoising))
    sampler.add_begun(picture, text_of(4))
    steps = []
    while sampler.pictures:
        steps += [step for _, step in sampler.step()]
    return steps


@pytest.mark.parametrize("after", range(8))
def test_a_run_goes_on_after_any_step_as_it_would_have(after: int) -> None:
    network = network_of(PLANNED)
    (whole,) = run(network, SETTINGS)
    rest = finish(network, {"after": whole[after]})
    assert len(rest) == 8 - after
    torch.testing.assert_close(rest[-1].tokens, whole[-1].tokens, atol=1e-4, rtol=1e-3)


def test_a_part_is_redone_without_the_plan() -> None:
    network = network_of(PLANNED)
    (whole,) = run(network, SETTINGS)
    known = torch.ones(T, dtype=torch.bool)
    known[:4] = False
    known[N:] = False
    steps = finish(network, {"shown": Shown(whole[-1].tokens, known)}, replace(SETTINGS, steps=3))
    assert [step.planned for step in steps] == [0, 0, 0]
    assert {position for step in steps for position in step.painted} == {0, 1, 2, 3}
    assert torch.equal(steps[-1].tokens[4:N], whole[-1].tokens[4:N])


def test_a_plan_that_is_shown_is_kept_and_completed() -> None:
    network = network_of(PLANNED)
    (whole,) = run(network, SETTINGS)
    half = whole[1]
    steps = finish(network, {"shown": Shown(half.tokens, half.known)}, replace(SETTINGS, steps=6))
    assert torch.equal(steps[-1].tokens[half.known], half.tokens[half.known])
    assert steps[-1].planned == P
    assert steps[-1].is_whole


def test_tokens_of_the_plan_follow_those_of_the_picture(pipeline: JepaTPipeline) -> None:
    tokenizer = pipeline.image_tokenizer
    assert isinstance(tokenizer, LinearTokenizer)
    pixels = smooth(8)
    tokens = tokenizer.encode(pixels)
    assert tokens.shape == (8, T, TINY_TOKENIZER.channels)
    torch.testing.assert_close(tokenizer.decode(tokens), tokenizer.decode(tokens[:, :N]))
    assert float(tokenizer.encode(smooth(64)).square().mean(dim=(0, 2))[N:].mean()) == pytest.approx(1, rel=0.1)


def test_the_finest_known_level_is_what_a_sketch_shows(pipeline: JepaTPipeline) -> None:
    tokenizer, pixels = pipeline.image_tokenizer, smooth(8)
    tokens = tokenizer.encode(pixels)
    nothing = torch.zeros(8, T, dtype=torch.bool)
    coarse, fine = nothing.clone(), nothing.clone()
    coarse[:, 16] = True
    fine[:, 16:] = True
    empty, first, second = (tokenizer.sketch(tokens, known, 0.25) for known in (nothing, coarse, fine))
    assert bool((empty == 0.25).all())
    errors = [float((sketch - pixels).square().mean()) for sketch in (empty, first, second)]
    assert errors[2] < errors[1] < errors[0]
    half = nothing.clone()
    half[:, 16] = half[:, 18] = True  # the upper right
    mixed = tokenizer.sketch(tokens, half, 0.0)
    torch.testing.assert_close(mixed[:, :, :12, 20:], second[:, :, :12, 20:])
    torch.testing.assert_close(mixed[:, :, 20:, :12], first[:, :, 20:, :12])


def test_the_plan_shows_through_where_nothing_is_painted(pipeline: JepaTPipeline) -> None:
    steps = list(pipeline.stream("red apple", num_inference_steps=9, generator=torch.Generator().manual_seed(4)))
    planned = steps[2]
    sketch = pipeline.image_tokenizer.sketch(planned.tokens, planned.known, 0.0)
    torch.testing.assert_close(planned.image, sketch)
    painted = steps[5]
    tiles = ~painted.known[0, :N].view(4, 4).repeat_interleave(8, 0).repeat_interleave(8, 1)
    assert bool(tiles.any())
    torch.testing.assert_close(painted.image[0, :, tiles], sketch[0, :, tiles])


def test_the_studio_makes_steers_and_explains_pictures_with_a_plan(weights: Path) -> None:
    studio = Studio(ThreadEngine(JepaTPipeline.from_pretrained(weights)), Scorer.from_pretrained(weights), weights)
    request = GenerateRequest(prompt="red apple", steps=9, seed=3)
    frames = list(studio.generating.watch(request))
    assert [(frame.planned, frame.num_plan) for frame in frames] == [(1, 5), (3, 5)] + [(5, 5)] * 7
    assert [len(frame.revealed) for frame in frames[:3]] == [0, 0, 0]
    assert all(len(frame.born) == N for frame in frames)
    assert sorted(frames[-1].born) == sorted(index for index, f in enumerate(frames) for _ in f.revealed)
    job = frames[0].job
    again = list(studio.generating.watch(replace(request, edit=Edit(job=job, step=1))))
    assert np.abs(np.asarray(again[-1].image, int) - np.asarray(frames[-1].image, int)).max() <= 2
    redone = list(studio.generating.watch(replace(request, seed=9, edit=Edit(job=job, step=8, redo=(5,)))))
    assert {position for frame in redone for position in frame.revealed} == {0, 1, 2, 4, 5, 6, 8, 9, 10}
    upload, _ = studio.generating.keep_picture(frames[-1].image)
    begun = list(studio.generating.watch(replace(request, edit=Edit(job=upload.job, step=0, redo=(0,)))))
    assert begun[-1].planned == 0
    assert studio.generating.predicted(job, 0).size == (32, 32)
    *progress, lesson = studio.explain(request)
    assert (progress[-1].done, progress[-1].total) == (36, 36)
    assert [len(step.asked) for step in lesson.steps[:3]] == [0, 0, 0]
    assert len(lesson.tokens) == len(lesson.steps[0].foreseen) == len(lesson.steps[0].attention) == N
    assert lesson.steps[-1].picture.tobytes() == frames[-1].image.tobytes()
    *_, short = studio.explain(replace(request, steps=2))  # too few for a plan
    assert [len(step.asked) for step in short.steps] == list(cosine_schedule(N, 2))


def test_what_suits_the_weights_travels_with_them(
    weights: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path(shutil.copytree(weights, tmp_path / "weights"))
    chosen = replace(PLANNED, styles=("noto",), sampling_steps=6, sampling_guidance=1.5, sampling_temperature=0.9)
    (folder / "jepa-t" / "config.json").write_text(json.dumps({"config": "JepaTConfig", **chosen.to_dict()}))
    write_manifest(folder)
    best = SamplingSettings(steps=6, guidance=1.5, temperature=0.9)
    pipeline = JepaTPipeline.from_pretrained(folder)
    assert pipeline.defaults == best
    usual = pipeline("rose", generator=torch.Generator().manual_seed(1), output_type="pt").images
    asked = {"num_inference_steps": 6, "guidance_scale": 1.5, "temperature": 0.9}
    same = pipeline("rose", generator=torch.Generator().manual_seed(1), output_type="pt", **asked).images
    assert torch.equal(usual, same)
    studio = Studio(ThreadEngine(pipeline), Scorer.from_pretrained(folder), folder)
    facts = studio.info()
    assert (facts["styles"], facts["sampling"]) == (["noto"], {"steps": 6, "guidance": 1.5, "temperature": 0.9})
    out = str(tmp_path / "rose.png")
    assert command_line(["generate", "rose", "--weights", str(folder), "--out", out, "--guidance", "2", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["steps"], record["guidance"], record["temperature"]) == (6, 2.0, 0.9)
    told = suited(Sampling(seed=3, denoising_steps=2), folder)
    assert told == Sampling(seed=3, denoising_steps=2, steps=6, guidance=1.5, temperature=0.9)
    shutil.rmtree(folder / "jepa-t")
    assert suited(Sampling(), folder) == Sampling()


@pytest.mark.parametrize("name", ["sampling_guidance", "sampling_temperature"])
def test_settings_that_no_sampler_takes_suit_no_weights(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 21.0; allowed: 0 to"):
        JepaTConfig(**{name: 21.0})


def test_weights_without_a_plan_load_and_draw_as_before(tiny_weights: Path) -> None:
    pipeline = JepaTPipeline.from_pretrained(tiny_weights)
    network = pipeline.network
    picture = Picture.begin(network, SETTINGS, torch.Generator().manual_seed(1))
    generator = torch.Generator().manual_seed(1)
    assert torch.equal(picture.order, torch.randperm(N, generator=generator))
    assert torch.equal(picture.noise, torch.randn(N, network.config.channels, generator=generator))


def test_a_tokenizer_and_a_network_of_another_plan_are_refused(tmp_path: Path) -> None:
    other = replace(PLANNED, plan=(1,))
    for part, network, settings in (
        ("tokenizer", make_tokenizer(replace(TINY_TOKENIZER, plan=PLAN)), replace(TINY_TOKENIZER, plan=PLAN)),
        ("jepa-t", JepaT(other), other),
        ("ti-jepa", TIJepa(TINY_TI_JEPA), TINY_TI_JEPA),
    ):
        save_network(tmp_path / part, network, settings)
    write_manifest(tmp_path)
    with pytest.raises(ValueError, match="makes 21 tokens of 12 channels, the network takes 17"):
        JepaTPipeline.from_pretrained(tmp_path)
