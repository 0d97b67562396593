"""What a generator was trained on: its captions' words, which things in which styles, and keywords of these things.

With it, a prompt's unknown words can be named, a thing is found by its keywords or by words that mean nearly the same,
and one that is new to a style can be drawn another way.
"""

import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

from jepa_app.config_base import parse_json
from jepa_app.generation.likeness import NearestThing
from jepa_app.models.text import TextEncoder, spell_symbols
from jepa_app.styles import STYLES, in_style

WORDS_FILE = "words.json"
THINGS_FILE = "things.json"
KEYWORDS_FILE = "keywords.json"
MOST_THINGS = 10_000  # that words are compared with by meaning: each takes a millisecond or two to encode, once
MOST_WORDS = 12  # of a prompt that is compared with things by meaning
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:[’'-][^\W\d_]+)*(?!\w)")
_ENDINGS = ("", "s", "es", "y", "ies", "ing", "ed", "er", "d", "r")


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the words of texts, lower case, each once, in alphabetical order."""
    return sorted({word for text in texts for word in _words(text)})


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of the captions, the things that were shown in each style, and their keywords.

    Attributes:
        words: lower case; None if they are not kept with the weights.
        things: for each style, as prompts name it, the labels of the things.
        keywords: for each keyword, the labels that it may mean, the likeliest first.
        nearest: returns the label that words mean most nearly, if any is near (`likeness.NearestThing`); not saved.
    """

    words: frozenset[str] | None = None
    things: Mapping[str, frozenset[str]] = field(default_factory=dict)
    keywords: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    nearest: Callable[[str], str | None] | None = field(default=None, compare=False)

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
        styles = {part for style in STYLES.values() for part in style.words.split()}
        asked = dict.fromkeys(_words(spell_symbols(prompt)))
        return [word for word in asked if word not in _FILLERS | styles and not _forms(word) & self.words]

    def caption_of(self, prompt: str, *, by_keywords: bool = True) -> str:
        """Return the caption that training had for what a prompt asks for, where it asks for a thing and nothing else.

        "Please draw a koala in the noto design" is "koala, noto style", and "car" is "automobile". Other prompts are
        returned as they are, and without `by_keywords` also those that do not say the thing's own name.
        """
        asked = self._asked(prompt)
        if asked is None or (asked.by_keyword and not by_keywords):
            return prompt
        return asked.caption(self.things)

    def caption_by_keyword(self, prompt: str) -> str | None:
        """Return `caption_of` a prompt that names a thing by other words than its own; None for any other prompt."""
        asked = self._asked(prompt)
        return asked.caption(self.things) if asked is not None and asked.by_keyword else None

    def in_a_style(self, prompt: str, seed: int) -> str:
        """Return a prompt of a thing alone in one of the styles in which it was shown, drawn by the seed.

        Asked for without a style, a network draws a mixture of all of them. Other prompts are returned as they are.
        """
        asked = self._asked(prompt)
        if asked is None or asked.style is not None:
            return prompt
        thing = _thing(_split(asked.label))
        styles = sorted(style for style, shown in self._labels.items() if thing in shown)
        return asked._replace(style=random.Random(f"{seed}|{asked.label}").choice(styles)).caption(self.things)

    def thing_new_to_style(self, prompt: str) -> str | None:
        """Return the label of the thing that a prompt asks for if it was shown, but never in the prompt's style."""
        asked = self._asked(prompt)
        if asked is None or asked.style is None:
            return None
        return asked.label if _thing(_split(asked.label)) not in self._labels[asked.style] else None

    def _asked(self, prompt: str) -> "_Asked | None":
        """The thing and the style that a prompt asks for with nothing but fillers beside them; None if it does not."""
        words = _split(prompt)
        readings: list[tuple[str | None, tuple[str, ...]]] = [(None, words)]  # a style may be called like a thing
        for style in self._labels:
            name = _split(style)
            places = range(len(words) - len(name) + 1)
            at = next((place for place in places if words[place : place + len(name)] == name), None)
            if at is not None:
                readings.append((style, words[:at] + words[at + len(name) :]))
                break
        for by_keyword, find in ((False, self._label), (True, self._meant)):
            for style_named, rest in readings:
                if label := find(_thing(rest)):
                    return _Asked(label, style_named, by_keyword)
        style_named, rest = readings[-1]
        return _Asked(label, style_named, True) if (label := self._like(_thing(rest))) else None

    def _label(self, thing: tuple[str, ...]) -> str | None:
        return next((shown[thing] for shown in self._labels.values() if thing in shown), None)

    def _meant(self, thing: tuple[str, ...]) -> str | None:
        """The likeliest of the labels that a keyword may mean, or that share all of several words."""
        words = _unlinked(thing)
        if found := self._meanings.get(words):
            return found[0]
        shared = [self._sharing.get(word, {}) for word in words]
        common = set[str](shared[0]).intersection(*shared) if len(shared) > 1 else set[str]()
        parts = [words[a:b] for a in range(len(words)) for b in range(a + 1, len(words) + 1)]
        if named := {label for part in parts if (label := self._label(part))}:
            common &= named  # a thing and something else: "small sun" is not the sun behind a small cloud
        return min(common, key=lambda label: (sum(places[label] for places in shared), label), default=None)

    def _like(self, thing: tuple[str, ...]) -> str | None:
        """The label of the thing that other words mean, unless they tell of more than a thing."""
        composing = any(word in _COMPOSING or word.isdecimal() for word in thing)
        if self.nearest is None or composing or len(thing) > MOST_WORDS:
            return None
        return self.nearest(" ".join(thing))

    @cached_property
    def _meanings(self) -> dict[tuple[str, ...], tuple[str, ...]]:
        """The labels that keywords may mean, the likeliest first, by how keywords are compared."""
        known = {label for shown in self.things.values() for label in shown}
        meanings = {
            _unlinked(_thing(_split(keyword))): tuple(label for label in labels if label in known)
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
        longest_first = sorted(self.things, key=len, reverse=True)
        return {style: {_thing(_split(label)): label for label in self.things[style]} for style in longest_first}

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
        labels = {label for shown in (things or {}).values() for label in shown}
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


def _split(text: str) -> tuple[str, ...]:
    """The words and commas of a text: symbols by their names, without regard to case and to the form of apostrophes."""
    return tuple(spell_symbols(text).casefold().replace("’", "'").replace(",", " , ").split())


def _thing(words: tuple[str, ...]) -> tuple[str, ...]:
    """Words without the fillers and commas at their ends; all of them if there is nothing else."""
    saying = [place for place, word in enumerate(words) if word != "," and word not in _FILLERS]
    return words[saying[0] : saying[-1] + 1] if saying else words


def _unlinked(thing: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(word for word in thing if word not in _LINKS)


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


def _words(text: str) -> list[str]:
    return [word.replace("’", "'").removesuffix("'s") for word in _WORD.findall(text.lower())]


_LINKS = frozenset({"a", "an", "of", "the"})  # that may stand between the words of a thing
# Words of scenes, counts and backgrounds, which are pictures of their own.
_COMPOSING = {","} | frozenset(
    _words(
        "above and background behind below beside between left next no not over right under without two three four "
        "five six seven eight nine ten"
    )
)
# Words that say nothing about what a picture shows.
_FILLERS = frozenset(
    _words(
        "a an and are as at by can could do for from have i in is it its let like of on or our some the this that "
        "these those to us want we with would you your design draw drawing drawn emoji give icon image look looks make "
        "me my need paint painting photo picture please see show style"
    )
)


def _forms(word: str) -> set[str]:
    """A word, its parts if it is joined by hyphens, and what it may be with another ending."""
    stems = {word} | {
        word[: -len(ending)] for ending in _ENDINGS[1:] if word.endswith(ending) and len(word) > len(ending) + 2
    }
    doubled = {stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]}  # "running", "run"
    return {stem + ending for stem in stems | doubled for ending in (*_ENDINGS, "e")}
