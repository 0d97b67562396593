"""What JEPA-T is asked for in training: which tokens are revealed, which are asked for, and the loss of the answers.

Letters in shapes: B batch, N image tokens, T including those of the plan, M asked tokens, C token channels, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jepa_app.generation.flow import Denoising, conditioned
from jepa_app.masking import draw, masked_count, subset_counts
from jepa_app.models.denoiser import Denoiser
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
from jepa_app.plan import random_orders_and_blocks

REVEALED_FRACTIONS = (0.0, 0.15, 0.3, 0.5, 0.75, 0.9)


class Asked(NamedTuple):
    """Conditions (B, M, D) of asked tokens, their clean values (B, M, C) and their positions (B, M)."""

    condition: Tensor
    clean: Tensor
    positions: Tensor

    def parted(self, num_tokens: int) -> tuple["Asked", "Asked"]:
        """Return the part for the picture, of `num_tokens`, and the part for the plan, which was asked first."""
        planned = int((self.positions[0] >= num_tokens).sum())
        return Asked(*(part[:, planned:] for part in self)), Asked(*(part[:, :planned] for part in self))


def take(tokens: Tensor, positions: Tensor) -> Tensor:
    """Return tokens (B, N, X) at positions (B, L): (B, L, X)."""
    return tokens.gather(1, positions[:, :, None].expand(-1, -1, tokens.shape[-1]))


def random_orders(batch_size: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw one generation order per picture from one generator: (B, N) long."""
    return draw(torch.rand, (batch_size, num_tokens), generator).argsort(dim=1)


def ask_all_blocks(
    network: JepaT,
    text: TextFeatures,
    tokens: Tensor,
    generator: torch.Generator,
    plan: Sequence[int],
    context_noise: float = 0.0,
) -> Asked:
    """Cached backbone: reveal and ask for all tokens (B, T, C) under random orders and random block boundaries.

    Levels of `plan` come first; an empty `plan` leaves the plan out. The context sees the tokens with noise of a
    strength drawn for each picture, up to `context_noise` standard deviations, as sampled tokens are not perfect.
    """
    order, blocks = random_orders_and_blocks(len(tokens), network.config.num_tokens, plan, generator)
    clean = take(tokens, order)
    seen = clean
    if context_noise:
        strength = draw(torch.rand, (len(clean), 1, 1), generator)
        noise = draw(torch.randn, clean.shape, generator)
        seen = clean + context_noise * strength * noise
    context = network.extend(network.start(text).at(blocks), seen, order)
    return Asked(network.predict(context.at(blocks), order), clean, order)


def ask_masked(
    network: JepaT,
    text: TextFeatures,
    tokens: Tensor,
    generator: torch.Generator,
    num_masked: int,
    num_asked: int | None = None,
) -> Asked:
    """Bidirectional backbone: reveal all but `num_masked` tokens and ask for `num_asked` of these (None: all).

    The tokens of a plan are revealed too.
    """
    num_asked = num_masked if num_asked is None else num_asked
    batch, num_tokens = len(tokens), network.config.num_tokens
    order = random_orders(batch, num_tokens, generator)
    known, asked = order.split([num_tokens - num_masked, num_masked], dim=1)
    asked = asked[:, :num_asked]
    plan = torch.arange(num_tokens, tokens.shape[1], device=order.device).expand(batch, -1)
    known = torch.cat([plan, known], dim=1)
    context = network.extend(network.start(text).at(torch.zeros_like(known)), take(tokens, known), known)
    return Asked(network.predict(context.at(torch.ones_like(asked)), asked), take(tokens, asked), asked)


def ask(
    network: JepaT, text: TextFeatures, tokens: Tensor, generator: torch.Generator, context_noise: float = 0.0
) -> Asked:
    """Reveal and ask for what the backbone is trained on; with tokens (B, N, C) alone there is no plan."""
    num_tokens = network.config.num_tokens
    if network.config.backbone == "cached":
        plan = network.config.plan if tokens.shape[1] > num_tokens else ()
        return ask_all_blocks(network, text, tokens, generator, plan, context_noise)
    if network.asks_all_masked:
        return ask_masked(network, text, tokens, generator, masked_count(num_tokens, generator))
    masked, asked = subset_counts(num_tokens, generator)
    return ask_masked(network, text, tokens, generator, masked, asked)


def denoising_loss(process: Denoising, network: JepaT, asked: Asked, generator: torch.Generator, draws: int) -> Tensor:
    """Return the losses (B, draws, M) of asked tokens, noise and time drawn `draws` times for each."""
    condition, clean = (tensor.repeat(1, draws, 1).flatten(0, 1) for tensor in (asked.condition, asked.clean))
    return process.loss(network.denoiser, condition, clean, generator).view(len(asked.clean), draws, -1)


def solve(
    process: Denoising,
    denoiser: Denoiser,
    condition: Tensor,
    noise: Tensor,
    generator: torch.Generator,
    *,
    num_steps: int,
    temperature: float = 1.0,
) -> Tensor:
    """Return the tokens (M, C) that noise (M, C) becomes under conditions (M, D), without guidance."""
    times = denoiser.embed_times(torch.tensor(process.times(num_steps), device=noise.device))
    return process.sample(
        conditioned(denoiser, times, condition),
        noise,
        num_steps=num_steps,
        temperature=temperature,
        draw=lambda: draw(torch.randn, noise.shape, generator),
    )


def losses_when_revealed(
    process: Denoising, network: JepaT, text: TextFeatures, tokens: Tensor, generator: torch.Generator
) -> dict[float, float]:
    """Return the mean denoising loss of a picture's tokens at each revealed fraction, all others asked at once.

    Tokens of the plan, if present in (B, T, C), are revealed at every fraction.
    """
    num_tokens, losses = network.config.num_tokens, {}
    for fraction in REVEALED_FRACTIONS:
        asked = ask_masked(network, text, tokens, generator, num_tokens - round(fraction * num_tokens))
        losses[fraction] = float(denoising_loss(process, network, asked, generator, draws=4).mean())
    return losses
