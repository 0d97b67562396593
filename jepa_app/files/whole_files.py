"""Files that are replaced only when complete: a name never holds half a file."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_app.config_base import parse_json


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a text, as UTF-8, or bytes as a file that is never seen half written."""
    with writing_whole(path) as partial:
        partial.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def writing_whole(path: Path) -> Iterator[Path]:
    """Yield a path to write to; its file replaces `path` when the block ends without an error."""
    partial = path.with_suffix(f".{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def own_files(record: Path, files: Sequence[Path]) -> dict[str, dict[str, Any]]:
    """Return what a record says of files beside it, by their names; each of its rows names one under "file".

    Raises:
        ValueError: one of the `files` that are to be written is there, but not in the record; or the record is
            something else.
    """
    try:
        rows: list[dict[str, Any]] = parse_json(record.read_text(encoding="utf-8"))
        earlier = {Path(rows[place]["file"]).name: rows[place] for place in range(len(rows))}
    except FileNotFoundError:
        earlier = {}
    except (OSError, ValueError, TypeError, KeyError) as other:
        raise ValueError(f"{record} is not from an earlier run; choose another folder") from other
    strange = [file for file in files if file.exists() and file.name not in earlier]
    if strange:
        raise ValueError(f"{strange[0]} is not from an earlier run and would be replaced; choose another folder")
    return {name: row for name, row in earlier.items() if (record.parent / name).exists()}
