"""What all benchmarks share: timing in turn, operations, and the one way results are printed."""

import argparse
import json
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from jepa_app.compute import seconds_of

Work = Callable[[], object]
MATRIX = 512  # side of the matrices whose product is timed


def seconds(work: Work) -> float:
    """Return how long a piece of work takes, once."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(works: Mapping[str, Work], rounds: int) -> dict[str, list[float]]:
    """Time every piece of work once a round, one after the other, after a round that does not count."""
    taken: dict[str, list[float]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            spent = seconds(work)
            if number:
                taken[name].append(spent)
    return taken


def ratio(slow: Sequence[float], fast: Sequence[float]) -> float:
    """Return the median over the rounds of slow / fast."""
    return statistics.median(one / other for one, other in zip(slow, fast, strict=True))


def operations(work: Work) -> int:
    """Count the operations (multiplications and additions) of the matrix products and attention in a piece of work."""
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()


def setting() -> dict[str, object]:
    """What the figures hold for."""
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    return {"device": device, "threads": torch.get_num_threads(), "torch": torch.__version__}


def report(
    name: str, measure: Callable[[argparse.Namespace], tuple[dict[str, Any], dict[str, object]]], *options: str
) -> int:
    """Run a benchmark as a command with --json and integer options written as "--name=default"."""
    parser = argparse.ArgumentParser(prog=f"python -m tests.benchmarks.{name}")
    parser.add_argument("--json", action="store_true", help="print one JSON document")
    parser.add_argument("--weights", default="weights", help="weights folder or hub id")
    for option in options:
        flag, _, default = option.partition("=")
        parser.add_argument(
            flag, type=int if default.isdigit() else str, default=int(default) if default.isdigit() else default
        )
    figures, facts = measure(parser.parse_args())
    document = {"figures": figures, "setting": setting() | facts}
    if parser.parse_args().json:
        json.dump(document, sys.stdout, indent=2)
        print()
        return 0
    for title, values in document.items():
        print(title)
        for key, value in values.items():
            print(f"  {key:<40} {value:.4g}" if isinstance(value, float) else f"  {key:<40} {value}")
    return 0


def matrix_rate(dtype: torch.dtype, size: int = MATRIX) -> float:
    """Return the operations a second (multiplications and additions) of square matrix products on the CPU."""
    left, right = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: left @ right, repeats=3)
