"""Progressive autoregressive unmasking: JEPA-T's generalised next-token sampling as a generator of token steps.

Source: sampling of MAR and D-JEPA (arXiv 2406.11838, 2410.03755): random order, cosine schedule, one denoising run for
the tokens of each step, linear guidance. paper word -> code: AR step `step`, tau `temperature`, w `guidance_scale`.
Letters in shapes: B pictures, N image tokens, K tokens of this step, C token channels, D width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jepa_app.flow import Denoising, Guidance
from jepa_app.masking import cosine_schedule, random_orders
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures, join_features

DENOISING_STEPS = 20


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to sample.

    `guidance_scale` is reached at the last step, rising linearly with the revealed share from 1; 1 is no guidance.
    `temperature` scales the noise that tokens are denoised from. `denoising_steps` are the steps of one token's flow.

    Raises:
        ValueError: a value is out of its range.
    """

    num_steps: int = 16
    guidance_scale: float = 3.0
    temperature: float = 1.0
    denoising_steps: int = DENOISING_STEPS

    def __post_init__(self) -> None:
        for name, low, high in (("guidance_scale", 0.0, 20.0), ("temperature", 0.0, 2.0)):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; allowed: {low} to {high}")
        if not 1 <= self.denoising_steps <= 1000:
            raise ValueError(f"denoising_steps is {self.denoising_steps}; allowed: 1 to 1000")


@dataclass(frozen=True)
class TokenStep:
    """State after one step.

    Attributes:
        index: step, counted from 0; total: number of steps.
        tokens: (B, N, C), zeros where not yet known.
        known: (B, N) bool.
        revealed: (B, K) long, positions that this step revealed.
    """

    index: int
    total: int
    tokens: Tensor
    known: Tensor
    revealed: Tensor


@torch.no_grad()
def sample(
    network: JepaT,
    denoising: Denoising,
    text: TextFeatures,
    negative: TextFeatures | None,
    settings: SamplingSettings,
    generators: Sequence[torch.Generator],
) -> Iterator[TokenStep]:
    """Sample pictures step by step.

    Args:
        text: prompt features of B pictures.
        negative: features to move away from; None for the learned null text.
        generators: one CPU generator a picture; order and noise come from it alone, so a picture does not depend on
            the others of its batch.

    Raises:
        ValueError: the number of steps is not between 1 and N.
    """
    config, batch = network.config, len(text)
    counts = cosine_schedule(config.num_tokens, settings.num_steps)
    device, dtype = text.tokens.device, text.tokens.dtype
    order = random_orders(config.num_tokens, generators).to(device)
    is_guided = settings.guidance_scale != 1
    if is_guided:
        text = join_features([text, negative or network.null_features(batch)])
    context = network.start(text)
    tokens = torch.zeros(batch, config.num_tokens, config.channels, device=device, dtype=dtype)
    known = torch.zeros(batch, config.num_tokens, dtype=torch.bool, device=device)
    copies = 2 if is_guided else 1  # with guidance the null copies follow the prompted ones in the batch
    done = 0
    for index, count in enumerate(counts):
        asked = order[:, done:] if network.asks_all_masked else order[:, done : done + count]
        now = torch.full((batch * copies, asked.shape[1]), index, device=device)
        condition = network.predict(context, asked.repeat(copies, 1), now)[:, :count].flatten(0, 1)  # (copies B K, D)
        done += count
        guidance = None
        if is_guided:
            condition, null = condition.chunk(2)
            scale = 1 + (settings.guidance_scale - 1) * done / config.num_tokens
            guidance = Guidance(null_condition=null, scale=scale)

        def draw(count: int = count) -> Tensor:
            noise = [torch.randn(count, config.channels, generator=generator) for generator in generators]
            return torch.cat(noise).to(device, dtype)

        clean = denoising.sample(
            network.denoiser,
            condition,
            draw,
            num_steps=settings.denoising_steps,
            temperature=settings.temperature,
            guidance=guidance,
        ).unflatten(0, (batch, count))  # (B, K, C)
        revealed = order[:, done - count : done]
        tokens = tokens.scatter(1, revealed[:, :, None].expand_as(clean), clean)
        known = known.scatter(1, revealed, True)
        yield TokenStep(index, len(counts), tokens, known, revealed)
        if done < config.num_tokens:
            context = network.extend(context, clean.repeat(copies, 1, 1), revealed.repeat(copies, 1), now[:, :count])
