"""Continuous batching on tiny real networks: everybody gets the picture that they would get alone."""

import copy
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from jepa_app.compute import (
    SteadyLinear,
    allowed_cores,
    choose_dtype,
    choose_threads,
    keep_numbers_from_company,
    lay_out_for_few_rows,
    on_all_cores,
)
from jepa_app.engines.prompts import Recent
from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.turns import BusyError, Visitor
from jepa_app.engines.waiting import EngineRequest, Run, WaitingLines
from jepa_app.generation.picture import Shown, TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
from tests.support.studio_server import PATIENCE

FAST = SamplingSettings(steps=4, denoising_steps=2)


@pytest.fixture(scope="module")
def pipeline(steady_weights: Path) -> JepaTPipeline:
    return JepaTPipeline.from_pretrained(steady_weights)


@pytest.fixture
def engine(pipeline: JepaTPipeline) -> Iterator[ThreadEngine]:
    engine = ThreadEngine(pipeline)
    yield engine
    engine.close()


@pytest.fixture
def narrow(pipeline: JepaTPipeline) -> Iterator[ThreadEngine]:
    """An engine that lets one picture in at a time and six wait."""
    engine = ThreadEngine(pipeline, max_active=1, max_waiting=6)
    yield engine
    engine.close()


class Brake:
    """Holds the engine's worker before every step of the denoiser until it is let go."""

    def __init__(self, pipeline: JepaTPipeline) -> None:
        self.steps = 0
        self._allowed = threading.Semaphore(0)
        self.reached = threading.Semaphore(0)
        self._handle = pipeline.network.denoiser.condition_in.register_forward_pre_hook(self._stop)

    def _stop(self, *_: object) -> None:
        self.reached.release()
        assert self._allowed.acquire(timeout=PATIENCE)
        self.steps += 1

    def wait(self) -> None:
        """Wait until the worker stands before a step."""
        assert self.reached.acquire(timeout=PATIENCE)

    def step(self) -> None:
        """Let the worker take the step that it stands before, and wait until it stands before the next."""
        self._allowed.release()
        self.wait()

    def release(self) -> None:
        """Let the worker run."""
        self._handle.remove()
        self._allowed.release(1000)


@pytest.fixture
def brake(pipeline: JepaTPipeline) -> Iterator[Brake]:
    brake = Brake(pipeline)
    yield brake
    brake.release()


def request(prompt: str = "red apple", seed: int = 0, client: object = None, **settings: object) -> EngineRequest:
    chosen = {"steps": 4, "denoising_steps": 2} | settings
    return EngineRequest(prompt=prompt, settings=SamplingSettings(**chosen), seed=seed, client=client)


def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + PATIENCE
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def last(run: Run) -> TokenStep:
    *_, step = run
    return step


def pixels(pipeline: JepaTPipeline, step: TokenStep) -> torch.Tensor:
    return pipeline.decode(step.tokens[None], step.known[None])


def test_a_run_yields_the_steps_of_sampling(engine: ThreadEngine, pipeline: JepaTPipeline) -> None:
    steps = list(engine.submit(request(seed=3)))
    expected = pipeline.stream(
        "red apple", num_inference_steps=4, denoising_steps=2, generator=torch.Generator().manual_seed(3)
    )
    for step, one in zip(steps, expected, strict=True):
        assert (step.index, step.total) == (one.index, one.total)
        assert torch.equal(step.revealed, one.revealed[0])
        assert torch.equal(step.tokens, one.tokens[0])


def test_requests_together_give_the_pictures_of_each_alone(engine: ThreadEngine, pipeline: JepaTPipeline) -> None:
    requests = [
        request("red apple", seed=1),
        request("a joyful cat in front of a very old house under the midnight sun", seed=2, steps=9),
        request("rose", seed=3, guidance=1.0, steps=1),
        request("red apple", seed=4, guidance=7.0, temperature=0.6, denoising_steps=5),
        EngineRequest(prompt="blue heart", negative_prompt="leaf", settings=FAST, seed=5),
    ]
    alone = [last(engine.submit(one)) for one in requests]
    runs = []
    for one in requests:
        runs.append(engine.submit(one))
        time.sleep(0.003)  # so that they join at different steps
    for run, step in zip(runs, alone, strict=True):
        assert torch.equal(last(run).tokens, step.tokens)


