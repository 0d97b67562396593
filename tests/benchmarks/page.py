"""What the page leaves behind after many runs: files, memory, threads and kept runs.

python -m tests.benchmarks.page [--json] [--weights weights] [--runs 200]
"""

import itertools
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from argparse import Namespace
from base64 import b64decode
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import httpx
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError

from tests.benchmarks.measure import report

ROOT = Path(__file__).parent.parent.parent
PAGE = 4096  # bytes
MB = 1e6
PATIENCE = 300  # seconds for the page to open, and for any answer
PROMPTS = ("red apple, twemoji style", "cat face, noto style", "blue heart", "house, openmoji style", "joyful cat")
CAPTIONS = "red apple\ncat face\nblue heart"
VISIT = 20  # runs until another visitor comes
SETTLED = 0.2  # of all runs; what grows until then is what a busy page needs


class Page:
    """The page in a process of its own, looked at from outside."""

    def __init__(self, process: subprocess.Popen[bytes], address: str, folder: Path) -> None:
        self._process = Path("/proc") / str(process.pid)
        self._folder = folder
        self.address = address
        components = httpx.get(f"{address}config", timeout=PATIENCE).json()["components"]
        self.components: dict[str, int] = {
            part["props"].get("elem_id") or str(part["id"]): part["id"] for part in components
        }

    def resident_mb(self) -> float:
        """Memory of the page's process."""
        return int((self._process / "statm").read_text().split()[1]) * PAGE / MB

    def threads(self) -> int:
        """Threads of the page's process."""
        return len(list((self._process / "task").iterdir()))

    def descriptors(self) -> int:
        """Open files and connections of the page's process."""
        return len(list((self._process / "fd").iterdir()))

    def only_files(self) -> set[Path]:
        """Files in the temporary folder that is its own, but for pictures that were handed out."""
        return {path for path in self.files() if path.is_file() and path.name != "image.png"}

    def files(self) -> set[Path]:
        """Files in the temporary folder that is its own, and folders without any."""
        found = os.walk(self._folder)  # what the page removes meanwhile is passed over
        return {Path(at, name) for at, folders, names in found for name in (names if names or folders else [""])}

    def export(self, frames: Sequence[str]) -> dict[str, str]:
        """Ask for an animation as the player's button does."""
        asked = {"session_hash": "bench", "component_id": self.components["player"], "fn_name": "encode"}
        asked["data"] = {"kind": "webp", "frames": list(frames)}
        answer = httpx.post(f"{self.address}gradio_api/component_server", json=asked, timeout=PATIENCE)
        return answer.raise_for_status().json()


