"""Files with a row a line as input: JSON lines, CSV tables and lists of prompts.

With pictures they are the metadata of an imagefolder: `file_name` is relative to the file. A file is read once when a
run begins, which finds its columns and their types.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from jepa_app.config_base import parse_json
from jepa_app.datasets.rows import Row, Wanted, chosen_column, grouped, storable
from jepa_app.files.names import find_file

FILE_COLUMNS = ("file_name",)
LINE = "line"  # the key of a list of prompts
WORDS = "prompt"  # its words
NO_KEY = (None, pa.null())  # the types of columns without values, and of lists and objects
WHOLE = range(-(2**63), 2**63)  # whole numbers that a column can hold

Values = dict[str, Any] | str  # of a line; text says why it cannot be read


@dataclass(frozen=True, kw_only=True)
class Lines:
    """A file with a row a line. Attributes as in `Source`, and the two columns to read."""

    path: Path
    keys: pa.Schema
    num_rows: int
    words: str
    picture: str | None

    @classmethod
    def find(cls, path: Path, wanted: Wanted) -> "Lines":
        """Read which columns a file has, and how many rows.

        Raises:
            ValueError: it cannot be read, or lacks a column.
        """
        number, kinds = 0, dict[str, pa.DataType | None]()
        for values in read_values(path):
            number += 1
            for name, value in values.items() if isinstance(values, dict) else ():
                kinds[name] = common(kinds.get(name), value)
        if path.suffix.lower() == ".txt":
            kinds = {LINE: pa.int64(), WORDS: pa.string()}
        columns, picture = list(kinds), None
        words = chosen_column(wanted.words_column, (*wanted.words, WORDS), columns, "--caption-column", path)
        if wanted.with_pictures:
            names = (wanted.picture_column,) if wanted.picture_column is not None else FILE_COLUMNS
            picture = chosen_column(wanted.picture_column, names, columns, "--image-column", path)
        left_out = {words, *wanted.written}
        keys = pa.schema([(name, kind) for name, kind in kinds.items() if name not in left_out and kind not in NO_KEY])
        return cls(path=path, keys=keys, num_rows=number, words=words, picture=picture)

    def parts(self, most: int) -> list[range]:
        """Cut the rows anywhere; as in `Source`."""
        return grouped([*range(0, self.num_rows, most), self.num_rows], most)

    def rows(self, part: range) -> Iterator[Row]:
        """Read the rows of a part; as in `Source`."""
        for values in islice(read_values(self.path), part.start, part.stop):
            if isinstance(values, str):
                yield Row((None,) * len(self.keys), None, problem=values)
            else:
                yield self._row(values)

    def _row(self, values: dict[str, Any]) -> Row:
        keys = tuple(stored(values.get(one.name), one.type) for one in self.keys)
        words = values.get(self.words)
        if words is not None and not isinstance(words, str):
            return Row(keys, None, problem=f"the caption is of type {type(words).__name__}; it must be text")
        if self.picture is None:
            return Row(keys, words)
        name, folder = values.get(self.picture), self.path.parent
        if not isinstance(name, str) or not name:
            return Row(keys, words, problem=f"the row has no {self.picture}")
        return Row(keys, words, find_file(folder, name) or folder / name)


def read_values(path: Path) -> Iterator[Values]:
    """Read the values of each line that is not blank.

    Raises:
        ValueError: the file is not UTF-8 text, or no such table.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="" if path.suffix.lower() == ".csv" else None) as lines:
            if path.suffix.lower() == ".csv":
                yield from _table(lines)
                return
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    is_plain = path.suffix.lower() == ".txt"
                    yield {LINE: number, WORDS: line.strip()} if is_plain else _object(line, number)
    except OSError as refused:
        raise ValueError(f"{path} cannot be read: {refused.strerror or refused}") from refused
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{path} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong
    except csv.Error as wrong:
        raise ValueError(f"{path} cannot be read as a table ({wrong})") from wrong


def common(kind: pa.DataType | None, value: object) -> pa.DataType | None:
    """Return the type of a column of this type, or of none yet, with another value: text where nothing else fits.

    Lists and objects are no keys: a column that holds one becomes, and stays, null.
    """
    if value is None:
        return kind
    if isinstance(value, dict | list) or kind == pa.null():
        return pa.null()
    if isinstance(value, bool):
        found = pa.bool_()
    elif isinstance(value, int):
        found = pa.int64() if value in WHOLE else pa.string()
    else:
        found = pa.float64() if isinstance(value, float) else pa.string()
    if kind is None or kind == found:
        return found
    return pa.float64() if {kind, found} == {pa.int64(), pa.float64()} else pa.string()


def stored(value: Any, kind: pa.DataType) -> Any:
    """Return a value as its column holds it."""
    if value is not None and pa.types.is_floating(kind):
        return float(value)
    if value is None or not pa.types.is_string(kind):
        return value
    return storable(value) if isinstance(value, str) else json.dumps(value)


def _object(line: str, number: int) -> Values:
    try:
        values = parse_json(line)
    except ValueError as wrong:
        return f"line {number} is not JSON ({wrong})"
    return values if isinstance(values, dict) else f"line {number} is no JSON object"


def _table(lines: Iterator[str]) -> Iterator[Values]:
    first = next(lines, "")
    delimiter = max(",;\t", key=first.count)
    names = [name.strip() for name in next(csv.reader([first], delimiter=delimiter), [])]
    for values in csv.reader(lines, delimiter=delimiter, strict=True):
        if not values:
            continue
        yield (
            dict(zip(names, values, strict=True))
            if len(values) == len(names)
            else f"the row has {len(values)} values; the first line names {len(names)} columns"
        )
