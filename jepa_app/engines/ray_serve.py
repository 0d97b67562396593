"""Pictures on a Ray cluster: replicas of the engine behind Ray Serve, each with continuous batching of its own.

A request goes to the replica with fewer requests of two that are drawn, which of two is always the less busy one. When
a replica dies, its runs go on from their last step on another. Ray is an extra; this module imports it when used.
"""

import importlib.util
import logging
import os
import pickle
import queue
import re
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from jepa_app.engines.calling import Call, CallingEngine, LostError, Stop
from jepa_app.engines.messages import Received
from jepa_app.engines.ray_address import CLIENT, check_answers
from jepa_app.engines.replica import Replica
from jepa_app.engines.thread import MAX_ACTIVE
from jepa_app.engines.waiting import EngineRequest, begin
from jepa_app.generation.pipeline import JepaTPipeline

NAME = "jepa-t"  # of the deployment; the name of its application begins with it
MOST_REPLICAS = 256
BUSY = 8  # requests in progress on a replica, above which another is started if more are allowed
STEPS_IN_SLICE = 4  # for a client of Ray
START_SECONDS = 300.0  # until all replicas answer
SECONDS_BETWEEN_LOOKS = 2.0  # at the number of replicas, where it follows the load
STORE_BYTES = 128 * 2**20  # Ray's shared memory on this machine; messages are small


@dataclass(frozen=True, kw_only=True)
class Replicas:
    """How many replicas there are: between `fewest` and `most`, by the length of their queues.

    Raises:
        ValueError: the numbers are not whole, or out of range.
    """

    fewest: int = 1
    most: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.fewest <= self.most <= MOST_REPLICAS:
            raise ValueError(
                f"--replicas is {self.fewest}-{self.most}; allowed: 1 to {MOST_REPLICAS}, the fewest before the most"
            )

    @classmethod
    def of(cls, text: str) -> "Replicas":
        """Read "2", or "1-8" for a number that follows the load.

        Raises:
            ValueError: the text is neither.
        """
        found = re.fullmatch(r"(\d{1,4})(?:-(\d{1,4}))?", text)
        if found is None:
            raise ValueError(f"--replicas is {text!r}; allowed: a number such as 2, or a range such as 1-8")
        return cls(fewest=int(found[1]), most=int(found[2] or found[1]))


def check_ray(address: str | None = None) -> None:
    """Refuse to go on without Ray, or without the cluster at an address.

    Raises:
        ValueError: the message says what is missing.
    """
    if importlib.util.find_spec("ray") is None or importlib.util.find_spec("ray.serve") is None:
        raise ValueError("Ray is not installed; install it with: pip install 'ray[serve,data]>=2.50,<3'")
    if address is not None:
        check_answers(address, "--engine", clients=True)


def ray_engine(
    pipeline: JepaTPipeline, weights: Path, *, address: str | None = None, replicas: Replicas | None = None
) -> CallingEngine:
    """Return an engine whose pictures are made by replicas on a Ray cluster, which are started here.

    Args:
        pipeline: encodes and decodes here.
        weights: the folder that replicas load, at the same place on every machine of the cluster.
        address: of a running cluster: "auto" or HOST:PORT of its head on one of its machines, ray://HOST:PORT of its
            client server from anywhere; None starts one here.

    Raises:
        ValueError: Ray is not installed, the cluster cannot be reached or has no room, or the replicas cannot start.
    """
    check_ray(address)
    wanted = replicas or Replicas()
    name = f"{NAME}-{secrets.token_hex(4)}"  # another studio may use the same cluster
    _join(address, wanted)
    from ray import serve

    ended = threading.Event()

    def end() -> None:
        ended.set()
        _leave(name)

    try:
        handle = _served(name, str(weights.resolve()), wanted)
    except BaseException as failure:
        end()
        if not isinstance(failure, RuntimeError):
            raise
        raise ValueError(
            f"the replicas could not start ({' '.join(str(failure).split())[:200]}); the cluster needs room for them, "
            f"and on every machine this project and the weights at {weights}"
        ) from failure
    # Ray streams nothing to its clients; they ask for a few steps at a time, each time after the last
    call = _call_in_slices(handle, pipeline) if (address or "").startswith(CLIENT) else _call(handle)
    engine = CallingEngine(pipeline, call, end=end, max_active=MAX_ACTIVE * wanted.fewest)

    def follow() -> None:
        while not ended.wait(SECONDS_BETWEEN_LOOKS):
            try:
                states: Any = serve.status().applications[name].deployments[NAME].replica_states
            except Exception:  # noqa: BLE001  # whatever keeps Ray from answering may be over next time
                continue
            engine.admit(MAX_ACTIVE * max(wanted.fewest, int(states.get("RUNNING", 0))))

    if wanted.fewest < wanted.most:
        threading.Thread(target=follow, name="jepa-replicas", daemon=True).start()
    return engine


