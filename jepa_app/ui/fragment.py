"""A fragment of the page, built from its own HTML and JavaScript files and the words in texts.py and texts_zh.py."""

from pathlib import Path
from typing import Any

import gradio as gr

from jepa_app.ui.language import tables

HERE = Path(__file__).parent


def fragment(path: str, *more_scripts: str, **options: Any) -> gr.HTML:
    """Return the fragment at `path`, such as "match/ranking": PATH.html, run by common.js, PATH.js and `more_scripts`.

    The scripts are in the same folder; `options` go to gr.HTML. Its words are the tables with its name in capitals
    (RANKING) in texts.py and texts_zh.py.

    The template is static, so a new value does not redraw anything by itself: the scripts `watch` it.
    A subclass of gr.HTML would not help: Gradio writes a stub file beside the source of every subclass.
    """
    whole = HERE / path
    return gr.HTML(
        html_template=whole.with_suffix(".html").read_text(encoding="utf-8"),
        js_on_load=joined(scripts(path, *more_scripts)),
        apply_default_css=False,
        elem_id=whole.name,
        words=tables(whole.name.upper()),
        **options,
    )


def scripts(path: str, *more_scripts: str) -> list[Path]:
    """The files that run the piece at `path`, in their order."""
    whole = HERE / path
    return [HERE / "common.js", whole.with_suffix(".js"), *(whole.with_name(script) for script in more_scripts)]


def joined(files: list[Path]) -> str:
    """The scripts as one; `.ci/lint-javascript` counts on the one line break between two files."""
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
