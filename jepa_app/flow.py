"""Denoising of one token at a time: flow matching and Gaussian diffusion behind the same two calls, loss and sample.

paper word -> here: x_1 clean token, x_t noisy token, z condition, tau `temperature`, epsilon `noise`.
Letters in shapes: M tokens, C token channels, D width. Time t is in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x (M, C), t (M,), condition (M, D)) -> (M, C)
Draw = Callable[[], Tensor]  # -> (M, C) standard normal noise


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance: a second condition and how far to move away from it.

    Attributes:
        null_condition: (M, D) condition of the null text or the negative prompt.
        scale: 1 means no guidance.
    """

    null_condition: Tensor
    scale: float


def guided(network: Network, x: Tensor, time: Tensor, condition: Tensor, guidance: Guidance | None) -> Tensor:
    """Evaluate the network, moved from the null condition towards the prompt by the guidance scale: (M, C).

    null + scale * (prompt - null): the one place of this formula. `guidance=None` runs the prompt alone, which equals
    a scale of 1 at half the cost.
    """
    if guidance is None:
        return network(x, time, condition)
    both = torch.cat([condition, guidance.null_condition])
    prompt, null = network(x.repeat(2, 1), time.repeat(2), both).chunk(2)
    return torch.lerp(null, prompt, guidance.scale)


class Denoising(Protocol):
    """What the objective and the sampler ask of a denoising process."""

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each token (M,) at a random time."""

    def sample(
        self,
        network: Network,
        condition: Tensor,
        draw: Draw,
        *,
        num_steps: int,
        temperature: float = 1.0,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Return clean tokens (M, C)."""


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Flow matching on the straight path x_t = t x_1 + (1 - t) noise, the network predicting x_1.

    The loss is that of the velocity x_1 - noise = (x_1 - x_t) / (1 - t), with the denominator at least
    `min_denominator`. Times are logit-normal: t = sigmoid(mean + std * normal).
    """

    time_mean: float = -0.4
    time_std: float = 1.0
    min_denominator: float = 0.05

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared velocity error of each token (M,) at a random time."""
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        normal = torch.randn(len(clean), generator=generator, device=clean.device, dtype=clean.dtype)
        time = torch.sigmoid(self.time_mean + self.time_std * normal)
        noisy = time[:, None] * clean + (1 - time[:, None]) * noise
        remaining = (1 - time).clamp(min=self.min_denominator)[:, None]
        return ((network(noisy, time, condition) - clean) / remaining).square().mean(dim=1)

    def sample(
        self,
        network: Network,
        condition: Tensor,
        draw: Draw,
        *,
        num_steps: int,
        temperature: float = 1.0,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Integrate the flow from noise scaled by `temperature` to clean tokens (M, C) with Euler's method."""
        x = draw() * temperature
        for index in range(num_steps):
            predicted = guided(network, x, x.new_full((len(x),), index / num_steps), condition, guidance)
            x = torch.lerp(x, predicted, 1 / (num_steps - index))  # velocity (x_1 - x_t) / (1 - t), times dt
        return x


@dataclass(frozen=True, kw_only=True)
class GaussianDiffusion:
    """Denoising diffusion on the cosine schedule, the network predicting the noise; fixed posterior variance.

    `num_times` training times; sampling visits a subset and re-derives the variances for it (improved DDPM).
    """

    num_times: int = 1000

    def signal(self, time: Tensor) -> Tensor:
        """Return the share of signal variance (alpha bar) at time t in [0, 1], 1 being noise: same shape.

        At least 0.001, so that the first step does not divide by a vanishing signal.
        """
        angle = (time + 0.008) / 1.008 * torch.pi / 2
        return (torch.cos(angle) ** 2 / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2).clamp(1e-3, 1)

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared noise error of each token (M,) at a random time."""
        noise = torch.randn(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        index = torch.randint(1, self.num_times + 1, (len(clean),), generator=generator, device=clean.device)
        time = index.to(clean.dtype) / self.num_times
        signal = self.signal(time)[:, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        return (network(noisy, time, condition) - noise).square().mean(dim=1)

    def sample(
        self,
        network: Network,
        condition: Tensor,
        draw: Draw,
        *,
        num_steps: int,
        temperature: float = 1.0,
        guidance: Guidance | None = None,
    ) -> Tensor:
        """Run the ancestral sampler over `num_steps` times; `temperature` scales the noise added at every step."""
        x = draw()
        times = torch.linspace(1, 0, num_steps + 1)
        signals = self.signal(times).tolist()
        for index in range(num_steps):
            now, after = signals[index], signals[index + 1]
            noise = guided(network, x, x.new_full((len(x),), float(times[index])), condition, guidance)
            clean = (x - (1 - now) ** 0.5 * noise) / now**0.5
            step_signal = now / after  # alpha of this (respaced) step
            mean = after**0.5 * (1 - step_signal) / (1 - now) * clean + step_signal**0.5 * (1 - after) / (1 - now) * x
            variance = (1 - after) / (1 - now) * (1 - step_signal)
            x = mean if index == num_steps - 1 else mean + variance**0.5 * temperature * draw()
        return x


def make_denoising(name: str) -> Denoising:
    """Return the denoising process named in a network's config: "flow" or "diffusion".

    Raises:
        ValueError: the name is another.
    """
    processes: dict[str, Denoising] = {"flow": FlowMatching(), "diffusion": GaussianDiffusion()}
    if name not in processes:
        raise ValueError(f"denoising is {name!r}; allowed: {sorted(processes)}")
    return processes[name]
