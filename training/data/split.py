"""Which pictures are never trained on: whole concepts, and concept-design pairs; hashes decide, not file order.

A picture's side depends on its code point and design alone, so corpora built on other machines, at other sizes or
with fewer styles are split in the same way.
"""

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from jepa_app.styles import design_of
from training.data.captions import Row

HELDOUT_CONCEPTS = 0.04
HELDOUT_PAIRS = 0.04
HELDOUT_FILES = 0.02  # of pictures that have no code point


@dataclass(frozen=True, kw_only=True)
class Split:
    """Row indices of the three sides, ascending and disjoint; together they cover all rows.

    `heldout_pairs`: the concept is trained on in at least one other design, but never in this one.
    `heldout_concepts`: the concept is never trained on.
    """

    train: NDArray[np.int64]
    heldout_pairs: NDArray[np.int64]
    heldout_concepts: NDArray[np.int64]


def split_rows(rows: Sequence[Row]) -> Split:
    """The fixed split of `rows`; rows without a code point are split by the hash of their file name."""
    designs: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        if row.hexcode:
            designs[concept_of(row.hexcode)].add(design_of(row.style))
    heldout = {
        (concept, design)
        for concept, present in designs.items()
        if not is_heldout_concept(concept)
        for design in _heldout_designs(concept, present)
    }
    sides: tuple[list[int], list[int], list[int]] = ([], [], [])
    for index, row in enumerate(rows):
        if not row.hexcode:
            side = 1 if _fraction(f"file|{row.file}") < HELDOUT_FILES else 0
        elif is_heldout_concept(row.hexcode):
            side = 2
        else:
            side = 1 if (concept_of(row.hexcode), design_of(row.style)) in heldout else 0
        sides[side].append(index)
    train, pairs, concepts = (np.asarray(side, dtype=np.int64) for side in sides)
    return Split(train=train, heldout_pairs=pairs, heldout_concepts=concepts)


def concept_of(hexcode: str) -> str:
    """One spelling per concept: upper case, without variation selectors ("2764-fe0f" -> "2764")."""
    return "-".join(part for part in hexcode.upper().split("-") if part != "FE0F")


def is_heldout_concept(hexcode: str) -> bool:
    """Whether a concept is held out in all styles."""
    return _fraction(f"concept|{concept_of(hexcode)}") < HELDOUT_CONCEPTS


def _heldout_designs(concept: str, designs: set[str]) -> set[str]:
    """The designs of a concept that are held out; at least one design always stays in training."""
    ranked = sorted(designs, key=lambda design: _fraction(f"pair|{concept}|{design}"))
    return {design for design in ranked[:-1] if _fraction(f"pair|{concept}|{design}") < HELDOUT_PAIRS}


def _fraction(key: str) -> float:
    """A number in [0, 1) that depends on the text alone, the same on every machine."""
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
