"""Uploaded files: which ones a visitor may name, and when they are removed."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import gradio as gr
from gradio.utils import get_upload_folder

Opened = Callable[[object], Path]  # as `uploaded`
ONE_CALL = "/call/"  # in the address of a call whose session ends with it


def in_cache(path: str | Path) -> Path | None:
    """Return the file if it exists in Gradio's cache, otherwise None.

    Gradio itself checks this only for values marked as files; JSON from a program may name any path.
    """
    try:
        found = Path(path).resolve()
        return found if found.is_relative_to(Path(get_upload_folder()).resolve()) and found.is_file() else None
    except (OSError, ValueError):  # too long, or with a null character
        return None


def uploaded(path: object) -> Path:
    """Return the file at the path that came with an upload.

    Raises:
        ValueError: the path is not that of a file uploaded here.
    """
    found = in_cache(path) if isinstance(path, str) else None
    if found is None:
        raise ValueError("the file was not uploaded here, or is no longer kept; upload it, or send its bytes as base64")
    return found


class UsedUploads:
    """Uploads by the sessions that use them: a file is removed with the last of its sessions.

    A page's session ends when the page is closed. A call by its address has a session of its own, which ends with it.
    What no session has used is removed after an hour, by Gradio.
    """

    def __init__(self) -> None:
        self._users: dict[Path, set[str]] = {}
        self._turn = threading.Lock()

    @contextmanager
    def by(self, request: gr.Request) -> Iterator[Opened]:
        """Yield what finds the files of a call."""
        session = request.session_hash or ""

        def opened(path: object) -> Path:
            found = uploaded(path)
            with self._turn:
                self._users.setdefault(found, set()).add(session)
            return found

        try:
            yield opened
        finally:
            if ONE_CALL in str(request.url):
                self._end(session)

    def end(self, request: gr.Request) -> None:
        """Remove the files that only this session has used; for the page's `unload`."""
        self._end(request.session_hash or "")

    def _end(self, session: str) -> None:
        with self._turn:
            for path, users in list(self._users.items()):
                users.discard(session)
                if not users or not path.exists():
                    del self._users[path]
                    path.unlink(missing_ok=True)
