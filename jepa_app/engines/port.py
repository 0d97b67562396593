"""The port that the studio has its pictures made through; where the steps are computed is not its concern."""

from typing import Protocol

from jepa_app.engines.waiting import EngineRequest, Inbox, Run
from jepa_app.generation.pipeline import JepaTPipeline


class Engine(Protocol):
    """Requests in, steps out.

    Whatever home it has, a request has a place in the line, may be cancelled before any step, and goes on exactly after
    any step of an earlier run. On a CPU, the same seed gives the same bytes alone and beside others, in every home.
    """

    pipeline: JepaTPipeline
    """What encodes, decodes and describes in this process."""
    max_active: int
    """Pictures that may be made at a time; the others wait."""

    @property
    def num_threads(self) -> int:
        """Threads with which this process computes."""

    def submit(self, request: EngineRequest, inbox: Inbox | None = None) -> Run:
        """Accept a request and return its run at once; its steps go to `inbox` if one is given.

        Raises:
            BusyError: too many requests are waiting.
            ValueError: a prompt is empty or too long, there are more steps than tokens, or `shown` does not fit.
        """

    def close(self) -> None:
        """End all runs, and what makes them."""
