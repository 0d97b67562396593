"""The page: header, tabs, what passes between the tabs, and how it is served."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.pictures import open_base64
from jepa_app.studio import Studio
from jepa_app.ui import texts
from jepa_app.ui.compare_tab import build_compare_tab
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.generate_tab import build_generate_tab
from jepa_app.ui.learn_tab import build_learn_tab
from jepa_app.ui.match_tab import MatchTab, build_match_tab, caption_lines
from jepa_app.ui.theme import studio_theme

HERE = Path(__file__).parent
HOUR = 3600
QUEUE_LENGTH = 64  # runs that may wait; more are told to come back later
SESSIONS = 200  # sessions whose state is kept; Gradio's own 10,000 would grow for days


def build_page(studio: Studio, on_gpu: Callable[[Any], Any] = lambda work: work) -> gr.Blocks:
    """Build the whole page on a loaded studio; `on_gpu` wraps each heavy callable (a Space lends its GPU there)."""
    facts = studio.info()
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=(HOUR, HOUR)) as page:
        gr.HTML(
            html_template=(HERE / "header.html").read_text(encoding="utf-8"),
            js_on_load=(HERE / "header.js").read_text(encoding="utf-8"),
            apply_default_css=False,
            elem_id="header",
        )
        with gr.Tabs(elem_id="tabs") as tabs:
            with gr.Tab("Generate", id="generate"):
                player = build_generate_tab(
                    on_gpu(studio.generate),
                    on_gpu(studio.generate_image),
                    facts["styles"],
                    facts["tokens"],
                    facts["weights"],
                )
            with gr.Tab("Compare", id="compare"):
                build_compare_tab(on_gpu(studio.generate_together))
            with gr.Tab("Match", id="match"):
                match = build_match_tab(on_gpu(studio.score), on_gpu(studio.score_matrix))
            with gr.Tab("Learn", id="learn"):
                build_learn_tab(on_gpu(studio.explain))
        _wire_handover(player, match, tabs)
    return page.queue(max_size=QUEUE_LENGTH)


def serving_options() -> dict[str, Any]:
    """The arguments of `launch` that belong to the page rather than to the place where it runs."""
    return {
        "theme": studio_theme(),
        "css_paths": [HERE / "page.css", HERE / "player.css", HERE / "compare.css", HERE / "learn.css"],
        "footer_links": ["api"],
        "run_history": False,  # it would store every run, pictures and all, in the visitor's browser
        "mcp_server": True,  # the endpoints are tools for agents too
        "enable_monitoring": False,
        "state_session_capacity": SESSIONS,
        "max_file_size": "64mb",
        "ssr_mode": False,
        "pwa": False,
    }


def _wire_handover(player: gr.HTML, match: MatchTab, tabs: gr.Tabs) -> None:
    """The player's "Match this picture" opens the Match tab with the picture and its prompt as first caption."""

    def on_match(last: dict[str, Any] | None, captions: str | None) -> tuple[Image.Image, str, gr.Tabs]:
        with shown_to_user():
            if not isinstance(last, dict) or not isinstance(last.get("frame"), str):
                raise ValueError("there is no picture yet; generate one first")
            prompt = last["prompt"]
            others = [line for line in caption_lines(captions) if line != prompt]
            return open_base64(last["frame"]), "\n".join([prompt, *others]), gr.Tabs(selected="match")

    player.match(
        on_match,
        inputs=[player, match.captions],
        outputs=[match.picture, match.captions, tabs],
        show_progress="hidden",
        api_visibility="private",
    )
