"""From the start of the server to its end: past any proxy, on a busy machine, and away within seconds of a signal."""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TextIO

import gradio as gr

from jepa_app.command_line import past_proxies

ATTEMPTS = 5  # to reach one's own page; each takes up to some ten seconds on a busy machine
SECONDS_TO_END = 4.0  # from a signal to the end, whatever still runs
SECONDS_FOR_ANSWERS = 1  # for requests that are being answered at the end
LOGGED = 2_000  # characters of one line of the log


def serve(page: gr.Blocks, close: Callable[[], None], **options: Any) -> None:
    """Serve a page until the process is told to end, then call `close`; it must be called in the main thread.

    Raises:
        OSError: the port is in use, or the host is not an address of this machine.
        ValueError: the page could not be reached.
    """
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    _launch(page, options)
    while not told.wait(0.5):  # a wait without end would not hear signals everywhere
        pass
    threading.Timer(SECONDS_TO_END, os._exit, [0]).start()  # whatever hangs
    if page.server is not None:
        page.server.config.timeout_graceful_shutdown = SECONDS_FOR_ANSWERS
    with suppress(Exception):
        page.close(verbose=False)
    close()


def _launch(page: gr.Blocks, options: dict[str, Any]) -> None:
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with past_proxies():
                page.launch(prevent_thread_lock=True, **options)
        except (OSError, ValueError) as busy:
            if attempt == ATTEMPTS or not _is_free(options.get("server_name"), options.get("server_port")):
                raise
            print(f"The page does not answer yet ({busy}); trying again.", file=sys.stderr)
            with suppress(Exception):
                page.close(verbose=False)
            time.sleep(attempt)
        else:
            return


def _is_free(host: str | None, port: int | None) -> bool:
    if port is None:
        return True
    try:
        with socket.create_connection(((host or "127.0.0.1").strip("[]"), port), timeout=1):
            return False
    except OSError:
        return True


class Shortened:
    """A stream for the log that cuts what is too long: an error may quote all that somebody sent."""

    def __init__(self, stream: TextIO, most: int = LOGGED) -> None:
        self._stream, self._most = stream, most

    def write(self, text: str) -> int:
        """Write text, its middle left out if it is long."""
        if len(text) <= self._most:
            return self._stream.write(text)
        half = self._most // 2
        self._stream.write(f"{text[:half]} … ({len(text) - 2 * half:,} characters left out) … {text[-half:]}")
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
