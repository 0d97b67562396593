"""Many requests: one after the other against together, what a cancelled one costs, and what a thousand leave behind.

python -m tests.benchmarks.serving [--json] [--rounds 5] [--requests 1000]
"""

import itertools
import statistics
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any

from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.waiting import EngineRequest, Run
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
from tests.benchmarks.measure import in_turn, ratio, report, seconds

PROMPTS = (
    "red apple, twemoji style",
    "grinning face, noto style",
    "red heart, fluent style",
    "cat face, openmoji style",
    "house, noto style",
    "sun, fluent 3d style",
    "joyful cat",
    "police car, noto style",
)
PAGE = 4096  # bytes


def mixed(number: int) -> EngineRequest:
    """Requests as different as users': prompt, steps and guidance vary."""
    settings = SamplingSettings(steps=(16, 8, 12, 10)[number % 4], guidance=(3.0, 1.0, 5.0)[number % 3])
    return EngineRequest(prompt=PROMPTS[number % len(PROMPTS)], settings=settings, seed=number, client=number % 5)


def alike(number: int) -> EngineRequest:
    """Requests with the default settings, each with a prompt and a seed of its own."""
    return EngineRequest(prompt=PROMPTS[number % len(PROMPTS)], settings=SamplingSettings(), seed=number)


def finish(run: Run) -> None:
    """Take a run's steps to its end."""
    for _ in run:
        pass


def one_by_one(engine: ThreadEngine, requests: list[EngineRequest]) -> None:
    """Each request after the one before is done."""
    for request in requests:
        finish(engine.submit(request))


def together(engine: ThreadEngine, requests: list[EngineRequest]) -> None:
    """All requests at once, each followed by a thread of its own as the page does."""
    followers = [threading.Thread(target=finish, args=[engine.submit(request)]) for request in requests]
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()


def steps_after_cancelling(engine: ThreadEngine) -> int:
    """How many steps a run still gets after it was cancelled while another goes on."""
    kept, dropped = engine.submit(alike(0)), engine.submit(alike(1))
    steps = iter(dropped)
    next(steps)
    late = -dropped._inbox.qsize()  # what came before, while this thread was waiting for the processor
    dropped.cancel()
    while (step := dropped._inbox.get()[1]) is not None:
        late += not isinstance(step, Exception)
    finish(kept)
    return late


def resident_mb() -> float:
    """Memory of this process, in megabytes."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def growth(engine: ThreadEngine, requests: int) -> float:
    """Megabytes by which the process grows over so many mixed requests, a fifth of them cancelled, 16 at a time."""
    numbers = itertools.count()

    def some(count: int) -> None:
        runs = [(number, engine.submit(mixed(number))) for number in itertools.islice(numbers, count)]
        for number, run in runs:
            if number % 5 == 4:
                run.cancel()
            finish(run)

    for _ in range(10):
        some(16)
    before = resident_mb()
    for _ in range(requests // 16):
        some(16)
    return resident_mb() - before


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """All figures of serving."""
    engine = ThreadEngine(JepaTPipeline.from_pretrained(options.weights))
    engine.tune()
    figures: dict[str, Any] = {}
    for name, make in (("", alike), ("_mixed", mixed)):
        requests = [make(number) for number in range(8)]
        taken = in_turn(
            {"one": lambda r=requests: one_by_one(engine, r), "together": lambda r=requests: together(engine, r)},
            options.rounds,
        )
        figures[f"concurrent_8_speedup{name}"] = ratio(taken["one"], taken["together"])
        figures[f"seconds_8{name}"] = statistics.median(taken["together"])
    figures["cancel_steps"] = max(steps_after_cancelling(engine) for _ in range(5))
    many = [alike(number) for number in range(32)]
    figures["pictures_a_second_32_at_once"] = len(many) / seconds(lambda: together(engine, many))
    figures["rss_growth_mb"] = growth(engine, options.requests)
    engine.close()
    return figures, {"rounds": options.rounds, "requests": options.requests}


def main() -> int:
    """Measure and print."""
    return report("serving", measure, "--rounds=5", "--requests=1000")


if __name__ == "__main__":
    sys.exit(main())
