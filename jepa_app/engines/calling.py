"""An engine whose steps are made elsewhere: lines, places and kept runs stay here, and each call is lent a few runs.

A call may end before its runs do, because its process was killed or its time was over. They then go on from their last
step in another call, with the same bytes.
"""

import contextvars
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import torch

from jepa_app.engines.messages import Received, number_in
from jepa_app.engines.prompts import Prompts
from jepa_app.engines.waiting import (
    MAX_WAITING,
    MAX_WAITING_EACH,
    EngineRequest,
    Inbox,
    Run,
    WaitingLines,
    begin,
    paced,
)
from jepa_app.generation.picture import TokenStep
from jepa_app.generation.pipeline import JepaTPipeline

MOST_TRIES = 4  # calls in a row that may be lost without a step
RETRY_SECONDS = 0.5  # before the second of them; twice as long before each further one
GATHERING_SECONDS = 0.02  # in which a visitor's requests come together that are to share a call

Stop = Callable[[], None]
Call = Callable[[Sequence[EngineRequest], Callable[[Stop], None]], Generator[bytes, None, None]]
"""Makes the steps of requests: a message for each, as `engines.messages` writes it, with the number of its request.

The second argument takes what ends the call from outside, for one that may wait long for its next message.
"""


class LostError(RuntimeError):
    """What made the steps is gone, or its time is over; another can go on."""


class LentRun(Run):
    """A run whose steps are made in calls.

    Attributes:
        context: that of whoever asked, in which the calls are made: a host may charge them to the visitor.
        last: the last step that arrived, after which another call can go on.
        stop: ends its call; None if the call cannot be ended from outside.
    """

    def __init__(self, request: EngineRequest, lines: WaitingLines[Any], inbox: Inbox | None) -> None:
        super().__init__(request, lines, inbox)
        self.context = contextvars.copy_context()
        self.last: TokenStep | None = request.after
        self.stop: Stop | None = None
        self._has_ended = False

    @property
    def num_done(self) -> int:
        """Steps that have arrived, with those that it goes on after."""
        return 0 if self.last is None else self.last.index + 1

    @property
    def is_over(self) -> bool:
        """Whether it needs no more steps."""
        return self.is_cancelled or (self.last is not None and self.num_done == self.last.total)

    def deliver(self, step: TokenStep | Exception | None) -> None:
        """Hand over a step, or once an error or None for the end."""
        if self._has_ended:
            return
        if isinstance(step, TokenStep):
            self.last = step
        self._has_ended = not isinstance(step, TokenStep)
        super().deliver(step)

    def cancel(self) -> None:
        """Ask for no more steps; this has no effect on a finished run."""
        super().cancel()
        if self.stop is not None:
            self.stop()


