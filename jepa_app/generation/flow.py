"""Denoising of single tokens: flow matching and Gaussian diffusion behind the same two calls, `loss` and `sample`.

paper word -> here: x_1 clean token, x_t noisy token, z condition, tau `temperature`, epsilon `noise`.
Letters in shapes: M tokens, C token channels, D width, W width of the denoiser. Time t is in [0, 1].
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from jepa_app.masking import draw

Network = Callable[[Tensor, Tensor, Tensor], Tensor]  # (x (M, C), t (M,), condition (M, D)) -> (M, C)
Predict = Callable[[Tensor, int], Tensor]  # (x (M, C), index of the time) -> (M, C), with the conditions built in
Draw = Callable[[], Tensor]  # -> (M, C) standard normal noise
Solver = Literal["euler", "midpoint", "heun", "multistep"]


Steering = tuple[Tensor, ...]
STEERED_ROWS = 4096  # tokens x times for which the steering is computed and kept at once


class SteeredNetwork(Protocol):
    """A denoiser in parts, so that whatever does not depend on the tokens is computed once for many times."""

    def condition_in(self, condition: Tensor) -> Tensor:
        """Embed conditions (M, D): (M, W)."""

    def steer(self, embedded: Tensor) -> list[Steering]:
        """Turn embedded times and conditions (K, M, W) into the steering (K, M, W) of each layer."""

    def denoise(self, x: Tensor, steering: Sequence[Steering]) -> Tensor:
        """Predict for x (M, C) under the steering (M, W) of each layer: (M, C)."""


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance for the first G of M tokens: second conditions, and how far to move away from them.

    Attributes:
        null_condition: (G, D) conditions from the null text or the negative prompt.
        scale: (G, 1); 1 means no guidance.
    """

    null_condition: Tensor
    scale: Tensor


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Second prompts for the first H of M tokens, which take a share in what the prompts predict.

    Attributes:
        condition: (H, D) conditions from the second prompts.
        share: (H, 1); 0 is none, and a share below zero moves away from the second prompt.
    """

    condition: Tensor
    share: Tensor


def guide(null: Tensor, prompt: Tensor, scale: Tensor) -> Tensor:
    """Return null + scale * (prompt - null), each (M, C); a scale of 1 is off. This formula is written only here."""
    return torch.lerp(null, prompt, scale.to(prompt.dtype))


def conditioned(
    network: SteeredNetwork,
    times: Tensor,
    condition: Tensor,
    guidance: Guidance | None = None,
    mixture: Mixture | None = None,
) -> Predict:
    """Return the network for fixed embedded times (K, W) and conditions (M, D), with guidance.

    `guidance=None` runs the prompts alone, which equals a scale of 1 at half the cost. What a `mixture` mixes is guided
    as a prompt's prediction is, so only tokens that have guidance can have one.
    """
    if guidance is None:
        return _steered(network, times, network.condition_in(condition))
    parts = [condition, guidance.null_condition, *([] if mixture is None else [mixture.condition])]
    counts = [len(part) for part in parts]
    together = _steered(network, times, network.condition_in(torch.cat(parts)))

    def predict(x: Tensor, index: int) -> Tensor:
        prompts, null, *second = together(torch.cat([x[:count] for count in counts]), index).split(counts)
        if mixture is not None:
            mixed = torch.lerp(prompts[: counts[2]], second[0], mixture.share.to(prompts.dtype))
            prompts = _with_first(prompts, mixed)
        return _with_first(prompts, guide(null, prompts[: counts[1]], guidance.scale))

    return predict


def _with_first(rows: Tensor, first: Tensor) -> Tensor:
    """Rows (M, C) with the first of them (G, C) replaced."""
    return first if len(first) == len(rows) else torch.cat([first, rows[len(first) :]])


def _steered(network: SteeredNetwork, times: Tensor, embedded: Tensor) -> Predict:
    at_once = max(1, STEERED_ROWS // len(embedded))
    kept: dict[int, list[Steering]] = {}  # the steering of the current group of times

    def predict(x: Tensor, index: int) -> Tensor:
        group = index // at_once
        if group not in kept:
            kept.clear()
            part = times[group * at_once : (group + 1) * at_once]
            kept[group] = network.steer(embedded + part[:, None])  # (times of the group, M, W)
        return network.denoise(x, [tuple(one[index % at_once] for one in layer) for layer in kept[group]])

    return predict


class Denoising(Protocol):
    """What the objective and the sampler need from a denoising process."""

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the loss of each token (M,) at a random time."""

    def times(self, num_steps: int) -> list[float]:
        """Return the times in [0, 1] at which `sample` evaluates the network, one per step."""

    def sample(
        self, predict: Predict, noise: Tensor, *, num_steps: int, temperature: float | Tensor = 1.0, draw: Draw
    ) -> Tensor:
        """Return clean tokens (M, C) from noise (M, C) with `num_steps` evaluations.

        `temperature` is a number or (M, 1); `draw` supplies more noise if the process is random.
        """


