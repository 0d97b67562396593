"""Runs on their way: requests become jobs that the engine works on and that are kept for a while, as frames.

Letters in shapes: S picture side in pixels.
"""

import secrets
import time
from collections.abc import Generator, Hashable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

import torch
from PIL import Image

from jepa_app.generation.engine import Engine
from jepa_app.generation.picture import Shown, TokenStep
from jepa_app.generation.settings import SamplingSettings
from jepa_app.generation.waiting import EngineRequest, Inbox, Run
from jepa_app.pixels import to_pil, to_pixels
from jepa_app.studio.jobs import Job, Jobs, margin, margin_width, whole
from jepa_app.studio.requests import MAX_SEED, GenerateRequest

SECONDS_BETWEEN_NEWS = 1.0  # to those who wait


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture after one step.

    `job` names the run; `index` counts from 0 to `total` - 1, the frames of the runs that it goes on from included;
    `revealed` are the row-major positions of the tokens that this step made known, on a board of `grid` x `grid`
    tokens, and `born` tells of each position which frame revealed its token, -1 where none is known; `seconds` have
    passed since the run began. `request` was asked for, with the seed that was drawn; None of a picture from outside.
    """

    job: str
    index: int
    total: int
    image: Image.Image
    revealed: tuple[int, ...]
    born: tuple[int, ...]
    grid: int
    request: GenerateRequest | None
    seconds: float

    @property
    def seed(self) -> int:
        """The seed of the run, 0 of a picture from outside."""
        return 0 if self.request is None or self.request.seed is None else self.request.seed


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run that was not let in yet: `ahead` others come first, in about `seconds` (None: not known)."""

    ahead: int
    seconds: float | None


