"""Tidies up behind a busy page: old files, empty folders, and memory that was freed.

Gradio would delete old files too, but not the folder that it made for each, nor what is left of an upload that was cut
off.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from anyio import to_thread
from gradio.utils import get_upload_folder

from jepa_app.files.reducing import give_memory_back
from jepa_app.ui.serving.own_folder import LOCK

CUT_OFF = 900  # seconds; files of a long upload are complete one after another and wait for the last


def tidying(seconds: float, age: float) -> Callable[[Any], AbstractAsyncContextManager[None]]:
    """Return a server lifespan that tidies up every `seconds`: files go when they have not been used for `age`."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(tidy(app))
        try:
            yield
        finally:
            task.cancel()

    async def tidy(app: Any) -> None:
        while True:
            await asyncio.sleep(seconds)
            gone = await to_thread.run_sync(remove_old, Path(get_upload_folder()), age, seconds)
            for paths in app.get_blocks().temp_file_sets:  # Gradio notes each file for good
                paths -= gone
            await to_thread.run_sync(give_memory_back)

    return lifespan


def remove_old(cache: Path, age: float, emptied: float) -> set[str]:
    """Remove files in `cache` that are older than `age` seconds, and folders that have been empty for `emptied`.

    A folder in use is never that old. What lies in `cache` itself is on its way here: it goes once nothing was written
    to it for `CUT_OFF` seconds. Returns the paths of the files.
    """
    now, on_the_way, gone = time.time(), min(age, CUT_OFF), set[str]()
    for path in sorted(cache.rglob("*"), reverse=True) if cache.is_dir() else ():  # files before their folders
        with suppress(OSError):  # it is not empty, or has been removed already
            since = now - path.stat().st_mtime
            if path.is_dir() and since > emptied:
                path.rmdir()
            elif path.is_file() and path != cache / LOCK and since > (on_the_way if path.parent == cache else age):
                path.unlink()
                gone.add(str(path))
    return gone
