"""One contract for all homes of the engine: a thread, the calls of a ZeroGPU Space, the replicas of a Ray cluster."""

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from jepa_app.engines import zero_gpu
from jepa_app.engines.calling import CallingEngine, LostError
from jepa_app.engines.messages import Received, message
from jepa_app.engines.port import Engine
from jepa_app.engines.ray_serve import Replicas, _in_time, ray_engine
from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.turns import BusyError, Visitor
from jepa_app.engines.waiting import EngineRequest, Run, begin
from jepa_app.generation.picture import Shown, TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
from jepa_app.serve import _is_lost
from tests.engines.test_engine import until
from tests.support.studio_server import PATIENCE
from tests.support.zero_gpu_host import Host, lending, zero_gpu_package

# The package of ZeroGPU Spaces leaves a connection open for each call, and Ray uses old forms of other packages.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning",
    "ignore:Error while reading infos from Nvidia driver",
    "ignore::DeprecationWarning",
    "ignore::FutureWarning",
    "ignore::ResourceWarning",
)
SLOW_HOMES = [pytest.param("ray", marks=pytest.mark.slow)]
WEIGHTS = Path(__file__).parents[2] / "weights"


@dataclass(frozen=True, kw_only=True)
class Home:
    """An engine to be tested, and one in a thread whose steps it must give."""

    engine: Engine
    plain: ThreadEngine


@pytest.fixture(scope="module")
def pipeline(steady_weights: Path) -> JepaTPipeline:
    return JepaTPipeline.from_pretrained(steady_weights)


@pytest.fixture(scope="module")
def lent() -> Iterator[tuple[Host, zero_gpu.Lend]]:
    """A ZeroGPU host, and what takes work to its GPU."""
    with lending() as (host, address), zero_gpu_package(address) as spaces:

        def lend(steps: zero_gpu.Steps, seconds: Callable[[bytes, int], int]) -> zero_gpu.Steps:
            lent: zero_gpu.Steps = spaces.GPU(duration=seconds)(steps)
            return lent

        yield host, lend


@pytest.fixture(scope="module", params=["thread", "zero-gpu", *SLOW_HOMES])
def home(request: pytest.FixtureRequest, pipeline: JepaTPipeline, steady_weights: Path) -> Iterator[Home]:
    engine: Engine
    if request.param == "thread":
        engine = ThreadEngine(pipeline)
    elif request.param == "zero-gpu":
        engine = zero_gpu.zero_gpu_engine(pipeline, request.getfixturevalue("lent")[1], _is_lost)
    else:
        engine = ray_engine(pipeline, steady_weights, replicas=Replicas(fewest=2, most=2))
    plain = ThreadEngine(pipeline)
    yield Home(engine=engine, plain=plain)
    plain.close()
    engine.close()


def asked(prompt: str = "red apple", seed: int = 0, client: object = None, **settings: object) -> EngineRequest:
    chosen = {"steps": 4, "denoising_steps": 2} | settings
    return EngineRequest(prompt=prompt, settings=SamplingSettings(**chosen), seed=seed, client=client)


def assert_equal(steps: list[TokenStep], expected: list[TokenStep]) -> None:
    assert [(step.index, step.total, step.num_plan) for step in steps] == [
        (step.index, step.total, step.num_plan) for step in expected
    ]
    for step, other in zip(steps, expected, strict=True):
        for name in ("revealed", "known", "tokens"):
            assert torch.equal(getattr(step, name), getattr(other, name)), name


def test_a_run_has_the_steps_of_a_thread(home: Home) -> None:
    for request in (
        asked(seed=3),
        asked("rose", seed=4, guidance=1.0, steps=16),
        replace(asked("blue heart", seed=5, steps=1), negative_prompt="leaf"),
    ):
        assert_equal(list(home.engine.submit(request)), list(home.plain.submit(request)))


def test_runs_at_once_have_the_steps_of_each_alone(home: Home) -> None:
    requests = [asked(seed=seed, client=Visitor("here", str(seed % 2)), steps=3 + seed) for seed in range(6)]
    runs = [home.engine.submit(request) for request in requests]
    for run, request in zip(runs, requests, strict=True):
        assert_equal(list(run), list(home.plain.submit(request)))


def test_a_run_goes_on_after_any_step(home: Home) -> None:
    request = asked(seed=7, steps=5)
    whole = list(home.plain.submit(request))
    for step in whole[:-1]:
        assert_equal(list(home.engine.submit(replace(request, after=step))), whole[step.index + 1 :])
    with pytest.raises(ValueError, match="from a run with another seed"):
        home.engine.submit(replace(request, settings=SamplingSettings(steps=9), after=whole[2]))


