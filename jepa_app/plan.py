"""A picture is planned, then painted: where the plan's tokens are, and in which step each token is revealed.

A level of the plan is the whole picture reduced to a small side and cut into tokens; levels go from coarse to fine.
The picture's own tokens have positions 0 to N - 1 on their grid, row by row; the plan's tokens follow, level by level.
Without a plan everything is as published for MAR and D-JEPA.
Letters in shapes: B batch, N picture tokens, P plan tokens, T = N + P.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jepa_app.masking import cosine_schedule, draw, random_blocks

PLAN_SHARE = 3  # one step in this many plans, as long as plan tokens are left


def level_sizes(plan: Sequence[int]) -> list[int]:
    """Return the number of tokens of each level from the number along its side."""
    return [side * side for side in plan]


def level_ranges(num_tokens: int, plan: Sequence[int]) -> list[range]:
    """Return the positions of each level of the plan, coarse first."""
    ranges, start = [], num_tokens
    for size in level_sizes(plan):
        ranges.append(range(start, start + size))
        start += size
    return ranges


def centres(grid: int, plan: Sequence[int]) -> Tensor:
    """Return the row and column (T, 2) of every token's centre, in units of the picture's tokens."""
    parts = []
    for side in (grid, *plan):
        places = (torch.arange(side) + 0.5) * (grid / side) - 0.5
        parts.append(torch.cartesian_prod(places, places).view(-1, 2))  # row by row
    return torch.cat(parts)


def draw_order(num_tokens: int, plan: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw the order (T,) in which one picture's tokens are generated: the plan level by level, then the picture.

    The picture's part is drawn first, so a generator gives the same order with any plan.
    """
    picture = torch.randperm(num_tokens, generator=generator)
    levels = [torch.randperm(len(level), generator=generator) + level.start for level in level_ranges(num_tokens, plan)]
    return torch.cat([*levels, picture])


def steps_of_levels(sizes: Sequence[int], steps: int) -> list[int] | None:
    """Return how many of a picture's steps each level of the plan gets; None if there are too few steps for a plan.

    A third of the steps go to the plan, at most one per token; coarse levels get theirs first.
    """
    if steps < len(sizes) + 1:
        return None
    spare = max(len(sizes), steps // PLAN_SHARE) - len(sizes)
    given = []
    for size in sizes:
        more = min(size - 1, spare)
        given.append(1 + more)
        spare -= more
    return given


def reveal_counts(num_tokens: int, sizes: Sequence[int], steps: int) -> tuple[int, ...]:
    """Return how many tokens each step reveals: first the plan's levels, of these sizes, then the picture's tokens.

    With too few steps there is no plan: only the picture's tokens are counted.

    Raises:
        ValueError: `steps` is not between 1 and the number of picture tokens.
    """
    whole = cosine_schedule(num_tokens, steps)  # refuses a number of steps that does not fit
    given = steps_of_levels(sizes, steps) if sizes else None
    if given is None:
        return whole
    levels = [cosine_schedule(size, number) for size, number in zip(sizes, given, strict=True)]
    return (*(count for level in levels for count in level), *cosine_schedule(num_tokens, steps - sum(given)))


def random_orders_and_blocks(
    batch_size: int, num_tokens: int, plan: Sequence[int], generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Draw generation orders for a training batch and the step that reveals each token: (B, T) long each.

    Every level, and the picture, has its own random order and a cosine schedule with its own random number of steps.
    """
    orders, blocks, first = [], [], torch.zeros(batch_size, 1, dtype=torch.long, device=generator.device)
    for places in (*level_ranges(num_tokens, plan), range(num_tokens)):
        drawn = draw(torch.rand, (batch_size, len(places)), generator)
        orders.append(drawn.argsort(dim=1) + places.start)
        blocks.append(random_blocks(batch_size, len(places), generator) + first)
        first = blocks[-1].amax(dim=1, keepdim=True) + 1
    return torch.cat(orders, dim=1), torch.cat(blocks, dim=1)
