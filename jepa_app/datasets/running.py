"""A run over a data set: what is left to do, who does it, and how far it is."""

import fcntl
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from glob import escape
from pathlib import Path

import torch
from tqdm import tqdm

from jepa_app.datasets.shards import Shard, find_shards
from jepa_app.datasets.tasks import Task
from jepa_app.datasets.working import Outcome, work_on
from jepa_app.datasets.writing import is_there


@dataclass(frozen=True, kw_only=True)
class Totals:
    """What a run did. `rows` were worked on now; `shards_before` were there already, from an earlier run.

    `problems` names the shards that have no output, and why.
    """

    rows: int
    errors: int
    seconds: float
    rows_a_second: float
    workers: int
    shards: int
    shards_before: int
    problems: tuple[str, ...]


def run_task(
    task: Task, patterns: list[str], out: Path, device: str, address: str | None = None, workers: int | None = None
) -> Totals:
    """Do a task with all rows of the files that the patterns name, and write a parquet file for each shard.

    Shards whose output is there, from this input and these settings, are skipped. `address` is that of a Ray cluster;
    None stands for this process alone.

    Raises:
        ValueError: an input cannot be used, an output is from something else, another run writes to the folder, or the
            cluster cannot be used.
        OSError: the folder cannot be made.
    """
    out = out.absolute()
    shards = find_shards(patterns, task.wanted, out, task.rows_a_part)
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        left = [shard for shard in shards if not is_there(shard.target, {**shard.origin, **task.settings})]
        for shard in left:  # what a run that was killed has left
            for partial in shard.target.parent.glob(f"{escape(shard.target.stem)}.*.partial"):
                partial.unlink(missing_ok=True)
        began = time.monotonic()
        if not left:
            outcomes, workers = [], 0
        elif address is None:
            outcomes, workers = _in_this_process(task, left, device), 1
        else:
            outcomes, workers = _on_cluster(task, left, device, address, workers)
    rows, seconds = sum(outcome.rows for outcome in outcomes), time.monotonic() - began
    return Totals(
        rows=rows,
        errors=sum(outcome.errors for outcome in outcomes),
        seconds=round(seconds, 3),
        rows_a_second=round(rows / seconds, 2) if seconds else 0.0,
        workers=workers,
        shards=len(shards),
        shards_before=len(shards) - len(left),
        problems=tuple(sorted(outcome.problem for outcome in outcomes if outcome.problem)),
    )


def _in_this_process(task: Task, shards: list[Shard], device: str) -> list[Outcome]:
    # other numbers of threads than 1, 2, 4, … would change the last digits
    torch.set_num_threads(1 << (torch.get_num_threads().bit_length() - 1))
    model = task.load(device)
    with _Bar(shards) as bar:
        return [bar.after(work_on(shard, task, model, bar.tell)) for shard in shards]


def _on_cluster(
    task: Task, shards: list[Shard], device: str, address: str, workers: int | None
) -> tuple[list[Outcome], int]:
    from jepa_app.datasets import cluster  # Ray is imported only where it is used

    with cluster.joined(address, workers):
        number, with_gpus = cluster.num_workers(workers, device)
        number = min(number, len(shards))
        with _Bar(shards) as bar:
            return cluster.outcomes_on_cluster(task, shards, number, with_gpus, bar.tell, bar.after), number


class _Bar:
    """A progress bar on standard error: rows done, rate and time left.

    The number of rows in archives is not known. It is estimated from the archives that are done, by their sizes.
    """

    def __init__(self, shards: list[Shard]) -> None:
        self._sizes = {str(shard.target): int(shard.origin["bytes"]) for shard in shards if shard.num_rows is None}
        self._known = sum(shard.num_rows or 0 for shard in shards)
        self._rows_done = self._bytes_done = self._errors = 0
        total = None if self._sizes else self._known
        self._bar = tqdm(total=total, unit=" rows", file=sys.stderr, mininterval=0.5, smoothing=0.05)

    def __enter__(self) -> "_Bar":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def tell(self, rows: int, errors: int) -> None:
        """Show that rows are done."""
        self._errors += errors
        if self._errors:
            self._bar.set_postfix(errors=self._errors, refresh=False)
        if rows:
            self._bar.update(rows)

    def after(self, outcome: Outcome) -> Outcome:
        """Take in that a shard is done, and return it."""
        size = self._sizes.get(outcome.target)
        if size is not None:
            self._rows_done, self._bytes_done = self._rows_done + outcome.rows, self._bytes_done + size
            estimate = self._rows_done * sum(self._sizes.values()) // max(1, self._bytes_done)
            self._bar.total = max(self._bar.n, self._known + estimate)
            self._bar.refresh()
        return outcome


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Hold the output folder for as long as the block lasts; the hold ends with the process, however that ends.

    Raises:
        ValueError: another run holds it.
    """
    folder = os.open(out, os.O_RDONLY)
    try:
        try:
            fcntl.flock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            raise ValueError(f"another run is writing to {out}; wait for it, or choose another folder") from taken
        yield
    finally:
        with suppress(OSError):
            os.close(folder)
