"""One worker at work on one shard: rows are read ahead, worked on in batches and written."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, TypeVar

from jepa_app.datasets.rows import Row
from jepa_app.datasets.shards import Shard
from jepa_app.datasets.tasks import Model, Task
from jepa_app.datasets.writing import Result, writing

BATCHES_AHEAD = 2
SECONDS_BETWEEN_NEWS = 1.0

ItemT = TypeVar("ItemT")
Tell = Callable[[int, int], None]  # takes rows, and how many of them have errors, that are done since the last time
Ready = tuple[Row, Any, str]  # a row, what was prepared of it, and why it could not be


@dataclass(frozen=True)
class Outcome:
    """What became of a shard: its rows and how many of them have errors, or why it has no output."""

    target: str
    rows: int = 0
    errors: int = 0
    problem: str = ""


def work_on(shard: Shard, task: Task, model: Model, tell: Tell) -> Outcome:
    """Work on a shard and write its output whole; a row that cannot be worked on is written with its error.

    An input that is damaged and an output that cannot be written are told in the outcome: other shards may be better.
    """
    rows = errors = 0
    news = _News(tell)
    origin = {**shard.origin, **task.settings}
    try:
        with writing(shard.target, shard.source.keys, task.columns, origin, task.rows_a_group) as output:
            for batch in ahead(_batches(shard, task, model), BATCHES_AHEAD):
                results = _results(batch, model, shard.part.start + rows)
                for (row, _, _), result in zip(batch, results, strict=True):
                    output.add(row, result)
                failed = sum(isinstance(result, str) for result in results)
                rows, errors = rows + len(batch), errors + failed
                news.add(len(batch), failed)
    except ValueError as problem:
        return Outcome(str(shard.target), problem=str(problem))
    except OSError as refused:
        return Outcome(str(shard.target), problem=f"cannot write {shard.target}: {refused.strerror or refused}")
    finally:
        news.tell()
    return Outcome(str(shard.target), rows, errors)


def ahead(items: Iterator[ItemT], number: int) -> Iterator[ItemT]:
    """Yield the items of an iterator, which a thread advances by up to `number` items beforehand."""
    with ThreadPoolExecutor(1) as reader:
        waiting = deque(reader.submit(next, items, None) for _ in range(number))
        while (item := waiting.popleft().result()) is not None:
            waiting.append(reader.submit(next, items, None))
            yield item


def _batches(shard: Shard, task: Task, model: Model) -> Iterator[list[Ready]]:
    rows = (_ready(row, model) for row in shard.source.rows(shard.part))
    while batch := list(islice(rows, task.rows_at_once)):
        yield batch


def _ready(row: Row, model: Model) -> Ready:
    lean = Row(row.keys, row.words)  # the bytes of the picture are not needed any more
    if row.problem:
        return lean, None, row.problem
    try:
        return lean, model.prepare(row), ""
    except ValueError as mistake:
        return lean, None, str(mistake)


def _results(batch: list[Ready], model: Model, first: int) -> list[Result]:
    good = [(row, prepared, place) for place, (row, prepared, problem) in zip(count(first), batch) if not problem]
    if not good:
        return [problem for _, _, problem in batch]
    worked = iter(model.work(*(list(part) for part in zip(*good, strict=True))))  # type: ignore[arg-type]
    return [problem or next(worked) for _, _, problem in batch]


class _News:
    """Passes numbers on at most once a second: they may have to cross a network."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._last = tell, time.monotonic()
        self._rows = self._errors = 0

    def add(self, rows: int, errors: int) -> None:
        self._rows, self._errors = self._rows + rows, self._errors + errors
        if time.monotonic() - self._last >= SECONDS_BETWEEN_NEWS:
            self.tell()

    def tell(self) -> None:
        if self._rows:
            self._tell(self._rows, self._errors)
        self._rows, self._errors, self._last = 0, 0, time.monotonic()
