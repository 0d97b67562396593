"""Many pictures and captions from uploads: picture files, zip archives, tables of pairs, lists of captions.

What cannot be read is left out and reported; the rest is used. Pictures are scaled down as they are read, one at a
time, so a thousand photographs take no more memory than a thousand small squares.
"""

import io
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from PIL import Image

from jepa_app.files.archives import count_entries, read_entries
from jepa_app.files.pair_tables import table_rows
from jepa_app.files.pictures import MAX_BYTES, open_picture
from jepa_app.limits import MAX_TABLE_SIDE
from jepa_app.pixels import central_square

MAX_TABLE_BYTES = 16 * 2**20
MAX_ROWS = 100_000  # of tables
MAX_PROBLEMS = 200  # that are named; the rest are only counted


@dataclass(frozen=True)
class Problem:
    """A file or a row that was left out, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Reading:
    """How far the reading has got: files read, and files in all."""

    done: int
    total: int


@dataclass(frozen=True, kw_only=True)
class Intake:
    """What is to be scored: M pictures, each a square of the requested side, and L distinct captions.

    `right` holds the pairs (picture, caption), counted from 0, that belong together according to a table.
    """

    names: tuple[str, ...]
    pictures: tuple[Image.Image, ...]
    captions: tuple[str, ...]
    right: tuple[tuple[int, int], ...]
    problems: tuple[Problem, ...]


@dataclass
class _Collected:
    """What has been found so far; `rows` are (where, folder, picture, caption) from tables."""

    check_caption: Callable[[str], None]
    pictures: dict[str, Image.Image] = field(default_factory=dict)
    captions: dict[str, int] = field(default_factory=dict)  # caption -> its number, from 0
    rows: list[tuple[str, str, str, str]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    num_unnamed: int = 0  # problems beyond those that are named

    def leave_out(self, name: str, reason: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(Problem(name, reason.removeprefix(name).lstrip()))
        else:
            self.num_unnamed += 1

    def add_row(self, where: str, folder: str, picture: str, caption: str) -> None:
        if len(self.rows) < MAX_ROWS:
            self.rows.append((where, folder, picture, caption))
        else:
            self.leave_out(where, f"comes after the first {MAX_ROWS:,} rows; at most that many are read")

    def add_caption(self, where: str, caption: str) -> bool:
        if caption in self.captions:
            return True
        if len(self.captions) == MAX_TABLE_SIDE:
            self.leave_out(
                where, f"comes after the first {MAX_TABLE_SIDE:,} captions; at most that many are scored at once"
            )
            return False
        try:
            self.check_caption(caption)
        except ValueError as mistake:
            self.leave_out(where, str(mistake))
            return False
        self.captions[caption] = len(self.captions)
        return True


def read_uploads(
    files: Sequence[tuple[str | Path, str]], captions: Sequence[str], side: int, check_caption: Callable[[str], None]
) -> Iterator[Reading | Intake]:
    """Read files (path, name) and captions; yield the progress and, at the end, what was read.

    A table has the columns picture and caption; a text file has one caption per line. `check_caption` raises a
    `ValueError` for captions that cannot be scored.

    Raises:
        ValueError: nothing is left to score; the message says why.
    """
    found = _Collected(check_caption)
    for number, caption in enumerate(captions, start=1):
        found.add_caption(f"caption {number}", caption)
    contents = _Contents(found, files)
    total = max(1, contents.total)
    yield Reading(0, total)
    for done, (name, data) in enumerate(contents, start=1):
        _take(found, name, data, side)
        yield Reading(min(done, total), total)
    right = _pair_up(found)
    if not found.pictures or not found.captions:
        missing = "picture" if not found.pictures else "caption"
        told = "; ".join(f"{problem.name}: {problem.reason}" for problem in found.problems[:3])
        raise ValueError(
            f"no {missing} to score"
            + (f" ({told})" if told else "; give pictures, and captions (one per line) or a table")
        )
    yield Intake(
        names=tuple(found.pictures),
        pictures=tuple(found.pictures.values()),
        captions=tuple(found.captions),
        right=tuple(right),
        problems=_told(found),
    )


class _Contents:
    """The uploaded files, including those inside archives: (name, bytes) of readable ones, problems for the rest."""

    def __init__(self, found: _Collected, files: Sequence[tuple[str | Path, str]]) -> None:
        self._found = found
        self._files = files
        self.total = 0
        self._archives = set[int]()
        for number, (path, name) in enumerate(files):
            if PurePosixPath(name).suffix.lower() != ".zip":
                self.total += 1
                continue
            try:
                self.total += count_entries(_bytes_of(path), name)
                self._archives.add(number)
            except ValueError as mistake:
                found.leave_out(name, str(mistake))

    def __iter__(self) -> Iterator[tuple[str, bytes | None]]:
        for number, (path, name) in enumerate(self._files):
            if number in self._archives:
                for entry in read_entries(_bytes_of(path), name):
                    if entry.data is None:
                        self._found.leave_out(entry.name, entry.reason)
                    yield entry.name, entry.data
            elif PurePosixPath(name).suffix.lower() != ".zip":
                yield name, self._opened(path, name)

    def _opened(self, path: str | Path, name: str) -> bytes | None:
        try:
            return _bytes_of(path)
        except ValueError as mistake:
            self._found.leave_out(name, str(mistake))
            return None


def _bytes_of(path: str | Path) -> bytes:
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"is {size / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} MB are read")
    return Path(path).read_bytes()


def _take(found: _Collected, name: str, data: bytes | None, side: int) -> None:
    """Add one file to what was found: a table, a list of captions or a picture."""
    if data is None:
        return
    name = unicodedata.normalize("NFC", name)  # macOS takes letters with accents apart
    suffix = PurePosixPath(name).suffix.lower()
    try:
        if suffix in (".csv", ".tsv"):
            _take_table(found, name, _text(data, name))
        elif suffix == ".txt":
            for number, line in enumerate(re.split(r"\r\n|\r|\n", _text(data, name)), start=1):
                if line.strip():
                    found.add_caption(f"{name} line {number}", line.strip())
        elif name in found.pictures:
            raise ValueError("has the same name as an earlier picture; rename one of them")
        elif len(found.pictures) == MAX_TABLE_SIDE:
            raise ValueError(f"comes after the first {MAX_TABLE_SIDE:,} pictures; at most that many are scored at once")
        else:
            found.pictures[name] = central_square(open_picture(data, name), side)
    except ValueError as mistake:
        found.leave_out(name, str(mistake))


def _take_table(found: _Collected, name: str, text: str) -> None:
    for row in table_rows(io.StringIO(text, newline=""), name):
        if row.mistake:
            found.leave_out(row.where, row.mistake)
        else:
            found.add_row(row.where, str(PurePosixPath(name).parent), row.picture, row.caption)


def _pair_up(found: _Collected) -> list[tuple[int, int]]:
    """Find the picture of every row of the tables; missing ones are reported."""
    numbers = {name: number for number, name in enumerate(found.pictures)}
    by_base: dict[str, list[int]] = {}
    for name, number in numbers.items():
        by_base.setdefault(PurePosixPath(name).name, []).append(number)
    pairs: dict[tuple[int, int], None] = {}
    for where, folder, picture, caption in found.rows:
        wanted = str(PurePosixPath(unicodedata.normalize("NFC", picture.replace("\\", "/"))))
        beside = str(PurePosixPath(folder, wanted))
        others = by_base.get(PurePosixPath(wanted).name, [])
        place = numbers.get(beside, numbers.get(wanted, others[0] if len(others) == 1 else None))
        if place is None:
            found.leave_out(where, f"the picture {picture[:100]!r} is not among the files, or could not be read")
        elif found.add_caption(where, caption):
            pairs[place, found.captions[caption]] = None
    return list(pairs)


def _text(data: bytes, name: str) -> str:
    if len(data) > MAX_TABLE_BYTES:
        raise ValueError(f"{name} is {len(data) / 2**20:.0f} MB; at most {MAX_TABLE_BYTES // 2**20} MB are read")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{name} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong


def _told(found: _Collected) -> tuple[Problem, ...]:
    rest = found.num_unnamed
    return (*found.problems, *([Problem(f"and {rest:,} more", "were left out for similar reasons")] if rest else []))
