"""Uploads by the dozen: what can be read is read, everything else is named with its reason."""

import io
import stat
import struct
import unicodedata
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


def listed(names: list[bytes]) -> bytes:
    """An archive whose entries have these names, byte for byte, as other systems write them."""
    buffer = io.BytesIO()
    stand_ins = {name: name.decode() if name.isascii() else "Q" * len(name) for name in names}
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in names:
            archive.writestr(zipfile.ZipInfo(stand_ins[name]), png())
    data = buffer.getvalue()
    for name in names:
        data = data.replace(stand_ins[name].encode(), name)
    return data


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (b"set\\red.png", "set/red.png"),
        (b"shot 12:30.png", "shot 12:30.png"),
        ("\u7ea2\u5706.png".encode("gbk"), "\u7ea2\u5706.png"),
        ("\u308a\u3093\u3054.png".encode("shift_jis"), "\u308a\u3093\u3054.png"),
        ("\u00e9t\u00e9.png".encode("cp437"), "\u00e9t\u00e9.png"),
        ("caf\u00e9.png".encode(), "caf\u00e9.png"),
        ("cafe\u0301.png".encode(), "caf\u00e9.png"),
    ],
)
def test_names_of_other_systems_are_read(raw: bytes, name: str) -> None:
    [entry] = archives.read_entries(listed([raw]), "all.zip")
    assert (entry.name, entry.reason) == (name, "")


@pytest.mark.parametrize("raw", [b".", b"..\\a.png", b"C:\\a.png", b"/a.png"])
def test_entries_without_a_safe_name_are_left_out_and_the_rest_is_read(raw: bytes) -> None:
    entries = list(archives.read_entries(listed([raw, b"good.png"]), "all.zip"))
    assert entries[0].data is None
    assert entries[0].reason
    assert entries[1].data


def test_an_entry_of_an_unknown_version_costs_no_other() -> None:
    data = bytearray(listed([b"a.png", b"b.png"]))
    place = data.find(archives.DIRECTORY_ENTRY)
    struct.pack_into("<H", data, place + 6, 198)
    assert [entry.name for entry in archives.read_entries(bytes(data), "all.zip") if entry.data] == ["a.png", "b.png"]


def test_long_archives_records_are_read_and_long_lists_refused() -> None:
    data = listed([b"a.png"])
    end = data.rfind(archives.END)
    size, start = struct.unpack_from("<II", data, end + 12)
    for claimed, is_read in ((size, True), (1 << 40, False)):
        record = archives.ZIP64_END + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, claimed, start)
        locator = archives.ZIP64_LOCATOR + struct.pack("<IQI", 0, end, 1)
        tail = archives.END + struct.pack("<HHHHIIH", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
        whole = data[:end] + record + locator + tail
        if is_read:
            assert [entry.name for entry in archives.read_entries(whole, "all.zip")] == ["a.png"]
            continue
        small = archives.ZIP64_END + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 1, 1, size, start)
        elsewhere = archives.ZIP64_LOCATOR + struct.pack("<IQI", 0, end, 1)
        for wrong in (whole, data[:end] + small + record + elsewhere + tail):  # Python reads the record before the end
            with pytest.raises(ValueError, match="lists too many files"):
                list(archives.read_entries(wrong, "all.zip"))


@pytest.mark.parametrize("header", ["x" * 200_000, '"' + "x" * 200_000, "picture," + "x" * 200_000])
def test_an_endless_header_is_refused(header: str, tmp_path: Path) -> None:
    intake = taken([write(tmp_path, "pairs.csv", header), write(tmp_path, "a.png", png())])
    assert "its first line must be" in reasons(intake)["pairs.csv"]


def test_an_unclosed_quote_is_named(tmp_path: Path) -> None:
    table = 'picture,caption\na.png,"red\na.png,blue\na.png,green\n'
    intake = taken([write(tmp_path, "pairs.csv", table), write(tmp_path, "a.png", png())])
    assert "row 2 has a quote that is not closed" in reasons(intake)["pairs.csv"]
    whole = 'picture,caption\na.png,"red\nand blue"\na.png,5" nail\n'
    assert taken([write(tmp_path, "pairs.csv", whole), write(tmp_path, "a.png", png())]).captions[1:] == (
        "red\nand blue",
        '5" nail',
    )


def test_a_caption_with_an_unquoted_comma_is_not_cut(tmp_path: Path) -> None:
    table = 'picture,caption\na.png,red, round apple\na.png,"red, round apple",\n'
    intake = taken([write(tmp_path, "pairs.csv", table), write(tmp_path, "a.png", png())])
    assert intake.captions[1:] == ("red, round apple",)
    told = reasons(intake)["pairs.csv row 2"]
    assert told == "has more cells than the first line; put quotes around text that holds ','"


def test_one_name_in_two_forms_is_one_name(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "caf\u00e9.png") for form in ("NFC", "NFD")]
    files = [write(tmp_path, f"{colour}.png", png(colour))[0] for colour in ("red", "blue")]
    intake = taken(list(zip(files, names, strict=True)))
    assert intake.names == (names[0],)
    assert intake.pictures[0].getpixel((0, 0)) == (255, 0, 0)
    assert reasons(intake) == {names[0]: "has the same name as an earlier picture; rename one of them"}


def test_a_list_of_captions_ends_its_lines_at_newlines_alone(tmp_path: Path) -> None:
    lines = write(tmp_path, "captions.txt", "red\u2028apple\nblue\x0bcar\r\nsea")
    assert taken([lines, write(tmp_path, "a.png", png())]).captions[1:] == ("red\u2028apple", "blue\x0bcar", "sea")
