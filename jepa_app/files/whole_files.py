"""Files that are replaced only when complete: a name never holds half a file."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


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
