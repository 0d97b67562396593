"""What a stranger's requests do to a served studio: wrong values, damaged files, strange requests.

python -m tests.benchmarks.hostile [--json] [--weights weights] [--tries 10000] [--minutes 20] [--seed 0] [--clients 4]

Every answer is a result, a refusal that gives a reason, or unclear (no reason, or only that something went wrong); no
answer at all is a crash. All inputs are drawn anew (--seed 0), and nothing leaves the machine.
"""

import base64
import io
import json
import random
import string
import sys
import threading
import time
import zipfile
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import httpx
from PIL import Image

from tests.benchmarks.measure import report
from tests.benchmarks.page import PATIENCE, Page, opened

ENDPOINTS = {
    "generate": ("prompt", "negative_prompt", "steps", "guidance", "temperature", "seed", "best_of"),
    "edit": ("start", "prompt", "negative_prompt", "steps", "guidance", "temperature", "seed"),
    "resume": ("job",),
    "generate_image": ("prompt", "negative_prompt", "steps", "guidance", "temperature", "seed", "size", "transparent"),
    "grid": ("prompt", "x_axis", "x_values", "y_axis", "y_values", "seed", "steps", "guidance", "temperature"),
    "score": ("picture", "captions"),
    "score_matrix": ("pictures", "captions"),
    "score_many": ("files", "captions", "quick"),
    "learn": ("prompt", "seed", "steps", "guidance", "temperature"),
}
REQUIRED = {"generate": "prompt", "generate_image": "prompt", "learn": "prompt", "score": "captions"}
SCRIPTS = (
    *(("player", name) for name in ("encode", "missing", "predict", "energies")),
    *(("recall", name) for name in ("read_picture", "begin_with", "read_link")),
    ("why", "explain"),
)
META = {"_type": "gradio.FileData"}
HOSTS = ("127.0.0.1:1", "[::1]", "169.254.169.254", "0.0.0.0", "localhost", "[", "a b")
WORDS = (
    *("red apple", "twemoji style", "❤️", "🏳️‍🌈", "\ud800", "\0", "\u2028", "кот", "א"),
    *("<b>", "'; --", "%s", "{}", " "),
)
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO", "PPM")
NO_REASON = ("something went wrong", "internal server error", "traceback")
SHOWN = 12  # unclear answers that are quoted
SETTLING = 30.0  # seconds after the last request: memory is given back when the page is tidied up
REFUSED, ACCEPTED, UNCLEAR, CRASHED = "refused", "accepted", "unclear", "crashed"


@dataclass
class Tally:
    """What came of the tries."""

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    def add(self, verdict: str, what: str) -> None:
        with self.turn:
            self.counts["tried"] += 1
            self.counts[verdict] += 1
            if verdict in (UNCLEAR, CRASHED) and len(self.examples) < SHOWN:
                self.examples.append(f"{verdict}: {what}"[:600])


