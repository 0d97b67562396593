"""Batches made ahead of their step by a thread, so that a GPU does not wait for them."""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TypeVar

ItemT = TypeVar("ItemT")


@contextmanager
def ahead(make: Callable[[int], ItemT], start: int, depth: int) -> Iterator[Iterator[ItemT]]:
    """Yield an endless iterator over make(start), make(start + 1), …, of which `depth` are made ahead in a thread.

    With a depth of 0 each is made when it is asked for. An error of `make` is raised where its item is asked for.
    """
    if depth == 0:
        yield (make(number) for number in count(start))
        return
    pool = ThreadPoolExecutor(1)
    try:
        yield _made_ahead(make, start, depth, pool)
    finally:
        pool.shutdown(cancel_futures=True)


def _made_ahead(make: Callable[[int], ItemT], start: int, depth: int, pool: ThreadPoolExecutor) -> Iterator[ItemT]:
    waiting: deque[Future[ItemT]] = deque(pool.submit(make, start + place) for place in range(depth))
    for number in count(start + depth):
        item = waiting.popleft().result()
        waiting.append(pool.submit(make, number))
        yield item
