"""A real studio on a free port for the tests of the page, and a gate that watches and holds its generations."""

import asyncio
import inspect
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import gradio as gr

from jepa_app.studio.studio import Studio
from jepa_app.ui.page import build_page, serving_options

PATIENCE = 60  # seconds to wait for anything on a busy machine
load_studio = Studio.load  # kept by name: test_cli lets the command line find the studio that is loaded already


class Gate:
    """Stands around each generation: counts the frames of a run and can hold it before a given one."""

    def __init__(self) -> None:
        self.frames = 0
        self.hold_at: int | None = None
        self.held = threading.Event()
        self.released = threading.Event()
        self.ended = threading.Event()

    def hold(self, frame: int) -> None:
        """Hold the next run before its frame of this number (counted from 0), until `released` is set."""
        self.hold_at = frame
        self.held.clear()
        self.released.clear()
        self.ended.clear()

    def __call__(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap a generation; every other kind of work stays as it is."""
        if not inspect.isgeneratorfunction(work):
            return work

        def watched(*arguments: Any) -> Generator[Any, None, None]:
            self.frames = 0
            self.ended.clear()
            try:
                for frame in work(*arguments):
                    if self.frames == self.hold_at:
                        self.held.set()
                        assert self.released.wait(PATIENCE)
                        self.hold_at = None
                    self.frames += 1
                    yield frame
            finally:
                self.ended.set()

        return watched


@cache
def loaded(weights: Path) -> Studio:
    """The studio of a weights folder, loaded once for all tests."""
    return load_studio(weights, "cpu")


@contextmanager
def served(studio: Studio) -> Iterator[tuple[str, Gate]]:
    """Serve the page on a free port; yields its address and the gate of its generations."""
    gate = Gate()

    async def launched() -> tuple[gr.Blocks, str]:
        page = build_page(studio, gate)
        return page, page.launch(prevent_thread_lock=True, quiet=True, **serving_options())[1]

    # Inside a loop, because Gradio opens a loop for each of its locks where none is running, and never closes it.
    page, address = asyncio.run(launched())
    try:
        yield address, gate
    finally:
        gate.released.set()
        page.close(verbose=False)
