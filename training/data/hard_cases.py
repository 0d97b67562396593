"""Captions that are nearly right: another colour, words in another order, meaningless words, the other side.

Every function is pure: the wrong captions of a row depend only on the row and a generator.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np

from training.data.captions import BACKGROUNDS, RELATIONS, Row, scene_caption, with_style

TRIED = 3  # wrong captions of each kind per picture
OPPOSITE = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"

WrongCaptions = Callable[[Row, np.random.Generator], list[str]]


def colour_word(row: Row) -> str | None:
    """The colour that a label names; None if it names none or several."""
    said = re.findall(rf"\b({'|'.join(BACKGROUNDS)})\b", row.label)
    return said[0] if len(said) == 1 else None


def recoloured(row: Row, generator: np.random.Generator) -> list[str]:
    """The row's caption with its colour word replaced by others; none if its label names no colour or several."""
    own = colour_word(row)
    if own is None:
        return []
    others = [colour for colour in BACKGROUNDS if colour != own]
    drawn = [others[place] for place in generator.permutation(len(others))[:TRIED]]
    return [with_style(re.sub(rf"\b{own}\b", colour, row.label), row.style) for colour in drawn]


def shuffled(row: Row, generator: np.random.Generator) -> list[str]:
    """The row's caption with the words of its label in other orders; none if it has fewer than three words."""
    words = row.label.split()
    if len(words) < 3:
        return []
    orders = [" ".join(words[place] for place in generator.permutation(len(words))) for _ in range(4 * TRIED)]
    others = [order for order in dict.fromkeys(orders) if order != row.label]
    return [with_style(order, row.style) for order in others[:TRIED]]


def nonsense(row: Row, generator: np.random.Generator) -> list[str]:
    """The row's caption with every word of its label replaced by meaningless syllables."""
    return [with_style(re.sub(r"\w+", lambda _: _no_word(generator), row.label), row.style) for _ in range(TRIED)]


WRONG_CAPTIONS: Mapping[str, WrongCaptions] = {"attribute": recoloured, "shuffled": shuffled, "nonsense": nonsense}
"""Kinds of wrong captions by the end of their figures' names."""


def sides_swapped(first: Row, relation: str, second: Row) -> str:
    """The caption of two objects with the opposite relation: "a rose right of a cat" for a rose left of a cat."""
    return scene_caption(first, OPPOSITE[relation], second)


def _no_word(generator: np.random.Generator) -> str:
    syllables = generator.integers(2, 4)
    letters = [generator.choice(list(kind)) for _ in range(syllables) for kind in (_CONSONANTS, _VOWELS)]
    return "".join(letters)
