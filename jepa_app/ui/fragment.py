"""A piece of the page from its own HTML and JavaScript files, with its words from texts.py and texts_zh.py."""

from pathlib import Path
from typing import Any

import gradio as gr

from jepa_app.ui.language import tables

HERE = Path(__file__).parent


def fragment(name: str, *more_scripts: str, **options: Any) -> gr.HTML:
    """NAME.html run by common.js, NAME.js and `more_scripts`; `options` go to gr.HTML.

    Its words are the tables of this name in capitals, in texts.py and texts_zh.py.

    The template is static, so a new value redraws nothing by itself: the scripts `watch` it.
    A subclass of gr.HTML would be no better: Gradio writes a stub file beside the source of every subclass.
    """
    scripts = ["common.js", f"{name}.js", *more_scripts]
    return gr.HTML(
        html_template=(HERE / f"{name}.html").read_text(encoding="utf-8"),
        js_on_load="\n".join((HERE / script).read_text(encoding="utf-8") for script in scripts),
        apply_default_css=False,
        elem_id=name,
        words=tables(name.upper()),
        **options,
    )
