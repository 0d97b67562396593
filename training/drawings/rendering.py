"""Drawings to pictures: SVG by resvg at 512 pixels, WebP by Pillow, both reduced to a square RGBA with Lanczos.

Imports nothing heavy, because rendering runs in many processes.
"""

import io
from dataclasses import dataclass
from pathlib import Path

import resvg_py
from PIL import Image, ImageOps

from jepa_app.files.whole_files import writing_whole

RENDER_SIZE = 512  # resvg's edges are jagged at small sizes
_SVG = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">{body}</svg>'
)


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """One picture as its package ships it: a whole SVG document or an encoded picture; flipped if `mirrored`."""

    data: bytes
    is_svg: bool
    mirrored: bool = False


def svg_document(body: str, left: float, top: float, width: float, height: float) -> bytes:
    """A whole SVG document around an icon's body, as icon sets store them."""
    return _SVG.format(body=body, left=left, top=top, width=width, height=height).encode()


def render(drawing: Drawing, size: int) -> Image.Image:
    """A drawing as RGBA at `size` x `size` pixels, centred on transparency where it is not square.

    Raises:
        ValueError: the drawing is not an SVG or picture that can be read.
    """
    if drawing.is_svg:
        encoded = resvg_py.svg_to_bytes(svg_string=drawing.data.decode(), width=RENDER_SIZE, skip_system_fonts=True)
    else:
        encoded = drawing.data
    try:
        picture = Image.open(io.BytesIO(encoded)).convert("RGBA")
    except OSError as error:
        raise ValueError(f"a drawing is not a picture: {error}") from error
    if drawing.mirrored:
        picture = ImageOps.mirror(picture)
    side = max(picture.size)
    if picture.size != (side, side):
        square = Image.new("RGBA", (side, side))
        square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
        picture = square
    return picture.resize((size, size), Image.Resampling.LANCZOS)


def render_to(drawing: Drawing, size: int, path: Path) -> None:
    """Render to a lossless WebP file that appears under its name only when it is complete.

    Raises:
        ValueError: the drawing cannot be read; the message names the file.
    """
    try:
        with writing_whole(path) as partial:
            render(drawing, size).save(partial, "WEBP", lossless=True)
    except ValueError as error:
        raise ValueError(f"cannot render {path.name}: {error}") from error
