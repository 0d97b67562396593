"""How many words, pictures and captions one call may hold: every door checks the same numbers."""

import re
from collections.abc import Sequence

MAX_PROMPT_CHARACTERS = 1_000
MAX_CAPTIONS = 20
MAX_TABLE_SIDE = 1_000  # pictures, and captions, of one table


def text_lines(text: str | None) -> list[str]:
    """The prompts or captions in a text with one a line; blank lines do not count, a box never touched holds None.

    Lines end with a newline and nothing else: U+2028 and its like are part of what was typed.
    """
    lines = re.split(r"\r\n|\r|\n", text or "")
    return [line.strip() for line in lines if line.strip()]


def check_captions(captions: Sequence[str]) -> None:
    """Refuse no captions, more than 20, and captions that are empty or too long.

    Raises:
        ValueError: the message names the caption and the limit.
    """
    if not 1 <= len(captions) <= MAX_CAPTIONS:
        raise ValueError(f"got {len(captions)} captions; allowed: 1 to {MAX_CAPTIONS} at once")
    for number, caption in enumerate(captions, start=1):
        check_words(f"caption {number}", caption)


def check_words(name: str, text: object) -> None:
    """Refuse text that is missing, blank, too long or not Unicode; any language and emoji are fine.

    Raises:
        ValueError: the message begins with `name`.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} is {type(text).__name__}; it must be text")
    if not text.strip():
        raise ValueError(f'{name} is empty; say in a few words what to see, for example "red apple, noto style"')
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"{name} has {len(text):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} holds half a character (a lone surrogate); type it again as proper Unicode text")