def test_requests_share_the_forward_passes(engine: ThreadEngine, pipeline: JepaTPipeline, brake: Brake) -> None:
    first = engine.submit(request(seed=0))
    brake.wait()  # the first is on its first step
    others = [engine.submit(request(seed=seed)) for seed in range(1, 8)]
    brake.step()
    assert engine.num_active == 8
    brake.release()
    assert [last(run).index for run in [first, *others]] == [3] * 8
    assert brake.steps <= 5  # four steps for all, and the one that the others missed


def test_a_cancelled_run_frees_its_share_before_the_next_step(engine: ThreadEngine, brake: Brake) -> None:
    kept, dropped = engine.submit(request(seed=0)), engine.submit(request(seed=1))
    brake.wait()
    until(lambda: engine.num_waiting == 0 or engine.num_active == 1)
    brake.step()
    assert engine.num_active == 2
    dropped.cancel()
    brake.step()
    assert engine.num_active == 1
    brake.release()
    assert len(list(dropped)) < 4
    assert last(kept).index == 3


def test_closing_the_iterator_cancels(engine: ThreadEngine, brake: Brake) -> None:
    run = engine.submit(request())
    brake.wait()
    brake.step()
    steps = iter(run)
    assert next(steps).index == 0
    steps.close()
    brake.release()
    until(lambda: engine.num_active == 0)
    assert brake.steps < 4


def test_clients_take_turns(narrow: ThreadEngine, brake: Brake) -> None:
    first = narrow.submit(request(client="z", steps=1))
    brake.wait()  # the first is in, so that all others wait in line
    names = ("a1", "a2", "a3", "b1", "b2", "c1")
    runs = {name: narrow.submit(request(client=name[0], steps=1)) for name in names}
    assert {name: run.num_ahead for name, run in runs.items()} == {
        "a1": 0, "b1": 1, "c1": 2, "a2": 3, "b2": 4, "a3": 5,
    }  # fmt: skip
    ended: list[str] = []

    def follow(name: str) -> None:
        last(runs[name])
        ended.append(name)

    followers = [threading.Thread(target=follow, args=[name]) for name in runs]
    for follower in followers:
        follower.start()
    for count in range(6):
        brake.step()
        until(lambda count=count: len(ended) == count)
    brake.release()
    for follower in followers:
        follower.join(PATIENCE)
    assert ended == ["a1", "b1", "c1", "a2", "b2", "a3"]
    assert last(first).index == 0


def test_an_address_has_at_most_half_of_the_places(pipeline: JepaTPipeline, brake: Brake) -> None:
    engine = ThreadEngine(pipeline, max_active=4)
    flood = [engine.submit(request(seed=seed, client=Visitor("a", str(seed)))) for seed in range(6)]
    brake.wait()  # with the first of them
    brake.step()
    assert engine.num_active == 2
    person = engine.submit(request(seed=9, client=Visitor("b", "1")))
    brake.step()
    assert (engine.num_active, engine.num_waiting, person.num_ahead) == (3, 4, 0)
    brake.release()
    assert [last(run).index for run in (*flood, person)] == [3] * 7
    engine.close()


def test_an_address_with_more_than_its_places_gets_no_more() -> None:
    lines = WaitingLines[Run](100, 100)
    runs = [Run(request(client=Visitor(address, "")), lines) for address in "aaaaaab"]
    *of_a, of_b = runs
    for run in runs[3:]:
        lines.add(run)
    assert lines.take(5, active=of_a[:3], most_each=2) == [of_b]  # it may have fewer places than a moment ago
    assert lines.take_more(of_a[0], 5, active=[], most_each=3) == of_a[3:5]
    assert lines.take_more(of_a[0], 5, active=of_a[1:5], most_each=3) == []


def test_a_cancelled_run_leaves_the_line(narrow: ThreadEngine, brake: Brake) -> None:
    runs = [narrow.submit(request(seed=seed)) for seed in range(3)]
    brake.wait()
    runs[1].cancel()
    assert list(runs[1]) == []
    assert (narrow.num_waiting, runs[2].num_ahead) == (1, 0)
    brake.release()
    assert last(runs[2]).index == 3


def test_a_full_line_refuses_in_words(narrow: ThreadEngine, brake: Brake) -> None:
    runs = [narrow.submit(request())]
    brake.wait()
    runs += [narrow.submit(request()) for _ in range(6)]
    with pytest.raises(BusyError, match="6 pictures are waiting already; try again"):
        narrow.submit(request())
    brake.release()
    assert [last(run).index for run in runs] == [3] * 7


