"""Connections that ask for nothing are closed: a server that keeps them runs out of them."""

import asyncio
import time
from typing import Any, Protocol
from weakref import WeakKeyDictionary

SECONDS_TO_ASK = 30.0  # from the connection to the end of the first request's headers
SECONDS_BETWEEN = 5.0


class Connection(Protocol):
    """What is used of uvicorn's connections: `cycle` is the latest request, None before the first."""

    cycle: Any
    transport: asyncio.Transport


class Idle:
    """Closes connections on which no request has come for a while; uvicorn does it only between two requests."""

    def __init__(self, seconds: float = SECONDS_TO_ASK) -> None:
        self._seconds = seconds
        self._since: WeakKeyDictionary[Connection, float] = WeakKeyDictionary()

    async def watch(self, app: Any) -> None:
        """Look at the connections of the server of a Gradio app until cancelled."""
        while True:
            await asyncio.sleep(min(SECONDS_BETWEEN, self._seconds))
            server = getattr(app.get_blocks(), "server", None)
            if server is not None:
                self.close_idle(server.server_state.connections)

    def close_idle(self, connections: set[Connection]) -> None:
        """Close those that have asked for nothing for long."""
        now = time.monotonic()
        for connection in list(connections):
            cycle = getattr(connection, "cycle", None)
            if cycle is not None and not cycle.response_complete:
                self._since.pop(connection, None)
            elif now - self._since.setdefault(connection, now) > self._seconds:
                connection.transport.close()
