"""The one entrance for pictures from outside: uploads, command-line files and data URLs become upright RGB pictures."""

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from jepa_app.pixels import upright_rgb

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF")
MAX_PIXELS = 50_000_000  # 150 MB decoded; more than a phone camera's usual picture, less than Pillow's own limit
MAX_BYTES = 64 * 1024 * 1024
# What Pillow's decoders raise for truncated or altered files.
BROKEN_DATA = (
    OSError,
    SyntaxError,
    ValueError,
    IndexError,
    TypeError,
    EOFError,
    OverflowError,
    struct.error,
    zlib.error,
)
ALLOWED = f"allowed: {', '.join(FORMATS)}"


def open_picture(source: str | Path | bytes, name: str | None = None, max_side: int | None = None) -> Image.Image:
    """Open a picture and return it upright, as RGB, with transparency on white; of an animation, the first frame.

    `source` is a path or the bytes of a file; `name` is what error messages call it (the file's name unless given).
    The size is checked before anything is decoded, so a small file that claims to be huge costs no memory.

    Raises:
        ValueError: the file is missing, too large, damaged, or not a picture in an allowed format.
    """
    name = name or ("the picture" if isinstance(source, bytes) else Path(source).name)
    with _loaded(source, name, max_side) as picture, _refusing_damage(name):
        return upright_rgb(picture)


def open_base64(text: str, name: str = "the picture", max_side: int | None = None) -> Image.Image:
    """Open a picture from base64 text, with or without a leading `data:image/...;base64,`.

    Raises:
        ValueError: the text is not base64, or `open_picture` refuses its bytes.
    """
    return open_picture(decode_base64(text, name), name, max_side)


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64 text, with or without a leading `data:...;base64,`.

    Raises:
        ValueError: the text is not base64.
    """
    encoded = text.partition(",")[2] if text.startswith("data:") else text
    try:
        return base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise ValueError(f"{name} is not base64 text ({wrong}); send the bytes of a picture file as base64") from wrong


def read_text(source: str | Path | bytes, key: str, name: str) -> str | None:
    """Return the text that a picture file carries under a key (in a PNG text chunk), or None if there is none.

    Raises:
        ValueError: as `open_picture`.
    """
    with _loaded(source, name) as picture:
        text = picture.info.get(key)
    return text if isinstance(text, str) else None


def _loaded(source: str | Path | bytes, name: str, max_side: int | None = None) -> Image.Image:
    """Check the format and size of a picture, then decode it without any conversion."""
    data = source if isinstance(source, bytes) else _read(Path(source), name)
    if not data:
        raise ValueError(f"{name} is empty; {ALLOWED}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} is {len(data) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read: reduce it")
    try:
        with _refusing_damage(name):
            picture = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise ValueError(f"{name} has too many pixels; at most {MAX_PIXELS:,} are read: reduce it") from bomb
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} is {width} x {height}; at most {MAX_PIXELS:,} pixels are read: reduce it")
    if max_side is not None and max(width, height) > max_side:
        raise ValueError(f"{name} is {width} x {height}; at most {max_side} x {max_side} are allowed here")
    with _refusing_damage(name):
        picture.load()
    return picture


@contextmanager
def _refusing_damage(name: str) -> Iterator[None]:
    try:
        yield
    except UnidentifiedImageError as unknown:
        raise ValueError(f"{name} is not a readable picture; {ALLOWED}") from unknown
    except BROKEN_DATA as broken:
        raise ValueError(f"{name} is damaged ({broken}); save it again as PNG or JPEG") from broken


def _read(path: Path, name: str) -> bytes:
    if not path.is_file():
        raise ValueError(f"there is no picture file at {path}; check the path")
    size = path.stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{name} is {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read: reduce it")
    return path.read_bytes()
