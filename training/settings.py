"""Settings as text: frozen dataclasses changed by assignments such as "schedule.batch_size=96"."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from jepa_app.config_base import parse_json

SettingsT = TypeVar("SettingsT")


def replace_settings(settings: SettingsT, assignments: Sequence[str]) -> SettingsT:
    """Return the dataclass with the values of assignments such as "network.width=128".

    All are applied at once, so that values which must fit one another can be changed together.

    Raises:
        ValueError: there is no such key, or a value does not fit its type.
    """
    changes = []
    for assignment in assignments:
        key, equals, text = assignment.partition("=")
        if not equals:
            raise ValueError(f"setting {assignment!r} has no '='; write --set key=value, e.g. schedule.batch_size=96")
        changes.append((key, text))
    return _replaced(settings, changes)


def _replaced(settings: Any, changes: Sequence[tuple[str, str]]) -> Any:
    allowed = [entry.name for entry in dataclasses.fields(settings)]
    values: dict[str, Any] = {}
    groups: dict[str, list[tuple[str, str]]] = {}
    for key, text in changes:
        name, _, rest = key.partition(".")
        if name not in allowed:
            raise ValueError(f"setting {name!r} is unknown; allowed: {', '.join(allowed)}")
        old = getattr(settings, name)
        is_group = dataclasses.is_dataclass(old)
        if is_group and not rest:
            raise ValueError(f"setting {name!r} is a group; write {name}.KEY=value")
        if rest and not is_group:
            raise ValueError(f"setting {name!r} is not a group, so {key!r} does not exist")
        if is_group:
            groups.setdefault(name, []).append((rest, text))
        else:
            values[name] = _parse(key, text, old)
    values |= {name: _replaced(getattr(settings, name), inner) for name, inner in groups.items()}
    return dataclasses.replace(settings, **values)


def _parse(key: str, text: str, old: object) -> object:
    if isinstance(old, str):
        return text
    try:
        value = parse_json(text.lower() if isinstance(old, bool) else text)
    except ValueError:
        value = None
    if isinstance(old, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if isinstance(old, tuple) and isinstance(value, list):
        value = tuple(value)
    if type(value) is not type(old):
        raise ValueError(f"setting {key} is {text!r}; allowed: {type(old).__name__}, such as {old!r}")
    return value


def require_at_least(settings: object, least: Mapping[str, float], group: str = "") -> None:
    """Refuse settings below the least allowed for each name; a message names them with their `group`, such as "loss.".

    Raises:
        ValueError: one is below, or infinite.
    """
    for name, allowed in least.items():
        if not allowed <= getattr(settings, name) < math.inf:
            raise ValueError(f"{group}{name} is {getattr(settings, name)}; allowed: {allowed} or more")


def require_shares(settings: object, names: Sequence[str], group: str = "") -> None:
    """Refuse settings outside [0, 1]; a message names them with their `group`, such as "loss.".

    Raises:
        ValueError: one is outside.
    """
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{group}{name} is {getattr(settings, name)}; allowed: 0 to 1")
