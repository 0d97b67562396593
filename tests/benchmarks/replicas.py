"""Pictures a second of two replicas on a Ray cluster against one, each with one thread; start-up is not counted.

python -m tests.benchmarks.replicas [--json] [--rounds 3] [--pictures 64]
"""

import sys
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from jepa_app.engines.ray_serve import Replicas, ray_engine
from jepa_app.generation.pipeline import JepaTPipeline
from tests.benchmarks.measure import report
from tests.benchmarks.serving import alike, finish

AT_ONCE = 16  # requests in progress for each replica


def pictures_a_second(pipeline: JepaTPipeline, weights: Path, number: int, pictures: int, rounds: int) -> float:
    """Return the best rate of so many replicas over some rounds."""
    engine = ray_engine(pipeline, weights, replicas=Replicas(fewest=number, most=number))
    engine.max_active = AT_ONCE * number
    try:
        for run in [engine.submit(alike(one)) for one in range(4 * number)]:  # each replica's first pictures
            finish(run)
        rates = []
        for _ in range(rounds):
            began = time.perf_counter()
            for run in [engine.submit(alike(one)) for one in range(pictures)]:
                finish(run)
            rates.append(pictures / (time.perf_counter() - began))
        return max(rates)
    finally:
        engine.close()


def measure(options: Namespace) -> tuple[dict[str, float], dict[str, Any]]:
    """Measure one replica, two, and one again, since machines slow down."""
    pipeline = JepaTPipeline.from_pretrained(options.weights)
    weights, pictures = Path(options.weights), options.pictures
    rates = [pictures_a_second(pipeline, weights, number, pictures, options.rounds) for number in (1, 2, 1)]
    one = (rates[0] + rates[2]) / 2
    figures = {"one_replica_rate": one, "two_replicas_rate": rates[1], "replicas_2_speedup": rates[1] / one}
    return figures, {"pictures": pictures, "at_once": AT_ONCE, "rates": rates}


def main() -> int:
    """Measure and print."""
    return report("replicas", measure, "--rounds=3", "--pictures=64")


if __name__ == "__main__":
    sys.exit(main())
