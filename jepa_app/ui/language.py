"""The language of the page: Chinese for browsers that ask for Chinese first, English for all others.

A fragment receives the tables of both languages. Gradio's own components are built in English, and `language.js` puts
the Chinese words into the page's configuration before Gradio builds the page from it. `gr.I18n` is not used: in Gradio
6.31 it turns the labels in `/gradio_api/info`, which programs read, into objects, and it recognises only Chinese
browsers that ask for exactly zh-CN or zh-TW.
"""

import json
from pathlib import Path

from jepa_app.ui import texts, texts_zh

LANGUAGES = {"en": texts, "zh": texts_zh}
SCRIPT = Path(__file__).parent / "language.js"


def tables(name: str) -> dict[str, dict[str, str]]:
    """Return the table of this name (PLAYER, ...) in each language."""
    return {language: getattr(words, name) for language, words in LANGUAGES.items()}


def translations() -> dict[str, str]:
    """Return the words of Gradio's own components as English -> Chinese."""
    names = [name for name, words in vars(texts_zh).items() if name.isupper() and isinstance(words, str)]
    english, chinese = tables("AXES").values()
    return {getattr(texts, name): getattr(texts_zh, name) for name in names} | {
        english[key]: chinese[key] for key in english
    }


def head() -> str:
    """Return the script for the page's head that chooses the language."""
    told = json.dumps(translations()).replace("<", "\\u003c")  # nothing in it may look like the end of the script
    return f"<script>const studioChinese = {told};\n{SCRIPT.read_text(encoding='utf-8')}</script>"
