"""Which pictures stand for a whole side of the split when it is measured."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.captions import Row

Indices = NDArray[np.int64]


def is_of(row: Row, groups: Collection[str]) -> bool:
    """Whether a row's group or subgroup is among `groups`; without any, every row is of them."""
    return not groups or row.group in groups or row.subgroup in groups


def balanced_order(rows: Sequence[Row], indices: Indices, seed: int) -> Indices:
    """All of `indices` in a random order whose every beginning has the styles as evenly as the pictures allow."""
    shuffled = np.random.default_rng(seed).permutation(indices)
    seen: Counter[str] = Counter()
    turns = []
    for index in shuffled.tolist():
        style = rows[index].style
        turns.append(seen[style])
        seen[style] += 1
    return shuffled[np.argsort(turns, kind="stable")]


def choose_pictures(rows: Sequence[Row], indices: Indices, count: int, seed: int) -> Indices:
    """Up to `count` rows with labels that all differ, so that every other caption is wrong; styles are even."""
    chosen: dict[str, int] = {}
    for index in balanced_order(rows, indices, seed).tolist():
        chosen.setdefault(rows[index].label, index)
    return np.asarray(list(chosen.values())[:count], dtype=np.int64)


def fitting_and_measuring(rows: Sequence[Row], indices: Indices) -> tuple[Indices, Indices]:
    """Split `indices` into those to calibrate on and those to measure on, about half each; no label is in both.

    A row's half depends on its label alone, so weights calibrated on one machine are measured fairly on another.
    """
    first = np.asarray([_coin(rows[index].label) for index in indices.tolist()], dtype=bool)
    return indices[first], indices[~first]


def _coin(label: str) -> bool:
    return bool(hashlib.sha256(f"calibrate|{label}".encode()).digest()[0] & 1)


def kind_of(row: Row) -> str:
    """What near misses have in common: style and group; a row without a group is near to no other."""
    return f"{row.style}|{row.group}" if row.group else f"none|{row.file}"
