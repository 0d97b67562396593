"""Parquet files as input: pictures as bytes, as `datasets` writes them, or as paths relative to the file."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jepa_app.datasets.rows import PICTURE_COLUMNS, Row, Wanted, chosen_column, grouped
from jepa_app.files.names import find_file

ROWS_AT_ONCE = 16  # in memory: a picture may have megabytes
PICTURE_TYPES = "bytes, a struct of bytes and path, or text with a path"
BUFFER = 2**20  # bytes of a column that are read at once; without it, a whole row group would be


@dataclass(frozen=True, kw_only=True)
class Table:
    """A parquet file; a part is made of whole row groups. Attributes as in `Source`, and the two columns to read."""

    path: Path
    keys: pa.Schema
    num_rows: int
    borders: tuple[int, ...]  # the row at which each row group begins, and the number of rows
    words: str
    picture: str | None

    @classmethod
    def find(cls, path: Path, wanted: Wanted) -> "Table":
        """Read what a file holds, without its rows.

        Raises:
            ValueError: it is no parquet file, or lacks a column.
        """
        with _refusing_damage(path), pq.ParquetFile(path) as file:
            schema, metadata = file.schema_arrow, file.metadata
            groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]
        names = schema.names
        if len(set(names)) < len(names):
            raise ValueError(f"{path} has two columns of the same name; rename one: {', '.join(names)}")
        words = chosen_column(wanted.words_column, wanted.words, names, "--caption-column", path)
        _check_type(path, schema.field(words), "--caption-column", "text", is_text(schema.field(words).type))
        picture = None
        if wanted.with_pictures:
            picture = chosen_column(wanted.picture_column, PICTURE_COLUMNS, names, "--image-column", path)
            kind = schema.field(picture).type
            _check_type(path, schema.field(picture), "--image-column", PICTURE_TYPES, is_picture(kind))
        left_out = {words, *wanted.written}  # a path of a picture is a key, its bytes are not
        keys = [pa.field(one.name, plain(one.type)) for one in schema if one.name not in left_out and is_key(one.type)]
        borders = tuple(accumulate(groups, initial=0))
        return cls(path=path, keys=pa.schema(keys), num_rows=borders[-1], borders=borders, words=words, picture=picture)

    def parts(self, most: int) -> list[range]:
        """Cut the rows at the borders of row groups; as in `Source`."""
        return grouped(self.borders, most)

    def rows(self, part: range) -> Iterator[Row]:
        """Read the rows of a part; as in `Source`."""
        groups = [number for number, first in enumerate(self.borders[:-1]) if first in part]
        names = [*self.keys.names, self.words, *([self.picture] if self.picture else [])]
        with _refusing_damage(self.path), pq.ParquetFile(self.path, buffer_size=BUFFER, pre_buffer=False) as file:
            for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=groups, columns=list(dict.fromkeys(names))):
                keys = [_plain(batch.column(name)) for name in self.keys.names]
                for place in range(len(batch)):
                    yield self._row(batch, keys, place)

    def _row(self, batch: pa.RecordBatch, keys: list[pa.Array], place: int) -> Row:
        found = tuple(column[place] for column in keys)
        try:
            words = batch.column(self.words)[place].as_py()
            picture = None if self.picture is None else batch.column(self.picture)[place].as_py()
        except UnicodeDecodeError as wrong:
            return Row(found, None, problem=f"the row holds text that is not UTF-8 ({wrong.reason})")
        return Row(found, words) if self.picture is None else Row(found, words, *_picture(self.path.parent, picture))


def is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text, possibly by numbers of a dictionary."""
    kind = plain(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def is_picture(kind: pa.DataType) -> bool:
    """Whether a column may hold pictures."""
    if pa.types.is_struct(kind):
        parts = {field.name: field.type for field in kind.fields if field.name in ("bytes", "path")}
        fits = {"bytes": _is_binary, "path": is_text}
        return bool(parts) and all(fits[name](part) or pa.types.is_null(part) for name, part in parts.items())
    return _is_binary(kind) or is_text(kind)


def _is_binary(kind: pa.DataType) -> bool:
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


def is_key(kind: pa.DataType) -> bool:
    """Whether a column holds small values, which are copied: numbers, text, times, yes or no."""
    kind = plain(kind)
    return bool(pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or is_text(kind))


def plain(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column that is stored by numbers of a dictionary; others unchanged."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _plain(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _picture(folder: Path, value: Any) -> tuple[bytes | Path | None, str]:
    """Return the bytes or the file of a picture, or why there is none."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str) and value:
        return find_file(folder, value) or folder / value, ""
    return (value, "") if value else (None, "the row has no picture")


def _check_type(path: Path, field: pa.Field, option: str, allowed: str, fits: bool) -> None:
    if not fits:
        raise ValueError(
            f"{path}: the column {field.name} is of type {field.type}; allowed: {allowed}; name one with {option}"
        )


@contextmanager
def _refusing_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except (pa.ArrowException, OSError) as damage:
        raise ValueError(f"{path} cannot be read as parquet ({damage})") from damage
