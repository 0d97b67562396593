"""Zip archives from outside, read entry by entry; each entry that is left out comes with the reason.

Nothing is ever unpacked to disk, and nothing is read beyond its limit, whatever an archive claims about itself.
"""

import io
import stat
import struct
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
UNREADABLE = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, struct.error, ValueError)


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
    with _refusing(name), zipfile.ZipFile(io.BytesIO(data)) as archive:
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
    with _refusing(name), zipfile.ZipFile(io.BytesIO(data)) as archive:
        return sum(not _is_ballast(info) for info in archive.infolist())


def _check_directory(data: bytes, name: str) -> None:
    """Refuse a list of entries that would take too much memory, before it is read."""
    end = data.rfind(END, max(0, len(data) - 2**16 - 22))
    if end < 0 or len(data) < end + 22:
        raise ValueError(f"{name} is not a readable zip archive; pack it again")
    (directory,) = struct.unpack_from("<I", data, end + 12)
    if directory > MAX_DIRECTORY or data[max(0, end - 20) : end].startswith(ZIP64_LOCATOR):
        raise ValueError(f"{name} lists too many files; pack fewer into one archive")


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    try:
        yield
    except zipfile.BadZipFile as broken:
        raise ValueError(f"{name} is not a readable zip archive ({broken}); pack it again") from broken


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, left: int) -> Entry:
    reason = _refusal(info)
    if not reason and info.file_size > left:
        reason = f"comes after the first {MAX_UNPACKED // 2**20} MB of the archive; at most that much is unpacked"
    if reason:
        return Entry(info.filename, None, reason)
    try:
        with archive.open(info) as file:
            return Entry(info.filename, file.read(info.file_size + 1))
    except UNREADABLE as broken:
        return Entry(info.filename, None, f"is damaged inside the archive ({broken})")


def _is_ballast(info: zipfile.ZipInfo) -> bool:
    parts = PurePosixPath(info.filename).parts
    hidden = bool(parts) and parts[-1].startswith(".") and parts[-1] != ".."
    return info.is_dir() or "__MACOSX" in parts or hidden or (bool(parts) and parts[-1] == "Thumbs.db")


def _refusal(info: zipfile.ZipInfo) -> str:
    """Why an entry is refused, judging by what the archive says about it; empty if it may be read."""
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename or ":" in path.parts[0]:
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
