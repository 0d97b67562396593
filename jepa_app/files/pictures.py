"""The one entrance for pictures from outside: uploads, command-line files and data URLs become upright RGB pictures."""

import base64
import binascii
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from PIL import Image, UnidentifiedImageError

from jepa_app.files.reducing import BIG, BUDGET, give_memory_back, reduced, reduction_of
from jepa_app.pixels import on_white_rgb, orientation_of, turned_upright

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
URL_LETTERS = str.maketrans("-_", "+/")
PNG_START = b"\x89PNG\r\n\x1a\n"
BALLAST = (b"zTXt", b"iTXt", b"iCCP", b"eXIf")  # chunks that may unpack to anything
MAX_CHUNK = 512 * 1024  # bytes of text or metadata in a PNG that are kept
ALLOWED = f"allowed: {', '.join(FORMATS)}"


def open_picture(source: str | Path | bytes, name: str | None = None, max_side: int | None = None) -> Image.Image:
    """Open a picture and return it upright, as RGB, with transparency on white; of an animation, the first frame.

    `source` is a path or the bytes of a file; `name` is what error messages call it (the file's name unless given).
    The size is checked before anything is decoded, so a small file that claims to be huge costs no memory. A picture of
    more than two million pixels is reduced while it is decoded, and only so many pixels are in work at once.

    Raises:
        ValueError: the file is missing, too large, damaged, or not a picture in an allowed format.
    """
    name = name or ("the picture" if isinstance(source, bytes) else Path(source).name)
    with _opened(source, name, max_side) as picture:
        pixels = picture.width * picture.height
        try:
            with BUDGET.spend(pixels), _refusing_damage(name):
                factor = reduction_of(*picture.size)
                if factor > 1:  # a JPEG is decoded at a fraction of its size
                    picture.draft("RGB", (picture.width // factor, picture.height // factor))
                picture.load()
                return turned_upright(on_white_rgb(reduced(picture)), orientation_of(picture))
        finally:
            picture.close()
            if pixels >= BIG:
                give_memory_back()


def open_base64(text: str, name: str = "the picture", max_side: int | None = None) -> Image.Image:
    """Open a picture from base64 text, with or without a leading `data:image/...;base64,`.

    Raises:
        ValueError: the text is not base64, or `open_picture` refuses its bytes.
    """
    return open_picture(decode_base64(text, name), name, max_side)


def decode_base64(text: str, name: str) -> bytes:
    """Decode base64 text, with or without a leading `data:...;base64,`.

    Line breaks, the letters of addresses (- and _), missing padding and, in a data URL, percent signs are understood.

    Raises:
        ValueError: the text is not base64.
    """
    encoded = unquote(text.partition(",")[2]) if text.lstrip().startswith("data:") else text
    encoded = "".join(encoded.split()).translate(URL_LETTERS)
    try:
        return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as wrong:
        raise ValueError(f"{name} is not base64 text ({wrong}); send the bytes of a picture file as base64") from wrong


def read_text(source: str | Path | bytes, key: str, name: str) -> str | None:
    """Return the text that a picture file carries under a key (in a PNG text chunk), or None if there is none.

    Raises:
        ValueError: as `open_picture`.
    """
    with _opened(source, name) as picture, BUDGET.spend(picture.width * picture.height), _refusing_damage(name):
        picture.load()
        text = picture.info.get(key)
    return text if isinstance(text, str) else None


def without_ballast(data: bytes) -> bytes:
    """Return a PNG without texts, profiles and metadata that are long: Pillow refuses a picture for them.

    Other files, and PNGs whose chunks cannot be followed, are returned unchanged.
    """
    if not data.startswith(PNG_START):
        return data
    kept, place = [PNG_START], len(PNG_START)
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        kind, end = data[place + 4 : place + 8], place + 12 + length
        is_text = kind in (*BALLAST, b"tEXt")
        packed = kind in (b"zTXt", b"iTXt", b"iCCP")  # a few bytes of these may unpack to megabytes
        if not is_text or (length <= MAX_CHUNK and not (packed and _unpacks_too_far(data[place + 8 : end - 4], kind))):
            kept.append(data[place:end])
        place = end
        if kind == b"IEND":
            break
    return b"".join([*kept, data[place:]])


def _unpacks_too_far(chunk: bytes, kind: bytes) -> bool:
    """Whether the packed part of a chunk is longer than what is kept, or cannot be unpacked."""
    if kind == b"iTXt" and chunk[chunk.find(b"\0") + 1 : chunk.find(b"\0") + 2] == b"\0":
        return False  # not packed
    start = chunk.find(b"\0") + 2
    if kind == b"iTXt":
        start = chunk.find(b"\0", chunk.find(b"\0", start + 1) + 1) + 1
    try:
        return len(zlib.decompressobj().decompress(chunk[start:], MAX_CHUNK + 1)) > MAX_CHUNK
    except zlib.error:
        return True


def _opened(source: str | Path | bytes, name: str, max_side: int | None = None) -> Image.Image:
    """Check the format and size of a picture; nothing is decoded yet."""
    data = source if isinstance(source, bytes) else _read(Path(source), name)
    if not data:
        raise ValueError(f"{name} is empty; {ALLOWED}")
    if len(data) > MAX_BYTES:
        raise ValueError(f"{name} is {len(data) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read: reduce it")
    try:
        with _refusing_damage(name):
            picture = Image.open(io.BytesIO(without_ballast(data)), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as bomb:
        raise ValueError(f"{name} has too many pixels; at most {MAX_PIXELS:,} are read: reduce it") from bomb
    width, height = picture.size
    if width * height > MAX_PIXELS:
        raise ValueError(f"{name} is {width} x {height}; at most {MAX_PIXELS:,} pixels are read: reduce it")
    if max_side is not None and max(width, height) > max_side:
        raise ValueError(f"{name} is {width} x {height}; at most {max_side} x {max_side} are allowed here")
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
    try:
        is_there = path.is_file()
    except (OSError, ValueError):  # a name that is too long, or that holds a zero byte
        is_there = False
    if not is_there:
        raise ValueError(f"there is no picture file at {str(path)[:300]}; check the path")
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ValueError(f"{name} is {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read: reduce it")
        return path.read_bytes()
    except OSError as refused:
        raise ValueError(f"{name} cannot be read: {refused.strerror or refused}") from refused