def test_a_hole_is_filled_and_goes_on_after_any_step(home: Home) -> None:
    whole = list(home.plain.submit(asked(seed=8)))
    hole = replace(asked("rose", seed=9), shown=Shown(whole[-1].tokens, torch.arange(16) < 7))
    filled = list(home.plain.submit(hole))
    assert_equal(list(home.engine.submit(hole)), filled)
    assert_equal(list(home.engine.submit(replace(hole, after=filled[1]))), filled[2:])


def test_a_cancelled_run_ends_and_others_go_on(home: Home) -> None:
    with closing(iter(home.engine.submit(asked(seed=1, steps=16)))) as steps:
        assert next(steps).index == 0
    assert_equal(list(home.engine.submit(asked(seed=2))), list(home.plain.submit(asked(seed=2))))


def test_a_shared_inbox_hears_of_all(home: Home) -> None:
    inbox: queue.SimpleQueue[tuple[Run, TokenStep | Exception | None]] = queue.SimpleQueue()
    runs = [home.engine.submit(asked(seed=seed), inbox) for seed in range(3)]
    heard: dict[Run, list[int | None]] = {run: [] for run in runs}
    while sum(None in steps for steps in heard.values()) < 3:
        run, step = inbox.get(timeout=PATIENCE)
        assert not isinstance(step, Exception)
        heard[run].append(None if step is None else step.index)
    assert list(heard.values()) == [[0, 1, 2, 3, None]] * 3


