"""What can be said of a picture: a bounded, fixed pool of captions per row, and the words for backgrounds and scenes.

The first caption of a pool is the canonical one, "red apple, twemoji style". The others drop the style, replace the
label with keyword and noun ("joyful cat"), list keywords, or change the order. A pool never grows beyond
`POOL_SIZE`, because text features are cached by string.
"""

import functools
import math
import random
import re
from dataclasses import dataclass

import numpy as np

from jepa_app.styles import style_words
from training.data.composition.recolouring import DETERMINER
from training.data.plurals import plural

POOL_SIZE = 8
STYLED_CAPTIONS = 4  # of the pool, including the canonical one; the others are shared by all styles of a concept

BACKGROUNDS: dict[str, tuple[int, int, int]] = {
    "white": (255, 255, 255),
    "black": (0, 0, 0),
    "grey": (128, 128, 128),
    "red": (220, 40, 40),
    "orange": (250, 140, 20),
    "yellow": (250, 220, 50),
    "green": (50, 160, 70),
    "blue": (40, 90, 220),
    "purple": (130, 60, 180),
    "pink": (250, 150, 190),
    "brown": (130, 80, 40),
    "turquoise": (60, 200, 200),
}
"""Background colour words and their sRGB values, 0..255."""

RELATIONS = ("left of", "right of", "above", "below")
"""Where the first named object of a scene stands relative to the second."""

_PLACES = {
    "left of": ("on the left", "on the right"),
    "right of": ("on the right", "on the left"),
    "above": ("at the top", "at the bottom"),
    "below": ("at the bottom", "at the top"),
}

NUMBERS = ("one", "two", "three")

# Last words of a label that say what kind of sign it is, not what it shows: "cat face" is a cat.
_GENERIC_NOUNS = frozenset({"face", "button", "symbol", "sign", "mark"})
_SPOKEN_CONSONANT = re.compile(r"uni(?!n)|one|eu|use")  # "a unicorn", "a one-thirty"


@dataclass(frozen=True, kw_only=True)
class CaptionOptions:
    """How pictures, captions and scenes are drawn in training.

    Probabilities in [0, 1]: `drops`, a caption from the rest of the pool instead of the canonical one; `sentences`,
    a whole sentence that asks for the picture (`training/data/sentences.py`) instead of either; `nouns`, the label's
    noun alone, where no label is just that ("tree" of a palm tree); `backgrounds`, a named background colour, said in
    the caption; `scenes`, a second picture of the same style beside, above or below the first; `counts`, one to three
    of the picture, said in the caption, where the label has a plural; `recoloured`, the picture's main colour turned to
    another, said in the caption, where it has one.
    "Left of" and "above" come `relation_odds` times as often as "right of" and "below": drawn evenly, the relation and
    the order of the words tell nothing by themselves, and training gets stuck. A share `direct` of the scenes is said
    without a relation: "a rose on the left, a cat on the right".
    Training pictures whose style, group or subgroup is among `emphasised` come `repeats` times per epoch, others once.

    Raises:
        ValueError: a probability is outside [0, 1], those of which a picture has only one together exceed 1, or repeats
            and emphasised are not set together.
    """

    drops: float = 0.5
    sentences: float = 0.0
    nouns: float = 0.0
    backgrounds: float = 0.0
    scenes: float = 0.0
    counts: float = 0.0
    recoloured: float = 0.0
    relation_odds: float = 1.0
    direct: float = 0.0
    emphasised: tuple[str, ...] = ()
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("drops", "sentences", "nouns", "backgrounds", "scenes", "counts", "recoloured", "direct"):
            value = getattr(self, name)
            if not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value}; allowed: a probability from 0 to 1")
        if self.sentences + self.nouns > 1:
            raise ValueError(f"sentences is {self.sentences} and nouns is {self.nouns}; allowed: 0 to 1 together")
        if self.scenes + self.counts + self.recoloured > 1:
            raise ValueError(
                f"scenes is {self.scenes}, counts is {self.counts} and recoloured is {self.recoloured}; allowed: 0 to "
                "1 together: a picture is only one of them"
            )
        if not 0 < self.relation_odds < math.inf:
            raise ValueError(f"relation_odds is {self.relation_odds}; allowed: above 0")
        if self.repeats < 1 or (self.repeats > 1) != bool(self.emphasised):
            raise ValueError(
                f"repeats is {self.repeats} and emphasised is {list(self.emphasised)}; allowed: 2 or more with "
                "something emphasised, or 1 with nothing"
            )


@dataclass(frozen=True, kw_only=True)
class Row:
    """One captioned picture: `file` is relative to the data folder, `hexcode` its code points ("1F34E") or None."""

    file: str
    label: str
    tags: tuple[str, ...] = ()
    style: str = ""
    group: str = ""
    subgroup: str = ""
    hexcode: str | None = None


def canonical_caption(row: Row) -> str:
    """The caption for evaluation and for the training draws that `drops` leaves: "red apple, twemoji style"."""
    return with_style(row.label, row.style)


def with_style(text: str, style: str) -> str:
    """`text` followed by the style's words; unchanged when the picture has no style."""
    return f"{text}, {style_words(style)} style" if style else text


def is_phrase(label: str) -> bool:
    """Whether a label names a thing, so that it can stand in a longer caption; a sentence ends with its mark."""
    return not label.rstrip().endswith((".", "!", "?"))


