"""Pictures made of pictures: two of them in a relation, several of one, and a colour behind them.

Pictures are premultiplied: float32 (4, S, S) in [0, 1], the colours multiplied by alpha, as averaging and compositing
need it. They are composed on the device where they are. Letters: B pictures, S picture side in pixels.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

WHITE = (255, 255, 255)
MOST = 3
"""The most times one picture is repeated."""

LEAST_BACKGROUND = 0.05  # of a picture: transparent, so that the colour behind it is seen


def premultiplied(rgba: Tensor) -> Tensor:
    """uint8 (..., 4, S, S) as float32 in [0, 1], colours multiplied by alpha."""
    result = rgba.float().mul_(1 / 255)
    result[..., :3, :, :] *= result[..., 3:, :, :]
    return result


def side_by_side(first: Tensor, second: Tensor, relation: str) -> Tensor:
    """Two pictures at half size in one, the first placed `relation` the second."""
    size = first.shape[-1]
    half, quarter = size // 2, size // 4
    corners = {
        "left of": ((quarter, 0), (quarter, half)),
        "right of": ((quarter, half), (quarter, 0)),
        "above": ((0, quarter), (half, quarter)),
        "below": ((half, quarter), (0, quarter)),
    }[relation]
    scene = torch.zeros_like(first)
    for picture, (top, left) in zip((first, second), corners, strict=True):
        rows = picture[:, ::2] + picture[:, 1::2]  # (4, S/2, S)
        scene[:, top : top + half, left : left + half] = (rows[..., ::2] + rows[..., 1::2]) / 4
    return scene


def repeated(picture: Tensor, number: int, turned: bool) -> Tensor:
    """One to three copies of a picture in one, with gaps: itself, a row of two, or one above two.

    Two or three are at 7/16 of their size, so that even pictures that fill their square do not touch. `turned` puts
    two in a column, and three as two above one.
    """
    if number == 1:
        return picture
    size = picture.shape[-1]
    side = size * 7 // 16
    near, middle, far = size // 32, (size - side) // 2, size - size // 32 - side
    if number == 2:
        corners = [(near, middle), (far, middle)] if turned else [(middle, near), (middle, far)]
    else:
        single, pair = (far, near) if turned else (near, far)
        corners = [(single, middle), (pair, near), (pair, far)]
    small = interpolate(picture[None], size=(side, side), mode="area")[0]
    result = torch.zeros_like(picture)
    for top, left in corners:
        result[:, top : top + side, left : left + side] = small
    return result


def on_white(rgba: Tensor) -> Tensor:
    """Pictures uint8 (B, 4, S, S) on white -> float32 (B, 3, S, S) in [-1, 1]."""
    return over_colours(premultiplied(rgba), [WHITE] * len(rgba))


def over_colours(pictures: Tensor, colours: Sequence[tuple[int, int, int]]) -> Tensor:
    """Pictures (B, 4, S, S) over one sRGB colour each -> float32 (B, 3, S, S) in [-1, 1]."""
    background = torch.tensor(colours, dtype=torch.float32).view(-1, 3, 1, 1).to(pictures.device) / 127.5
    return (pictures[:, :3] * 2 + (1 - pictures[:, 3:]) * background - 1).clamp(-1, 1)


def shows_background(picture: Tensor) -> bool:
    """Whether enough of a premultiplied picture (4, S, S) is transparent for the colour behind it to be seen."""
    return float((picture[3] < 0.5).float().mean()) > LEAST_BACKGROUND