class Runs:
    """All runs of an engine, each kept as a job."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._pipeline = engine.pipeline
        self._jobs = Jobs()

    def watch(self, request: GenerateRequest, client: Hashable = None) -> Generator[Frame | Waiting, None, None]:
        """Yield the frames of a request, and every second before the first how long it will take.

        A request with a seed that was run to its end a moment ago is shown again from memory.

        Raises:
            ValueError: as `submit`.
        """
        known = None if request.seed is None else self._jobs.finished(request)
        if known is None:
            yield from self.follow(*self.submit(request, client), time.perf_counter())
            return
        job = self._jobs.keep(replace(known, name=Job().name, moments=list(known.moments), run=None))
        first = 0 if request.edit is None else request.edit.step + 1
        for index in range(first, job.total):
            yield self.frame(job, index)

    def resume(self, name: str, client: Hashable = None) -> Generator[Frame | Waiting, None, None]:
        """Go on with a kept run that was stopped or lost, and yield the frames it does not have yet.

        Raises:
            ValueError: the run is forgotten, or as `submit`.
        """
        job = self._jobs.get(name)
        if job.request is None or job.is_done:
            return
        yield from self.follow(job, self.enter(job, job.last_step, client), time.perf_counter())

    def kept_frames(self, name: str, steps: Sequence[int] = ()) -> list[Frame]:
        """Return those of the steps that a run has, all that it has if none is named, for a visitor who comes back.

        Raises:
            ValueError: the run is forgotten.
        """
        job = self._jobs.get(name)
        number = len(job.moments)
        return [self.frame(job, index) for index in steps or range(number) if index < number]

    def kept_frame(self, name: str, index: int) -> Frame:
        """Return one frame of a run.

        Raises:
            ValueError: the run is forgotten or has not come to that frame.
        """
        job = self._jobs.get(name)
        job.moment(index)  # refuses what is not there
        return self.frame(job, index)

    def keep_picture(self, picture: Image.Image, *, with_room: bool = False) -> tuple[Frame, tuple[int, ...]]:
        """Keep the central square of a picture as a run of one frame, to begin other runs with.

        Returns:
            The frame, and the positions around the picture if it is to lie in the middle `with_room` around it.
        """
        size = self._pipeline.image_size
        around = margin(self._pipeline.grid) if with_room else ()
        pixels = torch.zeros(3, size, size)
        inner = (self._pipeline.grid - 2 * margin_width(self._pipeline.grid)) * size // self._pipeline.grid
        side = inner if with_room else size
        edge = (size - side) // 2
        pixels[:, edge : edge + side, edge : edge + side] = to_pixels([picture], side)[0]
        with torch.inference_mode():
            tokens = self._pipeline.image_tokenizer.encode(pixels[None].to(self._pipeline.device))[0].cpu()
        job = self._jobs.keep(Job())
        job.add(whole(tokens), seconds=0.0)
        return self.frame(job, 0), around

    def predicted(self, name: str, index: int, client: Hashable = None) -> Image.Image:
        """Return the picture that a frame would become if all unknown tokens were painted at once, now.

        Raises:
            ValueError: the run is forgotten or has not come to that frame.
        """
        job = self._jobs.get(name)
        moment = job.moment(index)
        if moment.request is None or bool(moment.step.known.all()):
            return self.frame(job, index).image
        at_once = replace(moment.request, steps=1, edit=None)
        run = self.enter(Job(request=at_once, shown=Shown(moment.step.tokens, moment.step.known)), None, client)
        [step] = run
        return to_picture(self._pipeline.decode(step.tokens[None], step.known[None]))

    def submit(self, request: GenerateRequest, client: Hashable, inbox: Inbox | None = None) -> tuple[Job, Run]:
        """Draw the seed, keep the run as a job and hand it to the engine.

        Raises:
            ValueError: a prompt is too long, there are more steps than tokens, what it begins with is forgotten or does
                not fit, or too many requests wait.
        """
        if request.seed is None:
            request = replace(request, seed=self._seed_for(request))
        job, after = self._jobs.begin(request, self._pipeline.grid)
        run = self.enter(job, after, client, inbox)
        return self._jobs.keep(job), run

    def _seed_for(self, request: GenerateRequest) -> int:
        """A fresh seed; a run that goes on keeps its own."""
        edit = request.edit
        before = None if edit is None or edit.redo else self._jobs.get(edit.job).moment(edit.step).request
        return seed_of(before or request)

    def enter(self, job: Job, after: TokenStep | None, client: Hashable, inbox: Inbox | None = None) -> Run:
        """Hand a job to the engine, to begin it or to go on after one of its steps; errors as in `submit`."""
        request = job.request
        assert request is not None
        assert request.seed is not None
        asked = EngineRequest(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt.strip() or None,
            settings=settings_of(request),
            seed=request.seed,
            client=client,
            shown=job.shown,
            after=after,
        )
        if job.run is not None:
            job.run.cancel()  # whoever followed it is gone, or will find that it has ended
        job.run = self._engine.submit(asked, inbox)
        return job.run

    def follow(self, job: Job, run: Run, started: float) -> Generator[Frame | Waiting, None, None]:
        """Keep the steps of a run and yield its frames; closing the iterator cancels the run."""
        is_waiting = True
        with closing(run.steps(patience=SECONDS_BETWEEN_NEWS)) as steps:
            for step in steps:
                if job.run is not run:
                    return
                if step is not None:
                    is_waiting = False
                    job.add(step, time.perf_counter() - started)
                    yield self.frame(job, len(job.moments) - 1)
                elif is_waiting:
                    yield Waiting(ahead=run.num_ahead, seconds=run.expected_wait)

    def frame(self, job: Job, index: int) -> Frame:
        """Return a frame that a job has."""
        moment = job.moments[index]
        return Frame(
            job=job.name,
            index=index,
            total=job.total,
            image=to_picture(self._pipeline.decode(moment.step.tokens[None], moment.step.known[None])),
            revealed=tuple(moment.step.revealed.tolist()),
            born=moment.born,
            grid=self._pipeline.grid,
            request=moment.request,
            seconds=moment.seconds,
        )


def settings_of(request: GenerateRequest) -> SamplingSettings:
    """Return how a request is to be sampled."""
    return SamplingSettings(
        steps=request.steps, guidance=float(request.guidance), temperature=float(request.temperature)
    )


def seed_of(request: GenerateRequest) -> int:
    """Return a request's seed, a fresh one if it names none."""
    return secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed


def to_picture(pixels: torch.Tensor) -> Image.Image:
    """Pixels (1, 3, S, S) in [-1, 1] as an RGB picture."""
    if not torch.isfinite(pixels).all():
        raise ValueError("the picture ran out of the range of numbers; use less guidance or a lower temperature")
    return to_pil(pixels)[0]
