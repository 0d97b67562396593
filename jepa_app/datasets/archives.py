"""WebDataset archives as input: tar files in which the files of a row follow one another and share a name.

A row is KEY.png (or another picture format) with KEY.txt or KEY.json; the key ends at the first dot of the file's name.
KEY.mask.png or KEY.ocr.txt stands in only where there is no KEY.png or KEY.txt.
"""

import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Self

import pyarrow as pa

from jepa_app.config_base import parse_json
from jepa_app.datasets.rows import Row, Wanted, storable
from jepa_app.files.pictures import MAX_BYTES

PICTURES = ("png", "jpg", "jpeg", "webp", "gif", "bmp", "tif", "tiff")
WORDS = ("txt", "json")
MAX_WORDS = 2**20  # bytes of a file of words
NO_HEADER = (
    tarfile.EmptyHeaderError,  # type: ignore[attr-defined]
    tarfile.TruncatedHeaderError,  # type: ignore[attr-defined]
    tarfile.InvalidHeaderError,  # type: ignore[attr-defined]
)
UNREADABLE = (tarfile.TarError, OSError, EOFError, zlib.error, UnicodeError)


class _Header(tarfile.TarInfo):
    """A header that is damaged or missing is an error; `tarfile` takes it for the end, and rows would be lost."""

    @classmethod
    def fromtarfile(cls, archive: tarfile.TarFile) -> Self:
        try:
            return super().fromtarfile(archive)
        except NO_HEADER as damage:
            raise tarfile.ReadError(f"it ends in the middle: {damage}") from damage


@dataclass
class _Sample:
    """What has been read of one row; `ranks` say how good the files were that its words and its picture are from."""

    key: str
    words: str | None = None
    picture: bytes | None = None
    problem: str = ""
    ranks: dict[str, int] = field(default_factory=dict)

    def takes(self, kind: str, *, is_plain: bool) -> bool:
        """Whether a file comes before what has been read: KEY.txt before KEY.json, both before KEY.anything.txt."""
        what, rank = ("words", 2 + (kind == "txt")) if kind in WORDS else ("picture", 2)
        rank = rank if is_plain else 1
        if rank <= self.ranks.get(what, 0):
            return False
        self.ranks[what] = rank
        return True

    def row(self) -> Row:
        problem = self.problem or ("" if self.picture is not None else "the row has no picture")
        return Row((storable(self.key),), self.words, self.picture, problem)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A tar file, compressed or not; it is always one part. Attributes as in `Source`."""

    path: Path
    words: tuple[str, ...]  # names that may hold the words in a JSON file
    keys: pa.Schema = field(default_factory=lambda: pa.schema([("key", pa.string())]))
    num_rows: None = None

    @classmethod
    def find(cls, path: Path, wanted: Wanted) -> "Archive":
        """Open an archive, without reading its rows.

        Raises:
            ValueError: it is no tar file.
        """
        try:
            with tarfile.open(path):
                pass
        except UNREADABLE as damage:
            raise ValueError(f"{path} cannot be read as a tar archive ({damage})") from damage
        return cls(path=path, words=wanted.words if wanted.words_column is None else (wanted.words_column,))

    def parts(self, most: int) -> list[range]:
        """One part, whose end is not known; as in `Source`."""
        del most
        return [range(0)]

    def rows(self, part: range) -> Iterator[Row]:
        """Read the rows; as in `Source`."""
        del part
        sample: _Sample | None = None
        try:
            with tarfile.open(self.path, "r|*", tarinfo=_Header) as archive:
                for member in archive:
                    archive.members = []  # type: ignore[attr-defined]  # which would keep every header in memory
                    name = PurePosixPath(member.name)
                    stem, _, ending = name.name.partition(".")
                    if not member.isfile() or not stem or not ending:
                        continue
                    key = (name.parent / stem).as_posix()
                    if sample is None or sample.key != key:
                        if sample is not None:
                            yield sample.row()
                        sample = _Sample(key)
                    self._take(sample, archive, member, ending.lower())
        except UNREADABLE as damage:
            raise ValueError(f"{self.path} is damaged ({damage})") from damage
        if sample is not None:
            yield sample.row()

    def _take(self, sample: _Sample, archive: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> None:
        kind = ending.rpartition(".")[2]
        is_picture = kind in PICTURES
        if kind not in (*PICTURES, *WORDS) or not sample.takes(kind, is_plain=kind == ending):
            return
        most = MAX_BYTES if is_picture else MAX_WORDS
        if member.size > most:
            sample.problem = f"{member.name} is {member.size / 2**20:.0f} MB; at most {most // 2**20} MB are read"
            return
        file = archive.extractfile(member)
        assert file is not None
        data = file.read()
        if is_picture:
            sample.picture = data
            return
        try:
            text = data.decode("utf-8-sig")
            words = text if kind == "txt" else _from_json(parse_json(text), self.words)
        except ValueError as wrong:
            sample.problem = f"{member.name} cannot be read ({wrong})"
            return
        sample.words = words


def _from_json(values: Any, names: tuple[str, ...]) -> str | None:
    found = [values[name] for name in names if name in values] if isinstance(values, dict) else [values]
    return found[0] if found and isinstance(found[0], str) else None
