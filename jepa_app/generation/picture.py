"""One picture in the making: its order and noise, and how far it is.

Source: sampling of MAR and D-JEPA (arXiv 2406.11838, 2410.03755): random order, cosine schedule, linear or
constant guidance.
paper word -> code: AR step `step`, tau `temperature`, w `guidance`.
Letters in shapes: N image tokens, K tokens of this step, C token channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import block_ids, cosine_schedule
from jepa_app.models.jepa_t import JepaT


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


@dataclass(frozen=True)
class Shown:
    """What a picture begins with: the tokens of an earlier run up to some step, or of a picture with a hole in it.

    All steps are then spent on what is not known.

    Attributes:
        tokens: (N, C), of any value where not known.
        known: (N,) bool.
    """

    tokens: Tensor
    known: Tensor


@dataclass(eq=False)
class Picture:
    """A picture in the making: what it wants and how far it is.

    Order and noise come from the generator alone and are drawn at once, the noise by position: a picture does not
    depend on others, and one that is resumed or has a part redone meets the same noise again.

    Attributes:
        order: (N,) positions, known ones first; `done` of them are known.
        counts: tokens of each step; `index` steps are done.
        begun: (tokens known at the begin,) long, the blocks in which the context takes them in.
    """

    settings: SamplingSettings
    generator: torch.Generator
    order: Tensor
    noise: Tensor
    tokens: Tensor
    known: Tensor
    counts: tuple[int, ...]
    begun: Tensor
    slots: list[int] = field(default_factory=list)  # of the prompt and, with guidance, of the null text
    index: int = 0
    done: int = 0

    @classmethod
    def begin(
        cls,
        network: JepaT,
        settings: SamplingSettings,
        generator: torch.Generator,
        shown: Shown | None = None,
        after: TokenStep | None = None,
    ) -> "Picture":
        """Draw order (N,) and noise (N, C) of a picture from its generator; `shown` is what it begins with.

        With `after`, a step of a run of the same seed, number of steps and begin, it goes on as that run would have.

        Raises:
            ValueError: the number of steps is not between 1 and N, or what is shown or the step does not fit.
        """
        number, channels, device = network.config.num_tokens, network.config.channels, network.null_text.device
        counts = cosine_schedule(number, settings.steps)
        order = torch.randperm(number, generator=generator)
        noise = torch.randn(number, channels, generator=generator)
        tokens, known, done, index = torch.zeros(number, channels), torch.zeros(number, dtype=torch.bool), 0, 0
        begun = torch.zeros(0, dtype=torch.long)
        if shown is not None:
            known = _checked(shown, tokens)
            tokens = torch.where(known[:, None], shown.tokens.cpu().float(), tokens)
            done = int(known.sum())
            order = torch.cat([order[known[order]], order[~known[order]]])
            begun = block_ids(cosine_schedule(number, min(number, SamplingSettings.steps)))[:done]  # as in training
            counts = cosine_schedule(number - done, min(settings.steps, number - done))
        if after is not None:
            _refuse_whole(after.known)
            index = after.index + 1
            seen = done + sum(counts[:index])
            tokens, known = after.tokens.cpu().float(), after.known.cpu()
            if after.total != len(counts) or int(known.sum()) != seen or not bool(known[order[:seen]].all()):
                raise ValueError(f"step {index} is of a run with another seed, number of steps or begin")
            begun = torch.cat([begun, block_ids(counts)[: seen - done] + len(begun.unique())])
            done = seen
        return cls(
            settings=settings,
            generator=generator,
            order=order.to(device),
            noise=noise.to(device),
            tokens=tokens.to(device),
            known=known.to(device),
            counts=counts,
            begun=begun.to(device),
            done=done,
            index=index,
        )

    @property
    def is_guided(self) -> bool:
        """Whether the null text is needed."""
        return self.settings.guidance != 1

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
        """Guidance of this step; "linear" is linear in the share of tokens revealed after it."""
        if self.settings.guidance_schedule == "constant":
            return self.settings.guidance
        revealed = (self.done + self.counts[self.index]) / len(self.order)
        return 1 + (self.settings.guidance - 1) * revealed

    def reveal(self, clean: Tensor) -> TokenStep:
        """Take in the tokens (K, C) of this step."""
        asked = self.asked
        self.tokens = self.tokens.index_copy(0, asked, clean.to(self.tokens.dtype))
        self.known = self.known.index_fill(0, asked, True)
        step = TokenStep(self.index, len(self.counts), self.tokens, self.known, asked)
        self.done += len(asked)
        self.index += 1
        return step


def _checked(shown: Shown, like: Tensor) -> Tensor:
    """Refuse tokens that do not fit a picture like (N, C); return what is known of it (N,)."""
    if shown.tokens.shape != like.shape or shown.known.shape != like.shape[:1]:
        got = (tuple(shown.tokens.shape), tuple(shown.known.shape))
        raise ValueError(f"shown tokens and mask have shapes {got}; allowed: {tuple(like.shape)}, {(len(like),)}")
    known = shown.known.cpu()
    _refuse_whole(known)
    if not bool(torch.isfinite(shown.tokens[shown.known]).all()):
        raise ValueError("shown tokens hold values that are not finite")
    return known


def _refuse_whole(known: Tensor) -> None:
    if bool(known.all()):
        raise ValueError("all tokens of the picture are known already; mark a part of it to be redone")
