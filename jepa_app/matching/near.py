"""Captions that differ in one thing from a given one: another colour, side or number, to tell near misses by name."""

import re
from typing import Literal

Difference = Literal["colour", "side", "number"]

COLOURS = ["red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "black", "white", "grey"]
_SIDES = {
    "left of": "right of",
    "right of": "left of",
    "above": "below",
    "below": "above",
    "on the left": "on the right",
    "on the right": "on the left",
    "at the top": "at the bottom",
    "at the bottom": "at the top",
}
_NUMBERS = {"two": "three", "three": "two"}


def alternatives(caption: str) -> list[tuple[Difference, str]]:
    """Return captions that differ in one thing, with what differs; none where nothing can be exchanged safely.

    A colour is exchanged only if the caption names one alone, so that no other word has to change with it.
    """
    found: list[tuple[Difference, str]] = []
    said = re.findall(_any_of(COLOURS), caption, flags=re.IGNORECASE)
    if len(said) == 1:
        others = [colour for colour in COLOURS if colour != said[0].lower()]
        found += [("colour", _replaced(caption, {said[0].lower(): colour})) for colour in others]
    kinds: tuple[tuple[Difference, dict[str, str]], ...] = (("side", _SIDES), ("number", _NUMBERS))
    for kind, pairs in kinds:
        other = _replaced(caption, pairs)
        if other != caption:
            found.append((kind, other))
    return found


def _any_of(words: list[str]) -> str:
    return rf"\b({'|'.join(words)})\b"


def _replaced(caption: str, pairs: dict[str, str]) -> str:
    return re.sub(_any_of(list(pairs)), lambda match: pairs[match[0].lower()], caption, flags=re.IGNORECASE)
