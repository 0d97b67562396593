"""Pictures at another size, and pictures put together tile by tile.

Letters in shapes: B batch, G grid = tiles along a side, L side before, S side after.
"""

import functools

import torch
from torch import Tensor
from torch.nn.functional import interpolate


def resize_pixels(pixels: Tensor, side: int) -> Tensor:
    """Resize (B, ., S, S) to (B, ., side, side): the mean of whole squares when reduced, bicubic when enlarged."""
    now = pixels.shape[-1]
    if now == side:
        return pixels
    return interpolate(pixels, size=(side, side), mode="area") if now > side else enlarged(pixels, side)


def enlarged(pixels: Tensor, side: int) -> Tensor:
    """Enlarge (B, ., S, S) to (B, ., side, side) as bicubic interpolation does.

    It is separable and linear, so two matrix products do it in a third of the time.
    """
    with torch.autocast(pixels.device.type, enabled=False):
        matrix = _bicubic(pixels.shape[-1], side, pixels.device).to(pixels.dtype)
        return matrix @ pixels @ matrix.T


@functools.cache
def _bicubic(before: int, after: int, device: torch.device) -> Tensor:
    """What bicubic interpolation makes of each of `before` values: (after, before)."""
    with torch.inference_mode(mode=False):  # what is kept must serve training too
        identity = torch.eye(before, device=device)[None, None]
        return interpolate(identity, size=(after, before), mode="bicubic")[0, 0]


def tile_by_tile(shown: Tensor, pixels: Tensor, others: Tensor) -> Tensor:
    """Take the tiles of `pixels` where `shown` (B, 1, G, G) is True, and those of `others` elsewhere: (B, 3, S, S)."""
    grid = shown.shape[-1]
    pixels, others = (each.unflatten(-1, (grid, -1)).unflatten(-3, (grid, -1)) for each in (pixels, others))
    mixed = torch.where(shown[:, :, :, None, :, None], pixels, others)  # (B, 3, G, S / G, G, S / G)
    return mixed.flatten(-2).flatten(-3, -2)


def resize_smoothly(pixels: Tensor, side: int) -> Tensor:
    """Resize (B, ., L, L) to (B, ., side, side), bicubic either way, without aliasing when reduced."""
    if pixels.shape[-1] <= side:
        return resize_pixels(pixels, side)
    return interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
