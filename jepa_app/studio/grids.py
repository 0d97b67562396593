"""X/Y grids: the same picture under different settings, with one row or column for each value.

All cells share the seed unless an axis changes it, so order and noise are the same and only the change shows.
"""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from jepa_app.limits import text_lines
from jepa_app.studio.requests import MAX_SEED, GenerateRequest
from jepa_app.styles import STYLES, in_style

MAX_CELLS = 36
AXES = ("prompt", "style", "seed", "steps", "guidance", "temperature")
NONE = "none"
DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
RANGE = re.compile(r"(\d+)\s*(?:-|–|\.\.)\s*(\d+)")


@dataclass(frozen=True)
class Cell:
    """One picture of a grid: its place, counted from 0, and its request."""

    row: int
    column: int
    request: GenerateRequest


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Labels of columns and rows ("" for an unused axis), and the cells, row by row."""

    x_axis: str
    y_axis: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    cells: tuple[Cell, ...]


def make_grid(
    base: GenerateRequest, x_axis: str, x_values: str, y_axis: str, y_values: str, styles: Sequence[str] = ()
) -> Grid:
    """Build a grid around a request from the typed values of two axes.

    There is one prompt per line; other values are separated by commas or newlines, and whole numbers may be ranges
    ("1-4"). A request without a seed gets one seed for all cells. `styles` are those of the weights, which may be other
    ones than the table's.

    Raises:
        ValueError: an axis is unknown, both are the same, a value does not fit, or there are too many cells.
    """
    if x_axis == y_axis and x_axis != NONE:
        raise ValueError(f"both axes change the {x_axis}; choose something else for one of them")
    if base.seed is None:
        base = replace(base, seed=secrets.randbelow(MAX_SEED + 1))
    columns, rows = axis_values(x_axis, x_values, styles), axis_values(y_axis, y_values, styles)
    if len(columns) * len(rows) > MAX_CELLS:
        raise ValueError(f"{len(columns)} x {len(rows)} pictures are too many; allowed: at most {MAX_CELLS} in all")
    cells = tuple(
        Cell(row, column, _cell_request(base, {x_axis: x_value, y_axis: y_value}, styles))
        for row, y_value in enumerate(rows)
        for column, x_value in enumerate(columns)
    )
    return Grid(
        x_axis=x_axis,
        y_axis=y_axis,
        columns=tuple(_label(value) for value in columns),
        rows=tuple(_label(value) for value in rows),
        cells=cells,
    )


def axis_values(axis: str, text: str, styles: Sequence[str] = ()) -> list[Any]:
    """Return the values typed for an axis, or a single None for an unused axis.

    Raises:
        ValueError: the axis is unknown, there is no value, or a value is not the number that the axis needs.
    """
    if axis == NONE:
        return [None]
    if axis not in AXES:
        raise ValueError(f"axis is {axis!r}; allowed: {', '.join((*AXES, NONE))}")
    if not isinstance(text, str):
        raise ValueError(f"the values for {axis} are of type {type(text).__name__}; allowed: text with one per line")
    words = text_lines(text if axis == "prompt" else _one_a_line(axis, text))
    if not words:
        raise ValueError(f"there are no values for {axis}; write some, one per line")
    if axis == "prompt":
        return words
    if axis == "style":
        known = {name.lower(): name for name in (*styles, *(style.words for style in STYLES.values()))}
        unknown = [word for word in words if word.lower() not in known]
        if unknown:
            raise ValueError(f"style is {unknown[0]!r}; allowed: {', '.join(known.values())}")
        return [known[word.lower()] for word in words]
    return [number for word in words for number in _numbers(axis, word)]


def _one_a_line(axis: str, text: str) -> str:
    """Values one a line. Between values that stand on lines of their own, or between semicolons, commas are decimal."""
    if (
        axis in ("guidance", "temperature")
        and DECIMAL_COMMA.search(text)
        and (";" in text or len(text_lines(text)) > 1)
    ):
        return DECIMAL_COMMA.sub(".", text.replace(";", "\n"))
    return re.sub(r"[,;]", "\n", text)


def _cell_request(base: GenerateRequest, values: Mapping[str, Any], styles: Sequence[str]) -> GenerateRequest:
    """The request with the values of both axes: a style is added to the prompt, so the prompt is set first."""
    for axis in sorted(values, key=lambda axis: axis != "prompt"):
        base = changed(base, axis, values[axis], styles)
    return base


def changed(request: GenerateRequest, axis: str, value: Any, styles: Sequence[str] = ()) -> GenerateRequest:
    """Return the request with the value of an axis set."""
    if axis == NONE:
        return request
    if axis == "style":
        return replace(request, prompt=in_style(request.prompt, value, styles))
    return replace(request, **{axis: value})


def _numbers(axis: str, word: str) -> Sequence[float]:
    ends = RANGE.fullmatch(word)
    if ends and axis in ("seed", "steps"):
        first, last = int(ends[1]), int(ends[2])
        if not first <= last < first + MAX_CELLS:
            raise ValueError(f"{axis} is {word!r}; allowed: an ascending range of at most {MAX_CELLS} numbers")
        return range(first, last + 1)
    try:
        return [int(word) if axis in ("seed", "steps") else float(word)]
    except ValueError:
        kind = "whole number or a range such as 1-4" if axis in ("seed", "steps") else "number"
        raise ValueError(f"{axis} is {word!r}; allowed: a {kind}") from None


def _label(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:g}" if isinstance(value, float) else str(value)
