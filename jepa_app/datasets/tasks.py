"""What can be done with every row: the tasks with their settings, and the models that carry them out."""

from collections.abc import Sequence
from typing import Any, Protocol

import pyarrow as pa

from jepa_app.datasets.rows import Row, Wanted
from jepa_app.datasets.writing import Result


class Model(Protocol):
    """A task's networks, loaded."""

    def prepare(self, row: Row) -> Any:
        """Do what needs no network, while other rows are in work.

        Raises:
            ValueError: the row cannot be worked on.
        """

    def work(self, rows: Sequence[Row], prepared: Sequence[Any], places: Sequence[int]) -> list[Result]:
        """Work on rows together; `places` are the rows' numbers in their file, counted from 0."""
        ...


class Task(Protocol):
    """What is to be done with each row; it can be sent to other machines.

    Attributes:
        rows_at_once: rows that are worked on together: always the same ones, so that the numbers do not depend on who
            works on them.
        rows_a_part, rows_a_group: rows of an output file, and of one group in it.
    """

    @property
    def rows_at_once(self) -> int: ...

    @property
    def rows_a_part(self) -> int: ...

    @property
    def rows_a_group(self) -> int: ...

    @property
    def columns(self) -> pa.Schema:
        """The task's own columns of the output."""

    @property
    def settings(self) -> dict[str, Any]:
        """What the results depend on, beside the input."""
        ...

    @property
    def wanted(self) -> Wanted:
        """What is read from the inputs."""
        ...

    def load(self, device: str) -> Model:
        """Load the networks; `device` is auto, cpu, cuda or cuda:N."""
        ...
