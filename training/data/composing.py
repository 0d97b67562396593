"""Pictures made of pictures: two of them in a relation, several of one, and a colour behind them.

Pictures are premultiplied: float32 (4, S, S) in [0, 1], the colours multiplied by alpha, as averaging and compositing
need it. Letters: B pictures, S picture side in pixels.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

WHITE = (255, 255, 255)
MOST = 3
"""The most times one picture is repeated."""

Picture = NDArray[np.float32]


def premultiplied(rgba: NDArray[np.uint8]) -> Picture:
    """uint8 (..., 4, S, S) as float32 in [0, 1], colours multiplied by alpha."""
    result = rgba.astype(np.float32)
    result *= np.float32(1 / 255)
    result[..., :3, :, :] *= result[..., 3:, :, :]
    return result


def side_by_side(first: Picture, second: Picture, relation: str) -> Picture:
    """Two pictures at half size in one, the first placed `relation` the second."""
    size = first.shape[-1]
    half, quarter = size // 2, size // 4
    corners = {
        "left of": ((quarter, 0), (quarter, half)),
        "right of": ((quarter, half), (quarter, 0)),
        "above": ((0, quarter), (half, quarter)),
        "below": ((half, quarter), (0, quarter)),
    }[relation]
    scene = np.zeros_like(first)
    for picture, (top, left) in zip((first, second), corners, strict=True):
        rows = picture[:, ::2] + picture[:, 1::2]  # (4, S/2, S)
        scene[:, top : top + half, left : left + half] = (rows[..., ::2] + rows[..., 1::2]) / 4
    return scene


def repeated(picture: Picture, number: int, turned: bool) -> Picture:
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
    small = F.interpolate(torch.from_numpy(picture)[None], size=(side, side), mode="area")[0].numpy()
    result = np.zeros_like(picture)
    for top, left in corners:
        result[:, top : top + side, left : left + side] = small
    return result


def on_white(rgba: NDArray[np.uint8]) -> torch.Tensor:
    """Pictures uint8 (B, 4, S, S) on white -> float32 (B, 3, S, S) in [-1, 1]."""
    return over_colours(premultiplied(rgba), [WHITE] * len(rgba))


def over_colours(pictures: Picture, colours: Sequence[tuple[int, int, int]]) -> torch.Tensor:
    """Pictures (B, 4, S, S) over one sRGB colour each -> float32 (B, 3, S, S) in [-1, 1]."""
    background = np.asarray(colours, dtype=np.float32).reshape(-1, 3, 1, 1) / np.float32(127.5)
    pixels = pictures[:, :3] * np.float32(2) + (1 - pictures[:, 3:]) * background - 1  # (B, 3, S, S)
    return torch.from_numpy(np.clip(pixels, -1, 1))
