"""Pictures that begin with something: an earlier run up to a step, a part to be redone, a picture from outside.

Letters in shapes: N image tokens, C token channels, S picture side in pixels.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from jepa_app.unmasking import Shown, TokenStep

KEPT_JOBS = 64


@dataclass
class Job:
    """A run as it is kept for a while: what was asked for and every step so far."""

    seed: int
    num_steps: int
    steps: list[TokenStep] = field(default_factory=list)


class Jobs:
    """The last runs by their ids, so that a visitor can come back to one or go on from any of its steps."""

    def __init__(self, capacity: int = KEPT_JOBS) -> None:
        self._capacity = capacity
        self._jobs: OrderedDict[str, Job] = OrderedDict()

    def __len__(self) -> int:
        return len(self._jobs)

    def keep(self, name: str, job: Job) -> None:
        """Keep a run under its id; the oldest that is kept is forgotten."""
        self._jobs[name] = job
        while len(self._jobs) > self._capacity:
            self._jobs.popitem(last=False)

    def get(self, name: str) -> Job:
        """Return a run.

        Raises:
            ValueError: it was never there or is forgotten.
        """
        job = self._jobs.get(name)
        if job is None:
            raise ValueError(f"run {name!r} is not kept any more (the last {self._capacity} are); generate it again")
        return job


def with_ring(positions: Sequence[int], grid: int) -> tuple[int, ...]:
    """Return positions on a board of grid x grid tokens and the ring of their neighbours.

    A hole is filled better when its border is redone too: what was there has been fitted to the old inside.

    Raises:
        ValueError: a position is not on the board.
    """
    outside = [position for position in positions if not 0 <= position < grid * grid]
    if outside:
        raise ValueError(f"position {outside[0]} is not on the picture; allowed: 0 to {grid * grid - 1}, row by row")
    near = {
        (position // grid + down, position % grid + right)
        for position in positions
        for down in (-1, 0, 1)
        for right in (-1, 0, 1)
    }
    return tuple(sorted(row * grid + column for row, column in near if 0 <= row < grid and 0 <= column < grid))


def shown_of_job(job: Job, after_step: int, redo: Sequence[int], *, seed: int, num_steps: int) -> Shown:
    """Return what a run had made after a step, without the positions to redo.

    With the run's own seed and number of steps and nothing to redo, the run goes on as it would have.

    Raises:
        ValueError: the run has not come to that step.
    """
    if not 0 <= after_step < len(job.steps):
        raise ValueError(f"step {after_step + 1} is not there; the run has {len(job.steps)} of {job.num_steps} steps")
    step = job.steps[after_step]
    goes_on = not redo and seed == job.seed and num_steps == job.num_steps == step.total
    return Shown(step.tokens, without(step.known, redo), steps_done=step.index + 1 if goes_on else None)


def shown_of_picture(tokens: Tensor, redo: Sequence[int]) -> Shown:
    """Return the tokens (N, C) of a picture from outside, without the positions to redo.

    Raises:
        ValueError: nothing is to be redone.
    """
    if not redo:
        raise ValueError("nothing is marked; paint over the part of the picture that is to be made anew")
    return Shown(tokens, without(torch.ones(len(tokens), dtype=torch.bool), redo))


def without(known: Tensor, redo: Sequence[int]) -> Tensor:
    """Return the mask known (N,) with the positions to redo taken out."""
    return known.index_fill(0, torch.tensor(list(redo), dtype=torch.long, device=known.device), False)
