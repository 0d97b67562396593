"""Zip archives from outside, read entry by entry; each entry that is left out comes with the reason.

Nothing is ever unpacked to disk, and nothing is read beyond its limit, whatever an archive claims about itself.
"""

import io
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import PurePosixPath

from jepa_app.files.pictures import MAX_BYTES

MAX_UNPACKED = 512 * 2**20  # bytes read from one archive
MAX_DIRECTORY = 4 * 2**20  # bytes of the list of entries: about 40,000 names
END = b"PK\x05\x06"  # signature of the end record, which is 22 bytes long without a comment
ZIP64_LOCATOR = b"PK\x06\x07"  # starts the 20 bytes before the end record
ZIP64_END = b"PK\x06\x06"  # starts the record that the locator points to
ZIP64_END_SIZE = 56
UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    EOFError,
    RuntimeError,  # NotImplementedError, for versions and methods that no reader knows, is one
    OSError,
    struct.error,
    ValueError,
    IndexError,
    KeyError,
)
DIRECTORY_ENTRY = b"PK\x01\x02"
NEWEST_VERSION = 63  # of the zip format that Python's reader takes
BALLAST = ("Thumbs.db", "desktop.ini")
UTF8_NAME = 0x800  # the flag of an entry whose name is UTF-8
DRIVE = re.compile(r"[A-Za-z]:")


@dataclass(frozen=True)
class Entry:
    """A file in an archive: its bytes, or None and the reason why it was left out."""

    name: str
    data: bytes | None
    reason: str = ""


def read_entries(data: bytes, name: str) -> Iterator[Entry]:
    """Yield the files of a zip archive in order; folders and files that operating systems add are skipped.

    Raises:
        ValueError: the data is not a zip archive, or its list of entries is too long.
    """
    _check_directory(data, name)
    left = MAX_UNPACKED
    with _refusing(name), zipfile.ZipFile(io.BytesIO(_with_known_versions(data))) as archive:
        for info in archive.infolist():
            if _is_ballast(info):
                continue
            entry = _read(archive, info, left)
            left -= len(entry.data or b"")
            yield entry


def count_entries(data: bytes, name: str) -> int:
    """Return how many files `read_entries` yields.

    Raises:
        ValueError: as `read_entries`.
    """
    _check_directory(data, name)
    with _refusing(name), zipfile.ZipFile(io.BytesIO(_with_known_versions(data))) as archive:
        return sum(not _is_ballast(info) for info in archive.infolist())


def _check_directory(data: bytes, name: str) -> None:
    """Refuse a list of entries that would take too much memory, before it is read."""
    end = data.rfind(END, max(0, len(data) - 2**16 - 22))
    if end < 0 or len(data) < end + 22:
        raise ValueError(f"{name} is not a readable zip archive; pack it again")
    (directory,) = struct.unpack_from("<I", data, end + 12)
    locator = max(0, end - 20)
    if data[locator:end].startswith(ZIP64_LOCATOR):
        (named,) = struct.unpack_from("<Q", data, locator + 8)
        # Python reads the record before the locator, wherever the locator points; others may read the one it names
        records = [at for at in {named, locator - ZIP64_END_SIZE} if data.startswith(ZIP64_END, at, len(data) - 44)]
        if named not in records:
            raise ValueError(f"{name} is not a readable zip archive; pack it again")
        directory = max(struct.unpack_from("<Q", data, record + 40)[0] for record in records)
    if directory > MAX_DIRECTORY:
        raise ValueError(f"{name} lists too many files; pack fewer into one archive")


def _with_known_versions(data: bytes) -> bytes:
    """Lower the versions that entries ask for to the newest that the reader knows: one entry never costs the others."""
    patched, place = None, data.find(DIRECTORY_ENTRY)
    while 0 <= place <= len(data) - 8:
        (version,) = struct.unpack_from("<H", data, place + 6)
        if version > NEWEST_VERSION:
            patched = patched or bytearray(data)
            struct.pack_into("<H", patched, place + 6, NEWEST_VERSION)
        place = data.find(DIRECTORY_ENTRY, place + 4)
    return data if patched is None else bytes(patched)


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except UNREADABLE as broken:
        raise ValueError(f"{name} is not a readable zip archive ({broken}); pack it again") from broken


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> Entry:
    reason = _refusal(info)
    if not reason and info.file_size > left:
        reason = f"comes after the first {MAX_UNPACKED // 2**20} MB of the archive; at most that much is unpacked"
    name = _name_of(info)
    if reason:
        return Entry(name or "a file without a name", None, reason)
    try:
        with archive.open(info) as file:
            return Entry(name, file.read(info.file_size + 1))
    except UNREADABLE as broken:
        return Entry(name, None, f"is damaged inside the archive ({broken})")


def _name_of(info: zipfile.ZipInfo) -> str:
    """The name of an entry as people see it: with slashes, and in the letters of the system that wrote it.

    Old archives do not say how names are written; the likeliest of UTF-8, CP437, Shift-JIS and GBK is taken.
    """
    name = info.filename
    if not info.flag_bits & UTF8_NAME and not name.isascii():
        name = _decoded(name.encode("cp437", "replace"), name)
    return unicodedata.normalize("NFC", name.replace("\\", "/"))


def _decoded(raw: bytes, otherwise: str) -> str:
    readings = {}
    for encoding in ("utf-8", "cp437", "shift_jis", "gbk"):
        try:
            readings[encoding] = raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    if "utf-8" in readings:
        return readings["utf-8"]
    if "shift_jis" in readings and any("\u3040" <= letter <= "\u30ff" for letter in readings["shift_jis"]):
        return readings["shift_jis"]  # kana are never there by chance
    letters = {
        encoding: all(letter.isascii() or letter.isalnum() for letter in text) for encoding, text in readings.items()
    }
    return next((readings[encoding] for encoding in ("cp437", "gbk", "shift_jis") if letters.get(encoding)), otherwise)


def _is_ballast(info: zipfile.ZipInfo) -> bool:
    name = _name_of(info)
    parts = PurePosixPath(name).parts
    hidden = bool(parts) and parts[-1].startswith(".") and parts[-1] not in (".", "..")
    return name.endswith("/") or "__MACOSX" in parts or hidden or (bool(parts) and parts[-1] in BALLAST)


def _refusal(info: zipfile.ZipInfo) -> str:
    """Why an entry is refused, judging by what the archive says about it; empty if it may be read."""
    path = PurePosixPath(_name_of(info))
    if not path.parts:
        return "has no name"
    if path.is_absolute() or ".." in path.parts or DRIVE.match(path.parts[0]):
        return "has a path that points outside the archive"
    if stat.S_ISLNK(info.external_attr >> 16):
        return "is a link to another file"
    if info.flag_bits & 0x1:
        return "is encrypted; pack it without a password"
    if path.suffix.lower() == ".zip":
        return "is an archive inside the archive; only one level is opened"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "is compressed in a way that is not supported here; pack it as an ordinary zip"
    if info.file_size > MAX_BYTES:
        return f"is {info.file_size / 2**20:,.0f} MB; at most {MAX_BYTES // 2**20} MB are read"
    return ""
