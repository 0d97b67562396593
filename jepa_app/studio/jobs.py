"""Runs are kept for a while, so that a visitor can come back to one or continue from any of its steps."""

import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from jepa_app.engines.turns import address_of
from jepa_app.engines.waiting import Run
from jepa_app.generation.picture import Shown, TokenStep
from jepa_app.studio.edits import on_board, with_ring, without
from jepa_app.studio.requests import MAX_FRAMES, GenerateRequest, seed_of

KEPT_JOBS = 64
UNKNOWN = -1


@dataclass(frozen=True)
class KeptStep:
    """One kept step.

    Attributes:
        step: what the sampler yielded.
        request: the request, with the seed used; None for an uploaded picture.
        born: for each position, the frame that revealed its token; -1 where none is known.
        seconds: time since the run started.
    """

    step: TokenStep
    request: GenerateRequest | None
    born: tuple[int, ...]
    seconds: float


@dataclass
class Job:
    """A kept run: its frames so far, including the frames of the runs that it continues.

    Attributes:
        request: the request, with the seed used; None for an uploaded picture.
        style_seed: what draws the style of prompts without one: the seed of the run that it began with.
        shown: the starting picture of its own schedule; None for an empty picture.
        offset: the index of the frame of its own schedule's first step.
        kept: the steps so far, one per frame.
        total: the number of frames once it is done.
        run: the engine's run that currently adds to it.
        owner: the client that it is kept for.
        turn: held while steps are added and while another run takes over; notified when either happens.
    """

    name: str = field(default_factory=lambda: secrets.token_hex(16))  # whoever knows it may see and continue the run
    request: GenerateRequest | None = None
    style_seed: int | None = None
    shown: Shown | None = None
    offset: int = 0
    kept: list[KeptStep] = field(default_factory=list)
    total: int = 0
    run: Run | None = None
    owner: Hashable = None
    turn: threading.Condition = field(default_factory=threading.Condition, compare=False)

    def wait_for_more(self, frames: int, seconds: float) -> bool:
        """Wait until there are more than so many frames, or nobody makes them; False if the time ran out."""
        with self.turn:
            return self.turn.wait_for(lambda: len(self.kept) > frames or self.is_stalled, seconds)

    @property
    def is_stalled(self) -> bool:
        """Whether frames are missing and nobody makes them."""
        return not self.is_done and (self.run is None or self.run.is_cancelled)

    @property
    def is_done(self) -> bool:
        """Whether all its frames exist."""
        return 0 < self.total == len(self.kept)

    @property
    def last_step(self) -> TokenStep | None:
        """The last step of its own schedule; None before the first."""
        return self.kept[-1].step if len(self.kept) > self.offset else None

    def step_at(self, frame: int) -> KeptStep:
        """Return a frame, counted from 0.

        Raises:
            ValueError: the run has not reached that frame.
        """
        if not 0 <= frame < len(self.kept):
            raise ValueError(f"step {frame + 1} does not exist; the run has {len(self.kept)} of {self.total} steps")
        return self.kept[frame]

    def add(self, step: TokenStep, seconds: float) -> KeptStep:
        """Keep a step and return it as a frame."""
        known = step.known[: step.num_tokens].tolist()
        before = self.kept[-1].born if self.kept else (UNKNOWN,) * len(known)
        fresh = set(step.painted)
        index = len(self.kept)
        born = tuple(
            index if position in fresh else before[position] if is_known else UNKNOWN
            for position, is_known in enumerate(known)
        )
        self.kept.append(KeptStep(step, self.request, born, seconds))
        self.total = self.offset + step.total
        return self.kept[-1]


class Jobs:
    """The latest runs by their ids, so that a visitor can come back to one or continue from any of its frames."""

    def __init__(self, capacity: int = KEPT_JOBS) -> None:
        self._capacity = capacity
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._pinned: dict[str, Job] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._jobs)

    def keep(self, job: Job, owner: Hashable = None) -> Job:
        """Keep a run for its owner and return it; beyond the capacity, the oldest of whoever keeps most is dropped."""
        with self._lock:
            job.owner = owner
            self._jobs[job.name] = job
            while len(self._jobs) > self._capacity:
                del self._jobs[self._dispensable().name]
        return job

    def _dispensable(self) -> Job:
        """The oldest run of the owner with most runs, at the address with most: nobody pushes others' runs out."""
        at = Counter(address_of(job.owner) for job in self._jobs.values())
        of = Counter(job.owner for job in self._jobs.values())
        return max(self._jobs.values(), key=lambda job: (at[address_of(job.owner)], of[job.owner]))

    def pin(self, job: Job) -> None:
        """Keep a run for good."""
        self._pinned[job.name] = job

    def get(self, name: str) -> Job:
        """Return a run.

        Raises:
            ValueError: it never existed or is no longer kept.
        """
        with self._lock:
            job = self._jobs.get(name) or self._pinned.get(name)
        if job is None:
            raise ValueError(f"run {name!r} is no longer kept (only the last {self._capacity} are); generate it again")
        return job

    def finished(self, request: GenerateRequest) -> Job | None:
        """Return a finished run of exactly this request, if one is kept."""
        with self._lock:
            return next((job for job in self._jobs.values() if job.is_done and job.request == request), None)

    def seed_for(self, request: GenerateRequest) -> int:
        """Return a fresh seed, or, for a run that continues, its own seed.

        Raises:
            ValueError: the starting picture is no longer kept.
        """
        edit = request.edit
        before = None if edit is None or edit.redo else self.get(edit.job).step_at(edit.step).request
        return seed_of(before or request)

    def begin(self, request: GenerateRequest, grid: int) -> tuple[Job, TokenStep | None]:
        """Return a job for a request with its seed, and the step after which its picture continues.

        A run that continues with its own seed and number of steps keeps its schedule, whatever else has changed. With
        the same prompt it therefore becomes the same picture. Otherwise all steps are spent on the unknown tokens.

        Raises:
            ValueError: the run is no longer kept or too long, the frame does not exist, or a position is not on the
                board.
        """
        edit = request.edit
        if edit is None:
            return Job(request=request, style_seed=request.seed), None
        source = self.get(edit.job)
        last = source.step_at(edit.step)
        style_seed = request.seed if source.style_seed is None else source.style_seed
        before = source.kept[: edit.step + 1]
        if len(before) + request.steps > MAX_FRAMES:
            raise ValueError(f"the run would have {len(before) + request.steps} steps; allowed: at most {MAX_FRAMES}")
        if not edit.redo and edit.step >= source.offset and _same_schedule(request, last.request):
            job = Job(request=request, style_seed=style_seed, shown=source.shown, offset=source.offset, kept=before)
            job.total = source.total
            return job, last.step
        redo = with_ring(edit.redo, grid) if edit.ring else on_board(edit.redo, grid)
        shown = Shown(last.step.tokens, without(last.step.known, redo, grid))
        total = len(before) + request.steps  # until the schedule is made
        rest = Job(request=request, style_seed=style_seed, shown=shown, offset=len(before), kept=before, total=total)
        return rest, None


def _same_schedule(request: GenerateRequest, before: GenerateRequest | None) -> bool:
    return before is not None and (request.seed, request.steps) == (before.seed, before.steps)
