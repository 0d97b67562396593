"""Captions that are nearly right: another colour, number or side, words in another order, meaningless words.

Every function is pure: the wrong captions of a row depend only on the row and a generator.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from training.data.batches import Batch, CaptionedPictures
from training.data.captions import (
    BACKGROUNDS,
    NUMBERS,
    RELATIONS,
    Row,
    counted_caption,
    is_phrase,
    scene_caption,
    with_style,
)
from training.data.composition.recolouring import HUES, in_colour
from training.data.selection import Indices, balanced_order

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


class Case(NamedTuple):
    """One picture with its caption, and captions that are nearly right."""

    batch: Batch
    wrong: list[str]


def hard_cases(
    data: CaptionedPictures, members: Indices, count: int, seed: int, image_size: int | None = None
) -> dict[str, list[Case]]:
    """Up to `count` cases of each kind from the rows `members`.

    - `attribute`: a row whose label names a colour, and other colours;
    - `recoloured`: a row in another colour that its caption names, and other colours;
    - `count`: one to three of a row, and other numbers;
    - `shuffled`, `nonsense`: a row, and its words in other orders or replaced by meaningless ones;
    - `sides`: two rows side by side or one above the other, and the opposite relation.
    """
    order = balanced_order(data.rows, members, seed).tolist()
    cases: dict[str, list[Case]] = {}
    for kind, wrong in WRONG_CAPTIONS.items():
        captioned = ((index, wrong(data.rows[index], np.random.default_rng([seed, index]))) for index in order)
        found = (Case(data.fixed([index], image_size), captions) for index, captions in captioned if captions)
        cases[kind] = _first(found, count)
    for kind, more in (("recoloured", _recoloured_cases), ("count", _count_cases), ("sides", _scene_cases)):
        cases[kind] = _first(more(data, order, seed), count)
    return cases


def _first(cases: Iterator[Case], count: int) -> list[Case]:
    return [case for case, _ in zip(cases, range(count), strict=False)]


def _recoloured_cases(data: CaptionedPictures, order: Sequence[int], seed: int) -> Iterator[Case]:
    for index in order:
        if not is_phrase(data.rows[index].label):
            continue
        colours = [str(colour) for colour in np.random.default_rng([seed, index]).permutation(list(HUES))]
        batch = data.recoloured(index, colours[0])
        if batch is not None:
            row = data.rows[index]
            yield Case(batch, [with_style(in_colour(row.label, name), row.style) for name in colours[1 : TRIED + 1]])


def _count_cases(data: CaptionedPictures, order: Sequence[int], seed: int) -> Iterator[Case]:
    for index in order:
        if counted_caption(data.rows[index], 1) is None:
            continue
        numbers = np.random.default_rng([seed, index]).permutation(len(NUMBERS)) + 1
        told = [counted_caption(data.rows[index], int(number)) for number in numbers]
        turned = index % 2 == 1
        yield Case(data.counted(index, int(numbers[0]), turned), [caption for caption in told[1:] if caption])


def _scene_cases(data: CaptionedPictures, order: Sequence[int], seed: int) -> Iterator[Case]:
    """Pairs of neighbours in the order with one style but different labels."""
    by_style: dict[str, list[int]] = {}
    for index in (index for index in order if is_phrase(data.rows[index].label)):
        by_style.setdefault(data.rows[index].style, []).append(index)
    pairs = [pair for members in by_style.values() for pair in zip(members[::2], members[1::2], strict=False)]
    for first, second in pairs:
        if data.rows[first].label == data.rows[second].label:
            continue
        relation = RELATIONS[int(np.random.default_rng([seed, first, second]).integers(len(RELATIONS)))]
        wrong = sides_swapped(data.rows[first], relation, data.rows[second])
        yield Case(data.scene(first, relation, second), [wrong])


def sides_swapped(first: Row, relation: str, second: Row) -> str:
    """The caption of two objects with the opposite relation: "a rose right of a cat" for a rose left of a cat."""
    return scene_caption(first, OPPOSITE[relation], second)


def _no_word(generator: np.random.Generator) -> str:
    syllables = generator.integers(2, 4)
    letters = [generator.choice(list(kind)) for _ in range(syllables) for kind in (_CONSONANTS, _VOWELS)]
    return "".join(letters)
