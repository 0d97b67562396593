"""One picture in the making: how it is to be sampled, its order and noise, and how far it is.

Source: sampling of MAR and D-JEPA (arXiv 2406.11838, 2410.03755): random order, cosine schedule, linear guidance.
paper word -> code: AR step `step`, tau `temperature`, w `guidance_scale`.
Letters in shapes: N image tokens, K tokens of this step, C token channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from jepa_app.masking import cosine_schedule
from jepa_app.models.jepa_t import JepaT

DENOISING_STEPS = 5
MAX_DENOISING_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to sample.

    `guidance_scale` is reached at the last step, rising linearly with the revealed share from 1; 1 is no guidance.
    `temperature` scales the noise that tokens are denoised from. `denoising_steps` are the evaluations of the denoiser
    for one token.

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
        if not 1 <= self.denoising_steps <= MAX_DENOISING_STEPS:
            raise ValueError(f"denoising_steps is {self.denoising_steps}; allowed: 1 to {MAX_DENOISING_STEPS}")


@dataclass(frozen=True)
class TokenStep:
    """State of one picture after one step.

    Attributes:
        index: step, counted from 0; total: number of steps.
        tokens: (N, C), zeros where not yet known.
        known: (N,) bool.
        revealed: (K,) long, positions that this step revealed.
    """

    index: int
    total: int
    tokens: Tensor
    known: Tensor
    revealed: Tensor


@dataclass(eq=False)
class Picture:
    """A picture in the making: what it wants and how far it is.

    Order and noise come from the generator alone and are drawn at once, the noise by position: a picture does not
    depend on others.
    """

    settings: SamplingSettings
    generator: torch.Generator
    order: Tensor
    noise: Tensor
    tokens: Tensor
    known: Tensor
    counts: tuple[int, ...]
    slots: list[int] = field(default_factory=list)  # of the prompt and, with guidance, of the null text
    index: int = 0
    done: int = 0

    @classmethod
    def begin(cls, network: JepaT, settings: SamplingSettings, generator: torch.Generator) -> "Picture":
        """Draw order (N,) and noise (N, C) of a picture from its generator.

        Raises:
            ValueError: the number of steps is not between 1 and N.
        """
        number, channels, device = network.config.num_tokens, network.config.channels, network.null_text.device
        counts = cosine_schedule(number, settings.num_steps)
        order = torch.randperm(number, generator=generator)
        noise = torch.randn(number, channels, generator=generator)
        return cls(
            settings=settings,
            generator=generator,
            order=order.to(device),
            noise=noise.to(device),
            tokens=torch.zeros(number, channels, device=device),
            known=torch.zeros(number, dtype=torch.bool, device=device),
            counts=counts,
        )

    @property
    def is_guided(self) -> bool:
        """Whether the null text is needed."""
        return self.settings.guidance_scale != 1

    @property
    def is_done(self) -> bool:
        """Whether all tokens are known."""
        return self.index == len(self.counts)

    @property
    def asked(self) -> Tensor:
        """Positions (K,) of the tokens of this step."""
        return self.order[self.done : self.done + self.counts[self.index]]

    @property
    def scale(self) -> float:
        """Guidance of this step: linear in the share of tokens revealed after it."""
        revealed = (self.done + self.counts[self.index]) / len(self.order)
        return 1 + (self.settings.guidance_scale - 1) * revealed

    def reveal(self, clean: Tensor) -> TokenStep:
        """Take in the tokens (K, C) of this step."""
        asked = self.asked
        self.tokens = self.tokens.index_copy(0, asked, clean.to(self.tokens.dtype))
        self.known = self.known.index_fill(0, asked, True)
        step = TokenStep(self.index, len(self.counts), self.tokens, self.known, asked)
        self.done += len(asked)
        self.index += 1
        return step
