"""How many words, pictures and captions one call may contain; page, API and command line share these limits."""

import re
from collections.abc import Sequence

MAX_PROMPT_CHARACTERS = 1_000
MAX_CAPTIONS = 20
MAX_TABLE_SIDE = 1_000  # pictures in one table, and captions in one table
MAX_TEXT = MAX_TABLE_SIDE * (MAX_PROMPT_CHARACTERS + 2)  # characters of a text of many lines


def text_lines(text: str | None) -> list[str]:
    """Return the prompts or captions of a text with one per line; blank lines do not count.

    A text box that was never touched holds None. Only newlines end a line: U+2028 and the like are part of the text.

    Raises:
        ValueError: it is not text, or longer than any list of captions.
    """
    if not isinstance(text, str | None):
        raise ValueError(f"captions are of type {type(text).__name__}; allowed: text with one per line")
    if len(text or "") > MAX_TEXT:
        raise ValueError(f"the text has {len(text or ''):,} characters; at most {MAX_TEXT:,} are allowed")
    lines = re.split(r"\r\n|\r|\n", text or "")
    return [line.strip() for line in lines if line.strip()]


def check_captions(captions: Sequence[str]) -> None:
    """Refuse an empty list, more than 20 captions, and captions that are empty or too long.

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
        ValueError: the message starts with `name`.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} is of type {type(text).__name__}; it must be text")
    if not text.strip():
        raise ValueError(
            f'{name} is empty; describe the picture in a few words, for example "red apple, twemoji style"'
        )
    if len(text) > MAX_PROMPT_CHARACTERS:
        raise ValueError(f"{name} has {len(text):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are allowed")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError(f"{name} contains half a character (a lone surrogate); type it again as valid Unicode text")
