"""Uploads by the dozen: what can be read is read, everything else is named with its reason."""

import io
import stat
import struct
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image

from jepa_app.files import archives
from jepa_app.files.intake import Intake, Reading, read_uploads
from jepa_app.files.pictures import MAX_BYTES
from jepa_app.limits import MAX_TABLE_SIDE, check_words


def png(colour: str = "red", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def noise() -> bytes:
    buffer = io.BytesIO()
    Image.effect_noise((64, 64), 40).save(buffer, "PNG")
    return buffer.getvalue()


def write(folder: Path, name: str, data: bytes | str) -> tuple[Path, str]:
    path = folder / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path, name


def pack(folder: Path, files: dict[str, bytes | str], name: str = "all.zip") -> tuple[Path, str]:
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for inner, data in files.items():
            archive.writestr(inner, data)
    return folder / name, name


def check(caption: str) -> None:
    check_words("the caption", caption)


def taken(files: list[tuple[Path, str]], captions: list[str] | None = None) -> Intake:
    *readings, last = read_uploads(files, ["sky"] if captions is None else captions, 16, check)
    assert isinstance(last, Intake)
    told = [(each.done, each.total) for each in readings if isinstance(each, Reading)]
    assert told == sorted(told)
    assert told[-1][0] == told[-1][1]
    return last


def reasons(intake: Intake) -> dict[str, str]:
    return {problem.name: problem.reason for problem in intake.problems}


def test_pictures_tables_and_captions_come_together(tmp_path: Path) -> None:
    table = 'Caption;Picture\n"red; round";a.png\nblue car;deep/b.png\nred heart;a.png\n'
    packed = {"set/a.png": png("red"), "set/deep/b.png": png("blue"), "set/pairs.csv": "\ufeff" + table,
              "set/captions.txt": "sea\n\nred heart\n", "__MACOSX/set/._a.png": "x", "set/.DS_Store": "x"}  # fmt: skip
    intake = taken([write(tmp_path, "c.png", png("green")), pack(tmp_path, packed)])
    assert intake.names == ("c.png", "set/a.png", "set/deep/b.png")
    assert [picture.size for picture in intake.pictures] == [(16, 16)] * 3
    assert [picture.getpixel((8, 8)) for picture in intake.pictures] == [(0, 128, 0), (255, 0, 0), (0, 0, 255)]
    assert intake.captions == ("sky", "sea", "red heart", "red; round", "blue car")
    assert intake.right == ((1, 3), (2, 4), (1, 2))
    assert intake.problems == ()


def test_bad_files_in_the_middle_of_an_archive_are_named(tmp_path: Path) -> None:
    path, name = pack(
        tmp_path,
        {
            "a.png": png(),
            "notes.png": "no picture",
            "cut.png": noise()[:800],
            "huge.png": huge_png(),
            "../up.png": png(),
            "/etc/passwd": "root",
            "c:\\x.png": png(),
            "inner.zip": "PK",
            "secret.png": png("blue"),
            "broken.png": png("green"),
            "link.png": "a.png",
            "z.png": png("blue"),
        },
    )
    data = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        places = {info.filename: info.header_offset for info in archive.infolist()}
    mark_encrypted(data, b"secret.png")
    mark_link(data, b"link.png")
    body = places["broken.png"] + 30 + len("broken.png")
    data[body + 5 : body + 15] = b"\xff" * 10
    path.write_bytes(data)
    intake = taken([(path, name)])
    assert intake.names == ("a.png", "z.png")
    told = reasons(intake)
    for each, words in {
        "notes.png": "is not a readable picture",
        "cut.png": "is damaged",
        "huge.png": "at most 50,000,000 are read",
        "../up.png": "points outside the archive",
        "/etc/passwd": "points outside the archive",
        "inner.zip": "only one level is opened",
        "secret.png": "is encrypted",
        "broken.png": "is damaged inside the archive",
        "link.png": "is a link",
    }.items():
        assert words in told[each], each
    assert any("points outside" in reason for each, reason in told.items() if each.endswith("x.png"))
    assert len(told) == 10


def huge_png() -> bytes:
    """A small file that says it holds 60,000 x 60,000 pixels."""
    data = bytearray(png())
    data[16:24] = struct.pack(">II", 60_000, 60_000)

    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    return bytes(data)


def mark_encrypted(data: bytearray, name: bytes) -> None:
    """Set the flag of encryption in both headers of an entry."""
    data[data.index(b"PK\x03\x04", data.index(name) - 30) + 6] |= 1
    data[central(data, name) + 8] |= 1


def mark_link(data: bytearray, name: bytes) -> None:
    struct.pack_into("<I", data, central(data, name) + 38, (stat.S_IFLNK | 0o777) << 16)


def central(data: bytearray, name: bytes) -> int:
    """Where the entry stands in the list of entries."""
    return data.rindex(b"PK\x01\x02", 0, data.rindex(name))


def test_a_bomb_is_never_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = pack(tmp_path, {"bomb.png": b"\0" * (MAX_BYTES + 1), "a.png": png()})
    assert bomb[0].stat().st_size < 200_000
    intake = taken([bomb])
    assert "at most 64 MB are read" in reasons(intake)["bomb.png"]
    assert intake.names == ("a.png",)
    # an entry that lies about its size yields no more than it said
    data = bytearray(bomb[0].read_bytes())
    struct.pack_into("<I", data, central(data, b"bomb.png") + 24, 100)
    bomb[0].write_bytes(data)
    assert "is damaged" in reasons(taken([bomb]))["bomb.png"]
    monkeypatch.setattr(archives, "MAX_UNPACKED", 3 * len(png()))
    many = taken([pack(tmp_path, {f"{number}.png": png() for number in range(5)})])
    assert many.names == ("0.png", "1.png", "2.png")
    assert "of the archive; at most that much" in reasons(many)["3.png"]


@pytest.mark.parametrize("data", [b"", b"PK\x05\x06", b"no zip" * 50, b"PK\x05\x06" + b"\xff" * 18 + b"\0" * 2])
def test_what_is_no_archive_is_named_and_the_rest_goes_on(tmp_path: Path, data: bytes) -> None:
    intake = taken([write(tmp_path, "bad.zip", data), write(tmp_path, "a.png", png())])
    assert intake.names == ("a.png",)
    assert reasons(intake)["bad.zip"].startswith(("is not a readable zip archive", "lists too many"))


def test_bad_rows_and_captions_are_named(tmp_path: Path) -> None:
    table = f"picture,caption\na.png,sun\nnone.png,moon\na.png,\na.png,{'x' * 1001}\n"
    files = [write(tmp_path, "a.png", png()), write(tmp_path, "pairs.csv", table), write(tmp_path, "other.csv", "x\n"),
             write(tmp_path, "latin.txt", b"caf\xe9"), write(tmp_path, "a.PNG.txt", "sea")]  # fmt: skip
    intake = taken(files, [])
    assert intake.captions == ("sea", "sun")
    assert intake.right == ((0, 1),)
    told = reasons(intake)
    assert "'none.png' is not among the files" in told["pairs.csv row 3"]
    assert "lacks a picture or a caption" in told["pairs.csv row 4"]
    assert "1,001 characters" in told["pairs.csv row 5"]
    assert "its first line must be 'picture,caption'" in told["other.csv"]
    assert "is not UTF-8 text" in told["latin.txt"]


def test_pictures_of_one_name_in_two_folders_are_told_apart(tmp_path: Path) -> None:
    packed = {
        "x/a.png": png("red"),
        "y/a.png": png("blue"),
        "pairs.csv": "picture,caption\ny\\a.png,blue\na.png,which\n",
    }
    intake = taken([pack(tmp_path, packed)], [])
    assert intake.right == ((1, 0),)
    assert "pairs.csv row 3" in reasons(intake)
    again = taken([write(tmp_path, "a.png", png()), write(tmp_path, "a.png", png())])
    assert reasons(again) == {"a.png": "has the same name as an earlier picture; rename one of them"}


def test_too_much_is_cut_off_and_told(tmp_path: Path) -> None:
    tiny = png(size=(1, 1))
    packed = {f"{number}.png": tiny for number in range(MAX_TABLE_SIDE + 2)}
    captions = [f"caption {number}" for number in range(MAX_TABLE_SIDE + 300)]
    intake = taken([pack(tmp_path, packed)], captions)
    assert len(intake.pictures) == len(intake.captions) == MAX_TABLE_SIDE
    assert intake.problems[-1].name == "and 102 more"


def test_nothing_to_score_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no picture to score; give pictures"):
        list(read_uploads([], ["sky"], 16, check))
    with pytest.raises(ValueError, match="no caption to score"):
        list(read_uploads([write(tmp_path, "a.png", png())], [], 16, check))
    with pytest.raises(ValueError, match=r"no picture to score \(a.png: is not a readable picture"):
        list(read_uploads([write(tmp_path, "a.png", b"text")], ["sky"], 16, check))
