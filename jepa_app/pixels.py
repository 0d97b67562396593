"""All conversions between PIL pictures and tensors of pixels.

Letters in shapes: B pictures, S picture side.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

LEAST_OPACITY = 0.04  # of a pixel of a cutout; what is fainter is left out


def upright_rgb(picture: Image.Image) -> Image.Image:
    """Rotate a loaded picture by its EXIF orientation and convert it to RGB, compositing transparency on white."""
    upright = ImageOps.exif_transpose(picture)
    if upright.mode.startswith("I;16"):  # Pillow would clip 16-bit grey to 255; take the high byte instead
        upright = upright.point(lambda value: value / 256, "L")
    if upright.has_transparency_data:
        layered = upright.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return Image.alpha_composite(white, layered).convert("RGB")
    return upright.convert("RGB")


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
    values = ((pixels.float().cpu().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(picture.permute(1, 2, 0).numpy()) for picture in values]


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
