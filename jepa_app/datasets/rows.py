"""What is read from an input: rows with keys, words and pictures; and which columns hold them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

PICTURE_COLUMNS = ("image", "picture", "img")  # names that are looked for, the first one first
MOST_LISTED = 30  # columns that a message lists


@dataclass(frozen=True)
class Row:
    """One row: its keys in the order of the input's, its words, and its picture as bytes or a file.

    `problem` says why words or picture could not be read; it is empty otherwise.
    """

    keys: tuple[Any, ...]
    words: str | None
    picture: bytes | Path | None = None
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What a task needs from an input.

    Attributes:
        words: names of columns that may hold the words, the first one first.
        words_column, picture_column: the columns to take; None looks for one.
        with_pictures: whether rows have pictures.
        written: columns that the task writes; input columns of these names are not copied.
    """

    words: tuple[str, ...]
    with_pictures: bool
    written: tuple[str, ...]
    words_column: str | None = None
    picture_column: str | None = None


class Source(Protocol):
    """One input file, as it was found when the run began.

    Attributes:
        path: the file.
        keys: names and types of the columns that are copied to the output.
        num_rows: rows in the file; None where only reading it all would tell.
    """

    @property
    def path(self) -> Path: ...

    @property
    def keys(self) -> pa.Schema: ...

    @property
    def num_rows(self) -> int | None: ...

    def parts(self, most: int) -> list[range]:
        """Cut the rows into parts of about `most` rows that can be read by themselves; an archive is one part."""
        ...

    def rows(self, part: range) -> Iterator[Row]:
        """Read the rows of a part, in order, a few at a time.

        Raises:
            ValueError: the file is damaged.
        """
        ...


def chosen_column(named: str | None, candidates: Sequence[str], columns: Sequence[str], option: str, path: Path) -> str:
    """Return the column that was named, or the first candidate that is there.

    Raises:
        ValueError: it is not there; the message lists the columns that are.
    """
    found = [name for name in ([named] if named is not None else candidates) if name in columns]
    if found:
        return found[0]
    listed = ", ".join(columns[:MOST_LISTED]) + (", …" if len(columns) > MOST_LISTED else "")
    looked = named if named is not None else " or ".join(candidates)
    raise ValueError(f"{path} has no column {looked}; it has: {listed or 'none'}; name one with {option}")


def storable(text: str) -> str:
    """Return text that can be written as UTF-8: halves of characters become question marks."""
    return text.encode("utf-8", "replace").decode()


def grouped(borders: Sequence[int], most: int) -> list[range]:
    """Join the stretches between borders (0 first, ascending) to parts of at most `most` rows, or of one stretch."""
    parts, first, last = [], 0, 0
    for border in borders[1:]:
        if border - first > most and last > first:
            parts.append(range(first, last))
            first = last
        last = border
    return [*parts, range(first, last)]
