"""Every picture that people bring: odd but good ones open as RGB, broken ones are refused in words."""

import base64
import io
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from jepa_app.files import pictures
from jepa_app.files.pictures import open_base64, open_picture
from jepa_app.files.reducing import KEPT_PIXELS, PixelBudget, reduced
from jepa_app.pixels import on_white_rgb

RED, BLUE, WHITE = (255, 0, 0), (0, 0, 255), (255, 255, 255)


def encoded(picture: Image.Image, format_name: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format_name, **options)
    return buffer.getvalue()


def png_that_claims(width: int, height: int, depth: int = 8, rows: bytes = b"") -> bytes:
    """A valid PNG header for a grey picture of any size, with `rows` (a byte of filter, then pixels) behind it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize("format_name", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_every_allowed_format_opens_as_rgb(format_name: str) -> None:
    opened = open_picture(encoded(Image.new("RGB", (20, 10), RED), format_name))
    assert (opened.mode, opened.size) == ("RGB", (20, 10))
    assert np.abs(np.array(opened, dtype=int) - np.array(RED)).max() <= 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I;16"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    made = Image.new("RGB", (4, 4), WHITE).convert("L" if mode == "I;16" else mode)
    if mode == "I;16":
        made = Image.fromarray(np.full((4, 4), 65535, np.uint16))
    opened = open_picture(encoded(made, "JPEG" if mode in ("CMYK", "YCbCr") else "PNG"))
    assert opened.mode == "RGB"
    assert np.array(opened).min() >= 250


def test_sixteen_bit_grey_keeps_its_greys() -> None:
    opened = open_picture(encoded(Image.fromarray(np.full((2, 2), 128 * 256, np.uint16))))
    assert opened.getpixel((0, 0)) == (128, 128, 128)


def test_transparency_lies_on_white() -> None:
    assert open_picture(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 0)))).getpixel((0, 0)) == WHITE
    assert open_picture(encoded(Image.new("RGBA", (2, 2), (255, 0, 0, 128)))).getpixel((0, 0)) == (255, 127, 127)


def test_palette_with_transparency_lies_on_white() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([*RED, *BLUE])
    palette.putpixel((1, 0), 1)
    opened = open_picture(encoded(palette, transparency=0))
    assert [opened.getpixel((x, 0)) for x in (0, 1)] == [WHITE, BLUE]


@pytest.mark.parametrize("format_name", ["GIF", "WEBP", "PNG"])
def test_of_an_animation_the_first_frame_counts(format_name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    data = encoded(frames[0], format_name, save_all=True, append_images=frames[1:], duration=100)
    assert open_picture(data).getpixel((4, 4))[0] > 240


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    made = Image.new("RGB", (16, 8), BLUE)
    made.paste(RED, (0, 0, 8, 8))
    opened = open_picture(encoded(made, "JPEG", exif=exif, quality=95))
    assert opened.size == (8, 16)
    assert opened.getpixel((4, 2))[0] > 200  # the red left half is on top now


def test_one_pixel_is_a_picture() -> None:
    assert open_picture(encoded(Image.new("RGB", (1, 1), RED))).getpixel((0, 0)) == RED


def test_a_path_opens_like_its_bytes(tmp_path: Path) -> None:
    file = tmp_path / "red.png"
    file.write_bytes(encoded(Image.new("RGB", (3, 3), RED)))
    assert open_picture(file).getpixel((1, 1)) == RED


def test_base64_opens_with_and_without_its_header() -> None:
    text = base64.b64encode(encoded(Image.new("RGB", (3, 3), RED))).decode()
    for form in (text, "data:image/png;base64," + text):
        assert open_base64(form).getpixel((1, 1)) == RED


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b"just some words, no picture", "is not a readable picture; allowed: PNG"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "is not a readable picture"),
        (encoded(Image.effect_noise((64, 64), 50))[:900], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "JPEG")[:700], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "GIF")[:1500], "damaged"),
        (encoded(Image.effect_noise((64, 64), 50), "WEBP")[:500], "(damaged|is not a readable picture)"),
        (encoded(Image.new("RGB", (9, 9)))[:20], "(damaged|is not a readable picture)"),
        (png_that_claims(40, 40), "damaged"),
    ],
)
def test_broken_files_are_refused_in_words(data: bytes, told: str) -> None:
    with pytest.raises(ValueError, match=f"^upload.png .*{told}"):
        open_picture(data, "upload.png")


@pytest.mark.parametrize("side", [8_000, 10_000, 20_000, 60_000])
def test_a_huge_picture_is_refused_before_any_memory_is_taken(side: int) -> None:
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"at most 50,000,000 (pixels )?are read"):
        open_picture(png_that_claims(side, side))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_a_real_picture_of_20000_by_20000_is_refused() -> None:
    data = png_that_claims(20_000, 20_000, depth=1, rows=bytes(20_000 * (1 + 20_000 // 8)))
    assert len(data) < 100_000
    with pytest.raises(ValueError, match="too many pixels"):
        open_picture(data)


def test_a_large_file_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "MAX_BYTES", 1000)
    file = tmp_path / "large.png"
    file.write_bytes(bytes(1001))
    for source in (file, bytes(1001)):
        with pytest.raises(ValueError, match="at most"):
            open_picture(source)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    for path in (tmp_path / "none.png", tmp_path):
        with pytest.raises(ValueError, match="there is no picture file at"):
            open_picture(path)


def test_text_that_is_no_base64_is_told() -> None:
    with pytest.raises(ValueError, match="is not base64 text"):
        open_base64("<not base64>")


@pytest.mark.parametrize("form", ["wrapped", "url", "percent", "bare"])
def test_base64_of_every_form_is_base64(form: str) -> None:
    buffer = io.BytesIO()
    Image.effect_noise((40, 40), 90).save(buffer, "PNG")
    text = {
        "wrapped": base64.encodebytes(buffer.getvalue()).decode(),
        "url": base64.urlsafe_b64encode(buffer.getvalue()).decode().rstrip("="),
        "percent": "data:image/png;base64," + quote(base64.b64encode(buffer.getvalue()).decode(), safe=""),
        "bare": base64.b64encode(buffer.getvalue()).decode(),
    }[form]
    assert open_base64(text).size == (40, 40)


@pytest.mark.parametrize("kind", ["text", "packed", "profile"])
def test_long_metadata_is_no_damage(kind: str) -> None:
    info, options = PngInfo(), {}
    if kind == "profile":
        options["icc_profile"] = bytes(8_000_000)
    else:
        info.add_text("workflow", "x" * 8_000_000, zip=kind == "packed")
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(buffer, "PNG", pnginfo=info, **options)
    assert open_picture(buffer.getvalue()).getpixel((4, 4)) == (255, 0, 0)


def test_odd_metadata_beside_an_orientation_is_no_damage() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x0110] = 6, 7  # a camera model that is a number
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(buffer, "JPEG", exif=exif)
    assert open_picture(buffer.getvalue()).size == (10, 20)


def test_large_pictures_are_reduced_and_small_ones_untouched() -> None:
    buffer = io.BytesIO()
    Image.effect_noise((300, 200), 90).save(buffer, "PNG")
    assert open_picture(buffer.getvalue()).size == (300, 200)
    large = Image.new("RGBA", (4000, 3001), (255, 0, 0, 255))
    large.paste((0, 0, 0, 0), (2000, 0, 4000, 3001))
    for kind in ("PNG", "WEBP"):
        buffer = io.BytesIO()
        large.save(buffer, kind)
        opened = open_picture(buffer.getvalue())
        assert opened.width * opened.height <= KEPT_PIXELS
        assert opened.width / opened.height == pytest.approx(4000 / 3001, rel=0.01)
        assert opened.getpixel((opened.width // 4, 9)) == pytest.approx((255, 0, 0), abs=3)
        assert opened.getpixel((opened.width * 3 // 4, opened.height - 2)) == (255, 255, 255)


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "CMYK", "I;16"])
def test_every_mode_is_reduced(mode: str) -> None:
    values = {"1": 1, "I;16": 60 * 257, "LA": (60, 60), "CMYK": (60, 60, 60, 60)}
    large = Image.new(mode, (3000, 2000), values.get(mode, 60))
    small = reduced(large)
    assert small.width * small.height <= KEPT_PIXELS
    expected = on_white_rgb(large.crop((0, 0, 8, 8))).getpixel((4, 4))
    assert on_white_rgb(small).getpixel((5, 5)) == pytest.approx(expected, abs=2)


def test_only_so_many_pixels_are_in_work_at_once() -> None:
    budget, most, now, lock = PixelBudget(100), 0, 0, threading.Lock()

    def work(pixels: int) -> None:
        nonlocal most, now
        with budget.spend(pixels):
            with lock:
                now += min(pixels, 100)
                most = max(most, now)
            time.sleep(0.01)
            with lock:
                now -= min(pixels, 100)

    threads = [threading.Thread(target=work, args=(pixels,)) for pixels in (60, 60, 30, 500, 10, 90) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert not any(thread.is_alive() for thread in threads)
    assert 0 < most <= 100


@pytest.mark.slow
def test_many_huge_pictures_take_little_memory() -> None:
    """Fifty million pixels in a few kilobytes, eight times at once, in a process of its own."""
    script = (
        "import io, resource, threading\n"
        "from PIL import Image\n"
        "from jepa_app.files.pictures import open_picture\n"
        "def rss(): return int(open('/proc/self/statm').read().split()[1]) * resource.getpagesize() / 2**20\n"
        "buffer = io.BytesIO()\n"
        "Image.new('P', (10000, 5000)).save(buffer, 'PNG')\n"
        "data, before = buffer.getvalue(), rss()\n"
        "threads = [threading.Thread(target=open_picture, args=(data,)) for _ in range(8)]\n"
        "[thread.start() for thread in threads]; [thread.join() for thread in threads]\n"
        "peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM')) / 2**10\n"
        "print(peak - before, rss() - before)\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=300)
    peak, kept = map(float, told.stdout.split())
    assert peak < 900
    assert kept < 200