def with_article(label: str) -> str:
    """A label as a noun phrase: "an apple", "a cat face", "cherries"; one that has a determiner keeps it."""
    if DETERMINER.match(label):
        return label
    head = _head(label)
    last = head.split()[-1] if head.split() else ""
    if label[:1].isupper() or label[:1].isdigit() or (last.endswith("s") and not last.endswith("ss")):
        return label
    return f"{_article(label)} {label}"


def on_background(caption: str, colour: str) -> str:
    """A caption with its background colour: "red apple, twemoji style, on a blue background"."""
    comma = "," if "," in caption else ""
    return f"{caption}{comma} on {_article(colour)} {colour} background"


def scene_caption(first: Row, relation: str, second: Row) -> str:
    """The caption of two objects: "a rose left of a cat, twemoji style"."""
    return with_style(f"{with_article(first.label)} {relation} {with_article(second.label)}", first.style)


def direct_scene_caption(first: Row, relation: str, second: Row, choice: float) -> str:
    """The caption of two objects by their places: "a rose on the left, a cat on the right, twemoji style".

    A uniform draw `choice` in [0, 1) puts the things or the places first.
    """
    places = _PLACES[relation]
    things = with_article(first.label), with_article(second.label)
    pairs = zip(things, places, strict=True) if choice < 0.5 else zip(places, things, strict=True)
    return with_style(", ".join(f"{one} {other}" for one, other in pairs), first.style)


def draw_relation(options: CaptionOptions, choice: float) -> str:
    """The relation that a uniform draw in [0, 1) picks."""
    odds = options.relation_odds
    ends = np.cumsum([odds, 1, odds, 1]) / (2 * odds + 2)
    return RELATIONS[min(int(np.searchsorted(ends, choice, side="right")), len(RELATIONS) - 1)]


def counted_caption(row: Row, number: int) -> str | None:
    """The caption of one to three of a row: "two red apples, noto style"; None if its label has no plural."""
    many = plural(row.label)
    if many is None:
        return None
    return with_style(f"{NUMBERS[number - 1]} {row.label if number == 1 else many}", row.style)


@functools.cache
def caption_pool(row: Row) -> tuple[str, ...]:
    """All captions that training may use for a row: at most `POOL_SIZE` distinct strings, the canonical one first.

    The choice depends on the row alone. Captions without style depend on the concept alone, so that the styles of a
    concept share their text features.
    """
    pool = [canonical_caption(row)]
    if row.style:
        styled = _styled_captions(row)
        random.Random(f"{row.file}|styled").shuffle(styled)
        pool += styled[: STYLED_CAPTIONS - 1]
    if row.tags or row.style:
        plain = _plain_captions(row)
        random.Random(f"{row.hexcode or row.file}|plain").shuffle(plain)
        pool += [*plain[: POOL_SIZE - STYLED_CAPTIONS - 1], row.label]
    return tuple(dict.fromkeys(pool))


def draw_caption(row: Row, options: CaptionOptions, drop: float, choice: float) -> str:
    """The caption that two uniform draws in [0, 1) pick from the row's pool."""
    pool = caption_pool(row)
    if len(pool) == 1 or drop >= options.drops:
        return pool[0]
    return pool[1 + int(choice * (len(pool) - 1))]


def _styled_captions(row: Row) -> list[str]:
    words = style_words(row.style)
    return [
        f"{words} emoji of {with_article(row.label)}",
        f"{words} style, {row.label}",
        f"{with_article(row.label)} in {words} style",
        f"{words} {row.label}",
        *(with_style(phrase, row.style) for phrase in _keyword_phrases(row)[:2]),
    ]


def _plain_captions(row: Row) -> list[str]:
    captions = [with_article(row.label), *_keyword_phrases(row)[:3]]
    new = _new_tags(row)
    if new:
        captions.append(f"{row.label}, {new[0]}")
    if len(new) > 1:
        captions.append(", ".join(new[:3]))
    return list(dict.fromkeys(caption for caption in captions if caption != row.label))


def _keyword_phrases(row: Row) -> list[str]:
    """Keyword and noun, as people ask: "joyful cat" for a cat with tears of joy. Order fixed by the concept."""
    noun = noun_of(row.label)
    return [f"{tag} {noun}" for tag in _new_tags(row) if tag not in noun and noun not in tag]


def _new_tags(row: Row) -> list[str]:
    """The keywords that the label does not already say, in an order fixed by the concept."""
    said = set(re.findall(r"\w+", row.label.lower()))
    new = [tag for tag in row.tags if not set(re.findall(r"\w+", tag.lower())) <= said]
    random.Random(f"{row.hexcode or row.file}|tags").shuffle(new)
    return new


def _article(words: str) -> str:
    return "an" if words[:1] in "aeiou" and not _SPOKEN_CONSONANT.match(words) else "a"


def _head(label: str) -> str:
    """The part of a label before its qualifiers: "woman" of "woman: red hair", "cat" of "cat with wry smile"."""
    return re.split(r":| with | of | in | on | and |,|\(", label, maxsplit=1)[0].strip() or label


def noun_of(label: str) -> str:
    """What a label shows, in one word: "cat" of "cat face", but "face" of "flushed face"."""
    words = _head(label).split()
    if len(words) > 1 and words[-1] in _GENERIC_NOUNS and not words[-2].endswith(("ing", "ed", "y")):
        return words[-2]
    return words[-1]
