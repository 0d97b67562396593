"""Runs in progress: requests become jobs, which the engine works on and which are kept for a while as frames."""

import itertools
import time
from collections import deque
from collections.abc import Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import replace
from queue import Empty, SimpleQueue

import torch
from PIL import Image

from jepa_app.engines.port import Engine
from jepa_app.engines.waiting import EngineRequest, Inbox, Run
from jepa_app.generation.picture import Shown, TokenStep
from jepa_app.studio.drawing import draw_frame
from jepa_app.studio.edits import placed, whole
from jepa_app.studio.frames import Frame, Waiting
from jepa_app.studio.jobs import Job, Jobs
from jepa_app.studio.requests import GenerateRequest, settings_of

SECONDS_BETWEEN_NEWS = 1.0  # for visitors whose run is waiting
SOON, RARELY = 3, 5  # with more runs ahead, every fifth time is enough: news of many cost the time of their pictures


class Generating:
    """Makes pictures with an engine and keeps each run as a job."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pipeline = engine.pipeline
        self._jobs = Jobs()

    def pin(self, job: Job) -> None:
        """Keep a finished run for good, for every visitor."""
        self._jobs.pin(job)

    def job(self, name: str) -> Job:
        """Return a kept run.

        Raises:
            ValueError: the run is no longer kept.
        """
        return self._jobs.get(name)

    def frames(self, request: GenerateRequest, client: Hashable = None) -> Generator[Frame, None, None]:
        """Yield the growing picture, one frame per step; closing the iterator ends the work before the next step.

        Requests from one `client` wait for one another; different clients take turns.

        Raises:
            ValueError: the prompt has more tokens than the text encoder reads, the numbers overflowed, or too many
                requests are waiting.
        """
        with closing(self.follow(*self.submit(request, client), time.perf_counter(), client)) as frames:
            for frame in frames:
                if isinstance(frame, Frame):
                    yield frame

    def watch(self, request: GenerateRequest, client: Hashable = None) -> Generator[Frame | Waiting, None, None]:
        """Yield the frames of a request; before the first frame, yield the expected wait every second.

        A request with a seed that was recently run to its end is shown again from memory.

        Raises:
            ValueError: as `submit`.
        """
        known = None if request.seed is None else self._jobs.finished(request)
        if known is None:
            yield from self.follow(*self.submit(request, client), time.perf_counter(), client)
            return
        job = self._jobs.keep(replace(known, name=Job().name, kept=list(known.kept), run=None), client)
        first = 0 if request.edit is None else request.edit.step + 1
        for index in range(first, job.total):
            yield self.frame(job, index)

    def each(self, requests: Sequence[GenerateRequest]) -> Generator[tuple[int, Frame], None, None]:
        """Yield (number of the request, frame), one request after another, while all of them are being worked on.

        Raises:
            ValueError: as `frames`.
        """
        runs: deque[tuple[int, Job, Run, float]] = deque()
        rest = enumerate(requests)
        try:
            while True:
                for number, request in itertools.islice(rest, self._engine.max_active - len(runs)):
                    runs.append((number, *self.submit(request, None), time.perf_counter()))
                if not runs:
                    return
                number, job, run, started = runs[0]
                for frame in self.follow(job, run, started):
                    if isinstance(frame, Frame):
                        yield number, frame
                runs.popleft()
        finally:
            for _, _, run, _ in runs:
                run.cancel()

    def together(
        self, requests: Sequence[GenerateRequest], client: Hashable = None
    ) -> Generator[tuple[int, Frame | Waiting], None, None]:
        """Yield (number of the request, frame) in the order in which frames arrive; closing the iterator ends all runs.

        While none arrives, the expected wait of the first run is yielded every second. Frames of a run that somebody
        else has taken over are left to them.

        Raises:
            ValueError: as `frames`; the other runs are then dropped too.
        """
        inbox: Inbox = SimpleQueue()
        started, runs = time.perf_counter(), dict[Run, tuple[int, Job]]()
        try:
            for number, request in enumerate(requests):
                job, run = self.submit(request, client, inbox)
                runs[run] = number, job
            left = len(runs)
            while left:
                try:
                    run, step = inbox.get(timeout=SECONDS_BETWEEN_NEWS)
                except Empty:
                    yield 0, _wait_of(next(iter(runs)))
                    continue
                if isinstance(step, Exception):
                    raise step
                number, job = runs[run]
                if step is None:
                    left -= 1
                    continue
                with job.turn:
                    if job.run is not run:
                        continue
                    job.add(step, time.perf_counter() - started)
                    index = len(job.kept) - 1
                    job.turn.notify_all()
                yield number, self.frame(job, index)
        finally:
            for run in runs:
                run.cancel()

    def resume(self, name: str, client: Hashable = None) -> Generator[Frame | Waiting, None, None]:
        """Continue a kept run that was stopped or lost, and yield the frames it does not have yet.

        Raises:
            ValueError: the run is no longer kept, or as `submit`.
        """
        job = self._jobs.get(name)
        run = None if job.request is None else self.take_over(job, client)
        if run is not None:
            yield from self.follow(job, run, time.perf_counter(), client)

    def kept_frames(self, name: str, steps: Sequence[int] = ()) -> list[Frame]:
        """Return the requested steps that a run has, or all of them if none is named, for a visitor who comes back.

        Raises:
            ValueError: the run is no longer kept.
        """
        job = self._jobs.get(name)
        number = len(job.kept)
        return [self.frame(job, index) for index in steps or range(number) if index < number]

    def kept_frame(self, name: str, index: int) -> Frame:
        """Return one frame of a run.

        Raises:
            ValueError: the run is no longer kept or has not reached that frame.
        """
        job = self._jobs.get(name)
        job.step_at(index)  # refuses a frame that does not exist
        return self.frame(job, index)

    def keep_picture(
        self, picture: Image.Image, client: Hashable = None, *, with_room: bool = False
    ) -> tuple[Frame, tuple[int, ...]]:
        """Keep the central square of a picture as a run of one frame that other runs can start from.

        Returns:
            The frame, and, with `with_room`, the positions of the free room around the picture in the middle.
        """
        pixels, around = placed(picture, self._pipeline.image_size, self._pipeline.grid, with_room=with_room)
        with torch.inference_mode():
            tokens = self._pipeline.encode(pixels[None])[0].cpu()
        job = self._jobs.keep(Job(), client)
        job.add(whole(tokens, self._pipeline.grid), seconds=0.0)
        return self.frame(job, 0), around

    def predicted(self, name: str, index: int, client: Hashable = None) -> Image.Image:
        """Return the picture that a frame would become if all unknown tokens were predicted at once.

        Raises:
            ValueError: the run is no longer kept or has not reached that frame.
        """
        job = self._jobs.get(name)
        last = job.step_at(index)
        if last.request is None or last.step.is_whole:
            return self.frame(job, index).image
        at_once = replace(last.request, steps=1, edit=None)
        shown = Shown(last.step.tokens, last.step.known)
        [step] = self.enter(Job(request=at_once, style_seed=job.style_seed, shown=shown), None, client)
        return self._pipeline.pictures(step.tokens[None], step.known[None])[0]

    def submit(self, request: GenerateRequest, client: Hashable, inbox: Inbox | None = None) -> tuple[Job, Run]:
        """Draw the seed, keep the run as a job and hand it to the engine.

        Raises:
            ValueError: a prompt is too long, there are more steps than tokens, the starting picture is no longer kept
                or does not fit, or too many requests are waiting.
        """
        if request.seed is None:
            request = replace(request, seed=self._jobs.seed_for(request))
        job, after = self._jobs.begin(request, self._pipeline.grid)
        run = self.enter(job, after, client, inbox)
        return self._jobs.keep(job, client), run

    def enter(self, job: Job, after: TokenStep | None, client: Hashable, inbox: Inbox | None = None) -> Run:
        """Hand a job to the engine, to start it or to continue after one of its steps; errors as in `submit`."""
        request = job.request
        assert request is not None
        assert request.seed is not None
        asked = EngineRequest(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt.strip() or None,
            settings=settings_of(request),
            seed=request.seed,
            style_seed=job.style_seed,
            client=client,
            shown=job.shown,
            after=after,
        )
        before, job.run = job.run, self._engine.submit(asked, inbox)  # a run goes on if its successor is refused
        if before is not None:
            before.cancel()  # its follower has left, or watches from now on
        return job.run

    def take_over(self, job: Job, client: Hashable, *, if_stalled: bool = False) -> Run | None:
        """Continue a job after its last step with a run of one's own; no step is lost or made twice.

        None if nothing is left to do: the job is done by now or, with `if_stalled`, somebody makes it.
        """
        with job.turn:
            if job.is_done or (if_stalled and not job.is_stalled):
                return None
            run = self.enter(job, job.last_step, client)
            job.turn.notify_all()
            return run

    def follow(
        self, job: Job, run: Run, started: float, client: Hashable = None
    ) -> Generator[Frame | Waiting, None, None]:
        """Keep the steps of a run and yield its frames; closing the iterator cancels the run.

        If another visitor takes the job over, that visitor's frames are yielded too, and if they leave, the job is
        taken back.
        """
        is_waiting, seen, waits = True, len(job.kept), 0
        try:
            with closing(run.steps(patience=SECONDS_BETWEEN_NEWS)) as steps:
                for step in steps:
                    if step is None:
                        if is_waiting and job.run is run and (run.num_ahead <= SOON or waits % RARELY == 0):
                            yield _wait_of(run)
                        waits += 1
                        continue
                    is_waiting = False
                    with job.turn:
                        if job.run is not run:
                            break
                        job.add(step, time.perf_counter() - started)
                        job.turn.notify_all()
                    yield self.frame(job, seen)
                    seen += 1
        finally:
            with job.turn:
                job.turn.notify_all()
        if job.run is not run:
            yield from self._watch(job, seen, client)

    def _watch(self, job: Job, seen: int, client: Hashable) -> Generator[Frame | Waiting, None, None]:
        """Yield the frames from number `seen` on that another follower of the job keeps."""
        while not (job.is_done and seen == len(job.kept)):
            news = job.wait_for_more(seen, SECONDS_BETWEEN_NEWS)
            ready, is_stalled = len(job.kept), job.is_stalled
            while seen < ready:
                yield self.frame(job, seen)
                seen += 1
            run = self.take_over(job, client, if_stalled=True) if is_stalled else None
            if run is not None:
                yield from self.follow(job, run, time.perf_counter(), client)
                return
            if not news and job.run is not None:
                yield _wait_of(job.run)

    def frame(self, job: Job, index: int) -> Frame:
        """Return one of the frames of a job."""
        return draw_frame(self._pipeline, job, index)


def _wait_of(run: Run) -> Waiting:
    return Waiting(ahead=run.num_ahead, seconds=run.expected_wait)