@dataclass(frozen=True, kw_only=True)
class FlowMatching:
    """Flow matching on the straight path x_t = t x_1 + (1 - t) noise, where the network predicts x_1.

    The loss is the error of the velocity x_1 - noise = (x_1 - x_t) / (1 - t), with the denominator clamped to at least
    `min_denominator`. Times are logit-normal: t = sigmoid(mean + std * normal).

    `solver` integrates dx/dt = velocity. It is Euler's method; the midpoint rule or Heun's method, both of second order
    with two evaluations per interval (one in Heun's last interval); or the two-step Adams-Bashforth method
    ("multistep"), of second order with one evaluation per interval. A `shift` above 1 moves the times towards the
    noise: t = u / (u + shift (1 - u)) on an even grid of u (as in Stable Diffusion 3, arXiv 2403.03206, whose time runs
    the other way).
    """

    time_mean: float = -0.4
    time_std: float = 1.0
    min_denominator: float = 0.05
    solver: Solver = "multistep"
    shift: float = 2.0

    def loss(
        self,
        network: Network,
        condition: Tensor,
        clean: Tensor,
        generator: torch.Generator,
        *,
        noise: Tensor | None = None,
        at_noise: Tensor | None = None,
    ) -> Tensor:
        """Return the mean squared velocity error of each token (M,) at a random time.

        `noise` (M, C) is drawn unless given; tokens where `at_noise` (M,) is True are taken at time 0.
        """
        if noise is None:
            noise = draw(torch.randn, clean.shape, generator, clean.dtype)
        normal = draw(torch.randn, (len(clean),), generator, clean.dtype)
        time = torch.sigmoid(self.time_mean + self.time_std * normal)
        if at_noise is not None:
            time = time.masked_fill(at_noise, 0.0)
        noisy = time[:, None] * clean + (1 - time[:, None]) * noise
        remaining = (1 - time).clamp(min=self.min_denominator)[:, None]
        return ((network(noisy, time, condition) - clean) / remaining).square().mean(dim=1)

    def times(self, num_steps: int) -> list[float]:
        """Return the times at which `sample` evaluates the network, one per step."""
        grid = self._grid(num_steps)
        if self.solver == "midpoint":
            return [time for t, u in itertools.pairwise(grid) for time in (t, (t + u) / 2)]
        if self.solver == "heun":
            return grid[:1] + [time for time in grid[1:-1] for _ in range(2)]
        return grid[:-1]

    def _grid(self, num_steps: int) -> list[float]:
        intervals = {"midpoint": num_steps / 2, "heun": (num_steps + 1) / 2}.get(self.solver, num_steps)
        if intervals != int(intervals):
            kind = "even" if self.solver == "midpoint" else "odd"
            raise ValueError(f"denoising_steps is {num_steps}; allowed with {self.solver}: an {kind} number")
        even = [index / int(intervals) for index in range(int(intervals) + 1)]
        return [u / (u + self.shift * (1 - u)) for u in even]

    def sample(
        self, predict: Predict, noise: Tensor, *, num_steps: int, temperature: float | Tensor = 1.0, draw: Draw
    ) -> Tensor:
        """Integrate the flow from noise scaled by `temperature` to clean tokens (M, C)."""
        del draw  # the flow is deterministic
        x, grid = noise * temperature, self._grid(num_steps)

        def velocity(x: Tensor, time: float, index: int) -> Tensor:
            return (predict(x, index) - x) / (1 - time)

        before, index = x, 0
        for step, (t, u) in enumerate(itertools.pairwise(grid)):
            now, last = velocity(x, t, index), u == 1
            index += 1
            if self.solver == "midpoint":
                now = velocity(x + (u - t) / 2 * now, (t + u) / 2, index)
                index += 1
            elif self.solver == "heun" and not last:
                now = (now + velocity(x + (u - t) * now, u, index)) / 2
                index += 1
            slope = now
            if self.solver == "multistep" and step:
                slope = torch.lerp(before, now, 1 + (u - t) / (2 * (t - grid[step - 1])))
            x, before = torch.add(x, slope, alpha=u - t), now
        return x


