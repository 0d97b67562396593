"""A piece of the page from its own HTML and JavaScript files, with its words from texts.py and texts_zh.py."""

from pathlib import Path
from typing import Any

import gradio as gr

from jepa_app.ui.language import tables

HERE = Path(__file__).parent


def fragment(path: str, *more_scripts: str, **options: Any) -> gr.HTML:
    """The page's piece at `path`, such as "match/ranking": PATH.html run by common.js, PATH.js and `more_scripts`.

    The scripts lie beside it; `options` go to gr.HTML. Its words are the tables of its name in capitals (RANKING), in
    texts.py and texts_zh.py.

    The template is static, so a new value redraws nothing by itself: the scripts `watch` it.
    A subclass of gr.HTML would be no better: Gradio writes a stub file beside the source of every subclass.
    """
    whole = HERE / path
    scripts = [HERE / "common.js", whole.with_suffix(".js"), *(whole.with_name(script) for script in more_scripts)]
    return gr.HTML(
        html_template=whole.with_suffix(".html").read_text(encoding="utf-8"),
        js_on_load="\n".join(script.read_text(encoding="utf-8") for script in scripts),
        apply_default_css=False,
        elem_id=whole.name,
        words=tables(whole.name.upper()),
        **options,
    )