class Attacker:
    """Draws requests and sends them."""

    def __init__(self, page: Page, seed: int, tally: Tally) -> None:
        self._page = page
        self._draw = random.Random(seed)
        self._tally = tally
        self._web = httpx.Client(base_url=page.address, timeout=PATIENCE)

    def attack(self) -> None:
        """Try one thing of any kind."""
        kinds: tuple[tuple[Callable[[], tuple[str, str]], int], ...] = (
            (self._call, 10),
            (self._picture, 6),
            (self._upload, 4),
            (self._script, 4),
            (self._queue, 2),
            (self._raw, 4),
        )
        works, weights = zip(*kinds, strict=True)
        [work] = self._draw.choices(works, weights)
        try:
            verdict, what = work()
        except httpx.HTTPError as lost:
            verdict, what = CRASHED, f"{work.__name__} {lost.request.url}: {lost!r}"
        self._tally.add(verdict, what)

    def close(self) -> None:
        """Leave."""
        self._web.close()

    def _call(self) -> tuple[str, str]:
        name = self._draw.choice(list(ENDPOINTS))
        values = {key: self._value(key) for key in ENDPOINTS[name] if self._draw.random() < 0.8}
        if self._draw.random() < 0.05:
            values[self._word(8)] = self._anything()
        return self._ask(name, values)

    def _picture(self) -> tuple[str, str]:
        text = base64.b64encode(self._file()).decode()
        if self._draw.random() < 0.3:
            text = self._bent_text(text)
        return self._ask("score", {"picture": text, "captions": self._lines()})

    def _upload(self) -> tuple[str, str]:
        files = [("files", (self._name(), self._container())) for _ in range(self._draw.randint(1, 3))]
        answer = self._web.post("gradio_api/upload", files=files)
        if answer.status_code != 200:
            return _verdict(answer), f"upload: {answer.status_code} {answer.text[:200]}"
        given = [{"path": path, "orig_name": self._name(), "meta": META} for path in answer.json()]
        return self._ask("score_many", {"files": given, "captions": self._lines(), "quick": self._anything()})

    def _script(self) -> tuple[str, str]:
        """Ask what only the page's scripts ask."""
        place, name = self._draw.choice(SCRIPTS)
        data = self._draw.choice(
            [
                self._anything(),
                {"job": self._word(32), "steps": self._anything()},
                {"kind": self._draw.choice(["webp", "gif", "mp4", "x"]), "frames": self._anything()},
                {"name": self._name(), "data": base64.b64encode(self._file()).decode(), "room": self._anything()},
                {"picture": self._word(16), "caption": self._anything()},
                {"prompt": self._anything(), "steps": "7", "__theme": "dark", self._word(5): "1"},
            ]
        )
        known = self._page.components
        where = known[place] if self._draw.random() < 0.8 else self._draw.choice([*known.values(), 10**6, "x"])
        asked = {"session_hash": self._word(10), "component_id": where, "fn_name": name, "data": data}
        if self._draw.random() < 0.05:
            asked.pop(self._draw.choice(list(asked)))
        answer = self._post("gradio_api/component_server", asked)
        if answer.status_code == 200 and isinstance(answer.json(), dict) and "error" in answer.json():
            return (REFUSED if answer.json()["error"] else UNCLEAR), f"{name}: {answer.text[:300]}"
        return _verdict(answer), f"component_server {name} {str(data)[:200]}: {answer.status_code} {answer.text[:200]}"

    def _queue(self) -> tuple[str, str]:
        """Join the queue as the page does, with values that the page would not send."""
        session = self._word(11)
        body = {
            "data": self._draw.choice([self._anything(), [self._anything() for _ in range(self._draw.randrange(9))]]),
            "fn_index": self._draw.choice([self._draw.randrange(60), -1, 10**12, "x", None]),
            "session_hash": session,
            "event_data": self._anything(),
            "trigger_id": self._draw.randrange(200),
        }
        answer = self._post("gradio_api/queue/join", body)
        what = f"queue {str(body)[:250]}"
        if answer.status_code != 200:
            return _verdict(answer), f"{what}: {answer.status_code} {answer.text[:200]}"
        with self._web.stream("GET", "gradio_api/queue/data", params={"session_hash": session}) as stream:
            for line in stream.iter_lines():
                if line.startswith("data:"):
                    message = json.loads(line[5:])
                    if message["msg"] in ("process_generating", "process_completed", "unexpected_error"):
                        return self._of_message(message, what)
        return CRASHED, f"{what}: no answer"

    @staticmethod
    def _of_message(message: dict[str, Any], what: str) -> tuple[str, str]:
        if message["msg"] != "unexpected_error" and message.get("success"):
            return ACCEPTED, what
        reason = message.get("message") or (message.get("output") or {}).get("error")
        return _of_reason(reason), f"{what}: {str(message)[:300]}"

    def _raw(self) -> tuple[str, str]:
        """Send what no client sends."""
        kind = self._draw.randrange(6)
        if kind == 0:
            answer = self._web.request(self._draw.choice(["PUT", "PATCH", "DELETE", "OPTIONS"]), self._path())
        elif kind == 1:
            answer = self._web.post(self._path(), content=self._bytes(), headers={"content-type": "application/json"})
        elif kind == 2:
            kind_of = self._draw.choice(["multipart/form-data", "multipart/form-data; boundary=b", "text/plain", "x"])
            body = b"--b\r\n" + self._bytes() + b"\r\n--b--\r\n"
            answer = self._web.post("gradio_api/upload", content=body, headers={"content-type": kind_of})
        elif kind == 3:
            headers = {self._draw.choice(["origin", "host", "x-forwarded-host", "range", "cookie"]): self._word(30)}
            answer = self._web.get(self._path(), headers=headers)
        elif kind == 4:
            answer = self._web.get("gradio_api/file=" + self._draw.choice(["/etc/passwd", "../app.py", self._word(9)]))
        else:
            deep = "[" * self._draw.randint(10, 100_000)
            answer = self._web.post("gradio_api/call/v2/score", content=deep, headers={"content-type": "text/json"})
        return _verdict(answer), f"raw {kind} {answer.request.url}: {answer.status_code} {answer.text[:200]}"

    def _path(self) -> str:
        ends = ["gradio_api/queue/join", "gradio_api/call/generate", "gradio_api/call/v2/" + self._word(6), "config"]
        ends += ["gradio_api/cancel", "gradio_api/run/score", "gradio_api/mcp/", "gradio_api/info", self._word(12), ""]
        ends += ["gradio_api/reset", "gradio_api/stream/" + self._word(4), "gradio_api/component_server", "theme.css"]
        return self._draw.choice(ends)

    def _ask(self, name: str, values: dict[str, Any]) -> tuple[str, str]:
        what = f"{name} {str(values)[:300]}"
        answer = self._post(f"gradio_api/call/v2/{name}", values)
        if answer.status_code != 200:
            return _verdict(answer), f"{what}: {answer.status_code} {answer.text[:200]}"
        event = answer.json()["event_id"]
        kind = ""
        with self._web.stream("GET", f"gradio_api/call/{name}/{event}") as stream:
            for line in stream.iter_lines():
                if line.startswith("event: "):
                    kind = line[7:]
                elif line.startswith("data: ") and kind in ("generating", "complete"):
                    return ACCEPTED, what
                elif line.startswith("data: ") and kind == "error":
                    told = json.loads(line[6:])
                    return _of_reason(told.get("error") if isinstance(told, dict) else told), f"{what}: {line[:300]}"
        return CRASHED, f"{what}: no answer"

    def _post(self, path: str, values: object) -> httpx.Response:
        text = json.dumps(values, ensure_ascii=self._draw.random() < 0.5)  # NaN and Infinity too
        content = text.encode("utf-8", "surrogatepass")
        return self._web.post(path, content=content, headers={"content-type": "application/json"})

    def _value(self, key: str) -> Any:
        """A value for a parameter: mostly of the right kind, at or over its limits."""
        draw = self._draw
        if draw.random() < 0.35:
            return self._anything()
        if key in ("prompt", "negative_prompt"):
            return self._words()
        if key in ("captions", "x_values", "y_values"):
            return self._lines()
        if key in ("x_axis", "y_axis"):
            return draw.choice(["prompt", "style", "seed", "steps", "guidance", "temperature", "none", self._word(5)])
        if key == "start":
            return {"job": self._word(32), "step": draw.randint(-2, 300), "redo": self._anything(), "ring": True}
        if key == "picture":
            return self._source()
        if key == "pictures":
            return [self._source() for _ in range(draw.choice([0, 1, 2, 30]))]
        if key == "files":
            one = {"path": self._name(), "orig_name": self._anything(), "meta": META}
            return draw.choice([[one] * draw.randrange(4), list(range(100_000))])
        if key == "job":
            return self._word(32)
        return draw.choice([0, 1, 2, 4, 4.0, -1, 65, 1.5, 2**31, 2**63, 10**30, 1e308, 0.1])

    def _source(self) -> Any:
        kind = self._draw.randrange(5)
        if kind == 0:
            return base64.b64encode(self._file()).decode()
        if kind == 1:
            return f"http://{self._draw.choice((*HOSTS, self._word(5) + '.invalid'))}/{self._word(3)}"
        if kind == 2:
            path = self._draw.choice(["/etc/passwd", "\0", "x" * 5000, self._name()])
            return {"path": path, "meta": self._draw.choice([META, self._anything()])}
        return self._anything()

    def _anything(self, depth: int = 3) -> Any:
        draw = self._draw
        simple: tuple[Callable[[], Any], ...] = (
            lambda: None,
            lambda: draw.choice([True, False]),
            lambda: draw.choice([0, -1, 3, 10**18, 10**400, 1e308, float("nan"), float("inf"), -0.0]),
            self._words,
            partial(self._word, 3),
            lambda: "x" * draw.choice([1001, 100_000]),
        )
        if depth and draw.random() < 0.3:
            items = [self._anything(depth - 1) for _ in range(draw.choice([0, 1, 2, 300 if depth == 3 else 3]))]
            return items if draw.random() < 0.5 else {str(place): item for place, item in enumerate(items)}
        return draw.choice(simple)()

    def _words(self) -> str:
        return ", ".join(self._draw.choices(WORDS, k=self._draw.randint(0, 4)))

    def _lines(self) -> Any:
        number = self._draw.choice([1, 1, 2, 20, 21, 1500])
        return self._draw.choice(["\n", "\r\n", "\r", ";"]).join(self._words() for _ in range(number))

    def _word(self, length: int) -> str:
        return "".join(self._draw.choices(string.ascii_letters + string.digits + "-_", k=length))

    def _name(self) -> str:
        stems = ["a", "b/c", "..\\x", "../../x", "é", "x" * 300, ".", "", "con", "a\nb", "=1+1"]
        return self._draw.choice(stems) + self._draw.choice([".png", ".zip", ".csv", ".tsv", ".txt", "", ".PNG"])

    def _bytes(self) -> bytes:
        return self._draw.randbytes(self._draw.choice([0, 1, 20, 3000]))

    def _file(self) -> bytes:
        """A picture, mostly damaged."""
        mode = self._draw.choice(["RGB", "RGBA", "L", "P", "1", "I;16", "CMYK", "F"])
        side = self._draw.choice([1, 7, 64])
        kind, held = self._draw.choice(FORMATS), io.BytesIO()
        try:
            Image.new(mode, (side, self._draw.choice([1, side]))).save(held, kind)
        except (OSError, ValueError, KeyError):  # this format has no such pictures
            Image.new("RGB", (side, side)).save(held, "PNG")
        return self._bent(held.getvalue())

    def _container(self) -> bytes:
        """An archive, a table, a list or a picture, mostly damaged."""
        kind = self._draw.randrange(4)
        if kind == 0:
            held = io.BytesIO()
            with zipfile.ZipFile(held, "w", self._draw.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])) as archive:
                for _ in range(self._draw.randint(0, 4)):
                    archive.writestr(zipfile.ZipInfo(self._name() or "x"), self._file())
            return self._bent(held.getvalue())
        if kind == 1:
            cut = self._draw.choice([",", ";", "\t"])
            rows = [self._name() + cut + self._words() for _ in range(self._draw.choice([0, 2, 2000]))]
            return self._bent("\n".join([f"picture{cut}caption", *rows]).encode("utf-8", "surrogatepass"))
        return self._file() if kind == 2 else self._bent(str(self._lines()).encode("utf-8", "surrogatepass"))

    def _bent(self, data: bytes) -> bytes:
        """Bytes with some changed, cut or doubled."""
        held = bytearray(data)
        for _ in range(self._draw.choice([0, 1, 1, 2, 5, 30])):
            place = self._draw.randrange(len(held) + 1)
            change = self._draw.randrange(4)
            if change == 0 and held:
                held[place % len(held)] = self._draw.randrange(256)
            elif change == 1:
                del held[place:]
            elif change == 2:
                held[place:place] = self._bytes()
            else:
                held[place:place] = held[:place][-50:]
        return bytes(held)

    def _bent_text(self, text: str) -> str:
        starts = ["data:image/png;base64,", "data:,", "data:text/html,%3C", "\n", "="]
        return self._draw.choice(starts) + self._draw.choice([text, text[:-1], text.replace("A", "-"), text + "é"])


