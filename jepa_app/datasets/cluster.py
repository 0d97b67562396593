"""Workers on a Ray cluster: an actor pool of Ray Data, one model an actor, whose items are shards."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from threading import Event
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # standard error is for the bar and for mistakes

import ray
import ray.data

from jepa_app.datasets.shards import Shard
from jepa_app.datasets.tasks import Task
from jepa_app.datasets.working import Outcome, Tell, work_on
from jepa_app.engines.ray_address import START, check_answers

LOCAL = "local"  # the address of a cluster that is started on this machine, for this run
STORE_BYTES = 200 * 2**20  # of a local cluster: rows go from file to file, and only news between processes
SECONDS_BETWEEN_LOOKS = 0.5
DEVICES = ("auto", "cpu", "cuda")  # Ray numbers the GPUs itself
TRIES = 3  # of a shard whose worker dies; after that the run goes on without it


class _Counter:
    """Adds up what the workers report; it lives on when they die."""

    def __init__(self) -> None:
        self._rows = self._errors = 0
        self._tries: Counter[int] = Counter()

    def begin(self, number: int) -> int:
        """Return how many times a shard has been begun, with this time."""
        self._tries[number] += 1
        return self._tries[number]

    def add(self, rows: int, errors: int) -> None:
        self._rows, self._errors = self._rows + rows, self._errors + errors

    def take(self) -> tuple[int, int]:
        taken = self._rows, self._errors
        self._rows = self._errors = 0
        return taken


class _Worker:
    """An actor with a model; it takes the numbers of shards."""

    def __init__(self, task: Task, shards: Sequence[Shard], device: str, counter: Any) -> None:
        self._task, self._shards, self._counter = task, shards, counter
        self._model = task.load(device)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        number = int(row["item"])
        shard = self._shards[number]
        if ray.get(self._counter.begin.remote(number)) > TRIES:
            return asdict(Outcome(str(shard.target), problem=f"{shard.source.path}: its worker died {TRIES} times"))
        return asdict(work_on(shard, self._task, self._model, self._counter.add.remote))


@contextmanager
def joined(address: str, workers: int | None) -> Iterator[None]:
    """Join the cluster at an address, or start one for as long as the block lasts (`LOCAL`).

    Raises:
        ValueError: there is no such cluster.
    """
    local: dict[str, Any] = {}
    if address == LOCAL:
        local = {"include_dashboard": False, "object_store_memory": STORE_BYTES, "num_cpus": workers}
    else:
        check_answers(address, "--ray")
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **local)
    except ConnectionError as missing:
        raise ValueError(f"there is no Ray cluster at {address} ({missing}); {START}") from missing
    try:
        yield
    finally:
        ray.shutdown()


def num_workers(asked: int | None, device: str) -> tuple[int, bool]:
    """Return how many workers there are to be on the cluster that was joined, and whether each of them has a GPU.

    Raises:
        ValueError: more were asked for than there are GPUs or CPUs, or the device is not there.
    """
    resources = ray.cluster_resources()
    with_gpus = device != "cpu" and resources.get("GPU", 0) >= 1
    if device not in DEVICES or (device == "cuda" and not with_gpus):
        raise ValueError(f"device is {device!r}; allowed with --ray: {', '.join(DEVICES)}, the last one if it has GPUs")
    kind = "GPU" if with_gpus else "CPU"
    most = int(resources.get(kind, 0))
    if not 1 <= (asked or most) <= most:
        raise ValueError(f"--workers is {asked}; allowed: 1 to {most}, the {kind}s of the cluster")
    return asked or most, with_gpus


def outcomes_on_cluster(
    task: Task,
    shards: Sequence[Shard],
    workers: int,
    with_gpus: bool,
    tell: Tell,
    after: Callable[[Outcome], Outcome],
) -> list[Outcome]:
    """Work on shards with `workers` actors and return the outcomes in any order.

    `tell` hears how far they are, and `after` of each shard that is done. A worker that dies is started again, and the
    shard that it had is begun again; if that does not help, the shard is given up.
    """
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    chosen = "cuda" if with_gpus else "cpu"
    counter: Any = ray.remote(num_cpus=0)(_Counter).remote()
    rows = ray.data.from_items(list(range(len(shards))), override_num_blocks=len(shards)).map(
        _Worker,  # type: ignore[arg-type]  # an actor's class is taken too
        fn_constructor_args=(task, list(shards), chosen, counter),
        compute=ray.data.ActorPoolStrategy(size=workers, max_tasks_in_flight_per_actor=1),
        num_cpus=1,
        num_gpus=1 if with_gpus else None,
    )
    with _listening(counter, tell):
        return [after(Outcome(**row)) for row in rows.iter_rows()]


@contextmanager
def _listening(counter: Any, tell: Tell) -> Iterator[None]:
    """Pass on what a counter has taken in, from time to time while the block lasts and once at its end."""
    is_over = Event()

    def listen() -> None:
        while not is_over.wait(SECONDS_BETWEEN_LOOKS):
            tell(*ray.get(counter.take.remote()))

    with ThreadPoolExecutor(1) as thread:
        listener = thread.submit(listen)
        try:
            yield
        finally:
            is_over.set()
        listener.result()
    tell(*ray.get(counter.take.remote()))
