"""Many clients at once, for long: whether each gets its own pictures, and what is left behind.

python -m tests.benchmarks.soak [--json] [--weights weights] [--requests 2000] [--clients 8] [--seed 0]

A fifth of the streams are cut off, a tenth of the requests are garbage. The pictures that clients get are compared with
those that the same requests gave before, when nothing else was asked for. Uploads and pictures of /generate_image
do not count as files left, because they are kept for an hour.
"""

import base64
import io
import json
import random
import sys
import threading
import time
from argparse import Namespace
from collections import Counter
from collections.abc import Generator
from typing import Any

import httpx
import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.benchmarks.measure import report
from tests.benchmarks.page import CAPTIONS, PATIENCE, PROMPTS, Page, opened

Colours = npt.NDArray[np.float32]
ROUNDING = 2.0  # of 255, mean over a picture; another picture is tens away
STEPS = 8
SEEDS = 4  # for each prompt
CUT, GARBAGE = 0.2, 0.1
SETTLING = 45.0  # seconds after the last request: Gradio notices clients that have left after a while
GARBAGE_OF: dict[str, dict[str, Any]] = {
    "generate": {"prompt": 5},
    "learn": {"prompt": ""},
    "resume": {"job": "x"},
    "score": {"picture": "?", "captions": "red"},
    "score_matrix": {"pictures": [0] * 30, "captions": "red"},
}
KINDS = (("generate", 5), ("score", 2), ("score_many", 1), ("image", 1), ("edit", 1))


class Asking:
    """One client."""

    def __init__(self, page: Page, seed: int, right: dict[tuple[str, int], Colours], tally: Counter[str]) -> None:
        self._web = httpx.Client(base_url=page.address, timeout=PATIENCE)
        self._draw = random.Random(seed)
        self._right, self._tally = right, tally
        self._last: dict[str, Any] | None = None
        self.uploaded: set[str] = set()

    def ask(self) -> None:
        """Make one request of any kind and see whether its answer is right."""
        if self._draw.random() < GARBAGE:
            self._garbage()
            return
        names, weights = zip(*KINDS, strict=True)
        [kind] = self._draw.choices(names, weights)
        if kind in ("generate", "edit") or self._last is None:
            self._stream(is_edit=kind == "edit" and self._last is not None)
        elif kind == "image":
            prompt = self._draw.choice(PROMPTS)
            [answer] = self._answers("generate_image", {"prompt": prompt, "steps": STEPS, "seed": 0})
            self._note("kept" if self._web.get(answer["url"]).status_code == 200 else "lost")
        elif kind == "score":
            [scores] = self._answers("score", {"picture": self._last["frame"], "captions": CAPTIONS})
            self._note("kept" if {each["caption"] for each in scores} == set(CAPTIONS.split("\n")) else "mixed_up")
        else:
            self._table(self._last)

    def picture(self, prompt: str, seed: int) -> Colours:
        """Make a picture and return it."""
        *_, last = self._answers("generate", {"prompt": prompt, "steps": STEPS, "seed": seed})
        return _picture(last)

    def close(self) -> None:
        """Leave."""
        self._web.close()

    def _stream(self, *, is_edit: bool) -> None:
        prompt, seed = self._draw.choice(PROMPTS), self._draw.randrange(SEEDS)
        asked: dict[str, Any] = {"prompt": prompt, "steps": STEPS, "seed": seed}
        if is_edit and self._last is not None:
            asked = {"start": {"job": self._last["job"], "step": 3, "redo": []}, "prompt": self._last["prompt"]}
            asked |= {"steps": STEPS, "seed": self._last["seed"]}
            prompt, seed = self._last["prompt"], self._last["seed"]
        answers = self._answers("edit" if is_edit else "generate", asked)
        try:
            if self._draw.random() < CUT:
                next(delta for delta in answers if "frame" in delta)
                answers.close()
                self._note("cut_off")
                return
            *_, last = answers
        except ValueError:  # the run that it starts from has been dropped for others
            self._note("refused")
            return
        off = np.abs(_picture(last) - self._right[prompt, seed]).mean()  # the last digits depend on who shares a step
        is_right = off < ROUNDING and last["i"] + 1 == last["n"]
        self._note("right" if is_right else "mixed_up")
        self._last = last

    def _table(self, last: dict[str, Any]) -> None:
        files = [("files", (f"{number}.png", base64.b64decode(last["frame"]))) for number in range(3)]
        paths = self._web.post("gradio_api/upload", files=files).json()
        self.uploaded.update(paths)
        given = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
        *_, table = self._answers("score_many", {"files": given, "captions": CAPTIONS, "quick": False})
        self._note("kept" if table["stage"] == "done" and len(table["energies"]) == len(given) else "mixed_up")

    def _garbage(self) -> None:
        name = self._draw.choice(list(GARBAGE_OF))
        try:
            list(self._answers(name, GARBAGE_OF[name]))
        except (ValueError, httpx.HTTPStatusError):
            self._note("refused")
        else:
            self._note("mixed_up")

    def _answers(self, name: str, asked: dict[str, Any]) -> Generator[Any, None, None]:
        answer = self._web.post(f"gradio_api/call/v2/{name}", json=asked).raise_for_status()
        kind = ""
        with self._web.stream("GET", f"gradio_api/call/{name}/{answer.json()['event_id']}") as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind == "error":
                    raise ValueError(line)
                elif line.startswith("data: ") and kind in ("generating", "complete"):
                    yield json.loads(line[6:])[0]

    def _note(self, outcome: str) -> None:
        self._tally[outcome] += 1


def _picture(delta: dict[str, Any]) -> Colours:
    with Image.open(io.BytesIO(base64.b64decode(delta["frame"]))) as picture:
        return np.asarray(picture.convert("RGB"), dtype=np.float32)


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Let the clients ask, and look at what is left."""
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    tally: Counter[str] = Counter()
    right: dict[tuple[str, int], Colours] = {}
    with opened(options.weights) as page:
        first = Asking(page, seed, right, tally)
        for prompt in PROMPTS:
            for number in range(SEEDS):
                right[prompt, number] = first.picture(prompt, number)
        before, threads, descriptors = page.resident_mb(), page.threads(), page.descriptors()
        files, began, memory = page.only_files(), time.monotonic(), list[float]()
        clients: list[Asking] = []

        def work(number: int) -> None:
            client = Asking(page, seed + number, right, tally)
            clients.append(client)
            for _ in range(options.requests // options.clients):
                client.ask()
                memory.append(page.resident_mb())
            client.close()

        workers = [threading.Thread(target=work, args=[number]) for number in range(1, 1 + options.clients)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - began
        time.sleep(SETTLING)
        first.picture(PROMPTS[0], 0)  # the server gives up idle threads when it is asked again
        first.close()
        figures: dict[str, Any] = {
            "requests": sum(tally.values()),
            **{outcome: tally[outcome] for outcome in ("right", "kept", "cut_off", "refused", "lost", "mixed_up")},
            "begun_mb": before,
            "peak_mb": max(memory),
            "settled_mb": page.resident_mb(),
            "threads_more": page.threads() - threads,
            "descriptors_more": page.descriptors() - descriptors,
            "files_more": len(page.only_files() - files) - len(set[str]().union(*(each.uploaded for each in clients))),
        }
    return figures, {"seed": seed, "seconds": round(seconds), "clients": options.clients}


def main() -> int:
    """Measure and print."""
    return report("soak", measure, "--requests=2000", "--clients=8", "--seed=0")


if __name__ == "__main__":
    sys.exit(main())
