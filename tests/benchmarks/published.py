"""The published sampler and training step on our networks: the baseline of every ratio, and the oracle in tests.

Source: sampling and training of MAR and D-JEPA (arXiv 2406.11838, 2410.03755) as their code does it. Every step encodes
the text and the whole context again, predicts every masked position, doubles everything for guidance and denoises with
100 Euler steps; a training step denoises every token four times.
Letters in shapes: B pictures, N image tokens, C token channels, D width.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor

from jepa_app.checkpoint import load_config, load_state, resolve_weights
from jepa_app.config import JepaTConfig
from jepa_app.generation.flow import FlowMatching
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import block_ids, cosine_schedule
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures, join_features

PUBLISHED_DENOISING_STEPS = 100
Text = Callable[[], TextFeatures]  # encodes the prompts, anew at each call


@torch.no_grad()
def published_sample(
    network: JepaT, text: Text, settings: SamplingSettings, generators: Sequence[torch.Generator]
) -> Iterator[Tensor]:
    """Sample pictures of one length of prompt, yielding all tokens (B, N, C) after each step, unknown ones zero."""
    config, batch, guided = network.config, len(generators), settings.guidance != 1
    counts = cosine_schedule(config.num_tokens, settings.steps)
    drawn = [
        (
            torch.randperm(config.num_tokens, generator=one),
            torch.randn(config.num_tokens, config.channels, generator=one),
        )
        for one in generators
    ]
    order, noise = (torch.stack(parts) for parts in zip(*drawn, strict=True))
    tokens, copies = torch.zeros_like(noise), 2 if guided else 1
    order, blocks = order.repeat(copies, 1), block_ids(counts).repeat(copies * batch, 1)
    done = 0
    for count in counts:
        features = text()
        if guided:
            features = join_features([features, network.null_features(batch)])
        shown = tokens.repeat(copies, 1, 1).gather(1, order[:, :done, None].expand(-1, -1, config.channels))
        context = network.start(features)
        if done:
            context = network.extend(context.at(blocks[:, :done]), shown, order[:, :done])
        condition = network.predict(context.at(blocks[:, done:]), order[:, done:])[:, :count].flatten(0, 1)
        done += count
        scale = 1 + (settings.guidance - 1) * done / config.num_tokens
        asked = order[:batch, done - count : done]
        start = noise.gather(1, asked[..., None].expand(-1, -1, config.channels)).flatten(0, 1)
        clean = _euler(network, condition, start * settings.temperature, scale if guided else None, settings)
        tokens = tokens.scatter(1, asked[..., None].expand(-1, -1, config.channels), clean.unflatten(0, (batch, count)))
        yield tokens


def _euler(network: JepaT, condition: Tensor, x: Tensor, scale: float | None, settings: SamplingSettings) -> Tensor:
    for index in range(settings.denoising_steps):
        time = x.new_full((len(condition),), index / settings.denoising_steps)
        out = network.denoiser(x if scale is None else x.repeat(2, 1), time, condition)
        if scale is not None:
            prompt, null = out.chunk(2)
            out = null + scale * (prompt - null)
        x = x + (out - x) / (settings.denoising_steps - index)
    return x


def euler() -> FlowMatching:
    """The solver of the published sampler."""
    return FlowMatching(solver="euler", shift=1.0)


def plain_network(weights: Path | str) -> JepaT:
    """The network of a weights folder as it was trained: in float32, its matrices laid out as usual."""
    folder = resolve_weights(weights) / "jepa-t"
    network = JepaT(load_config(folder, JepaTConfig))
    load_state(folder, network)
    return network.eval().requires_grad_(False)
