"""From the start of the server to its end: past any proxy, on a busy machine, and away within seconds of a signal."""

import logging
import os
import shutil
import signal
import socket
import threading
from contextlib import nullcontext, suppress
from typing import Any, TextIO

import gradio as gr
from gradio.tunneling import CURRENT_TUNNELS
from gradio.utils import get_upload_folder

from jepa_app.command_line import past_proxies

SECONDS_TO_END = 4.0  # from a signal to the end, whatever still runs
SECONDS_FOR_ANSWERS = 1  # for requests that are being answered at the end
PRIVATE = "127.0.0.1,10.0.0.0/8,172.16.0.0/12,192.168.0.0/16"  # where the proxy of a Space is
LOGGED = 2_000  # characters of one line of the log


def serve(page: gr.Blocks, **options: Any) -> None:
    """Serve a page until the process is told to end, which it then does within seconds; call it in the main thread.

    Raises:
        OSError: as `launch`.
    """
    if os.environ.get("SPACE_ID"):
        os.environ.setdefault("FORWARDED_ALLOW_IPS", PRIVATE)
    launch(page, options)
    told = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: told.set())
    while not told.wait(0.5):  # a wait without end would not hear signals everywhere
        pass
    logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # that streams are cut off now is no fault
    threading.Timer(SECONDS_TO_END, _end_at_once).start()  # whatever hangs
    for tunnel in CURRENT_TUNNELS:
        tunnel.kill()
    if page.server is not None:
        page.server.config.timeout_graceful_shutdown = SECONDS_FOR_ANSWERS
    with suppress(Exception):
        page.close(verbose=False)


def _end_at_once() -> None:
    shutil.rmtree(get_upload_folder(), ignore_errors=True)
    os._exit(0)


def launch(page: gr.Blocks, options: dict[str, Any]) -> None:
    """Let Gradio serve a page in a thread.

    Gradio itself would look once whether the page answers, and give up on a busy machine where it takes seconds.

    Raises:
        OSError: the port is in use, the host is not an address of this machine, or the server has not started in time.
    """
    host, port = options.get("server_name"), options.get("server_port")
    was_free = port is not None and _is_free(host, port)
    try:
        with nullcontext() if options.get("share") else past_proxies():
            page.launch(prevent_thread_lock=True, _frontend=False, **options)
    except OSError as refused:
        if was_free:
            raise OSError("the server has not started within 5 seconds; the machine is busy, try again") from refused
        raise


def _is_free(host: str | None, port: int) -> bool:
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
