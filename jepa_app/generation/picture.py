"""One picture in progress: its order and noise, and how far it has got.

Source: sampling of MAR and D-JEPA (arXiv 2406.11838, 2410.03755): random order, cosine schedule, linear or
constant guidance.
paper word -> code: AR step `step`, tau `temperature`, w `guidance`.
Letters in shapes: N image tokens, T including those of the plan, K tokens of this step, C token channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from jepa_app.config import JepaTConfig
from jepa_app.generation.settings import SamplingSettings
from jepa_app.masking import block_ids, cosine_schedule
from jepa_app.models.jepa_t import JepaT
from jepa_app.plan import draw_order, level_ranges, reveal_counts


@dataclass(frozen=True)
class TokenStep:
    """State of one picture after one step.

    Attributes:
        index: step, counted from 0; total: number of steps.
        tokens: (T, C), zeros where not yet known; those of the plan come last.
        known: (T,) bool.
        revealed: (K,) long, the positions that this step revealed.
        num_plan: number of plan tokens.
    """

    index: int
    total: int
    tokens: Tensor
    known: Tensor
    revealed: Tensor
    num_plan: int = 0

    @property
    def num_tokens(self) -> int:
        """Tokens of the picture alone, which come first."""
        return len(self.tokens) - self.num_plan

    @property
    def painted(self) -> tuple[int, ...]:
        """Positions of the picture's tokens that this step revealed."""
        return tuple(position for position in self.revealed.tolist() if position < self.num_tokens)

    @property
    def planned(self) -> int:
        """How many tokens of the plan are known."""
        return int(self.known[self.num_tokens :].sum())

    @property
    def is_whole(self) -> bool:
        """Whether all tokens of the picture are known."""
        return bool(self.known[: self.num_tokens].all())


@dataclass(frozen=True)
class Shown:
    """What a picture starts with: the tokens of an earlier run up to some step, or of a picture with a hole in it.

    All steps are then spent on what is not yet known.

    Attributes:
        tokens: (T, C), with any value where not known.
        known: (T,) bool.
    """

    tokens: Tensor
    known: Tensor


