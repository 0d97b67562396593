"""Tidies up behind a busy page: empty folders, and memory that was freed.

Gradio deletes old files, but not the folder that it made for each.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from gradio.utils import get_upload_folder

from jepa_app.files.reducing import give_memory_back


def tidying(seconds: float) -> Callable[[object], AbstractAsyncContextManager[None]]:
    """Return a server lifespan that, every `seconds`, removes folders that have been empty for that long.

    It also gives freed memory back to the system.
    """

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        task = asyncio.create_task(tidy())
        try:
            yield
        finally:
            task.cancel()

    async def tidy() -> None:
        while True:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(remove_empty_folders, Path(get_upload_folder()), seconds)
            await asyncio.to_thread(give_memory_back)

    return lifespan


def remove_empty_folders(cache: Path, age: float) -> None:
    """Remove the folders in `cache` that have been empty for `age` seconds; a folder in use is never that old."""
    for folder in cache.iterdir() if cache.is_dir() else ():
        with suppress(OSError):  # it is not empty, or has been removed already
            if folder.is_dir() and time.time() - folder.stat().st_mtime > age:
                folder.rmdir()
