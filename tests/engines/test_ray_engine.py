"""Replicas on a cluster that each test has for itself: what dies, and what does not fit."""

import os
import signal
from pathlib import Path

import pytest

from jepa_app.engines.calling import CallingEngine
from jepa_app.engines.ray_serve import NAME, Replicas, _call_in_slices, ray_engine
from jepa_app.generation.pipeline import JepaTPipeline
from tests.engines.test_engines import WEIGHTS, asked, assert_equal

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::ResourceWarning"),
]


def test_more_replicas_than_the_cluster_has_room_for_are_refused(steady_weights: Path) -> None:
    import ray

    pipeline = JepaTPipeline.from_pretrained(steady_weights)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    with pytest.raises(ValueError, match="--replicas is 2; allowed: 1 to 1, one for each CPU of the cluster"):
        ray_engine(pipeline, steady_weights, address="auto", replicas=Replicas(fewest=2, most=2))
    assert not ray.is_initialized()


def test_a_replica_that_dies_loses_no_run() -> None:
    pipeline = JepaTPipeline.from_pretrained(WEIGHTS)
    engine = ray_engine(pipeline, WEIGHTS, replicas=Replicas(fewest=2, most=2))
    try:
        from ray import serve

        [name] = [name for name in serve.status().applications if name.startswith(NAME)]
        handle = serve.get_app_handle(name)
        things = ("cat", "dog", "sun", "rose") * 2
        requests = [asked(f"{thing}, noto style", seed, steps=64) for seed, thing in enumerate(things)]
        undisturbed = [list(engine.submit(request)) for request in requests]
        sliced = CallingEngine(pipeline, _call_in_slices(handle, pipeline), max_active=2)  # as a Ray client does
        assert_equal(list(sliced.submit(requests[0])), undisturbed[0])
        sliced.close()
        processes = {handle.process.remote().result() for _ in range(16)}
        assert len(processes) == 2
        runs = [engine.submit(request) for request in requests]
        iterators = [iter(run) for run in runs]
        first = [[next(steps) for _ in range(8)] for steps in iterators]
        os.kill(processes.pop(), signal.SIGKILL)
        for before, steps, expected in zip(first, iterators, undisturbed, strict=True):
            assert_equal([*before, *steps], expected)
    finally:
        engine.close()
