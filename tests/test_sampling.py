"""Sampling of token steps from tiny real networks."""

import itertools
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from jepa_app.config import JepaTConfig
from jepa_app.flow import make_denoising
from jepa_app.masking import cosine_schedule, random_orders
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures, join_features
from jepa_app.sampling import SamplingSettings, TokenStep, sample
from tests.conftest import TINY_JEPA_T, awake

KINDS = [
    replace(TINY_JEPA_T, backbone=backbone, denoising=denoising)
    for backbone in ("cached", "bidirectional")
    for denoising in ("flow", "diffusion")
]
BY_KIND = pytest.mark.parametrize("config", KINDS, ids=lambda config: f"{config.backbone} {config.denoising}")
FAST = SamplingSettings(num_steps=4, denoising_steps=3)


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
) -> list[TokenStep]:
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    text = text or join_features([text_of(4)] * len(seeds))
    return list(sample(network, make_denoising(network.config.denoising), text, negative, settings, generators))


def tokens(network: JepaT, **arguments: object) -> Tensor:
    return run(network, **arguments)[-1].tokens


@BY_KIND
def test_steps_reveal_every_token_once_and_never_change_it(config: JepaTConfig) -> None:
    steps = run(network_of(config), seeds=(7, 8))
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert tuple(step.revealed.shape[1] for step in steps) == cosine_schedule(16, 4)
    order = torch.cat([step.revealed for step in steps], dim=1)
    assert torch.equal(order, random_orders(16, [torch.Generator().manual_seed(seed) for seed in (7, 8)]))
    for before, after in itertools.pairwise(steps):
        assert torch.equal(after.tokens[before.known], before.tokens[before.known])
        assert bool((before.tokens[~before.known] == 0).all())
        assert torch.equal((after.known ^ before.known).sum(dim=1), torch.full((2,), after.revealed.shape[1]))
    assert bool(steps[-1].known.all())
    assert bool(torch.isfinite(steps[-1].tokens).all())


@BY_KIND
def test_the_same_seed_gives_the_same_bits(config: JepaTConfig) -> None:
    network = network_of(config)
    assert torch.equal(tokens(network), tokens(network))
    assert not torch.allclose(tokens(network), tokens(network, seeds=(8,)), atol=0.1)


@BY_KIND
def test_a_picture_does_not_depend_on_the_others_of_its_batch(config: JepaTConfig) -> None:
    network = network_of(config)
    texts = [text_of(4), text_of(9, seed=1), text_of(2, seed=2)]
    together = tokens(network, text=join_features(texts), seeds=(7, 8, 9))
    for index, text in enumerate(texts):
        alone = tokens(network, text=text, seeds=(7 + index,))
        assert torch.allclose(together[index], alone[0], atol=2 / 255)


@BY_KIND
def test_sampling_asks_the_denoiser_with_the_conditions_of_predict(config: JepaTConfig) -> None:
    network = network_of(config)
    used: list[Tensor] = []
    handle = network.denoiser.register_forward_pre_hook(lambda _, arguments: used.append(arguments[2]))
    steps = run(network, SamplingSettings(num_steps=4, guidance_scale=1.0, denoising_steps=1))
    handle.remove()
    order = torch.cat([step.revealed for step in steps], dim=1)
    clean, done = steps[-1].tokens[:, order[0]], 0
    for step, condition in zip(steps, used, strict=True):
        count = step.revealed.shape[1]
        known, asked = order[:, :done], order[:, done:]
        blocks = torch.repeat_interleave(torch.arange(4), torch.tensor([s.revealed.shape[1] for s in steps]))[None]
        context = network.extend(network.start(text_of(4)), clean[:, :done], known, blocks[:, :done])
        now = torch.full_like(asked, step.index)
        here = slice(None) if network.asks_all_masked else slice(count)
        expected = network.predict(context, asked[:, here], now[:, here])[0, :count]
        assert torch.allclose(condition, expected, atol=1e-4)
        done += count


def test_without_guidance_there_is_no_null_pass() -> None:
    network = network_of(TINY_JEPA_T)
    sizes: dict[float, set[int]] = {}
    for scale in (1.0, 3.0):
        seen: set[int] = set()
        handles = [
            network.d_jepa.backbone.context_encoder.register_forward_pre_hook(lambda _, a, s=seen: s.add(len(a[0]))),
            network.d_jepa.backbone.predictor[0].register_forward_pre_hook(lambda _, a, s=seen: s.add(len(a[0]))),
        ]
        run(network, replace(FAST, guidance_scale=scale))
        for handle in handles:
            handle.remove()
        sizes[scale] = seen
    assert sizes == {1.0: {1}, 3.0: {2}}


def test_guidance_rises_linearly_with_what_is_revealed() -> None:
    network = network_of(TINY_JEPA_T)
    # at a scale next to 1, guidance is nearly off: the formula is continuous there
    nearly = tokens(network, settings=replace(FAST, guidance_scale=1.0001))
    off = tokens(network, settings=replace(FAST, guidance_scale=1.0))
    assert torch.allclose(nearly, off, atol=1e-2)
    strong = run(network, replace(FAST, guidance_scale=8.0))
    plain = run(network, replace(FAST, guidance_scale=1.0))
    moved = [float((a.tokens - b.tokens)[:, a.revealed[0]].abs().mean()) for a, b in zip(strong, plain, strict=True)]
    assert moved[0] < moved[-1]


@BY_KIND
def test_text_negative_text_and_guidance_change_the_picture(config: JepaTConfig) -> None:
    network = network_of(config)
    base = tokens(network)
    for other in (
        {"text": text_of(4, seed=5)},
        {"negative": text_of(3, seed=6)},
        {"settings": replace(FAST, guidance_scale=6.0)},
        {"settings": replace(FAST, guidance_scale=0.0)},
    ):
        assert not torch.allclose(tokens(network, **other), base, atol=1e-2), other


def test_a_negative_equal_to_the_null_text_is_the_default() -> None:
    network = network_of(TINY_JEPA_T)
    assert torch.equal(tokens(network, negative=network.null_features(1)), tokens(network))


def test_temperature_zero_of_a_flow_leaves_the_order_as_only_chance() -> None:
    network = network_of(TINY_JEPA_T)
    cold = SamplingSettings(num_steps=1, temperature=0.0, denoising_steps=3)  # one step: the order has no say
    assert torch.allclose(tokens(network, settings=cold), tokens(network, settings=cold, seeds=(8,)), atol=1e-5)
    warm = replace(cold, temperature=1.0)
    assert not torch.allclose(tokens(network, settings=warm), tokens(network, settings=warm, seeds=(8,)), atol=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"guidance_scale": -0.1}, "guidance_scale is -0.1; allowed: 0.0 to 20.0"),
        ({"guidance_scale": float("nan")}, "guidance_scale is nan"),
        ({"temperature": 2.5}, "temperature is 2.5; allowed: 0.0 to 2.0"),
        ({"temperature": float("inf")}, "temperature is inf"),
        ({"denoising_steps": 0}, "denoising_steps is 0; allowed: 1 to 1000"),
    ],
)
def test_settings_out_of_range_are_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**values)


@pytest.mark.parametrize("num_steps", [0, 17, -3])
def test_more_steps_than_tokens_are_refused(num_steps: int) -> None:
    with pytest.raises(ValueError, match=f"steps is {num_steps}; allowed: 1 to 16"):
        run(network_of(TINY_JEPA_T), replace(FAST, num_steps=num_steps))
