"""Large pictures are reduced while they are decoded, and only so many pixels are in work at once.

Letters: a picture of W x H pixels is reduced by a whole factor, strip by strip, so that no copy of it is made.
"""

import ctypes
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from PIL import Image

from jepa_app.pixels import eight_bits

KEPT_PIXELS = 2**21  # of a picture: no part of the studio looks at more
PIXELS_AT_ONCE = 100_000_000  # in work in the whole process, whatever door they come through
STRIP_PIXELS = 2**22
BIG = 2**23  # pixels from which freed memory is given back to the system at once


class PixelBudget:
    """So many pixels may be decoded at once; whoever comes later waits."""

    def __init__(self, pixels: int) -> None:
        self._most = self._left = pixels
        self._changed = threading.Condition()

    @contextmanager
    def spend(self, pixels: int) -> Iterator[None]:
        """Hold this many pixels of the budget, at most all of it."""
        share = min(pixels, self._most)
        with self._changed:
            self._changed.wait_for(lambda: self._left >= share)
            self._left -= share
        try:
            yield
        finally:
            with self._changed:
                self._left += share
                self._changed.notify_all()


BUDGET = PixelBudget(PIXELS_AT_ONCE)


def reduction_of(width: int, height: int) -> int:
    """Return the whole factor by which a picture of this size is reduced; 1 leaves it as it is."""
    return max(1, math.ceil(math.sqrt(width * height / KEPT_PIXELS)))


def reduced(picture: Image.Image) -> Image.Image:
    """Return a loaded picture at a size that is kept, each pixel the mean of a square; small ones are unchanged.

    Transparency counts in the mean: what is invisible adds no colour.
    """
    width, height = picture.size
    factor = reduction_of(width, height)
    if factor == 1:
        return picture
    picture = eight_bits(picture)
    is_clear = picture.has_transparency_data
    mode = "RGBA" if is_clear else "RGB"
    whole = Image.new(mode, (math.ceil(width / factor), math.ceil(height / factor)))
    rows = max(1, STRIP_PIXELS // (width * factor)) * factor
    for top in range(0, height, rows):
        strip = picture.crop((0, top, width, min(height, top + rows))).convert(mode)
        small = strip.convert("RGBa").reduce(factor).convert("RGBA") if is_clear else strip.reduce(factor)
        whole.paste(small, (0, top // factor))
    return whole


def give_memory_back() -> None:
    """Return freed memory to the system now; does nothing where the C library cannot."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        return
