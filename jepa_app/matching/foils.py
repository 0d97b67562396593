"""Foils: captions that differ from a given one in one thing: a colour, a side or a number.

A pair that is compared with its own foils tells near misses: whatever the picture and the other words have in common
with the caption, they have in common with its foils too. The term is from FOIL-COCO (arXiv 1705.01359), where captions
with one wrong word test a model; here they serve the score itself.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, get_args

from jepa_app.styles import COLOURS

Difference = Literal["colour", "side", "number"]
DIFFERENCES: tuple[Difference, ...] = get_args(Difference)

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
_NUMBERS = ("one", "two", "three")
MOST_COLOURS = 2  # named in a caption, of which each is exchanged


class Foil(NamedTuple):
    """A caption and what it differs in from the one that it was made of."""

    difference: Difference
    caption: str


def foils(caption: str) -> list[Foil]:
    """Return the foils of a caption: at most 27, none where it names no colour, side or number.

    Each of its colours becomes every other colour, and two colours are exchanged. All sides become their opposites,
    since a caption names two sides of one arrangement. All numbers from one to three become another one.
    """
    colours = _said(COLOURS, caption)[:MOST_COLOURS]
    changes = [{colour: other} for colour in colours for other in COLOURS if other != colour]
    changes += [{one: other, other: one} for number, one in enumerate(colours) for other in colours[number + 1 :]]
    found = [Foil("colour", _replaced(caption, change)) for change in changes]
    if _said(tuple(_SIDES), caption):
        found.append(Foil("side", _replaced(caption, _SIDES)))
    numbers = _said(_NUMBERS, caption)
    others = [number for number in _NUMBERS if [number] != numbers] if numbers else []
    found += [Foil("number", _replaced(caption, dict.fromkeys(numbers, other))) for other in others]
    return [foil for foil in dict.fromkeys(found) if foil.caption != caption]


def differences(caption: str) -> set[Difference]:
    """Return in what a caption's foils differ from it."""
    return {foil.difference for foil in foils(caption)}


def well_said_foils(caption: str) -> list[Foil]:
    """Return the foils that people may be shown: without those in which a noun no longer agrees with its number."""
    found = foils(caption)
    return [foil for foil in found if foil.difference != "number" or not _said(("one",), f"{caption} {foil.caption}")]


def _said(words: tuple[str, ...], caption: str) -> list[str]:
    """Return which of some words a caption says, in lower case, each once, in their order."""
    found = re.findall(_any_of(words), caption, flags=re.IGNORECASE)
    return list(dict.fromkeys(word.lower() for word in found))


def _any_of(words: tuple[str, ...]) -> str:
    return rf"\b((?a:{'|'.join(words)}))\b"  # ASCII alone: a Turkish dotless i is no i


def _replaced(caption: str, pairs: Mapping[str, str]) -> str:
    return re.sub(_any_of(tuple(pairs)), lambda match: pairs[match[0].lower()], caption, flags=re.IGNORECASE)