@dataclass(eq=False)
class Picture:
    """A picture in progress: what was asked for and how far it has got.

    Order and noise come from the generator alone and are drawn at the start, the noise by position: a picture does not
    depend on others, and one that is resumed or partly redone gets the same noise again.

    Attributes:
        order: (up to T,) positions: known ones first, then the plan, then the picture; the first `done` are known.
        counts: tokens of each step; `index` steps are done.
        begun: (number of tokens known at the start,) long, the block in which the context takes in each of them.
        num_plan: number of plan tokens, which come last in `tokens`.
        thing_shares: shares of the thing alone in what the prompt predicts, for the plan and for the picture.
        slots: of the texts that it follows: the prompt, the null text if it is guided, the thing alone if it is mixed.
        is_mixed: whether the thing alone takes a share in what the prompt predicts.
    """

    settings: SamplingSettings
    generator: torch.Generator
    order: Tensor
    noise: Tensor
    tokens: Tensor
    known: Tensor
    counts: tuple[int, ...]
    begun: Tensor
    num_plan: int = 0
    thing_shares: tuple[float, ...] = JepaTConfig.sampling_thing_shares
    slots: list[int] = field(default_factory=list)
    is_mixed: bool = False
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
        """Draw order and noise (T, C) of a picture from its generator; `shown` is what it starts with.

        The plan comes first, unless tokens of the picture are shown or there are too few steps for it; then the plan's
        unknown tokens are left out. With `after`, a step of a run with the same seed, number of steps and start,
        the picture continues as that run would have.

        Raises:
            ValueError: the number of steps is not between 1 and N, or `shown` or `after` does not fit.
        """
        config, device = network.config, network.null_text.device
        order = draw_order(config.num_tokens, config.plan, generator)
        noise = torch.randn(config.num_places, config.channels, generator=generator)
        tokens, known = torch.zeros_like(noise), torch.zeros(config.num_places, dtype=torch.bool)
        done, index, begun, steps = 0, 0, torch.zeros(0, dtype=torch.long), settings.steps
        if shown is not None:
            known = _checked(shown, tokens, config.num_tokens)
            tokens = torch.where(known[:, None], shown.tokens.cpu().float(), tokens)
            done = int(known.sum())
            order = torch.cat([order[known[order]], order[~known[order]]])
            begun = _blocks_of(known, config.num_tokens)
            steps = min(steps, int((~known[: config.num_tokens]).sum()))
        order, counts = _scheduled(order, known, config, steps)
        if after is not None:
            _refuse_whole(after.known[: config.num_tokens])
            index = after.index + 1
            seen = done + sum(counts[:index])
            tokens, known = after.tokens.cpu().float(), after.known.cpu()
            if after.total != len(counts) or int(known.sum()) != seen or not bool(known[order[:seen]].all()):
                raise ValueError(f"step {index} is from a run with another seed, number of steps or starting picture")
            begun = torch.cat([begun, block_ids(counts)[: seen - done] + len(begun.unique())])
            done = seen
            if config.denoising == "diffusion":  # which draws noise at every step: the run goes on behind what it drew
                for count in counts[:index]:
                    for _ in range(settings.denoising_steps - 1):
                        torch.randn(count, config.channels, generator=generator)
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
            num_plan=config.num_places - config.num_tokens,
            thing_shares=config.sampling_thing_shares,
        )

    @property
    def num_tokens(self) -> int:
        """Tokens of the picture alone, which come first."""
        return len(self.tokens) - self.num_plan

    @property
    def num_shown(self) -> int:
        """Tokens that were known before its first step."""
        return self.done - sum(self.counts[: self.index])

    @property
    def steps_left(self) -> int:
        """Steps until all its tokens are known."""
        return len(self.counts) - self.index

    @property
    def is_guided(self) -> bool:
        """Whether the null text is needed; at a scale of 1 too for a mixed one, as only what is guided is mixed."""
        return self.settings.guidance != 1 or self.is_mixed

    @property
    def has_plan(self) -> bool:
        """Whether it makes a plan, or began with one."""
        return bool((self.order >= self.num_tokens).any())

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

    @property
    def thing_share(self) -> float:
        """Share of the thing alone in what the prompt predicts for this step."""
        in_plan, in_picture = self.thing_shares
        return in_plan if bool(self.asked[0] >= self.num_tokens) else in_picture

    def reveal(self, clean: Tensor) -> TokenStep:
        """Take in the tokens (K, C) of this step."""
        asked = self.asked
        self.tokens = self.tokens.index_copy(0, asked, clean.to(self.tokens.dtype))
        self.known = self.known.index_fill(0, asked, True)
        step = TokenStep(self.index, len(self.counts), self.tokens, self.known, asked, self.num_plan)
        self.done += len(asked)
        self.index += 1
        return step


def _checked(shown: Shown, like: Tensor, num_tokens: int) -> Tensor:
    """Refuse tokens that do not fit a picture of shape `like` (T, C); return which are known (T,)."""
    if shown.tokens.shape != like.shape or shown.known.shape != like.shape[:1]:
        got = (tuple(shown.tokens.shape), tuple(shown.known.shape))
        raise ValueError(f"shown tokens and mask have shapes {got}; allowed: {tuple(like.shape)}, {(len(like),)}")
    known = shown.known.cpu()
    _refuse_whole(known[:num_tokens])
    if not bool(torch.isfinite(shown.tokens[shown.known]).all()):
        raise ValueError("shown tokens hold values that are not finite")
    return known


def _scheduled(order: Tensor, known: Tensor, config: JepaTConfig, steps: int) -> tuple[Tensor, tuple[int, ...]]:
    """Return the order without the plan tokens that are left out, and how many unknown tokens each step reveals."""
    number = config.num_tokens
    left = int((~known[:number]).sum())
    levels = [int((~known[level.start : level.stop]).sum()) for level in level_ranges(number, config.plan)]
    counts = reveal_counts(left, [size for size in levels if size] if left == number else [], steps)
    if sum(counts) == left:
        order = order[(order < number) | known[order]]
    return order, counts


def _blocks_of(known: Tensor, num_tokens: int) -> Tensor:
    """Blocks in which the context takes in the shown tokens: as in training, the plan tokens first, one block each."""
    planned, painted = int(known[num_tokens:].sum()), int(known[:num_tokens].sum())
    blocks = block_ids(cosine_schedule(num_tokens, min(num_tokens, SamplingSettings.steps)))[:painted]
    return torch.cat([torch.arange(planned), blocks + planned])


def _refuse_whole(known: Tensor) -> None:
    if bool(known.all()):
        raise ValueError("all tokens of the picture are known already; mark a part of it to be redone")
