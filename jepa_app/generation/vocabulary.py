"""What a generator was trained on: its captions' words, which things in which styles, and keywords of these things.

With it, a prompt's unknown words can be named, a thing is found by its keywords or by words that mean nearly the same,
and one that is new to a style can be drawn another way.
"""

import json
import random
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from jepa_app.config_base import parse_json
from jepa_app.generation.likeness import NearestThing
from jepa_app.generation.wording import (
    COLOUR_WORDS,
    COMPOSING,
    FILLERS,
    forms,
    split_prompt,
    thing_in,
    unlinked,
    words_in,
)
from jepa_app.models.text import TextEncoder, spell_symbols
from jepa_app.styles import STYLES, in_style

WORDS_FILE = "words.json"
THINGS_FILE = "things.json"
KEYWORDS_FILE = "keywords.json"
MOST_THINGS = 10_000  # that words are compared with by meaning: each takes a millisecond or two to encode, once
MOST_WORDS = 12  # of a prompt that is compared with things by meaning


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of the captions, the things that were shown in each style, and their keywords.

    Attributes:
        words: lower case; None if they are not kept with the weights.
        things: for each style, as prompts name it, the labels of the things; under "" captions without a style.
        keywords: for each keyword, the labels that it may mean, the likeliest first.
        nearest: returns the label that words mean most nearly, if any is near (`likeness.NearestThing`); not saved.
    """

    words: frozenset[str] | None = None
    things: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nearest: NearestThing | None = field(default=None, compare=False)

    def __or__(self, other: "Vocabulary") -> "Vocabulary":
        """Return what either of two trainings taught."""
        words = None if self.words is None and other.words is None else (self.words or set()) | (other.words or set())
        styles = {*self.things, *other.things}
        things = {style: self.things.get(style, frozenset()) | other.things.get(style, frozenset()) for style in styles}
        keywords = {
            word: tuple(dict.fromkeys([*self.keywords.get(word, ()), *other.keywords.get(word, ())]))
            for word in {**self.keywords, **other.keywords}
        }
        return Vocabulary(words=None if words is None else frozenset(words), things=things, keywords=keywords)

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that are in no form among the known ones, in the order in which they stand.

        Plurals and other endings count as the same word ("kittens" for "kitten"). Emoji stand for their names.
        """
        if self.words is None:
            return []
        names = self.things or [style.words for style in STYLES.values()]
        styles = {part for name in names for part in name.split()}
        asked = dict.fromkeys(words_in(spell_symbols(prompt)))
        return [word for word in asked if word not in FILLERS | styles and not forms(word) & self.words]

    def caption_of(self, prompt: str, *, by_keywords: bool = True) -> str:
        """Return the caption that training had for what a prompt asks for, where it asks for a thing and nothing else.

        "Please draw a koala in the noto design" is "koala, noto style", and "car" is "automobile". Other prompts are
        returned as they are, and without `by_keywords` also those that do not say the thing's own name.
        """
        asked = self._asked(prompt, by_keywords=by_keywords)
        if asked is None:
            return prompt
        return asked.caption(self._labels)

    def caption_by_keyword(self, prompt: str) -> str | None:
        """Return `caption_of` a prompt that names a thing by other words than its own; None for any other prompt."""
        asked = self._asked(prompt)
        return asked.caption(self._labels) if asked is not None and asked.by_keyword else None

    def in_a_style(self, prompt: str, seed: int) -> str:
        """Return a prompt of a thing alone in one of the styles in which it was shown, drawn by the seed.

        Asked for without a style, a network draws a mixture of all of them. One seed draws the same style for all
        things that were shown in it. Other prompts are returned as they are.
        """
        asked = self._asked(prompt)
        if asked is None or asked.style is not None:
            return prompt
        thing = thing_in(split_prompt(asked.label))
        styles = [style for style, shown in self._labels.items() if thing in shown]
        drawn = min(styles, key=lambda style: random.Random(f"{seed}|{style}").random())
        return asked._replace(style=drawn).caption(self._labels)

    def thing_new_to_style(self, prompt: str) -> str | None:
        """Return the label of the thing that a prompt asks for if it was shown, but never in the prompt's style."""
        asked = self._asked(prompt)
        if asked is None or asked.style is None:
            return None
        return asked.label if thing_in(split_prompt(asked.label)) not in self._labels[asked.style] else None

    def _asked(self, prompt: str, *, by_keywords: bool = True) -> "_Asked | None":
        """The thing and the style that a prompt asks for with nothing but fillers beside them; None if it does not."""
        words = split_prompt(prompt)
        if words in self._plain:
            return None
        readings: list[tuple[str | None, tuple[str, ...]]] = [(None, words)]  # a style may be called like a thing
        for style in self._labels:
            name = split_prompt(style)
            places = range(len(words) - len(name) + 1)
            at = next((place for place in places if words[place : place + len(name)] == name), None)
            if at is not None:
                readings.append((style, words[:at] + words[at + len(name) :]))
                break
        for by_keyword, find in ((False, self._label), (True, self._meant)):
            for style_named, rest in readings:
                if label := find(thing_in(rest)):
                    return _Asked(label, style_named, by_keyword)
            if not by_keywords:
                return None
        style_named, rest = readings[-1]
        return _Asked(label, style_named, True) if (label := self._like(thing_in(rest))) else None

    def _label(self, thing: tuple[str, ...]) -> str | None:
        return next((shown[thing] for shown in self._labels.values() if thing in shown), None)

    def _meant(self, thing: tuple[str, ...]) -> str | None:
        """The likeliest of the labels that a keyword may mean, or that share all of several words."""
        words = unlinked(thing)
        if found := self._meanings.get(words):
            return found[0]
        shared = [self._sharing.get(word, {}) for word in words]
        common = set[str](shared[0]).intersection(*shared) if len(shared) > 1 else set[str]()
        parts = [words[a:b] for a in range(len(words)) for b in range(a + 1, len(words) + 1)]
        if named := {label for part in parts if (label := self._label(part))}:
            common &= named  # a thing and something else: "small sun" is not the sun behind a small cloud
        return min(common, key=lambda label: (sum(places[label] for places in shared), label), default=None)

    def _like(self, thing: tuple[str, ...]) -> str | None:
        """The label of the thing that other words mean, unless they tell of more than a thing or of another colour."""
        if self.nearest is None or len(thing) > MOST_WORDS or not self._tells_of_one(thing):
            return None
        label = self.nearest(" ".join(thing))
        said, found = (COLOUR_WORDS.intersection(words) for words in (thing, split_prompt(label or "")))
        return label if not said or found <= said else None

    def _tells_of_one(self, thing: tuple[str, ...]) -> bool:
        """Whether words name at most one thing, and neither a number nor where things stand."""
        if any(word in COMPOSING or word.isdecimal() for word in thing):
            return False
        named: list[range] = []
        for length in range(len(thing), 0, -1):
            for first in range(len(thing) - length + 1):
                place = range(first, first + length)
                inside = any(place[0] in longer and place[-1] in longer for longer in named)
                if not inside and self._label(thing[first : first + length]):
                    named.append(place)
        return len(named) < 2

    @cached_property
    def _meanings(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The labels that keywords may mean, the likeliest first, by how keywords are compared."""
        known = {label for shown in self._labels.values() for label in shown.values()}
        meanings = {
            unlinked(thing_in(split_prompt(keyword))): tuple(label for label in labels if label in known)
            for keyword, labels in self.keywords.items()
        }
        return {words: labels for words, labels in meanings.items() if words and labels}

    @cached_property
    def _sharing(self) -> dict[str, dict[str, int]]:
        """For each word, the labels that have it in them (at place 0) or as a keyword (at their place there)."""
        sharing: dict[str, dict[str, int]] = {}
        for words, labels in self._meanings.items():
            if len(words) == 1:
                sharing.setdefault(words[0], {}).update({label: place for place, label in enumerate(labels)})
        for shown in self._labels.values():
            for words, label in shown.items():
                for word in words:
                    sharing.setdefault(word, {})[label] = 0
        return sharing

    @cached_property
    def _labels(self) -> dict[str, dict[tuple[str, ...], str]]:
        """For each style, the longest first, the labels by how they are compared."""
        longest_first = sorted(filter(None, self.things), key=len, reverse=True)
        return {
            style: {thing_in(split_prompt(label)): label for label in self.things[style]} for style in longest_first
        }

    @cached_property
    def _plain(self) -> frozenset[tuple[str, ...]]:
        """The captions without a style, by how prompts are compared with them."""
        return frozenset(split_prompt(caption) for caption in self.things.get("", ()))

    def save(self, folder: Path) -> None:
        """Write what is known beside the weights of a generator."""
        if self.words:
            _write(folder / WORDS_FILE, sorted(self.words))
        if self.things:
            _write(folder / THINGS_FILE, {style: sorted(things) for style, things in self.things.items()})
        if self.keywords:
            _write(folder / KEYWORDS_FILE, {word: list(self.keywords[word]) for word in sorted(self.keywords)})

    @classmethod
    def load(cls, folder: Path, encoder: TextEncoder | None = None) -> Self:
        """Read what lies beside the weights of a generator; with a text encoder, words of a like meaning are read too.

        Raises:
            ValueError: a file is broken.
        """
        words, things, keywords = (_read(folder / name) for name in (WORDS_FILE, THINGS_FILE, KEYWORDS_FILE))
        if words is not None and not _is_list_of_words(words):
            raise ValueError(f"{folder / WORDS_FILE} is not a list of words; restore the file")
        if not _maps_to_words(things):
            raise ValueError(f"{folder / THINGS_FILE} does not map styles to lists of things; restore the file")
        if not _maps_to_words(keywords):
            raise ValueError(f"{folder / KEYWORDS_FILE} does not map keywords to lists of things; restore the file")
        labels = {label for style, shown in (things or {}).items() if style for label in shown}
        return cls(
            words=None if words is None else frozenset(words),
            things={style: frozenset(shown) for style, shown in (things or {}).items()},
            keywords={word: tuple(meant) for word, meant in (keywords or {}).items()},
            nearest=NearestThing(labels, encoder) if encoder and 0 < len(labels) <= MOST_THINGS else None,
        )


class _Asked(NamedTuple):
    """What a prompt asks for: a thing by its label, a style if it names one, and whether other words told the thing."""

    label: str
    style: str | None
    by_keyword: bool

    def caption(self, styles: Iterable[str]) -> str:
        return in_style(self.label, self.style or "", styles)


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); restore the file") from error


def _maps_to_words(content: object) -> bool:
    return content is None or (isinstance(content, dict) and all(map(_is_list_of_words, content.values())))


def _is_list_of_words(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(word, str) for word in content)