@dataclass(frozen=True, kw_only=True)
class GaussianDiffusion:
    """Denoising diffusion on the cosine schedule; the network predicts the noise, and the posterior variance is fixed.

    Training uses `num_times` times; sampling visits a subset and re-derives the variances for it (improved DDPM).
    """

    num_times: int = 1000

    def signal(self, time: Tensor) -> Tensor:
        """Return the share of signal variance (alpha bar) at times t in [0, 1], where 1 is noise, in the same shape.

        It is at least 0.001, so that the first step does not divide by a vanishing signal.
        """
        angle = (time + 0.008) / 1.008 * torch.pi / 2
        return (torch.cos(angle) ** 2 / torch.cos(torch.tensor(0.008 / 1.008 * torch.pi / 2)) ** 2).clamp(1e-3, 1)

    def loss(self, network: Network, condition: Tensor, clean: Tensor, generator: torch.Generator) -> Tensor:
        """Return the mean squared noise error of each token (M,) at a random time."""
        noise = draw(torch.randn, clean.shape, generator, clean.dtype)
        index = draw(functools.partial(torch.randint, 1, self.num_times + 1), (len(clean),), generator)
        time = index.to(clean.dtype) / self.num_times
        signal = self.signal(time)[:, None]
        noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
        return (network(noisy, time, condition) - noise).square().mean(dim=1)

    def times(self, num_steps: int) -> list[float]:
        """Return the times at which `sample` evaluates the network, from noise to clean."""
        return [1 - index / num_steps for index in range(num_steps)]

    def sample(
        self, predict: Predict, noise: Tensor, *, num_steps: int, temperature: float | Tensor = 1.0, draw: Draw
    ) -> Tensor:
        """Run the ancestral sampler over `num_steps` times; `temperature` scales the noise added at every step."""
        x = noise
        signals = self.signal(torch.tensor([*self.times(num_steps), 0.0])).tolist()
        for index in range(num_steps):
            now, after = signals[index], signals[index + 1]
            clean = (x - (1 - now) ** 0.5 * predict(x, index)) / now**0.5
            step_signal = now / after  # alpha of this (respaced) step
            mean = after**0.5 * (1 - step_signal) / (1 - now) * clean + step_signal**0.5 * (1 - after) / (1 - now) * x
            variance = (1 - after) / (1 - now) * (1 - step_signal)
            x = mean if index == num_steps - 1 else mean + variance**0.5 * temperature * draw()
        return x


def make_denoising(name: str) -> Denoising:
    """Return the denoising process named in a network's config: "flow" or "diffusion".

    Raises:
        ValueError: the name is unknown.
    """
    processes: dict[str, Denoising] = {"flow": FlowMatching(), "diffusion": GaussianDiffusion()}
    if name not in processes:
        raise ValueError(f"denoising is {name!r}; allowed: {sorted(processes)}")
    return processes[name]
