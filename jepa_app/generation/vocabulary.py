"""The words that a generator was trained on, so that a prompt's other words can be named."""

import json
import re
from collections.abc import Iterable
from pathlib import Path

from jepa_app.models.text import spell_symbols
from jepa_app.styles import STYLES

WORDS_FILE = "words.json"
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:[’'-][^\W\d_]+)*(?!\w)")
_ENDINGS = ("", "s", "es", "y", "ies", "ing", "ed", "er", "d", "r")


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the words of texts, lower case, each once, in alphabetical order."""
    return sorted({word for text in texts for word in _words(text)})


def unknown_words(prompt: str, known: frozenset[str]) -> list[str]:
    """Return the words of a prompt that are in no form among the known ones, in the order in which they stand.

    Plurals and other endings count as the same word ("kittens" for "kitten"). Emoji stand for their names.
    """
    styles = {part for style in STYLES.values() for part in style.words.split()}
    asked = dict.fromkeys(_words(spell_symbols(prompt)))
    return [word for word in asked if word not in _FILLERS | styles and not _forms(word) & known]


def save_words(folder: Path, words: Iterable[str]) -> None:
    """Write the words beside the weights of a generator."""
    (folder / WORDS_FILE).write_text(json.dumps(list(words), ensure_ascii=False) + "\n", encoding="utf-8")


def load_words(folder: Path) -> frozenset[str] | None:
    """Read the words beside the weights of a generator; None if there are none.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / WORDS_FILE
    try:
        words = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise ValueError(f"{path} is broken ({error}); restore the file") from error
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise ValueError(f"{path} is no list of words; restore the file")
    return frozenset(words)


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
