"""Which files a visitor may name: those that were uploaded, and those that this server gave away."""

from pathlib import Path

from gradio.utils import get_upload_folder


def in_cache(path: str | Path) -> Path | None:
    """The file if it lies in Gradio's cache and exists, None for any other.

    Gradio checks that itself only where a value says that it is a file; a program's JSON may name any path.
    """
    found = Path(path).resolve()
    return found if found.is_relative_to(Path(get_upload_folder()).resolve()) and found.is_file() else None


def uploaded(path: object) -> Path:
    """The file behind the path that an upload came with.

    Raises:
        ValueError: it is no file that was uploaded here.
    """
    found = in_cache(path) if isinstance(path, str) else None
    if found is None:
        raise ValueError("this names a file that was not uploaded here; upload it, or send its bytes as base64")
    return found
