"""Which pictures stand for a whole side of the split when it is measured."""

import hashlib
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.captions import CaptionOptions, Row

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
    """Up to `count` rows whose labels and files all differ, so that every other caption is wrong; styles are even."""
    chosen: list[int] = []
    taken: set[tuple[str, str]] = set()
    for index in balanced_order(rows, indices, seed).tolist():
        names = {("label", rows[index].label), ("file", rows[index].file)}
        if not names & taken:
            taken |= names
            chosen.append(index)
    return np.asarray(chosen[:count], dtype=np.int64)


def fitting_and_measuring(rows: Sequence[Row], indices: Indices) -> tuple[Indices, Indices]:
    """Split `indices` into those to calibrate on and those to measure on, about half each.

    No label and no file is in both. A row's half depends on its label, or on the first of the labels that share files
    with it, so weights calibrated on one machine are measured fairly on another.
    """
    first_label = _first_labels(rows, indices)
    first = np.asarray([_coin(first_label[rows[index].label]) for index in indices.tolist()], dtype=bool)
    return indices[first], indices[~first]


def _first_labels(rows: Sequence[Row], indices: Indices) -> dict[str, str]:
    """For each label, the alphabetically first of all that are joined to it by files with several captions."""
    first: dict[str, str] = {}

    def found(label: str) -> str:
        while first.setdefault(label, label) != label:
            label = first[label]
        return label

    by_file: dict[str, str] = {}
    for row in (rows[index] for index in indices.tolist()):
        one, other = sorted((found(row.label), found(by_file.setdefault(row.file, row.label))))
        first[other] = one
    return {label: found(label) for label in first}


def _coin(label: str) -> bool:
    return bool(hashlib.sha256(f"calibrate|{label}".encode()).digest()[0] & 1)


def kind_of(row: Row) -> str:
    """What near misses have in common: style and group; a row without a group is near to no other."""
    return f"{row.style}|{row.group}" if row.group else f"none|{row.file}"


def emphasised(rows: Sequence[Row], members: Indices, options: CaptionOptions) -> Indices:
    """Return the members, those with an emphasised property as often as `options` says."""
    properties = [{rows[index].style, rows[index].group, rows[index].subgroup} for index in members]
    known = set().union(*properties) - {""}
    if unknown := [name for name in options.emphasised if name not in known]:
        raise ValueError(
            f"nothing to emphasise in {', '.join(unknown)}; allowed: {', '.join(sorted(known)) or 'nothing'}"
        )
    emphasis = set(options.emphasised)
    return np.repeat(members, [options.repeats if emphasis & own else 1 for own in properties])
