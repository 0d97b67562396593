"""Output files: parquet, written a few rows at a time, that carry which input and which settings they are from."""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from glob import escape
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from jepa_app.datasets.rows import Row
from jepa_app.files.whole_files import writing_whole

ORIGIN = b"jepa_app"  # the key, in the schema's metadata, of what an output is from
ERROR = "error"  # the column that says why a row has no result
WORDS = "caption"

Result = dict[str, Any] | str  # of a row: the values of a task's columns, or why there are none


def origin_of(path: Path) -> dict[str, Any] | None:
    """Return what an output of a run like this is from; None of any other file."""
    try:
        found = json.loads((pq.read_schema(path).metadata or {})[ORIGIN])
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return None
    return found if isinstance(found, dict) else None


def refuse_left_over(targets: Collection[Path], origins: Mapping[Path, str]) -> None:
    """Refuse outputs that earlier runs made of the same inputs in another number of parts: rows would be there twice.

    `origins` names the input, as outputs do, of each path that the names of its outputs begin with.

    Raises:
        ValueError: there is one.
    """
    for stem, name in origins.items():
        pattern = escape(stem.name)
        for path in (*stem.parent.glob(f"{pattern}.parquet"), *stem.parent.glob(f"{pattern}-*-of-*.parquet")):
            if path not in targets and (origin_of(path) or {}).get("file") == name:
                raise ValueError(f"{path} holds rows of an earlier {name}; choose another folder or remove the file")


def is_there(target: Path, origin: dict[str, Any]) -> bool:
    """Whether an output is there and whole; it is if its file exists, because it is renamed when it is.

    Raises:
        ValueError: the file is there, but from another input, other settings or another program.
    """
    if not target.exists():
        return False
    found = origin_of(target)
    if found is None:
        raise ValueError(f"{target} is not from an earlier run and would be replaced; choose another folder")
    if found == origin:
        return True
    other = next(name for name in [*origin, *found] if found.get(name) != origin.get(name))
    raise ValueError(
        f"{target} was made with another {other} ({found.get(other)}, now {origin.get(other)}); choose another folder "
        "or remove the file"
    )


def output_schema(keys: pa.Schema, columns: pa.Schema, origin: dict[str, Any]) -> pa.Schema:
    """The columns of an output: keys, caption, the task's own, and the error."""
    fields = [*keys, pa.field(WORDS, pa.string()), *columns, pa.field(ERROR, pa.string())]
    return pa.schema(fields, metadata={ORIGIN: json.dumps(origin).encode()})


class Output:
    """A file in the making; rows are written in groups of `most`."""

    def __init__(self, writer: pq.ParquetWriter, schema: pa.Schema, num_keys: int, most: int) -> None:
        self._writer, self._schema, self._num_keys, self._most = writer, schema, num_keys, most
        self._rows: list[tuple[Any, ...]] = []

    def add(self, row: Row, result: Result) -> None:
        """Take in a row and its result."""
        words = None if row.words is None else row.words.encode("utf-8", "replace").decode()
        own = self._schema.names[self._num_keys + 1 : -1]
        if isinstance(result, str):
            values = (*row.keys, words, *(None for _ in own), result)
        else:
            values = (*row.keys, words, *(result[name] for name in own), None)
        self._rows.append(values)
        if len(self._rows) == self._most:
            self.flush()

    def flush(self) -> None:
        """Write the rows taken in so far as one group."""
        if self._rows:
            columns = [
                pa.array(list(values), field.type)
                for values, field in zip(zip(*self._rows, strict=True), self._schema, strict=True)
            ]
            self._writer.write_table(pa.table(columns, schema=self._schema))
            self._rows = []


@contextmanager
def writing(target: Path, keys: pa.Schema, columns: pa.Schema, origin: dict[str, Any], most: int) -> Iterator[Output]:
    """Yield an output to fill; its file is there when the block ends without an error.

    Raises:
        OSError: the file cannot be written.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    schema = output_schema(keys, columns, origin)
    with writing_whole(target) as partial, pq.ParquetWriter(partial, schema) as writer:
        output = Output(writer, schema, len(keys), most)
        yield output
        output.flush()
