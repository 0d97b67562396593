"""The part of a ZeroGPU host that lends the GPU, on loopback: one call at a time, killed at the end of its duration.

The `spaces` package itself runs as it does there: it forks for each call, passes pickled arguments and yields, and asks
this host for leave. It patches torch for CUDA when it is imported, which torch for CPUs cannot bear; so it is imported
while torch cannot be, and then takes its own way without it.
"""

import gc
import importlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import gradio as gr
import pytest


class Host:
    """Lends one GPU. `calls` are the seconds that were asked for; `killed` are the processes that took longer."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.killed: list[int] = []
        self._free = threading.Semaphore(1)
        self._ends: dict[str, threading.Timer] = {}
        self._lock = threading.Lock()

    def answer(self, path: str, asked: dict[str, str]) -> dict[str, Any]:
        """Answer one request of the package."""
        if path == "/schedule":
            self._free.acquire()
            with self._lock:
                token = f"call {len(self.calls)}"
                self.calls.append(int(asked["durationSeconds"]))
            return {"idle": False, "nvidiaIndex": 0, "nvidiaUUID": "GPU-0", "allowToken": token}
        if path == "/allow":
            seconds = self.calls[int(asked["allowToken"].split()[1])]
            end = threading.Timer(seconds, self._kill, [int(asked["pid"])])
            end.daemon = True
            self._ends[asked["allowToken"]] = end
            end.start()
        elif path == "/release":
            if (ending := self._ends.pop(asked["allowToken"], None)) is not None:
                ending.cancel()
            self._free.release()
        return {}

    def _kill(self, process: int) -> None:
        self.killed.append(process)
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)


@contextmanager
def lending() -> Iterator[tuple[Host, str]]:
    """Run a host; yields it and its address."""
    host = Host()

    class Door(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            parts = urlsplit(self.path)
            asked = {name: values[0] for name, values in parse_qs(parts.query).items()}
            body = json.dumps(host.answer(parts.path, asked)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Door)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield host, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def zero_gpu_package(address: str) -> Iterator[ModuleType]:
    """Import the real `spaces` package as on a ZeroGPU Space; afterwards everything is as before."""

    def forget() -> dict[str, ModuleType]:
        return {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "spaces"}

    before, launch = forget(), gr.Blocks.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPACES_ZERO_GPU", "true")
        patch.setenv("SPACES_ZERO_DEVICE_API_URL", address)
        with pytest.MonkeyPatch.context() as hidden:
            hidden.setitem(sys.modules, "torch", None)
            package = importlib.import_module("spaces")
        try:
            yield package
        finally:
            gr.Blocks.launch = launch
            forget()
            sys.modules.update(before)
            with warnings.catch_warnings():  # the package leaves its connections to the host open
                warnings.simplefilter("ignore", ResourceWarning)
                gc.collect()