def _join(address: str | None, replicas: Replicas) -> None:
    """Join a cluster, or start one on this machine.

    Raises:
        ValueError: it cannot be joined or started, or has no room for so many replicas.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    import ray

    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    quiet: dict[str, Any] = {"logging_level": "ERROR", "log_to_driver": False, "ignore_reinit_error": True}
    if address is None:
        cores = max(replicas.most, os.cpu_count() or 1)
        quiet |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": STORE_BYTES}
    try:
        ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as refused:
        place = "Ray could not start here" if address is None else f"there is no Ray cluster at {address}"
        raise ValueError(f"{place}: {' '.join(str(refused).split())[:200]}") from refused
    kind = "GPU" if _has_gpus() else "CPU"
    room = int(ray.cluster_resources().get(kind, 0))
    if replicas.fewest > room:
        ray.shutdown()
        raise ValueError(f"--replicas is {replicas.fewest}; allowed: 1 to {room}, one for each {kind} of the cluster")


def _has_gpus() -> bool:
    import ray

    return ray.cluster_resources().get("GPU", 0) >= 1


def _served(name: str, weights: str, replicas: Replicas) -> Any:
    """Start the replicas and return the handle to call them by.

    Raises:
        RuntimeError: they cannot start.
    """
    from ray import serve

    number: dict[str, Any] = {"num_replicas": replicas.most}
    if replicas.fewest < replicas.most:
        scaling = {"min_replicas": replicas.fewest, "max_replicas": replicas.most, "target_ongoing_requests": BUSY}
        number = {"num_replicas": "auto", "autoscaling_config": scaling}
    replica: Any = serve.deployment(Replica)
    deployment = replica.options(
        name=NAME,
        max_ongoing_requests=MAX_ACTIVE,
        ray_actor_options={"num_cpus": 1, "num_gpus": 1 if _has_gpus() else 0},
        logging_config={"log_level": "ERROR", "enable_access_log": False},
        **number,
    )
    serve.start(proxy_location="Disabled")  # nothing calls over HTTP
    return _in_time(partial(serve.run, deployment.bind(weights), name=name, route_prefix=None))


def _in_time(work: Callable[[], Any]) -> Any:
    """Return what work returns, unless it takes too long: Ray waits without end for room that others take up.

    Raises:
        RuntimeError: it fails, or takes longer than a start may.
    """
    done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def worked() -> None:
        try:
            done.put(work())
        except Exception as failure:  # noqa: BLE001  # it is raised again by who waits
            done.put(failure)

    threading.Thread(target=worked, name="jepa-start", daemon=True).start()
    try:
        result = done.get(timeout=START_SECONDS)
    except queue.Empty:
        raise RuntimeError(f"the replicas have not started within {START_SECONDS:g} seconds") from None
    if isinstance(result, Exception):
        raise RuntimeError(str(result)) from result
    return result


def _leave(name: str) -> None:
    import ray
    from ray import serve

    if ray.is_initialized():
        serve.delete(name)
        ray.shutdown()


@contextmanager
def _telling_losses() -> Iterator[None]:
    """Tell a lost replica, after which another can go on, from one that failed.

    Raises:
        LostError: what should have answered is gone.
        RuntimeError: it failed.
    """
    from ray.exceptions import RayError, RayTaskError, TaskCancelledError
    from ray.serve.exceptions import RayServeException

    try:
        yield
    except TaskCancelledError:
        return
    except RayTaskError as failure:
        raise RuntimeError(f"a replica failed: {failure.cause!r}") from failure
    except (RayError, RayServeException) as gone:
        raise LostError(f"a replica is gone: {type(gone).__name__}") from gone


def _call_in_slices(handle: Any, pipeline: JepaTPipeline) -> Call:
    def call(requests: Sequence[EngineRequest], take_stop: Callable[[Stop], None]) -> Generator[bytes, None, None]:
        [request] = requests
        stopped = threading.Event()
        take_stop(stopped.set)
        received, last = Received(begin(pipeline, request)), request.after
        while not stopped.is_set() and (last is None or last.index + 1 < last.total):
            work = pickle.dumps(replace(request, after=last))
            with _telling_losses():
                for sent in handle.some_steps.remote(work, STEPS_IN_SLICE).result():
                    last = received.step(sent)
                    yield sent

    return call


def _call(handle: Any) -> Call:
    streaming = handle.options(method_name="steps", stream=True)

    def call(requests: Sequence[EngineRequest], take_stop: Callable[[Stop], None]) -> Generator[bytes, None, None]:
        [request] = requests
        with _telling_losses():
            messages = streaming.remote(pickle.dumps(request))
            take_stop(messages.cancel)
            try:
                for sent in messages:
                    yield from sent
            finally:
                messages.cancel()  # if the reader has left, the replica is told

    return call
