"""What the configs of all networks share: they travel with the weights as JSON, and unknown keys are errors."""

import json
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Self, get_args

MOST, MOST_LAYERS, MOST_PIXELS = 2**16, 256, 1024  # of whole numbers, layers, and pixels along a side
MOST_SIZE = 1e30  # of other numbers


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text from outside says.

    Raises:
        ValueError: it is not JSON, or nested more deeply than can be read.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


@dataclass(frozen=True, kw_only=True)
class Config:
    """Settings that convert to and from a JSON dictionary."""

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """Build the settings from a dictionary, as stored beside the weights.

        Raises:
            ValueError: a key is unknown or a value is not allowed.
        """
        allowed = {field.name for field in fields(cls)}
        unknown = sorted(set(values) - allowed)
        if unknown:
            raise ValueError(f"unknown {cls.__name__} keys {unknown}; allowed: {sorted(allowed)}")
        values = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
        for field in fields(cls):
            value = values.get(field.name, field.default)
            if not _is_like(value, field.default, get_args(field.type)[:1]):
                kind = type(field.default).__name__
                raise ValueError(
                    f"{cls.__name__}: {field.name} is {value!r:.80}; allowed: {kind}, such as {field.default!r}"
                )
            most = MOST_LAYERS if field.name.endswith(("depth", "layers")) else MOST
            most = MOST_PIXELS if field.name.endswith("size") else most
            if isinstance(value, int) and value > most:
                raise ValueError(f"{cls.__name__}: {field.name} is {value}; allowed: up to {most:,}")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary that JSON can hold."""
        return asdict(self)

    def least_parameters(self) -> int:
        """Return a number of parameters that the network has at least: a square for each layer's width."""
        own = {name: value for name, value in asdict(self).items() if name != "text_width"}  # the text encoder's
        return sum(
            depth * own.get(name.removesuffix("depth") + "width", own.get("width", 0)) ** 2
            for name, depth in own.items()
            if name.endswith("depth")
        )

    def _require(self, condition: bool, message: str) -> None:
        if not condition:
            raise ValueError(f"{type(self).__name__}: {message}")

    def _require_plan(self, plan: tuple[int, ...], grid: int) -> None:
        rising = all(type(side) is int for side in plan) and all(a < b for a, b in pairwise((0, *plan, grid)))
        self._require(rising or not plan, f"plan is {plan}; allowed: rising numbers of tokens, below the grid's {grid}")

    def _require_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            self._require(value >= 1, f"{name} is {value}; allowed: 1 or more")


def _is_like(value: object, default: object, inner: tuple[type, ...]) -> bool:
    """Whether a value has the type of a setting's default; the values in a tuple have the `inner` one."""
    if isinstance(default, tuple):
        return isinstance(value, tuple) and all(_is_like(each, inner[0](), ()) for each in value)
    if isinstance(default, float):
        return type(value) in (int, float) and -MOST_SIZE < value < MOST_SIZE  # type: ignore[operator]
    return type(value) is type(default)
