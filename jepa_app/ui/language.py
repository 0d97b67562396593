"""The language of the page: Chinese for browsers that ask for Chinese first, English for all others.

A fragment gets the tables of both languages. Gradio's own components are built in English, and `language.js` puts the
other words into the page's configuration before Gradio builds the page from it. `gr.I18n` is not used: in Gradio 6.31
it turns the labels in `/gradio_api/info` into objects, which programs read, and of all Chinese browsers it knows only
those that ask for exactly zh-CN or zh-TW.
"""

import json
from pathlib import Path

from jepa_app.ui import texts, texts_zh

LANGUAGES = {"en": texts, "zh": texts_zh}
SCRIPT = Path(__file__).parent / "language.js"


def tables(name: str) -> dict[str, dict[str, str]]:
    """The table of this name (PLAYER, ...) in each language."""
    return {language: getattr(words, name) for language, words in LANGUAGES.items()}


def translations() -> dict[str, str]:
    """English words of Gradio's own components -> the Chinese ones."""
    names = [name for name, words in vars(texts_zh).items() if name.isupper() and isinstance(words, str)]
    english, chinese = tables("AXES").values()
    return {getattr(texts, name): getattr(texts_zh, name) for name in names} | {
        english[key]: chinese[key] for key in english
    }


def head() -> str:
    """The script for the page's head, which chooses the language."""
    told = json.dumps(translations()).replace("<", "\\u003c")  # nothing may look like the end of a script
    return f"<script>const studioChinese = {told};\n{SCRIPT.read_text(encoding='utf-8')}</script>"