def _verdict(answer: httpx.Response) -> str:
    if answer.status_code < 400:
        return ACCEPTED
    if answer.status_code >= 500 and answer.status_code != 503:
        return UNCLEAR
    return _of_reason(answer.text)


def _of_reason(reason: object) -> str:
    text = str(reason or "").lower()
    return UNCLEAR if len(text) < 6 or any(part in text for part in NO_REASON) else REFUSED


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Attack the studio and count what came of it."""
    seed = options.seed or random.SystemRandom().randrange(1, 2**31)
    tally, peaks = Tally(), list[float]()
    with opened(options.weights) as page:
        began, before, files = time.monotonic(), page.resident_mb(), page.only_files()
        over = threading.Event()

        def watch() -> None:
            while not over.wait(0.2):
                peaks.append(page.resident_mb())

        def work(number: int) -> None:
            attacker = Attacker(page, seed + number, tally)
            for _ in _while_time(began, options.minutes, options.tries // options.clients):
                attacker.attack()
            attacker.close()

        watcher = threading.Thread(target=watch)
        workers = [threading.Thread(target=work, args=[number]) for number in range(options.clients)]
        for thread in (watcher, *workers):
            thread.start()
        for thread in workers:
            thread.join()
        seconds = time.monotonic() - began
        time.sleep(SETTLING)
        over.set()
        watcher.join()
        figures: dict[str, Any] = {
            "tried": tally.counts["tried"],
            **{verdict: tally.counts[verdict] for verdict in (ACCEPTED, REFUSED, UNCLEAR, CRASHED)},
            "begun_mb": before,
            "peak_mb": max(peaks),
            "settled_mb": page.resident_mb(),
            "files_left": len(page.only_files() - files),
            "threads_left": page.threads(),
        }
        for example in tally.examples:
            print(example.encode("ascii", "backslashreplace").decode(), file=sys.stderr)
    return figures, {"seed": seed, "seconds": round(seconds)}


def _while_time(began: float, minutes: float, most: int) -> Iterator[int]:
    for number in range(most):
        if time.monotonic() - began > 60 * minutes:
            return
        yield number


def main() -> int:
    """Attack and print."""
    return report("hostile", measure, "--tries=10000", "--minutes=20", "--seed=0", "--clients=4")


if __name__ == "__main__":
    sys.exit(main())
