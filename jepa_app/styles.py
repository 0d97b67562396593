"""The picture styles of the bundled corpus: the words that people type for them, their licences and attributions.

Also the colours that captions name.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

COLOURS = ("red", "orange", "yellow", "green", "turquoise", "blue", "purple", "pink", "brown", "black", "white", "grey")


@dataclass(frozen=True, kw_only=True)
class Style:
    """One open emoji design.

    `words` is how a prompt names it ("fluent 3d" in "red apple, fluent 3d style"). Styles that share a `design` are
    near copies of each other and are held out together.
    """

    id: str
    words: str
    design: str
    licence: str
    attribution: str


STYLES: dict[str, Style] = {
    style.id: style
    for style in (
        Style(
            id="noto",
            words="noto",
            design="noto",
            licence="Apache-2.0",
            attribution="Noto Emoji, Google, https://github.com/googlefonts/noto-emoji",
        ),
        Style(
            id="twemoji",
            words="twemoji",
            design="twemoji",
            licence="CC-BY-4.0",
            attribution="Twemoji, Twitter, Inc and other contributors, https://github.com/jdecked/twemoji",
        ),
        Style(
            id="openmoji",
            words="openmoji",
            design="openmoji",
            licence="CC-BY-SA-4.0",
            attribution="OpenMoji, the open-source emoji and icon project, https://openmoji.org",
        ),
        Style(
            id="fluent3d",
            words="fluent 3d",
            design="fluent",
            licence="MIT",
            attribution="Fluent Emoji, Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        ),
        Style(
            id="fluent",
            words="fluent",
            design="fluent",
            licence="MIT",
            attribution="Fluent Emoji, Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        ),
        Style(
            id="fluentflat",
            words="fluent flat",
            design="fluent",
            licence="MIT",
            attribution="Fluent Emoji, Microsoft Corporation, https://github.com/microsoft/fluentui-emoji",
        ),
        Style(
            id="blob",
            words="blob",
            design="blob",
            licence="Apache-2.0",
            attribution="Noto Emoji v1, Google, https://github.com/googlefonts/noto-emoji",
        ),
        Style(
            id="emojione2",
            words="emojione",
            design="emojione2",
            licence="CC-BY-4.0",
            attribution="EmojiOne 2, EmojiOne, https://github.com/EmojiTwo/emojitwo",
        ),
        Style(
            id="emojione1",
            words="emojione classic",
            design="emojione1",
            licence="CC-BY-SA-4.0",
            attribution="EmojiOne 1, EmojiOne, https://github.com/joypixels/emojione-legacy",
        ),
        Style(
            id="fxemoji",
            words="fxemoji",
            design="fxemoji",
            licence="Apache-2.0",
            attribution="Firefox OS Emoji, Mozilla, https://github.com/mozilla/fxemoji",
        ),
        Style(
            id="streamline",
            words="streamline",
            design="streamline",
            licence="CC-BY-4.0",
            attribution="Streamline Emojis, Streamline, https://github.com/webalys-hq/streamline-vectors",
        ),
    )
}


def design_of(style_id: str) -> str:
    """Return the design that a style belongs to; a style missing from this table is its own design."""
    style = STYLES.get(style_id)
    return style.design if style else style_id


def style_words(style_id: str) -> str:
    """Return the words for a style in a caption or prompt; a style missing from this table is called by its id."""
    style = STYLES.get(style_id)
    return style.words if style else style_id


def style_at_end(styles: Iterable[str] = ()) -> str:
    """Return an expression that matches one of these styles, or of the table's, at the end of a prompt.

    It is to be used without regard to case, and works in Python and JavaScript.
    """
    names = {one.words for one in STYLES.values()}.union(styles)
    longest_first = sorted(names, key=lambda name: (-len(name), name))
    return r",?\s*(?<!\w)(" + "|".join(map(re.escape, longest_first)) + r") style\s*$"


def in_style(prompt: str, words: str, styles: Iterable[str] = ()) -> str:
    """Return the prompt with the style of these words at its end; "" removes it.

    It replaces any style of the table or of `styles`, those of one's own weights, that is named there.
    """
    bare = re.sub(style_at_end(styles), "", prompt, flags=re.IGNORECASE).strip()
    return ", ".join(part for part in (bare, f"{words} style" if words else "") if part)
