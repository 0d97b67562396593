"""The folder of uploads: the process's own, removed at its end, or by the next start where it was killed."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows has no locks of this kind; what is left there stays
    fcntl = None  # type: ignore[assignment]

GRADIO_FOLDER = "GRADIO_TEMP_DIR"  # where Gradio keeps uploads and the files that it hands out
PREFIX = "jepa-studio-"
LOCK = ".in-use"  # locked as long as the process lives


@contextmanager
def own_folder() -> Iterator[Path]:
    """Give Gradio a folder that nobody else uses, in the one that it would use or the system's for temporary files.

    Raises:
        ValueError: no folder can be made there.
    """
    before = os.environ.get(GRADIO_FOLDER)
    try:
        base = Path(before or tempfile.gettempdir())
        base.mkdir(parents=True, exist_ok=True)
        remove_left(base)
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=base))
    except OSError as refused:
        raise ValueError(f"no folder for uploads can be made: {refused}; set TMPDIR to one that can be") from refused
    with (folder / LOCK).open("w") as lock:
        if fcntl:
            fcntl.flock(lock, fcntl.LOCK_EX)
        os.environ[GRADIO_FOLDER] = str(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if before is None:
                del os.environ[GRADIO_FOLDER]
            else:
                os.environ[GRADIO_FOLDER] = before


def remove_left(base: Path) -> None:
    """Remove what processes that were killed have left; what is in use, or another user's, stays."""
    for folder in base.glob(f"{PREFIX}*") if fcntl else ():
        with suppress(OSError), (folder / LOCK).open() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
