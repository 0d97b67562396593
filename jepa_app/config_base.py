"""What the configs of all networks share: they travel with the weights, and unknown keys are errors."""

from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any, Self


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
            whole = isinstance(field.default, float) and type(value) is int
            if type(value) is not type(field.default) and not whole:
                kind = type(field.default).__name__
                raise ValueError(
                    f"{cls.__name__}: {field.name} is {value!r}; allowed: {kind}, such as {field.default!r}"
                )
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a dictionary that JSON can hold."""
        return asdict(self)

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
