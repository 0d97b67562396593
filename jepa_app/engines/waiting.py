"""Requests in the engine: the waiting lines, and the run that each request becomes.

Clients take turns (`turns.py`): each has its own line, and the engine admits one request from each in turn.
"""

import queue
import threading
from collections import Counter
from collections.abc import Generator, Hashable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

from jepa_app.engines.turns import Lines, Visitor, address_of
from jepa_app.generation.picture import Picture, Shown, TokenStep
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.settings import SamplingSettings

MAX_WAITING = 256
MAX_WAITING_EACH = 64  # of one address
PACE_MEMORY = 0.8  # weight of the previous pace in the moving average when another picture is done


@dataclass(frozen=True, kw_only=True)
class EngineRequest:
    """A request for one picture. Requests from one `client` wait for one another; different clients take turns.

    `shown` holds the tokens of a starting picture. With `after`, a step of such a run, the picture continues exactly as
    that run would have. `style_seed` draws the style of a prompt without one; None means that `seed` does.
    """

    prompt: str
    negative_prompt: str | None = None
    settings: SamplingSettings
    seed: int
    style_seed: int | None = None
    client: Hashable = None
    shown: Shown | None = None
    after: TokenStep | None = None


def begin(pipeline: JepaTPipeline, request: EngineRequest) -> Picture:
    """Return the picture of a request before its next step.

    Raises:
        ValueError: there are more steps than tokens, or `shown` or `after` does not fit.
    """
    generator = torch.Generator().manual_seed(request.seed)
    return Picture.begin(pipeline.network, request.settings, generator, request.shown, request.after)


def paced(pace: float | None, last_done: float | None, now: float, number: int) -> float | None:
    """Return the moving average of seconds a picture after `number` more are done, at `now`."""
    if last_done is None or not number:
        return pace
    latest = (now - last_done) / number
    return latest if pace is None else PACE_MEMORY * pace + (1 - PACE_MEMORY) * latest


class Run:
    """A request in progress: iterate over its steps; closing the iterator or `cancel` drops it before the next step.

    Several runs may share one `inbox` of pairs (run, item), where the item is a step, an error, or None at the end of
    the run; the inbox is then read instead of the runs.
    """

    def __init__(self, request: EngineRequest, lines: "WaitingLines[Any]", inbox: "Inbox | None" = None) -> None:
        self.request = request
        self.is_cancelled = False
        self._lines = lines
        self._inbox: Inbox = queue.SimpleQueue() if inbox is None else inbox

    def __iter__(self) -> Iterator[TokenStep]:
        """Yield the steps as they arrive, until the picture is done or the run is cancelled."""
        with closing(self.steps(patience=None)) as steps:
            for step in steps:
                if step is not None:
                    yield step

    def steps(self, patience: float | None) -> Generator[TokenStep | None, None, None]:
        """Yield steps as they arrive, and None after every `patience` seconds without one; closing cancels the run."""
        try:
            while True:
                try:
                    step = self._inbox.get(timeout=patience)[1]
                except queue.Empty:
                    yield None
                    continue
                if isinstance(step, Exception):
                    raise step
                if step is None:
                    return
                yield step
        finally:
            self.cancel()

    @property
    def num_ahead(self) -> int:
        """How many requests will be admitted before this one; 0 once it is active."""
        return self._lines.num_ahead(self)

    @property
    def expected_wait(self) -> float | None:
        """Expected seconds until this request is admitted, from the pace so far; None if no pace is known yet."""
        pace = self._lines.seconds_a_picture
        return None if pace is None else self.num_ahead * pace

    def cancel(self) -> None:
        """Ask for no more steps; this has no effect on a finished run."""
        self._lines.cancel(self)

    def deliver(self, step: TokenStep | Exception | None) -> None:
        """Hand over a step, an error, or None for the end."""
        self._inbox.put((self, step))


Inbox = queue.SimpleQueue[tuple[Run, TokenStep | Exception | None]]
RunT = TypeVar("RunT", bound=Run)


class WaitingLines(Generic[RunT]):
    """The runs that wait, in the order in which their clients take turns.

    Attributes:
        change: held while lines change, and notified then; the worker that admits runs waits on it.
        seconds_a_picture: seconds between two finished pictures while the engine is busy; None: not known.
    """

    def __init__(self, capacity: int, capacity_each: int) -> None:
        self.change = threading.Condition()
        self.seconds_a_picture: float | None = None
        self.capacity, self.capacity_each = capacity, capacity_each
        self._lines = Lines[RunT]()

    def __len__(self) -> int:
        with self.change:
            return len(self._lines)

    def add(self, run: RunT) -> None:
        """Put a run at the end of its client's line.

        Raises:
            BusyError: too many runs are waiting.
        """
        client = run.request.client
        with self.change:
            self._lines.check_room(client, self.capacity, self.capacity_each, "pictures")
            self._lines.add(run, client)
            self.change.notify()

    def take(self, room: int, active: Sequence[Run] = (), most_each: int | None = None) -> list[RunT]:
        """Take up to `room` runs, one from each client in turn.

        With the `active` runs, no address has more than `most_each`: a long run cannot be put aside for somebody else.
        """
        taken: list[RunT] = []
        with self.change:
            while len(taken) < room and len(self._lines):
                counts = _by_address([*active, *taken])
                full = [address for address in counts if most_each is not None and counts[address] >= most_each]
                try:
                    taken.append(self._lines.pop(full))
                except LookupError:
                    break
        return taken

    def take_more(self, run: RunT, room: int, active: Sequence[Run], most_each: int) -> list[RunT]:
        """Take up to `room` further runs of the client of one that was taken, in their order; as `take`."""
        client = run.request.client
        if isinstance(client, Visitor):
            room = min(room, most_each - _by_address([*active, run])[address_of(client)])
        with self.change:
            return self._lines.pop_of(client, room)

    def cancel(self, run: RunT) -> None:
        """Mark a run as cancelled; if it is still waiting, it ends at once."""
        with self.change:
            run.is_cancelled = True
            if self._lines.remove(run, run.request.client):
                run.deliver(None)

    def num_ahead(self, run: RunT) -> int:
        """Return how many runs will be taken before this one; 0 if it is not waiting."""
        with self.change:
            return self._lines.num_ahead(run)


def _by_address(runs: Sequence[Run]) -> Counter[Hashable]:
    """How many runs each address has; others have no address."""
    return Counter(address_of(run.request.client) for run in runs if isinstance(run.request.client, Visitor))
