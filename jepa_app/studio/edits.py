"""Which tokens of a starting picture are kept and which are redone.

Letters in shapes: T image tokens with those of the plan, C token channels.
"""

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from jepa_app.generation.picture import TokenStep
from jepa_app.pixels import to_pixels


def on_board(positions: Sequence[int], grid: int) -> tuple[int, ...]:
    """Return the positions if all are on a board of grid x grid tokens.

    Raises:
        ValueError: a position is not on the board.
    """
    outside = [position for position in positions if not 0 <= position < grid * grid]
    if outside:
        raise ValueError(f"position {outside[0]} is outside the picture; allowed: 0 to {grid * grid - 1}, row by row")
    return tuple(sorted(set(positions)))


def with_ring(positions: Sequence[int], grid: int) -> tuple[int, ...]:
    """Return positions on a board of grid x grid tokens together with the ring of their neighbours.

    A hole is filled better when its border is redone too, because the border was made to fit the old content.

    Raises:
        ValueError: a position is not on the board.
    """
    near = {
        (position // grid + down, position % grid + right)
        for position in on_board(positions, grid)
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    return tuple(sorted(row * grid + column for row, column in near if 0 <= row < grid and 0 <= column < grid))


def margin_width(grid: int) -> int:
    """Return how many tokens are left free on each side of a picture to be outpainted."""
    return max(1, grid // 4)


def margin(grid: int) -> tuple[int, ...]:
    """Return the positions around the middle of a board, which a picture to be outpainted leaves free."""
    width = margin_width(grid)
    inside = range(width, grid - width)
    return tuple(place for place in range(grid * grid) if place // grid not in inside or place % grid not in inside)


def placed(picture: Image.Image, size: int, grid: int, *, with_room: bool) -> tuple[Tensor, tuple[int, ...]]:
    """Return the central square of a picture as pixels (3, size, size), and the positions of the room around it.

    With room it is reduced to the middle of a board of grid x grid tokens.
    """
    pixels, inner = torch.zeros(3, size, size), (grid - 2 * margin_width(grid)) * size // grid
    side = inner if with_room else size
    edge = (size - side) // 2
    pixels[:, edge : edge + side, edge : edge + side] = to_pixels([picture], side)[0]
    return pixels, margin(grid) if with_room else ()


def without(known: Tensor, redo: Sequence[int], grid: int) -> Tensor:
    """Return the mask `known` (T,) with the positions to redo set to False.

    The plan is dropped with them, because it knows what was there.
    """
    if not redo:
        return known
    left = known.index_fill(0, torch.tensor(list(redo), dtype=torch.long, device=known.device), False)
    left[grid * grid :] = False
    return left


def whole(tokens: Tensor, grid: int) -> TokenStep:
    """Return the tokens (T, C) of an uploaded picture and its plan as a step that revealed all of them."""
    number = len(tokens)
    return TokenStep(0, 1, tokens, torch.ones(number, dtype=torch.bool), torch.arange(number), number - grid * grid)