class CallingEngine:
    """Requests in, steps out, computed by calls to somewhere else.

    Args:
        pipeline: encodes and decodes here; its network only says what fits.
        call: makes the steps of a few requests.
        end: called at the end, to let go of whatever makes the steps.
        prompts: the encoded prompts, where `call` needs them too.
        max_active: pictures that may be in calls at a time; the others wait.
        together: requests of one visitor that may share a call.
    """

    def __init__(
        self,
        pipeline: JepaTPipeline,
        call: Call,
        *,
        end: Callable[[], None] = lambda: None,
        prompts: Prompts | None = None,
        max_active: int,
        together: int = 1,
    ) -> None:
        self.pipeline, self.max_active = pipeline, max_active
        self.waiting: WaitingLines[LentRun] = WaitingLines(MAX_WAITING, MAX_WAITING_EACH)
        self._change = self.waiting.change
        self._call, self._end, self._together = call, end, together
        self._prompts = prompts or Prompts(pipeline)
        self._active: list[LentRun] = []
        self._last_done: float | None = None  # when the last picture finished; None after idling
        self._closing: threading.Event | None = None  # set to end the thread that begins calls; None: there is none

    @property
    def num_threads(self) -> int:
        """Threads with which this process computes."""
        return torch.get_num_threads()

    def submit(self, request: EngineRequest, inbox: Inbox | None = None) -> Run:
        """Accept a request and return its run at once; its steps go to `inbox` if one is given.

        Raises:
            BusyError: too many requests are waiting.
            ValueError: a prompt is empty or too long, there are more steps than tokens, or `shown` does not fit.
        """
        begin(self.pipeline, request)
        self._prompts.of(request)
        run = LentRun(request, self.waiting, inbox)
        with self._change:
            self.waiting.add(run)
            if self._closing is None:
                self._closing = threading.Event()
                threading.Thread(target=self._lend, args=[self._closing], name="jepa-calls", daemon=True).start()
        return run

    def admit(self, number: int) -> None:
        """Change how many pictures may be in calls at a time."""
        with self._change:
            self.max_active = number
            self._change.notify_all()

    def close(self) -> None:
        """End all runs, and what makes them."""
        with self._change:
            if self._closing is not None:
                self._closing.set()
            self._closing = None
            runs = [*self._active, *self.waiting.take(self.waiting.capacity)]
            self._change.notify_all()
        for run in runs:
            run.cancel()
            run.deliver(None)
        self._end()

    def _lend(self, closing: threading.Event) -> None:
        """Begin a call whenever runs wait and there is room for them, until the engine is closed."""
        while True:
            with self._change:
                while not closing.is_set() and not (len(self.waiting) and len(self._active) < self.max_active):
                    self._change.wait()
            if self._together > 1:
                time.sleep(GATHERING_SECONDS)
            with self._change:
                if closing.is_set():
                    return
                runs = self._admitted()
                if not runs:  # those who wait have all the places that one address may have
                    self._change.wait()
                    continue
            threading.Thread(target=runs[0].context.run, args=(self._serve, runs), daemon=True).start()

    def _admitted(self) -> list[LentRun]:
        room = self.max_active - len(self._active)
        most_each = max(1, self.max_active // 2)
        runs = self.waiting.take(min(room, 1), self._active, most_each)
        if runs:
            runs += self.waiting.take_more(runs[0], min(room, self._together) - 1, self._active, most_each)
        self._active += runs
        return runs

    def _serve(self, runs: list[LentRun]) -> None:
        """Have runs made to their end, in as many calls as it takes."""
        problem: Exception | None = None
        try:
            self._persist(runs)
        except Exception as error:  # noqa: BLE001  # whatever it is, the waiting callers must be told
            problem = error
        with self._change:
            for run in runs:
                self._active.remove(run)
                run.deliver(None if problem is None or run.is_over else problem)
            now = time.monotonic()
            self.waiting.seconds_a_picture = paced(self.waiting.seconds_a_picture, self._last_done, now, len(runs))
            self._last_done = now if self._active or len(self.waiting) else None
            self._change.notify_all()

    def _persist(self, runs: list[LentRun]) -> None:
        tries, left = 0, runs
        while left:
            before = [run.num_done for run in left]
            try:
                self._make(left)
                return
            except LostError:
                tries = tries + 1 if before == [run.num_done for run in left] else 1
                if tries == MOST_TRIES:
                    raise
                time.sleep(RETRY_SECONDS * 2 ** (tries - 1))
                left = [run for run in runs if not run.is_over]

    def _make(self, runs: list[LentRun]) -> None:
        """Make one call for runs, and hand out its steps until it ends or nobody wants more.

        Raises:
            LostError: it ended before they did.
        """
        requests = [replace(run.request, after=run.last) for run in runs]
        received = [Received(begin(self.pipeline, request)) for request in requests]

        def take_stop(stop: Stop) -> None:
            def stop_if_unwanted() -> None:
                if all(run.is_cancelled for run in runs):
                    stop()

            for run in runs:
                run.stop = stop_if_unwanted
            stop_if_unwanted()

        with closing(self._call(requests, take_stop)) as messages:
            for sent in messages:
                run, step = runs[number_in(sent)], received[number_in(sent)].step(sent)
                if not run.is_cancelled:
                    run.deliver(step)
                if run.is_over:
                    run.deliver(None)
                if all(one.is_over for one in runs):
                    return
        if not all(run.is_over for run in runs):
            raise LostError("the call ended before its pictures were done")
