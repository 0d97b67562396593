"""The page: header, tabs, the handover between tabs, and how the page is served."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.files.pictures import open_base64
from jepa_app.limits import text_lines
from jepa_app.studio.studio import Studio
from jepa_app.ui import language, texts
from jepa_app.ui.compare.tab import build_compare_tab
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.fragment import fragment
from jepa_app.ui.generate.runs import GenerateWork
from jepa_app.ui.generate.tab import build_generate_tab
from jepa_app.ui.learn.tab import build_learn_tab
from jepa_app.ui.match.many import ManyWork
from jepa_app.ui.match.tab import ONE, MatchTab, MatchWork, build_match_tab
from jepa_app.ui.player.player import KeptRuns
from jepa_app.ui.serving.described import tell_wrong_inputs
from jepa_app.ui.serving.guarding import Allowed, guarded
from jepa_app.ui.serving.tidying import tidying
from jepa_app.ui.theme import studio_theme

HERE = Path(__file__).parent
HOUR = 3600
TIDY = 20  # seconds between two tidyings up
QUEUE_LENGTH = 64  # requests that may wait for a thread; what they ask for has lines of its own
THREADS = 768  # each stream and each call holds one while it waits; more than fit in all lines together
SESSIONS = 16  # sessions whose last values Gradio keeps, of which the page needs none; its default is 10,000


def build_page(studio: Studio, wrap: Callable[[Any], Any] = lambda work: work) -> gr.Blocks:
    """Build the whole page for a loaded studio; `wrap` is put around each heavy callable, to watch or to hold it."""
    facts = studio.info()
    with gr.Blocks(title=texts.TITLE, analytics_enabled=False, delete_cache=None) as page:
        fragment("header")
        with gr.Tabs(elem_id="tabs", overflow_behavior="wrap") as tabs:
            with gr.Tab(texts.GENERATE_TAB, id="generate"):
                work = GenerateWork(
                    watch=wrap(studio.generating.watch),
                    resume=wrap(studio.generating.resume),
                    best_of=wrap(studio.best_of),
                    image=wrap(studio.generate_image),
                    keep_picture=wrap(studio.generating.keep_picture),
                    kept=KeptRuns(
                        frames=wrap(studio.generating.kept_frames),
                        predicted=wrap(studio.generating.predicted),
                        match=wrap(studio.match_frames),
                    ),
                    unseen=studio.unseen,
                    example=studio.example,
                )
                player = build_generate_tab(work, facts, studio.defaults)
            with gr.Tab(texts.COMPARE_TAB, id="compare"):
                build_compare_tab(wrap(studio.generating.together), studio.defaults, facts["styles"])
            with gr.Tab(texts.MATCH_TAB, id="match"):
                match = build_match_tab(
                    MatchWork(
                        rank=wrap(studio.matching.score),
                        score_pairs=wrap(studio.matching.score_matrix),
                        explain=wrap(studio.matching.explain),
                        many=ManyWork(
                            score_table=wrap(studio.matching.score_table),
                            check_caption=studio.matching.check_caption,
                            side=studio.matching.image_size,
                        ),
                    )
                )
            with gr.Tab(texts.LEARN_TAB, id="learn"):
                build_learn_tab(wrap(studio.explain), studio.defaults)
        _wire_handover(player, match, tabs)
        tell_wrong_inputs(page)
    return page.queue(max_size=QUEUE_LENGTH, api_open=False)


def serving_options(
    host: str | None = None, allow_origins: Sequence[str] = (), *, share: bool = False
) -> dict[str, Any]:
    """Return the arguments of `launch` that belong to the page rather than to the machine it runs on.

    Raises:
        ValueError: an allowed origin is not like https://example.org.
    """
    allowed = Allowed.of(host, allow_origins, shared=share)
    return {
        "theme": studio_theme(),
        "css_paths": [
            HERE / "page.css",
            *(HERE / tab / f"{tab}.css" for tab in ("player", "compare", "match", "learn")),
        ],
        "head": language.head(),
        "footer_links": ["api"],
        "run_history": False,  # it would store every run, including its pictures, in the visitor's browser
        "max_threads": THREADS,
        "mcp_server": True,  # endpoints are also tools for agents
        "app_kwargs": {"lifespan": guarded(tidying(TIDY, HOUR), allowed)},
        "enable_monitoring": False,
        "show_error": True,  # what Gradio itself refuses is told too
        "state_session_capacity": SESSIONS,
        "max_file_size": "64mb",
        "ssr_mode": False,
        "pwa": False,
    }


def _wire_handover(player: gr.HTML, match: MatchTab, tabs: gr.Tabs) -> None:
    """Make the player's "Match this picture" open the Match tab with the picture and its prompt as first caption."""

    def on_match(last: dict[str, Any] | None, captions: str | None) -> tuple[Image.Image, str, gr.Tabs, gr.Tabs]:
        with shown_to_user():
            if not isinstance(last, dict) or not isinstance(last.get("frame"), str):
                raise ValueError("there is no picture yet; generate one first")
            prompt = last["prompt"]
            others = [line for line in text_lines(captions) if line != prompt]
            picture, lines = open_base64(last["frame"]), "\n".join([prompt, *others])
            return picture, lines, gr.Tabs(selected=ONE), gr.Tabs(selected="match")

    player.match(
        on_match,
        inputs=[player, match.captions],
        outputs=[match.picture, match.captions, match.kinds, tabs],
        show_progress="hidden",
        api_visibility="private",
    )
