"""Which files a visitor may name: uploaded files, and files that this server has handed out."""

from pathlib import Path

from gradio.utils import get_upload_folder


def in_cache(path: str | Path) -> Path | None:
    """Return the file if it exists in Gradio's cache, otherwise None.

    Gradio itself checks this only for values marked as files; JSON from a program may name any path.
    """
    found = Path(path).resolve()
    return found if found.is_relative_to(Path(get_upload_folder()).resolve()) and found.is_file() else None


def uploaded(path: object) -> Path:
    """Return the file at the path that came with an upload.

    Raises:
        ValueError: the path is not that of a file uploaded here.
    """
    found = in_cache(path) if isinstance(path, str) else None
    if found is None:
        raise ValueError("the file was not uploaded here; upload it, or send its bytes as base64")
    return found
