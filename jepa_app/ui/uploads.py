"""Which files a visitor may name: uploaded files, and files that this server has handed out."""

import os
from contextlib import suppress
from pathlib import Path

from gradio.utils import get_upload_folder


def in_cache(path: str | Path) -> Path | None:
    """Return the file if it exists in a folder of Gradio's cache, otherwise None.

    Gradio itself checks this only for values marked as files; JSON from a program may name any path.
    """
    try:
        found, cache = Path(path).resolve(), Path(get_upload_folder()).resolve()
        return found if found.is_relative_to(cache) and found.parent != cache and found.is_file() else None
    except (OSError, ValueError):  # too long, or with a null character
        return None


def uploaded(path: object) -> Path:
    """Return the file at the path that came with an upload; it is kept for an hour from now on.

    Raises:
        ValueError: the path is not that of a file uploaded here.
    """
    found = in_cache(path) if isinstance(path, str) else None
    if found is None:
        raise ValueError("the file was not uploaded here, or is no longer kept; upload it, or send its bytes as base64")
    with suppress(OSError):  # it is being removed
        os.utime(found)
    return found
