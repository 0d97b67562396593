"""Whole sentences that ask for a picture, as people type them: "can i have a red apple, as twemoji draws it".

Each row has a few of them, chosen by the row alone, because text features are cached by string.
"""

import functools
import random
from collections.abc import Sequence

from jepa_app.styles import style_words
from training.data.captions import BACKGROUNDS, NUMBERS, RELATIONS, CaptionOptions, Row, caption_pool, with_article
from training.data.plurals import plural

SENTENCES = 4  # of a row; half of them name its style, if it has one

_WITH_STYLE = (
    "draw {thing} as a {style} emoji",
    "i want to see {thing} in the style of {style}",
    "make me {thing} in the {style} look",
    "an emoji of {thing}, the way {style} draws it",
    "a drawing of {thing}, made like {style}",
    "paint {thing} for me in {style} style",
    "give me a {style} picture with {thing}",
    "can i have {thing}, as {style} draws it",
    "i need {thing} that looks like {style}",
    "{style} picture that shows {thing}",
)
_WITHOUT_STYLE = (
    "draw {thing}",
    "i would like {thing}",
    "a picture of {thing}",
    "an emoji with {thing}",
    "give me a picture that shows {thing}",
    "please paint {thing}",
    "can you make {thing} for me",
    "i need a drawing of {thing}",
    "let me see {thing}",
    "what does {thing} look like",
)


@functools.cache
def sentences(row: Row) -> tuple[str, ...]:
    """The sentences that training may use for a row: at most `SENTENCES` distinct strings."""
    thing, style = with_article(row.label), style_words(row.style) if row.style else ""
    styled = random.Random(f"{row.file}|sentences").sample(_WITH_STYLE, SENTENCES // 2) if style else []
    concept = f"{row.hexcode or row.file}|sentences"
    plain = random.Random(concept).sample(_WITHOUT_STYLE, SENTENCES - len(styled))
    return tuple(template.format(thing=thing, style=style) for template in [*styled, *plain])


def said_of(rows: Sequence[Row], options: CaptionOptions) -> set[str]:
    """What training may say of rows: their captions, and the words of all else that the options turn on."""
    said = {caption for row in rows for caption in caption_pool(row)}
    if options.sentences:
        said.update(sentence for row in rows for sentence in sentences(row))
    if options.backgrounds:
        said.update(f"{colour} background" for colour in BACKGROUNDS)
    if options.scenes:
        said.update((*RELATIONS, "at the top", "at the bottom"))
    if options.counts:
        said.update((*NUMBERS, *(many for row in rows if (many := plural(row.label)))))
    return said
