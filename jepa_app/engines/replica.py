"""One replica of the engine on a Ray cluster: requests in as bytes, messages out."""

import asyncio
import os
import pickle
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

import torch

from jepa_app.engines.messages import message
from jepa_app.engines.thread import ThreadEngine
from jepa_app.engines.waiting import EngineRequest, Inbox, Run
from jepa_app.generation.picture import TokenStep
from jepa_app.generation.pipeline import JepaTPipeline

MANY, GATHERING_SECONDS = 6, 0.15  # with so many pictures on a replica, the steps of this time are sent together


class Replica:
    """One engine of the cluster. Ray makes it in a process of its own, on a GPU if it is given one."""

    def __init__(self, weights: str) -> None:
        torch.set_num_threads(1)  # replicas share the cores
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self._engine = ThreadEngine(JepaTPipeline.from_pretrained(weights, device=device))

    async def steps(self, work: bytes) -> AsyncGenerator[list[bytes], None]:
        """Make one picture beside others and yield messages: the first step at once, then those of a moment together.

        Whatever is sent costs the replica, Ray and the studio about two milliseconds, however small it is.
        """
        request: EngineRequest = pickle.loads(work)
        inbox = _Arrivals(asyncio.get_running_loop())
        run = self._engine.submit(request, inbox)
        try:
            while steps := await inbox.next_steps():
                yield [message(0, step) for step in steps]
                await asyncio.sleep(GATHERING_SECONDS if self._engine.num_active >= MANY else 0)
        finally:
            run.cancel()

    async def some_steps(self, work: bytes, most: int) -> list[bytes]:
        """Make up to `most` steps of one picture beside others, and return their messages."""
        sent: list[bytes] = []
        async with aclosing(self.steps(work)) as arriving:
            async for messages in arriving:
                sent += messages
                if len(sent) >= most:
                    break
        return sent[:most]

    def process(self) -> int:
        """Return the id of the process."""
        return os.getpid()


class _Arrivals(Inbox):
    """An inbox that is filled by the engine's thread and read in the event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._arrived: asyncio.Queue[TokenStep | Exception | None] = asyncio.Queue()
        self._loop = loop
        self._is_over = False

    def put(self, item: tuple[Run, TokenStep | Exception | None], block: bool = True, timeout: Any = None) -> None:
        """Take in what the engine delivers."""
        del block, timeout
        self._loop.call_soon_threadsafe(self._arrived.put_nowait, item[1])

    async def next_steps(self) -> list[TokenStep]:
        """Return all steps that have arrived, one at least; none at the end of the run."""
        steps: list[TokenStep] = []
        while not self._is_over and (not steps or not self._arrived.empty()):
            item = await self._arrived.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                self._is_over = True
            else:
                steps.append(item)
        return steps
