"""Which tokens are known when: generation orders, step schedules, block-causal visibility and block masks.

Random numbers of a batch come from `draw`: processes that share a batch each draw those of the whole batch and keep
their part, so a picture gets the same numbers however many processes train.

Letters in shapes: B batch, N image tokens, Q queries, K keys.
"""

import functools
import math
import statistics
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PREFIX_BLOCK = -1  # block of buffer and prompt tokens: before every step, so all tokens see them
NEVER = 1 << 20  # block of padding: after every step, so no token sees it


class SharedGenerator(torch.Generator):
    """A generator whose process has part `place` of `places` equal parts of each batch, in order.

    Every process makes the same draws, so numbers for the batch as a whole are the same in all of them.
    """

    place = 0
    places = 1

    @classmethod
    def of(cls, device: torch.device, place: int, places: int) -> "SharedGenerator":
        """Return a generator for one part of `places`, counted from 0."""
        generator = cls(device)
        generator.place, generator.places = place, places
        return generator


def draw(
    kind: Callable[..., Tensor], shape: Sequence[int], generator: torch.Generator, dtype: torch.dtype | None = None
) -> Tensor:
    """Return what `kind`, such as torch.randn, draws for the rows (B, …) of this process, on the generator's device.

    All rows of a picture must be neighbours.
    """
    places = generator.places if isinstance(generator, SharedGenerator) else 1
    rows = shape[0]
    drawn = kind((places * rows, *shape[1:]), generator=generator, device=generator.device, dtype=dtype)
    return drawn if places == 1 else drawn[generator.place * rows :][:rows]  # type: ignore[attr-defined]


def random_orders(num_tokens: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Draw one random generation order per picture, each from its own generator.

    Returns:
        (B, N) long: entry [b, r] is the position on the grid that picture b generates as its r-th token.
    """
    return torch.stack([torch.randperm(num_tokens, generator=generator) for generator in generators])


def cosine_schedule(num_tokens: int, num_steps: int) -> tuple[int, ...]:
    """Return how many tokens each of `num_steps` steps reveals; the sum is `num_tokens`, each step at least one.

    After step s of T, floor(N cos(pi/2 (s+1)/T)) tokens remain masked (MaskGIT's schedule as used by MAR and D-JEPA).

    Raises:
        ValueError: `num_steps` is not between 1 and `num_tokens`.
    """
    if not 1 <= num_steps <= num_tokens:
        raise ValueError(f"steps is {num_steps}; allowed: 1 to {num_tokens}, the number of tokens in a picture")
    counts = []
    remaining = num_tokens
    for step in range(num_steps):
        left = math.floor(num_tokens * math.cos(math.pi / 2 * (step + 1) / num_steps))
        left = min(max(left, num_steps - 1 - step), remaining - 1)  # this step and every later one reveals at least one
        counts.append(remaining - left)
        remaining = left
    return tuple(counts)


def block_ids(counts: Sequence[int]) -> Tensor:
    """Return the step that reveals each token, in generation order: (N,) long from the counts of each step."""
    return torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts))


@functools.cache
def _all_schedules(num_tokens: int) -> Tensor:
    schedules = (cosine_schedule(num_tokens, steps) for steps in range(1, num_tokens + 1))
    return torch.stack([block_ids(counts) for counts in schedules])  # (N, N): row s for s + 1 steps


def random_blocks(batch_size: int, num_tokens: int, generator: torch.Generator) -> Tensor:
    """Draw a number of steps between 1 and N per picture and return the blocks of its cosine schedule: (B, N) long."""
    steps = draw(functools.partial(torch.randint, num_tokens), (batch_size,), generator)
    return _all_schedules(num_tokens).to(generator.device)[steps]


def visible(query_blocks: Tensor, key_blocks: Tensor, *, same_block: bool) -> Tensor:
    """Return which keys each query may attend to: keys of earlier blocks, and of its own block if `same_block`.

    Args:
        query_blocks: (B, Q) long.
        key_blocks: (B, K) long; `PREFIX_BLOCK` is seen by all, `NEVER` by none.

    Returns:
        (B, Q, K) bool.
    """
    queries, keys = query_blocks[:, :, None], key_blocks[:, None, :]
    return keys <= queries if same_block else keys < queries


def masked_count(num_tokens: int, generator: torch.Generator, *, minimum: float = 0.7) -> int:
    """Draw how many tokens the bidirectional backbone hides: ratio from a normal (mean 1, std 0.25) cut to [0.7, 1].

    Source: MAR and D-JEPA training code; one ratio per batch.
    """
    low, high = (statistics.NormalDist(1.0, 0.25).cdf(bound) for bound in (minimum, 1.0))
    uniform = low + (high - low) * float(torch.rand((), generator=generator, device=generator.device))
    ratio = statistics.NormalDist(1.0, 0.25).inv_cdf(uniform)
    return max(1, min(num_tokens, math.ceil(num_tokens * ratio)))


def subset_counts(num_tokens: int, generator: torch.Generator) -> tuple[int, int]:
    """Draw how many tokens are hidden, uniformly from 1 to N, and how many of these are asked for.

    The second number is uniform from 1 to the first. This is for a bidirectional backbone that must answer for a few
    positions at any revealed fraction.
    """
    masked = int(torch.randint(1, num_tokens + 1, (), generator=generator, device=generator.device))
    return masked, int(torch.randint(1, masked + 1, (), generator=generator, device=generator.device))


def block_mask(grid: int, generator: torch.Generator, *, scale: tuple[float, float] = (0.15, 0.2)) -> Tensor:
    """Draw one rectangular target block, as I-JEPA does (aspect ratio 0.75 to 1.5).

    Args:
        grid: patches along a side.
        scale: range of the block's area as a share of the picture.

    Returns:
        (grid * grid,) bool, True inside the block.
    """
    area, aspect = (
        low + (high - low) * float(torch.rand((), generator=generator)) for low, high in (scale, (0.75, 1.5))
    )
    height = max(1, min(grid, round(math.sqrt(area * aspect) * grid)))
    width = max(1, min(grid, round(math.sqrt(area / aspect) * grid)))
    top = int(torch.randint(0, grid - height + 1, (), generator=generator))
    left = int(torch.randint(0, grid - width + 1, (), generator=generator))
    mask = torch.zeros(grid, grid, dtype=torch.bool)
    mask[top : top + height, left : left + width] = True
    return mask.flatten()


def multi_block_mask(grid: int, generator: torch.Generator, *, num_blocks: int = 4) -> Tensor:
    """Draw the union of `num_blocks` target blocks (I-JEPA's multi-block masking): (grid * grid,) bool, True hidden."""
    return torch.stack([block_mask(grid, generator) for _ in range(num_blocks)]).any(dim=0)