@pytest.mark.parametrize(
    ("wrong", "told"), [(request(steps=17), "steps is 17; allowed: 1 to 16"), (request(" "), "a prompt is empty")]
)
def test_wrong_requests_are_refused_at_once(engine: ThreadEngine, wrong: EngineRequest, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        engine.submit(wrong)
    assert last(engine.submit(request())).index == 3


def test_a_run_goes_on_from_a_step_beside_others(engine: ThreadEngine) -> None:
    first = list(engine.submit(request(seed=3)))
    again = EngineRequest(prompt="red apple", settings=FAST, seed=3, after=first[1])
    other, rest = engine.submit(request("rose", seed=4)), list(engine.submit(again))
    assert [step.index for step in rest] == [2, 3]
    assert torch.equal(rest[-1].tokens, first[-1].tokens)
    assert last(other).index == 3
    with pytest.raises(ValueError, match="all tokens of the picture are known"):
        engine.submit(
            EngineRequest(prompt="rose", settings=FAST, seed=3, shown=Shown(first[-1].tokens, first[-1].known))
        )


def test_the_number_of_threads_is_measured_where_the_work_is_done(
    engine: ThreadEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    where: list[str] = []

    def choose(work: Callable[[], object]) -> int:
        where.append(threading.current_thread().name)
        work()
        return 3

    before = torch.get_num_threads()
    monkeypatch.setattr("jepa_app.engines.thread.choose_threads", choose)
    try:
        assert engine.tune() == engine.num_threads == 3
        assert torch.get_num_threads() == 3  # the caller's, so that it rounds as the worker does
        assert where == ["jepa-engine"]
        assert last(engine.submit(request())).index == 3
    finally:
        torch.set_num_threads(before)


def test_the_number_of_threads_is_measured_when_nobody_asks(
    engine: ThreadEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured: list[int] = []
    monkeypatch.setattr("jepa_app.engines.thread.choose_threads", lambda _: measured.append(1) or 1)
    engine.tune_when_idle(0.2)
    assert last(engine.submit(request())).index == 3
    until(lambda: measured == [1])
    assert last(engine.submit(request())).index == 3
    time.sleep(0.4)
    assert measured == [1]


def test_an_error_reaches_all_who_wait_and_the_engine_goes_on(engine: ThreadEngine, pipeline: JepaTPipeline) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("out of memory")

    handle = pipeline.network.denoiser.condition_in.register_forward_pre_hook(fail)
    runs = [engine.submit(request(seed=seed)) for seed in range(2)]
    for run in runs:
        with pytest.raises(RuntimeError, match="out of memory"):
            list(run)
    handle.remove()
    assert last(engine.submit(request())).index == 3


def test_closing_ends_runs_and_a_later_request_starts_anew(narrow: ThreadEngine, brake: Brake) -> None:
    runs = [narrow.submit(request()), narrow.submit(request())]
    brake.wait()
    closing = threading.Thread(target=narrow.close)
    closing.start()
    until(lambda: narrow._closed)
    brake.release()
    closing.join(PATIENCE)
    assert [len(list(run)) for run in runs] == [1, 0]
    assert last(narrow.submit(request())).index == 3


def test_a_negative_prompt_that_is_the_prompt_leaves_the_plain_model(engine: ThreadEngine) -> None:
    same = EngineRequest(prompt="rose", negative_prompt="rose", settings=FAST, seed=1)
    plain = last(engine.submit(request("rose", seed=1, guidance=1.0)))
    assert torch.allclose(last(engine.submit(same)).tokens, plain.tokens, atol=1e-4)


def test_prompts_are_encoded_once(engine: ThreadEngine, pipeline: JepaTPipeline) -> None:
    encoded: list[int] = []
    handle = pipeline.network.fusion.key_value.register_forward_pre_hook(lambda *_: encoded.append(1))
    for seed in range(3):
        last(engine.submit(request("a prompt that nobody used before", seed=seed)))
    handle.remove()
    assert len(encoded) == 2  # the prompt and the null text


def test_only_the_last_values_are_kept() -> None:
    recent: Recent[str] = Recent(2)
    made: list[str] = []

    def make(key: str) -> str:
        return recent.get(key, lambda: made.append(key) or key.upper())

    assert [make(key) for key in "aababcba"] == list("AABABCBA")
    assert made == ["a", "b", "c", "a"]


@pytest.mark.slow
def test_a_fork_starts_a_worker_of_its_own(tiny_weights: Path) -> None:
    program = f"""
import os, torch
torch.set_num_threads(1)
from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.waiting import EngineRequest
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings
engine = ThreadEngine(JepaTPipeline.from_pretrained({str(tiny_weights)!r}))
request = EngineRequest(prompt="red apple", settings=SamplingSettings(steps=3), seed=0)
assert len(list(engine.submit(request))) == 3
child = os.fork()
if child == 0:
    os._exit(0 if len(list(engine.submit(request))) == 3 else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=PATIENCE)


def test_a_cpu_samples_in_float32_whatever_it_multiplies_fast() -> None:
    assert choose_dtype(torch.device("cpu")) == torch.float32


def test_a_pipeline_in_bfloat16_draws_nearly_the_same(pipeline: JepaTPipeline, steady_weights: Path) -> None:
    half = JepaTPipeline.from_pretrained(steady_weights, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    one, other = (last(ThreadEngine(each).submit(request(guidance=1.0))) for each in (pipeline, half))
    assert other.tokens.dtype == torch.float32
    assert float((pixels(pipeline, one) - pixels(half, other)).abs().mean()) < 0.05


@pytest.mark.parametrize(("milliseconds", "chosen"), [((20, 5, 40, 40), 2), ((20, 20, 20, 20), 1), ((40, 20, 5, 5), 4)])
def test_the_fewest_threads_that_are_as_fast_as_any_are_set(milliseconds: tuple[int, ...], chosen: int) -> None:
    before = torch.get_num_threads()
    try:
        assert choose_threads(lambda: time.sleep(milliseconds[torch.get_num_threads() - 1] / 1000), most=5) == chosen
        assert torch.get_num_threads() == chosen
    finally:
        torch.set_num_threads(before)


def test_parts_run_at_once_on_one_thread_each_and_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    before, cpu = torch.get_num_threads(), torch.device("cpu")
    together = threading.Barrier(3, timeout=PATIENCE)
    seen: list[int] = []

    def work(number: int) -> int:
        if number < 3:
            together.wait()  # three parts are in work, or this fails
        seen.append(torch.get_num_threads())
        return 10 * number

    try:
        torch.set_num_threads(2)
        assert on_all_cores(work, range(5), cpu) == [0, 10, 20, 30, 40]
        assert seen == [1] * 5
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert [torch.get_num_threads(), *later] == [2, 2]  # others keep their number, and so do threads after them
        assert on_all_cores(lambda _: threading.current_thread(), ["alone"], cpu) == [threading.current_thread()]
        with pytest.raises(ZeroDivisionError):
            on_all_cores(lambda part: 1 // part, [1, 0, 1], cpu)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("shape", [(0, 32), (1, 32), (1, 3, 32), (2, 0, 32), (5, 32), (2, 4, 32)])
def test_steady_layers_compute_what_plain_ones_do(shape: tuple[int, ...]) -> None:
    plain = torch.nn.Linear(32, 48)
    steady = torch.nn.Sequential(copy.deepcopy(plain))
    keep_numbers_from_company(steady)
    assert type(steady[0]) is SteadyLinear
    x = torch.randn(shape)
    assert steady(x).shape == plain(x).shape
    assert torch.allclose(steady(x), plain(x), atol=1e-6)
    if x.numel():
        first = x.reshape(-1, 32)[:1]
        assert torch.equal(steady(first), steady(torch.cat([first, torch.randn(9, 32)]))[:1])


@pytest.mark.parametrize(("wanted", "cores"), [("", 3), ("2", 2), ("8", 3), ("0", 3), ("many", 3)])
def test_a_process_may_be_given_fewer_cores(wanted: str, cores: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", wanted)
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2})
    assert allowed_cores() == cores


def test_the_layout_changes_no_sum() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Linear(32, 8))
    x = torch.randn(5, 8)
    before = network(x)
    lay_out_for_few_rows(network)
    assert torch.allclose(network(x), before, atol=1e-6)
    assert [layer.weight.is_contiguous() for layer in network] == [False, True]
    assert network.state_dict()["0.weight"].shape == (32, 8)
