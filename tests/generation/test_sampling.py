"""Sampling of token steps from tiny real networks."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from jepa_app.config import JepaTConfig
from jepa_app.generation.flow import make_denoising
from jepa_app.generation.picture import Picture, Shown, TokenStep
from jepa_app.generation.sampler import Sampler, sample
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import cosine_schedule
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures, join_features
from tests.benchmarks.published import euler, published_sample
from tests.conftest import TINY_JEPA_T, awake

BACKBONES = [replace(TINY_JEPA_T, backbone=kind) for kind in ("cached", "bidirectional", "bidirectional_subset")]
KINDS = [replace(config, denoising=denoising) for config in BACKBONES for denoising in ("flow", "diffusion")]
BY_BACKBONE = pytest.mark.parametrize("config", BACKBONES, ids=lambda config: config.backbone)
BY_KIND = pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.backbone} {config.denoising}")
FAST = SamplingSettings(steps=4, denoising_steps=3)


def network_of(config: JepaTConfig) -> JepaT:
    torch.manual_seed(0)
    network = JepaT(config)
    return awake(network).eval()


def text_of(length: int, seed: int = 0) -> TextFeatures:
    tokens = torch.randn(1, length, 384, generator=torch.Generator().manual_seed(seed))
    return TextFeatures(tokens, torch.ones(1, length, dtype=torch.bool))


def run(
    network: JepaT,
    settings: SamplingSettings = FAST,
    text: TextFeatures | None = None,
    negative: TextFeatures | None = None,
    seeds: Sequence[int] = (7,),
) -> list[list[TokenStep]]:
    """The steps of each picture."""
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    text = text or join_features([text_of(4)] * len(seeds))
    denoising = make_denoising(network.config.denoising)
    return list(map(list, zip(*sample(network, denoising, text, negative, settings, generators), strict=True)))


def tokens(network: JepaT, **arguments: object) -> Tensor:
    """Final tokens (B, N, C)."""
    return torch.stack([steps[-1].tokens for steps in run(network, **arguments)])


@BY_KIND
def test_steps_reveal_every_token_once_and_never_change_it(config: JepaTConfig) -> None:
    for seed, steps in zip((7, 8), run(network_of(config), seeds=(7, 8)), strict=True):
        assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
        assert tuple(len(step.revealed) for step in steps) == cosine_schedule(16, 4)
        order = torch.cat([step.revealed for step in steps])
        assert torch.equal(order, torch.randperm(16, generator=torch.Generator().manual_seed(seed)))
        for before, after in itertools.pairwise(steps):
            assert torch.equal(after.tokens[before.known], before.tokens[before.known])
            assert bool((before.tokens[~before.known] == 0).all())
            assert int((after.known ^ before.known).sum()) == len(after.revealed)
        assert bool(steps[-1].known.all())
        assert bool(torch.isfinite(steps[-1].tokens).all())


@BY_KIND
def test_the_same_seed_gives_the_same_bits(config: JepaTConfig) -> None:
    network = network_of(config)
    assert torch.equal(tokens(network), tokens(network))
    assert not torch.allclose(tokens(network), tokens(network, seeds=(8,)), atol=0.1)


@pytest.mark.parametrize("config", BACKBONES[:2], ids=lambda config: config.backbone)
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_sampling_equals_the_published_sampler(config: JepaTConfig, guidance: float) -> None:
    network = network_of(config).double()
    settings = SamplingSettings(
        steps=5, guidance=guidance, guidance_schedule="linear", denoising_steps=4, temperature=0.9
    )
    texts = [text_of(6, seed).to(torch.device("cpu"), torch.float64) for seed in (0, 1)]
    text = join_features(texts)
    seeds = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
    torch.set_default_dtype(torch.float64)  # both draw their noise in the default type
    try:
        expected = list(published_sample(network, lambda: text, settings, seeds))
        seeds = [torch.Generator().manual_seed(seed) for seed in (7, 8)]
        ours = list(sample(network, euler(), text, None, settings, seeds))
    finally:
        torch.set_default_dtype(torch.float32)
    for theirs, steps in zip(expected, ours, strict=True):
        assert torch.allclose(torch.stack([step.tokens for step in steps]), theirs, atol=1e-6)


REQUESTS = [  # prompts, guidance, steps, temperatures and denoising steps all differ
    (SamplingSettings(steps=4, denoising_steps=3), text_of(4), None),
    (SamplingSettings(steps=16, denoising_steps=2, guidance=1.0), text_of(9, seed=1), None),
    (SamplingSettings(steps=1, denoising_steps=3, temperature=0.5), text_of(2, seed=2), text_of(7, seed=5)),
    (SamplingSettings(steps=7, denoising_steps=2, guidance=6.0), text_of(3, seed=3), None),
    (SamplingSettings(steps=5, denoising_steps=3, guidance=0.0), text_of(5, seed=4), text_of(2, seed=6)),
]


@BY_KIND
def test_pictures_that_join_at_any_step_equal_each_alone(config: JepaTConfig) -> None:
    network = network_of(config)
    denoising = make_denoising(config.denoising)
    sampler = Sampler(network, denoising)
    pictures, results = [], {}
    for number, (settings, text, negative) in enumerate(REQUESTS):
        picture = Picture.begin(network, settings, torch.Generator().manual_seed(number))
        sampler.add(picture, sampler.start(text)[0], sampler.start(negative)[0] if negative else None)
        pictures.append(picture)
        results |= sampler.step()
    while sampler.pictures:
        results |= sampler.step()
    for number, (settings, text, negative) in enumerate(REQUESTS):
        alone = tokens(network, settings=settings, text=text, negative=negative, seeds=(number,))[0]
        together = results[pictures[number]]
        assert (together.index, together.total) == (settings.steps - 1, settings.steps)
        assert torch.allclose(together.tokens, alone, atol=2 / 255)


def redo(
    config: JepaTConfig,
    shown: Shown | None = None,
    settings: SamplingSettings = FAST,
    seed: int = 7,
    after: TokenStep | None = None,
) -> list[TokenStep]:
    """The steps of a picture that begins with known tokens."""
    network = network_of(config)
    sampler = Sampler(network, make_denoising(config.denoising))
    picture = Picture.begin(network, settings, torch.Generator().manual_seed(seed), shown, after)
    sampler.add_begun(picture, text_of(4))
    steps = []
    while sampler.pictures:
        steps += [step for _, step in sampler.step()]
    return steps


@BY_KIND
def test_a_run_goes_on_from_any_step_as_it_would_have(config: JepaTConfig) -> None:
    (whole,) = run(network_of(config))
    for done in (1, 2, 3):
        rest = redo(config, after=whole[done - 1])
        assert [step.index for step in rest] == list(range(done, 4))
        for step, expected in zip(rest, whole[done:], strict=True):
            assert torch.equal(step.revealed, expected.revealed)
            assert torch.allclose(step.tokens, expected.tokens, atol=1e-4)


def test_a_part_that_is_redone_goes_on_from_any_step_as_it_would_have() -> None:
    (first,) = run(network_of(TINY_JEPA_T))
    hole = Shown(first[-1].tokens, torch.arange(16) < 7)
    whole = redo(TINY_JEPA_T, hole, seed=8)
    assert len(whole) == 4
    for done in (1, 2, 3):
        rest = redo(TINY_JEPA_T, hole, seed=8, after=whole[done - 1])
        assert [step.index for step in rest] == list(range(done, 4))
        assert torch.allclose(rest[-1].tokens, whole[-1].tokens, atol=1e-4)


@BY_BACKBONE
def test_only_the_hole_is_redone(config: JepaTConfig) -> None:
    (whole,) = run(network_of(config))
    tokens, hole = whole[-1].tokens, torch.zeros(16, dtype=torch.bool)
    hole[torch.tensor([5, 6, 9])] = True
    steps = redo(config, Shown(tokens, ~hole), seed=8)
    assert [len(step.revealed) for step in steps] == [1, 1, 1]  # no more steps than tokens to redo
    assert torch.equal(torch.cat([step.revealed for step in steps]).sort().values, torch.tensor([5, 6, 9]))
    last = steps[-1].tokens
    assert torch.equal(last[~hole], tokens[~hole])
    assert not torch.allclose(last[hole], tokens[hole], atol=0.1)
    changed = torch.where(hole[:, None], tokens, tokens + 1)  # what is around a hole matters
    assert not torch.allclose(redo(config, Shown(changed, ~hole), seed=8)[-1].tokens[hole], last[hole], atol=1e-2)


def test_values_inside_a_hole_do_not_matter() -> None:
    (whole,) = run(network_of(TINY_JEPA_T))
    known = torch.arange(16) < 9
    filled = torch.where(known[:, None], whole[-1].tokens, torch.nan)
    ends = [redo(TINY_JEPA_T, Shown(tokens, known))[-1].tokens for tokens in (whole[-1].tokens, filled)]
    assert torch.equal(ends[0], ends[1])


@pytest.mark.parametrize(
    ("shown", "message"),
    [
        (Shown(torch.zeros(16, 12), torch.ones(16, dtype=torch.bool)), "all tokens .* known already; mark a part"),
        (Shown(torch.zeros(9, 12), torch.zeros(9, dtype=torch.bool)), r"shapes \(\(9, 12\), \(9,\)\); allowed"),
        (Shown(torch.full((16, 12), torch.inf), torch.arange(16) < 3), "not finite"),
    ],
)
def test_shown_tokens_that_do_not_fit_are_refused(shown: Shown, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Picture.begin(network_of(TINY_JEPA_T), FAST, torch.Generator().manual_seed(7), shown)


def test_a_step_of_another_run_is_refused() -> None:
    network = network_of(TINY_JEPA_T)
    (whole,) = run(network)
    for seed, settings in ((8, FAST), (7, replace(FAST, steps=5))):
        with pytest.raises(ValueError, match="is from a run with another seed, number of steps or starting picture"):
            Picture.begin(network, settings, torch.Generator().manual_seed(seed), after=whole[1])
    with pytest.raises(ValueError, match=r"all tokens .* known already; mark a part"):
        Picture.begin(network, FAST, torch.Generator().manual_seed(7), after=whole[3])


def test_a_picture_whose_slots_change_places_stays_the_same() -> None:
    network = network_of(TINY_JEPA_T)
    sampler = Sampler(network, make_denoising("flow"))
    prompt = sampler.start(text_of(4))[0]
    short = Picture.begin(network, replace(FAST, steps=1, guidance=1.0), torch.Generator().manual_seed(1))
    long = Picture.begin(network, FAST, torch.Generator().manual_seed(7))
    for picture in (short, long):
        sampler.add(picture, prompt)
    results = dict(sampler.step())
    assert long.slots == [1, 0]  # the null text's has moved into the gap
    while sampler.pictures:
        results |= sampler.step()
    assert torch.allclose(results[long].tokens, tokens(network)[0], atol=1e-4)


@BY_BACKBONE
def test_a_picture_that_is_dropped_leaves_the_others_as_they_are(config: JepaTConfig) -> None:
    network = network_of(config)
    sampler = Sampler(network, make_denoising("flow"))
    prompt = sampler.start(text_of(4))[0]
    pictures = [Picture.begin(network, FAST, torch.Generator().manual_seed(seed)) for seed in range(4)]
    for picture in pictures:
        sampler.add(picture, prompt)
    results = dict(sampler.step())
    for dropped in (pictures[0], pictures[2]):
        sampler.remove(dropped)
    while sampler.pictures:
        results |= sampler.step()
    assert [results[picture].index for picture in pictures] == [0, 3, 0, 3]
    for seed in (1, 3):
        assert torch.allclose(results[pictures[seed]].tokens, tokens(network, seeds=(seed,))[0], atol=1e-4)


@BY_KIND
def test_sampling_asks_the_denoiser_with_the_conditions_of_predict(config: JepaTConfig) -> None:
    network = network_of(config)
    used: list[Tensor] = []
    handle = network.denoiser.condition_in.register_forward_pre_hook(lambda _, arguments: used.append(arguments[0]))
    (steps,) = run(network, SamplingSettings(steps=4, guidance=1.0, denoising_steps=1))
    handle.remove()
    order = torch.cat([step.revealed for step in steps])[None]
    clean, done = steps[-1].tokens[order], 0
    for step, condition in zip(steps, used, strict=True):
        count = len(step.revealed)
        known, asked = order[:, :done], order[:, done:]
        blocks = torch.repeat_interleave(torch.arange(4), torch.tensor([len(s.revealed) for s in steps]))[None]
        context = network.extend(network.start(text_of(4)).at(blocks[:, :done]), clean[:, :done], known)
        now = torch.full_like(asked, step.index)
        here = slice(None) if network.asks_all_masked else slice(count)
        expected = network.predict(context.at(now[:, here]), asked[:, here])[0, :count]
        assert torch.allclose(condition, expected, atol=1e-4)
        done += count


def test_a_picture_costs_one_pass_over_its_tokens() -> None:
    network = network_of(TINY_JEPA_T)
    passed: dict[float, dict[str, int]] = {}
    for scale in (1.0, 3.0):
        seen = {"encoder": 0, "predictor": 0}

        def count(name: str, seen: dict[str, int] = seen) -> object:
            return lambda _, arguments: seen.__setitem__(name, seen[name] + arguments[0].shape[:2].numel())

        backbone = network.d_jepa.backbone
        handles = [
            backbone.context_encoder.register_forward_pre_hook(count("encoder")),
            backbone.predictor[0].register_forward_pre_hook(count("predictor")),
        ]
        run(network, replace(FAST, guidance=scale))
        for handle in handles:
            handle.remove()
        passed[scale] = seen
    last = cosine_schedule(16, 4)[-1]  # nobody asks for what the last tokens change
    prefix, null = 2 + 4, 2 + 1
    assert passed[1.0] == {"encoder": prefix + 16 - last, "predictor": 16}
    assert passed[3.0] == {"encoder": prefix + null + 2 * (16 - last), "predictor": 2 * 16}


def test_guidance_is_constant_or_rises_linearly_with_what_is_revealed() -> None:
    network = network_of(TINY_JEPA_T)
    # at a scale next to 1, guidance is nearly off: the formula is continuous there
    nearly = tokens(network, settings=replace(FAST, guidance=1.0001))
    off = tokens(network, settings=replace(FAST, guidance=1.0))
    assert torch.allclose(nearly, off, atol=1e-2)
    constant, linear = (replace(FAST, guidance=8.0, guidance_schedule=name) for name in ("constant", "linear"))
    picture = Picture.begin(network, linear, torch.Generator().manual_seed(1))
    scales = []
    for count in picture.counts:
        scales.append(picture.scale)
        picture.reveal(torch.zeros(count, TINY_JEPA_T.channels))
    shares = np.cumsum(picture.counts) / TINY_JEPA_T.num_tokens
    assert scales == pytest.approx((1 + 7 * shares).tolist())
    (rising,), (held,), (plain,) = (run(network, one) for one in (linear, constant, replace(FAST, guidance=1.0)))
    moved = [
        [float((a.tokens - b.tokens)[a.revealed].abs().mean()) for a, b in zip(strong, plain, strict=True)]
        for strong in (rising, held)
    ]
    assert moved[0][0] < moved[0][-1]
    assert moved[0][0] < moved[1][0]  # held at its full strength from the first step on


@BY_KIND
def test_text_negative_text_and_guidance_change_the_picture(config: JepaTConfig) -> None:
    network = network_of(config)
    base = tokens(network)
    for other in (
        {"text": text_of(4, seed=5)},
        {"negative": text_of(3, seed=6)},
        {"settings": replace(FAST, guidance=6.0)},
        {"settings": replace(FAST, guidance=0.0)},
    ):
        assert not torch.allclose(tokens(network, **other), base, atol=1e-2), other


def test_a_negative_equal_to_the_null_text_is_the_default() -> None:
    network = network_of(TINY_JEPA_T)
    assert torch.equal(tokens(network, negative=network.null_features(1)), tokens(network))


def test_temperature_zero_of_a_flow_leaves_the_order_as_only_chance() -> None:
    network = network_of(TINY_JEPA_T)
    cold = SamplingSettings(steps=1, temperature=0.0, denoising_steps=3)  # one step: the order has no say
    assert torch.allclose(tokens(network, settings=cold), tokens(network, settings=cold, seeds=(8,)), atol=1e-4)
    warm = replace(cold, temperature=1.0)
    assert not torch.allclose(tokens(network, settings=warm), tokens(network, settings=warm, seeds=(8,)), atol=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance": -0.1}, "guidance is -0.1; allowed: 0 to 20"),
        ({"guidance": float("nan")}, "guidance is nan"),
        ({"temperature": 2.5}, "temperature is 2.5; allowed: 0 to 2"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"denoising_steps": 0}, "denoising_steps is 0; allowed: 1 to 1000"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**values)


@pytest.mark.parametrize("steps", [0, 17, -3])
def test_more_steps_than_tokens_are_refused(steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {steps}; allowed: 1 to 16"):
        run(network_of(TINY_JEPA_T), replace(FAST, steps=steps))
