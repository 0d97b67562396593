"""What the pipeline returns and yields, and what it refuses.

Letters in shapes: B pictures, N image tokens, K tokens of one step, C token channels, S picture side in pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SMALLEST = 16  # side in pixels of a finished picture


@dataclass(frozen=True)
class SampleStep:
    """State after one step of sampling.

    Attributes:
        index: the step, counted from 0; total: the number of steps.
        tokens: (B, N, C) predicted tokens, zeros where not yet known.
        known: (B, N) bool.
        revealed: (B, K) long, the positions that this step revealed.
        image: (B, 3, S, S) in [-1, 1], mid grey where not yet known.
    """

    index: int
    total: int
    tokens: Tensor
    known: Tensor
    revealed: Tensor
    image: Tensor


@dataclass(frozen=True)
class JepaTOutput:
    """Pictures in the requested output type: a list of PIL images ("pil"), an array (B, S, S, 3) in [0, 1] ("np") or a
    tensor (B, 3, S, S) in [-1, 1] ("pt").
    """

    images: Any


def check_prompts(prompts: Sequence[str]) -> None:
    """Refuse empty prompts.

    Raises:
        ValueError: there is no prompt, or one is empty.
    """
    if not prompts or not all(isinstance(prompt, str) and prompt.strip() for prompt in prompts):
        raise ValueError("a prompt is empty; describe the picture, for example 'red apple, twemoji style'")


def check_size(size: int | None, largest: int) -> None:
    """Refuse a size of finished pictures that is not allowed; None is the largest.

    Raises:
        ValueError: it is not a whole number from 16 to the largest size.
    """
    if size is not None and (isinstance(size, bool) or not isinstance(size, int) or not SMALLEST <= size <= largest):
        raise ValueError(f"size is {size!r}; allowed: a whole number of pixels from {SMALLEST} to {largest}")


def refuse_overflow(numbers: Tensor) -> None:
    """Refuse pixels or tokens of any shape that are not finite.

    Raises:
        ValueError: the message says which settings to lower.
    """
    if not torch.isfinite(numbers).all():
        raise ValueError("the numbers of the picture overflowed; use a lower guidance scale or a lower temperature")


def one_each(generator: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """Return one generator for each of `count` pictures; freshly seeded ones if there are none.

    Raises:
        ValueError: their number differs.
    """
    if generator is None:
        generators = [torch.Generator() for _ in range(count)]
        for fresh in generators:
            fresh.seed()
        return generators
    generators = [generator] if isinstance(generator, torch.Generator) else list(generator)
    if len(generators) != count:
        raise ValueError(f"got {len(generators)} generators for {count} pictures; pass one per picture")
    return generators
