"""Many requests, one forward pass: continuous batching for masked autoregression.

One worker owns the network. Before every step it admits waiting requests and drops cancelled ones. The step advances
all active pictures, each at its own step with its own prompt, guidance, temperature and number of steps.
Text is encoded once per prompt, in the caller's thread; prefixes are encoded once per prompt and kept.
Letters in shapes: N image tokens, C token channels.
"""

import os
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from jepa_app.compute import choose_threads
from jepa_app.engines.prompts import KEPT_PROMPTS, Prompts, Recent, Texts, features_of
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
from jepa_app.generation.conditions import Start
from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.sampler import Sampler
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.text import TextFeatures

IDLE_SECONDS = 3.0  # after the start, and after the last picture if somebody was there at once
MAX_ACTIVE = 32  # pictures that share a step


class WorkedRun(Run):
    """A run that is worked on in this process: with its encoded prompts and, once it is admitted, its picture."""

    picture: Picture

    def __init__(
        self,
        request: EngineRequest,
        lines: WaitingLines[Any],
        inbox: Inbox | None,
        texts: Texts,
    ) -> None:
        super().__init__(request, lines, inbox)
        self.texts = texts


class ThreadEngine:
    """Requests in, steps out; one worker thread, started by the first request.

    Args:
        max_active: pictures that share a step; the others wait.
        max_waiting: requests that may wait; further ones are refused.
    """

    def __init__(
        self, pipeline: JepaTPipeline, *, max_active: int = MAX_ACTIVE, max_waiting: int = MAX_WAITING
    ) -> None:
        self.pipeline = pipeline
        self.max_active, self.max_waiting = max_active, max_waiting
        self.num_threads = torch.get_num_threads()
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._prompts = Prompts(self.pipeline)
        self.waiting: WaitingLines[WorkedRun] = WaitingLines(self.max_waiting, MAX_WAITING_EACH)
        self._change = self.waiting.change
        self._active: list[WorkedRun] = []
        self._last_done: float | None = None  # when the last picture finished; None after idling
        self._worker: threading.Thread | None = None
        self._closed = False
        self._is_tuned = True  # until `tune` is called
        self._idle_seconds: float | None = None  # after so long without work it is tuned

    @property
    def num_active(self) -> int:
        """Pictures that take part in the next step."""
        return len(self._active)

    @property
    def num_waiting(self) -> int:
        """Requests that have not been admitted yet."""
        return len(self.waiting)

    @property
    def seconds_a_picture(self) -> float | None:
        """Seconds between two finished pictures while the engine is busy; None if not known yet."""
        return self.waiting.seconds_a_picture

    def submit(self, request: EngineRequest, inbox: Inbox | None = None) -> Run:
        """Accept a request and return its run at once; its steps go to `inbox` if one is given.

        Raises:
            BusyError: too many requests are waiting.
            ValueError: a prompt is empty or too long, there are more steps than tokens, or `shown` does not fit.
        """
        if os.getpid() != self._pid:  # a fork has no worker, and a lock may be stuck without an owner
            self._reset()
        begin(self.pipeline, request)  # refuses what does not fit before it has to wait
        run = WorkedRun(request, self.waiting, inbox, self._prompts.of(request))
        with self._change:
            self.waiting.add(run)
            self._start_worker()
        return run

    def tune(self) -> int:
        """Measure which number of threads makes a step fastest, use it from now on and return it; call it when idle.

        The worker itself measures: a second computing thread has its own helper threads, and more helpers than cores
        slow one another down. Threads started later inherit the number, but the caller's thread does not, so it is set
        here too: with a different number of threads, sums round differently and a seed would give a different picture.
        """
        with self._change:
            self._is_tuned = self.pipeline.device.type != "cpu"
            self._start_worker()
            self._change.notify()
            while not self._is_tuned:
                self._change.wait()
        torch.set_num_threads(self.num_threads)
        return self.num_threads

    def tune_when_idle(self, seconds: float) -> None:
        """Measure as `tune` does, but once nothing has been asked for so many seconds; return at once."""
        with self._change:
            self._idle_seconds = seconds if self.pipeline.device.type == "cpu" else None
            self._start_worker()
            self._change.notify()

    def _start_worker(self) -> None:
        if self._worker is None or not self._worker.is_alive():
            self._worker = threading.Thread(target=self._work, name="jepa-engine", daemon=True)
            self._worker.start()

    def _tune(self, sampler: Sampler) -> None:
        settings, generator = SamplingSettings(steps=3), torch.Generator()

        def picture() -> None:
            sampler.add(Picture.begin(self.pipeline.network, settings, generator.manual_seed(0)), sampler.null)
            while sampler.pictures:
                sampler.step()

        self.num_threads = choose_threads(picture)

    def close(self) -> None:
        """End all runs and the worker; the next request starts a new worker."""
        with self._change:
            worker = self._worker
            if worker is None or not worker.is_alive():
                return
            self._closed = True
            self._change.notify()
        worker.join()

    def _work(self) -> None:
        with torch.inference_mode():
            sampler = Sampler(self.pipeline.network, self.pipeline.denoising)
            prefixes: Recent[Start] = Recent(KEPT_PROMPTS)
            while True:
                with self._change:
                    while self._is_tuned and not (self._closed or len(self.waiting) or self._active):
                        self._last_done = None
                        if not self._change.wait(self._idle_seconds):
                            self._idle_seconds, self._is_tuned = None, False
                    if not self._is_tuned:
                        try:
                            self._tune(sampler)
                        finally:  # release the waiting caller, whatever happened
                            self._is_tuned = True
                            self._change.notify_all()
                        continue
                    if self._closed:
                        self._end()
                        return
                    room, most_each = self.max_active - len(self._active), max(1, self.max_active // 2)
                    joining = self.waiting.take(room, self._active, most_each)
                try:
                    self._advance(sampler, prefixes, joining)
                except Exception as error:  # noqa: BLE001  # whatever it is, the waiting callers must be told
                    for run in self._active:
                        run.deliver(error)
                    self._active = []
                    sampler = Sampler(self.pipeline.network, self.pipeline.denoising)

    def _end(self) -> None:
        for run in [*self._active, *self.waiting.take(self.max_waiting)]:
            run.deliver(None)
        self._reset()

    def _advance(self, sampler: Sampler, prefixes: Recent[Start], joining: list[WorkedRun]) -> None:
        for run in [run for run in self._active if run.is_cancelled]:
            self._active.remove(run)
            sampler.remove(run.picture)
            run.deliver(None)
        self._active += joining
        for run in joining:
            run.picture = begin(self.pipeline, run.request)
            if len(run.picture.begun):
                sampler.add_begun(run.picture, **features_of(run.texts))
                continue
            # encode each prompt alone, so that its numbers do not depend on other requests
            starts = {
                name: prefixes.get(text, partial(_first, sampler, features))
                for name, (text, features) in run.texts.items()
            }
            sampler.add(run.picture, **starts)
        owners = {id(run.picture): run for run in self._active}
        num_done = 0
        for picture, step in sampler.step():
            run = owners[id(picture)]
            run.deliver(step)
            if picture.is_done:
                self._active.remove(run)
                run.deliver(None)
                num_done += 1
        if num_done:
            self._measure_pace(num_done)

    def _measure_pace(self, num_done: int) -> None:
        now = time.monotonic()
        self.waiting.seconds_a_picture = paced(self.seconds_a_picture, self._last_done, now, num_done)
        self._last_done = now


def tuned(pipeline: JepaTPipeline, weights: Path) -> ThreadEngine:
    """Return an engine in this process that computes with the number of threads that is fastest here."""
    del weights  # which the pipeline holds already
    engine = ThreadEngine(pipeline)
    engine.tune()
    return engine


def tuned_when_idle(pipeline: JepaTPipeline, weights: Path) -> ThreadEngine:
    """Return an engine in this process that chooses its number of threads when nobody needs it: a start is sooner."""
    del weights
    engine = ThreadEngine(pipeline)
    engine.tune_when_idle(IDLE_SECONDS)
    return engine


def _first(sampler: Sampler, text: TextFeatures) -> Start:
    return sampler.start(text)[0]
