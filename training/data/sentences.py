"""Whole sentences that ask for a picture, as people type them: "can i have a red apple, as twemoji draws it".

Each row has a few of them, chosen by the row alone, because text features are cached by string.
"""

import functools
import random
from collections.abc import Collection, Sequence

from jepa_app.styles import style_words
from training.data.captions import (
    BACKGROUNDS,
    NUMBERS,
    RELATIONS,
    CaptionOptions,
    Row,
    caption_pool,
    draw_caption,
    noun_of,
    with_article,
    with_style,
)
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


def noun_captions(row: Row, labels: Collection[str]) -> tuple[str, ...]:
    """The label's noun with the style and alone, if no label is just that: "tree, noto style" and "tree" of a palm.

    People ask for "a tree", and no emoji is called that.
    """
    noun = noun_of(row.label)
    return () if noun in labels else tuple(dict.fromkeys((with_style(noun, row.style), noun)))


def draw_words(
    row: Row, options: CaptionOptions, labels: Collection[str], kind: float, drop: float, choice: float
) -> str:
    """What is said of a row alone, by three uniform draws in [0, 1); `labels` are those of the whole folder."""
    asked: tuple[str, ...] = ()
    if kind < options.sentences:
        asked = sentences(row)
    elif kind < options.sentences + options.nouns:
        asked = noun_captions(row, labels)
    return asked[int(choice * len(asked))] if asked else draw_caption(row, options, drop, choice)


def said_of(rows: Sequence[Row], options: CaptionOptions) -> set[str]:
    """What training may say of rows: their captions, and the words of all else that the options turn on."""
    said = {caption for row in rows for caption in caption_pool(row)}
    if options.sentences:
        said.update(sentence for row in rows for sentence in sentences(row))
    if options.nouns:
        labels = {row.label for row in rows}
        said.update(caption for row in rows for caption in noun_captions(row, labels))
    if options.backgrounds:
        said.update(f"{colour} background" for colour in BACKGROUNDS)
    if options.scenes:
        said.update((*RELATIONS, "at the top", "at the bottom"))
    if options.counts:
        said.update((*NUMBERS, *(many for row in rows if (many := plural(row.label)))))
    return said