def test_those_who_wait_know_their_place_and_a_full_line_refuses(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = home.engine
    assert isinstance(engine, ThreadEngine | CallingEngine)
    with monkeypatch.context() as patch:
        patch.setattr(engine, "max_active", 0)  # nobody is let in
        runs = [engine.submit(asked(seed=seed, client=Visitor(f"place {seed}"))) for seed in range(3)]
        assert [run.num_ahead for run in runs] == [0, 1, 2]
        patch.setattr(engine.waiting, "capacity", 3)
        with pytest.raises(BusyError, match="3 pictures are waiting already"):
            engine.submit(asked())
        runs[0].cancel()
        assert list(runs[0]) == []
        assert runs[1].num_ahead == 0
    with engine.waiting.change:
        engine.waiting.change.notify_all()
    assert [len(list(run)) for run in runs[1:]] == [4, 4]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        (asked(steps=17), "steps is 17; allowed: 1 to 16"),
        (asked(" "), "a prompt is empty"),
        (asked("word " * 400), "402 word pieces; allowed: up to 128"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(home: Home, wrong: EngineRequest, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        home.engine.submit(wrong)


def test_messages_hold_a_whole_run(pipeline: JepaTPipeline) -> None:
    engine = ThreadEngine(pipeline)
    request = asked(seed=11, steps=7)
    steps = list(engine.submit(request))
    engine.close()
    received = Received(begin(pipeline, request))
    assert_equal([received.step(message(0, step)) for step in steps], steps)
    assert max(len(message(0, step)) for step in steps) < 2000


def test_a_call_asks_for_little_time(lent: tuple[Host, zero_gpu.Lend], pipeline: JepaTPipeline) -> None:
    host, lend = lent
    engine = zero_gpu.zero_gpu_engine(pipeline, lend, _is_lost)
    list(engine.submit(asked(steps=16)))
    engine.close()
    assert zero_gpu.seconds_for(b"", 16) <= host.calls[-1] <= 2 * zero_gpu.seconds_for(b"", 16)  # by the kind of GPU
    assert zero_gpu.seconds_for(b"", 64) < 15
    assert host.killed == []


def test_one_visitors_requests_share_a_call(lent: tuple[Host, zero_gpu.Lend], pipeline: JepaTPipeline) -> None:
    host, lend = lent
    engine = zero_gpu.zero_gpu_engine(pipeline, lend, _is_lost)
    before = len(host.calls)
    runs = [engine.submit(asked(seed=seed, client=Visitor("a", "b"))) for seed in range(4)]
    runs.append(engine.submit(asked(seed=4, client=Visitor("c", "d"))))
    assert [len(list(run)) for run in runs] == [4] * 5
    engine.close()
    assert len(host.calls) == before + 2


def test_a_call_that_is_killed_goes_on_in_another(
    lent: tuple[Host, zero_gpu.Lend], steady_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host, lend = lent
    slow = JepaTPipeline.from_pretrained(steady_weights)  # its own, for the hook
    expected = list(ThreadEngine(slow).submit(asked(seed=12, steps=8)))
    slow.network.denoiser.condition_in.register_forward_pre_hook(lambda *_: time.sleep(0.3))
    monkeypatch.setattr(zero_gpu, "seconds_for", lambda *_: 1)
    engine = zero_gpu.zero_gpu_engine(slow, lend, _is_lost)
    calls = len(host.calls)
    assert_equal(list(engine.submit(asked(seed=12, steps=8))), expected)
    engine.close()
    assert len(host.killed) >= 1
    assert len(host.calls) >= calls + 2
    host.killed.clear()


def test_an_error_of_a_call_is_told_and_the_engine_goes_on(pipeline: JepaTPipeline) -> None:
    plain, broken = ThreadEngine(pipeline), threading.Event()

    def call(requests, _):
        for number, request in enumerate(requests):
            for step in plain.submit(request):
                if broken.is_set() and step.index == 1:
                    raise RuntimeError("the quota is used up")
                yield message(number, step)

    engine = CallingEngine(pipeline, call, max_active=2)
    broken.set()
    run = engine.submit(asked())
    with pytest.raises(RuntimeError, match="the quota is used up"):
        list(run)
    broken.clear()
    assert len(list(engine.submit(asked()))) == 4
    engine.close()
    plain.close()


def test_a_call_that_is_lost_again_and_again_is_given_up(
    pipeline: JepaTPipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jepa_app.engines.calling.RETRY_SECONDS", 0.001)
    calls = []

    def call(requests, _):
        calls.append(len(requests))
        yield from ()
        raise LostError("the process is gone")

    engine = CallingEngine(pipeline, call, max_active=2)
    with pytest.raises(LostError, match="the process is gone"):
        list(engine.submit(asked()))
    assert len(calls) == 4
    engine.close()


def test_a_run_ends_when_it_is_done_though_its_call_goes_on(pipeline: JepaTPipeline) -> None:
    plain, released = ThreadEngine(pipeline), threading.Event()

    def call(requests, _):
        for number, request in enumerate(requests):
            for step in plain.submit(request):
                yield message(number, step)
            assert released.wait(PATIENCE)

    engine = CallingEngine(pipeline, call, max_active=2, together=2)
    runs = [engine.submit(asked(seed=seed, client="one")) for seed in range(2)]
    assert len(list(runs[0])) == 4
    released.set()
    assert len(list(runs[1])) == 4
    engine.close()
    plain.close()


def test_a_cancelled_run_ends_a_call_that_says_nothing(pipeline: JepaTPipeline) -> None:
    stopped = threading.Event()

    def call(_, take_stop):
        take_stop(stopped.set)
        assert stopped.wait(PATIENCE)
        yield from ()

    engine = CallingEngine(pipeline, call, max_active=1)
    run = engine.submit(asked())
    until(lambda: len(engine._active) == 1)
    run.cancel()
    until(lambda: not engine._active)
    assert list(run) == []
    engine.close()


def test_a_request_after_the_end_starts_anew(pipeline: JepaTPipeline) -> None:
    plain = ThreadEngine(pipeline)

    def call(requests, _):
        for number, request in enumerate(requests):
            for step in plain.submit(request):
                yield message(number, step)

    for engine in (CallingEngine(pipeline, call, max_active=1, together=2), ThreadEngine(pipeline)):
        engine.close()  # before anything was asked for
        assert len(list(engine.submit(asked()))) == 4
        engine.close()
        assert len(list(engine.submit(asked()))) == 4
        engine.close()
        engine.close()
    plain.close()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("ray://127.0.0.1:1", "there is no Ray cluster at ray://127.0.0.1:1"),
        ("somewhere", "allowed: ray://HOST:PORT, HOST:PORT or auto"),
        ("127.0.0.1:1", "there is no Ray cluster at 127.0.0.1:1"),
    ],
)
def test_a_cluster_that_cannot_be_used_is_told_at_once(address: str, told: str, pipeline: JepaTPipeline) -> None:
    with pytest.raises(ValueError, match=told):
        ray_engine(pipeline, WEIGHTS, address=address)


def test_replicas_are_read_from_words() -> None:
    assert Replicas.of("2") == Replicas(fewest=2, most=2)
    assert Replicas.of("1-8") == Replicas(fewest=1, most=8)
    for wrong in ("", "0", "3-2", "x", "1-", "2-y", "-1"):
        with pytest.raises(ValueError, match="--replicas is"):
            Replicas.of(wrong)


def test_whatever_keeps_replicas_from_starting_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise LookupError("no such deployment")

    with pytest.raises(RuntimeError, match="no such deployment"):
        _in_time(fail)
    monkeypatch.setattr("jepa_app.engines.ray_serve.START_SECONDS", 0.01)
    with pytest.raises(RuntimeError, match=r"have not started within 0\.01 seconds"):
        _in_time(lambda: time.sleep(0.2))
