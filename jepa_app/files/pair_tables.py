"""Tables of pairs: CSV files with the columns picture and caption, as people and spreadsheets write them."""

import csv
from collections.abc import Iterator
from typing import NamedTuple, TextIO

MAX_HEADER = 10_000  # characters of the first line of a table
FORMULA = ("=", "+", "-", "@")
DELIMITERS = ",;\t"  # in many countries spreadsheets write semicolons


class TableRow(NamedTuple):
    """A row: where it stands, such as "pairs.csv row 2", what it pairs, and why it cannot be used, or ""."""

    where: str
    picture: str
    caption: str
    mistake: str


def table_rows(lines: TextIO, name: str) -> Iterator[TableRow]:
    """Yield each row of a table with the columns picture and caption, in any order, and maybe others.

    Raises:
        ValueError: a column is missing, or the table is not CSV.
    """
    first = lines.readline(MAX_HEADER)
    delimiter = max(DELIMITERS, key=first.count)
    columns = [] if len(first) == MAX_HEADER else _columns(first, delimiter)
    if not {"picture", "caption"} <= set(columns):
        raise ValueError(f"{name} starts with {first.strip()[:60]!r}; its first line must be 'picture,caption'")
    places = columns.index("picture"), columns.index("caption")
    raw = _Remembered(lines)
    rows = csv.reader(raw, delimiter=delimiter)
    try:
        for number, row in enumerate(rows, start=2):
            if raw.is_unclosed():
                raise ValueError(f"{name} row {number} has a quote that is not closed; close it or leave it out")
            raw.forget()
            if row:
                picture, caption = (_cell(row, place) for place in places)
                mistake = "" if picture and caption else "lacks a picture or a caption"
                if any(cell.strip() for cell in row[len(columns) :]):
                    mistake = f"has more cells than the first line; put quotes around text that holds {delimiter!r}"
                yield TableRow(f"{name} row {number}", picture, caption, mistake)
    except csv.Error as wrong:
        raise ValueError(f"{name} is not a readable table ({wrong}); save it as CSV") from wrong


class _Remembered:
    """The lines of a table, of which those of the current row are kept."""

    def __init__(self, lines: Iterator[str] | TextIO) -> None:
        self._lines, self._row = iter(lines), list[str]()

    def __iter__(self) -> Iterator[str]:
        for line in self._lines:
            self._row.append(line)
            yield line

    def forget(self) -> None:
        self._row.clear()

    def is_unclosed(self) -> bool:
        """Whether the row swallowed more lines than its quotes hold."""
        return len(self._row) > 1 and sum(line.count('"') for line in self._row) % 2 == 1


def _columns(first: str, delimiter: str) -> list[str]:
    try:
        return [column.strip().lower() for column in next(csv.reader([first], delimiter=delimiter), [])]
    except csv.Error:
        return []


def _cell(row: list[str], place: int) -> str:
    """A cell without the apostrophe that our own tables put before text that a spreadsheet would run as a formula."""
    text = row[place].strip() if place < len(row) else ""
    return text[1:] if text[:1] == "'" and text[1:2] in FORMULA else text
