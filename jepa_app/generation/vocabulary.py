"""What a generator was trained on: its captions' words, and which things in which styles.

So a prompt's unknown words can be named, and a thing that is new to a style can be drawn another way.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

from jepa_app.models.text import spell_symbols
from jepa_app.styles import STYLES

WORDS_FILE = "words.json"
THINGS_FILE = "things.json"
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:[’'-][^\W\d_]+)*(?!\w)")
_ENDINGS = ("", "s", "es", "y", "ies", "ing", "ed", "er", "d", "r")


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the words of texts, lower case, each once, in alphabetical order."""
    return sorted({word for text in texts for word in _words(text)})


def thing_of(label: str) -> str:
    """Return a label as things are compared: lower case, symbols by their names, without an article."""
    words = spell_symbols(label).lower().split()
    return " ".join(words[1:] if len(words) > 1 and words[0] in ("a", "an", "the") else words)


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words of the captions, and the things that were shown in each style.

    Attributes:
        words: lower case; None if they are not kept with the weights.
        things: for each style, as prompts name it, the things (`thing_of` their labels).
    """

    words: frozenset[str] | None = None
    things: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))

    def unknown_words(self, prompt: str) -> list[str]:
        """Return the words of a prompt that are in no form among the known ones, in the order in which they stand.

        Plurals and other endings count as the same word ("kittens" for "kitten"). Emoji stand for their names.
        """
        if self.words is None:
            return []
        styles = {part for style in STYLES.values() for part in style.words.split()}
        asked = dict.fromkeys(_words(spell_symbols(prompt)))
        return [word for word in asked if word not in _FILLERS | styles and not _forms(word) & self.words]

    def thing_new_to_style(self, prompt: str) -> str | None:
        """Return the thing of a prompt such as "koala, noto style" if it was shown, but never in this style."""
        styles = "|".join(sorted(map(re.escape, self.things), key=len, reverse=True))
        named = re.fullmatch(rf"(.*?),? ?\b({styles}) style", " ".join(prompt.split()), flags=re.IGNORECASE)
        if not styles or named is None:
            return None
        thing, style = thing_of(named[1]), named[2].lower()
        is_new = thing not in self.things[style] and any(thing in shown for shown in self.things.values())
        return thing if is_new else None

    def save(self, folder: Path) -> None:
        """Write what is known beside the weights of a generator."""
        if self.words:
            _write(folder / WORDS_FILE, sorted(self.words))
        if self.things:
            _write(folder / THINGS_FILE, {style: sorted(things) for style, things in self.things.items()})

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read what lies beside the weights of a generator.

        Raises:
            ValueError: a file is broken.
        """
        words, things = _read(folder / WORDS_FILE), _read(folder / THINGS_FILE)
        if words is not None and not _is_list_of_words(words):
            raise ValueError(f"{folder / WORDS_FILE} is no list of words; restore the file")
        if things is not None and not (isinstance(things, dict) and all(map(_is_list_of_words, things.values()))):
            raise ValueError(f"{folder / THINGS_FILE} holds no lists of things by style; restore the file")
        return cls(
            words=None if words is None else frozenset(words),
            things=MappingProxyType({style.lower(): frozenset(shown) for style, shown in (things or {}).items()}),
        )


def _write(path: Path, content: object) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False) + "\n", encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); restore the file") from error


def _is_list_of_words(content: object) -> bool:
    return isinstance(content, list) and all(isinstance(word, str) for word in content)


def _words(text: str) -> list[str]:
    return [word.replace("’", "'").removesuffix("'s") for word in _WORD.findall(text.lower())]


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
