"""The words of prompts: how they are split, compared and counted as saying something."""

import re
from collections.abc import Iterable

from jepa_app.models.text import spell_symbols
from jepa_app.styles import COLOURS

_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:[’'-][^\W\d_]+)*(?!\w)")
_ENDINGS = ("", "s", "es", "y", "ies", "ing", "ed", "er", "d", "r")
_MARKS = ".!?;:"  # at the end of a word


def words_of(texts: Iterable[str]) -> list[str]:
    """Return the words of texts, lower case, each once, in alphabetical order."""
    return sorted({word for text in texts for word in words_in(text)})


def split_prompt(text: str) -> tuple[str, ...]:
    """Return the words and commas of a text, symbols by their names, without case and without marks after words."""
    words = spell_symbols(text).casefold().replace("’", "'").replace(",", " , ").split()
    return tuple("grey" if word == "gray" else word.rstrip(_MARKS) or word for word in words)


def thing_in(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return words without the fillers and commas at their ends; all of them if there is nothing else."""
    saying = [place for place, word in enumerate(words) if word != "," and word not in FILLERS]
    return words[saying[0] : saying[-1] + 1] if saying else words


def unlinked(thing: tuple[str, ...]) -> tuple[str, ...]:
    """Return words without those that only link others: "slice of pizza" is "slice pizza"."""
    return tuple(word for word in thing if word not in _LINKS)


def words_in(text: str) -> list[str]:
    """Return the words of a text in their order, lower case."""
    return [word.replace("’", "'").removesuffix("'s") for word in _WORD.findall(text.lower())]


_LINKS = frozenset({"a", "an", "of", "the"})  # that may stand between the words of a thing
# Words of scenes, counts and backgrounds, which are pictures of their own.
COMPOSING = frozenset(",&+") | frozenset(
    words_in(
        "above and background behind below beside between left next no not or over plus right under without both few "
        "many pair several two three four five six seven eight nine ten eleven twelve dozen twenty hundred thousand "
        "pairs dozens hundreds thousands lots"
    )
)
COLOUR_WORDS = frozenset(COLOURS)
# Words that say nothing about what a picture shows.
FILLERS = frozenset(
    words_in(
        "a an and are as at by can could do for from have i in is it its let like of on or our some the this that "
        "these those to us want we with would you your design draw drawing drawn emoji give icon image look looks make "
        "me my need paint painting photo picture please see show style"
    )
)


def forms(word: str) -> set[str]:
    """Return a word, its parts if it is joined by hyphens, and what it may be with another ending."""
    stems = {word} | {
        word[: -len(ending)] for ending in _ENDINGS[1:] if word.endswith(ending) and len(word) > len(ending) + 2
    }
    doubled = {stem[:-1] for stem in stems if len(stem) > 3 and stem[-1] == stem[-2]}  # "running", "run"
    return {stem + ending for stem in stems | doubled for ending in (*_ENDINGS, "e")}
