"""All conversions between PIL pictures and tensors of pixels.

Letters in shapes: B pictures, S picture side.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

ORIENTATION = 0x0112  # the EXIF tag
TURNS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
LEAST_OPACITY = 0.04  # of a pixel of a cutout; what is fainter is left out


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Rotate a loaded picture by its EXIF orientation and convert it to RGB, compositing transparency on white."""
    return turned_upright(on_white_rgb(picture), orientation_of(picture))


def on_white_rgb(picture: Image.Image) -> Image.Image:
    """Convert a loaded picture to RGB, with transparency on white, without turning it."""
    eight = eight_bits(picture)
    if eight.has_transparency_data:
        layered = eight.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return eight.convert("RGB")


def upright_rgba(picture: Image.Image) -> Image.Image:
    """Rotate a loaded picture by its EXIF orientation and convert it to RGBA."""
    return turned_upright(eight_bits(picture).convert("RGBA"), orientation_of(picture))


def eight_bits(picture: Image.Image) -> Image.Image:
    """Return a picture of deep grey values (16 or 32 bits, or floating point) scaled to 8 bits; others unchanged.

    Pillow would clip them to 255. Whole numbers keep their share of what their type holds, unless they fit into 8 bits;
    floating-point numbers are taken as shares of 1 or, if they are larger, of their greatest value.
    """
    if not picture.mode.startswith(("I", "F")):
        return picture
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=0, neginf=0)
    greatest = float(values.max(initial=0))
    if picture.mode == "F":
        whole = max(1.0, greatest)
    else:
        whole = next(limit for limit in (2**8, 2**16, 2**24, 2**32) if greatest < limit)
        whole = 255 * whole / 256 if picture.mode == "I" else 255 * 256
    return Image.fromarray((values / whole * 255).clip(0, 255).astype(np.uint8))


def orientation_of(picture: Image.Image) -> int:
    """Return a picture's EXIF orientation, 1 to 8; 1 if it has none or one that cannot be read."""
    try:
        orientation = picture.getexif().get(ORIENTATION, 1)
    except Exception:  # noqa: BLE001  # whatever else is wrong with the metadata is no damage to the picture
        return 1
    return orientation if orientation in TURNS else 1


def turned_upright(picture: Image.Image, orientation: int) -> Image.Image:
    """Turn a picture with an EXIF orientation upright."""
    turn = TURNS[orientation]
    return picture if turn is None else picture.transpose(turn)


def central_square(picture: Image.Image, side: int) -> Image.Image:
    """Return the central square of an RGB picture, resized to `side` pixels: the part that a model sees."""
    return ImageOps.fit(picture, (side, side), Image.Resampling.LANCZOS)


def to_pixels(pictures: Sequence[Image.Image], side: int) -> Tensor:
    """Return the central squares of pictures, upright and on white, as pixels (B, 3, side, side) in [-1, 1]."""
    if not pictures:
        return torch.empty(0, 3, side, side)
    squares = np.stack([np.asarray(central_square(upright_rgb(picture), side)) for picture in pictures])
    return torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 127.5 - 1  # (B, 3, side, side)


def to_pil(pixels: Tensor) -> list[Image.Image]:
    """Convert pictures (B, 3, S, S) in [-1, 1] to PIL images."""
    values = pixels.float().cpu().clamp(-1, 1).add_(1).mul_(127.5).round_().to(torch.uint8)  # clamp makes a copy
    return [Image.fromarray(picture) for picture in values.permute(0, 2, 3, 1).numpy()]


def to_cutouts(colours: Tensor, opacity: Tensor) -> list[Image.Image]:
    """Cut pictures out of the white behind them: RGBA images of colours on white (B, 3, S, S) in [-1, 1].

    `opacity` (B, 1, S, S) is in [0, 1]. White is taken out of half-covered pixels, so that no edge has a white fringe.
    """
    alpha = opacity.float().cpu()
    alpha = torch.where(alpha < LEAST_OPACITY, 0.0, torch.where(alpha > 1 - LEAST_OPACITY, 1.0, alpha))
    on_white = (colours.float().cpu().clamp(-1, 1) + 1) / 2
    straight = ((on_white - (1 - alpha)) / alpha.clamp(min=LEAST_OPACITY)).clamp(0, 1)
    values = (torch.cat([straight * (alpha > 0), alpha], dim=1) * 255).round().to(torch.uint8)
    return [Image.fromarray(picture.permute(1, 2, 0).contiguous().numpy(), "RGBA") for picture in values]


def picture_grid(pictures: Sequence[Image.Image], columns: int) -> Image.Image:
    """Arrange pictures of one size in rows of `columns`, with a white gap of a sixteenth of their side."""
    side = pictures[0].width
    step = side + side // 16
    rows = -(-len(pictures) // columns)
    grid = Image.new("RGB", (columns * step - side // 16, rows * step - side // 16), "white")
    for index, picture in enumerate(pictures):
        grid.paste(picture, (index % columns * step, index // columns * step))
    return grid