@contextmanager
def opened(weights: str | Path) -> Iterator[Page]:
    """Start the page as a user does, with a temporary folder that begins empty."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "app.py", "--weights", weights, "--port", str(port)]
    with tempfile.TemporaryDirectory() as folder:
        surroundings = os.environ | {"GRADIO_TEMP_DIR": folder, "TMPDIR": folder}
        process = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=subprocess.DEVNULL)
        try:
            address = f"http://127.0.0.1:{port}/"
            _wait_for(process, address)
            yield Page(process, address, Path(folder))
        finally:
            process.terminate()
            process.wait()


def _wait_for(process: subprocess.Popen[bytes], address: str) -> None:
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        try:
            httpx.get(address, timeout=PATIENCE)
        except httpx.TransportError:
            time.sleep(0.2)
        else:
            return
    raise RuntimeError(f"the page has not opened at {address} (exit status {process.poll()})")


class Visitor:
    """One who makes pictures in all the ways that the page knows, and remembers the last."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._client = Client(page.address, verbose=False, httpx_kwargs={"timeout": PATIENCE})
        self._last: list[dict[str, Any]] = []

    def make(self, number: int) -> str:
        """Make a picture and return its run: three of five as they come, one changed, one given up."""
        prompt = PROMPTS[number % len(PROMPTS)]
        kind = number % 5
        if kind == 3 and self._last:
            half = self._last[len(self._last) // 2 - 1]
            start = {"job": half["job"], "step": half["i"]} | ({"redo": [0, 1, 4, 5]} if number % 2 else {})
            job = self._client.submit(start, prompt, api_name="/edit")
        else:
            job = self._client.submit(prompt=prompt, seed=number, api_name="/generate")
        deltas = (delta for delta in job if "frame" in delta)
        if kind == 4:
            [first] = itertools.islice(deltas, 1)
            job.cancel()
            return first["job"]
        made = list(deltas)
        if kind != 3:
            self._last = made
        return made[-1]["job"]

    def score(self) -> None:
        """Match the last picture, sent as text."""
        [_, *_] = self._client.predict(self._frames()[-1], CAPTIONS, api_name="/score")

    def export(self) -> None:
        """Take the last run with them."""
        assert self._page.export(self._frames())["data"]

    def fetch_picture(self) -> None:
        """Have a picture made in one go, as a file."""
        self._client.predict(prompt=PROMPTS[0], seed=1, api_name="/generate_image")

    def upload_picture(self, folder: Path) -> None:
        """Match a picture from the visitor's disk."""
        picture = folder / "upload.png"
        picture.write_bytes(b64decode(self._last[-1]["frame"]))
        self._client.predict(handle_file(picture), CAPTIONS, api_name="/score")

    def is_kept(self, run: str) -> bool:
        """Whether the page could still go on with a run."""
        try:
            self._client.submit(run, api_name="/resume").result(timeout=PATIENCE)
        except AppError:
            return False
        return True

    def close(self) -> None:
        """Leave."""
        self._client.close()

    def _frames(self) -> list[str]:
        return [f"data:{delta['type']};base64,{delta['frame']}" for delta in self._last]


def many_runs(page: Page, runs: int) -> Iterator[str]:
    """Make pictures, by a new visitor now and then, and yield the name of each run."""
    numbers = iter(range(runs))
    while visit := list(itertools.islice(numbers, VISIT)):
        with closing(Visitor(page)) as visitor:
            for number in visit:
                yield visitor.make(number)
                if number % 10 == 9:
                    visitor.score()
                if number % 20 == 19:
                    visitor.export()


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """All figures of what is left."""
    with opened(options.weights) as page, tempfile.TemporaryDirectory() as disk:
        names: list[str] = []
        memory: list[float] = []
        threads: list[int] = []
        files, began = page.only_files(), time.perf_counter()
        for name in many_runs(page, options.runs):
            names.append(name)
            memory.append(page.resident_mb())
            threads.append(page.threads())
        seconds = time.perf_counter() - began
        settled = int(options.runs * SETTLED)
        figures: dict[str, Any] = {
            "files_left": len(page.only_files() - files),  # a page that has just begun still removes some of its own
            "growth_mb": memory[-1] - memory[settled],
            "growth_mb_second_half": memory[-1] - memory[options.runs // 2],
            "slope_mb_per_1000_runs": 1000 * _slope(memory[settled:]),
            "slope_mb_per_1000_runs_second_half": 1000 * _slope(memory[options.runs // 2 :]),
            "resident_mb": memory[-1],
            "threads_settled": threads[settled],
            "threads_end": threads[-1],
        }
        with closing(Visitor(page)) as visitor:
            figures["runs_kept"] = sum(visitor.is_kept(name) for name in names)
            visitor.make(0)
            before = page.files()
            visitor.fetch_picture()
            answered = page.files()
            figures["files_of_generate_image"] = len(answered - before)  # the page may tidy up older ones meanwhile
            visitor.upload_picture(Path(disk))
            figures["files_of_an_upload"] = len(page.files() - answered)
    return figures, {"runs": options.runs, "seconds": round(seconds)}


def _slope(values: Sequence[float]) -> float:
    return statistics.linear_regression(range(len(values)), values).slope


def main() -> int:
    """Measure and print."""
    return report("page", measure, "--runs=200")


if __name__ == "__main__":
    sys.exit(main())
