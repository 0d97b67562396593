"""The Learn tab: one run with the reader's own prompt, explained in seven stops with real numbers."""

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.engines.turns import Turns
from jepa_app.generation.settings import SamplingSettings
from jepa_app.lesson.lesson import Lesson, LessonProgress
from jepa_app.studio.requests import GenerateRequest
from jepa_app.ui import texts
from jepa_app.ui.encoding import data_url
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.fragment import fragment
from jepa_app.ui.serving.visitors import visitor_of
from jepa_app.ui.streams import at_end
from jepa_app.ui.tools import no_tool

USUAL_SEED = 1
SECONDS_BETWEEN_NEWS = 1.0  # while others have their lesson
SMALLER = 6  # PNG compression level, because a lesson contains many pictures
TELL_WALK = "() => { document.dispatchEvent(new CustomEvent('jepa:lesson', { detail: '%s' })); }"
NEXT_SAMPLE = """(prompt) => { const all = %s; return all[(all.indexOf(prompt) + 1) %% all.length]; }"""

Explain = Callable[[GenerateRequest], Generator[LessonProgress | Lesson, None, None]]


def build_learn_tab(explain: Explain, usual: SamplingSettings) -> None:
    """Lay out the tab and wire it to a callable that yields the progress of a lesson and finally the lesson."""
    with gr.Column(elem_id="learn-ask"):
        with gr.Row(elem_id="learn-words"):
            prompt = gr.Textbox(
                texts.VALUES["learn_prompt"],
                label=texts.LEARN_PROMPT_LABEL,
                max_lines=3,
                elem_id="learn-prompt",
                scale=5,
            )
            seed = gr.Number(
                USUAL_SEED,
                label=texts.SEED_LABEL,
                placeholder=texts.SEED_PLACEHOLDER,
                step=1,
                elem_id="learn-seed",
                scale=1,
                min_width=90,
            )
        with gr.Row(elem_id="learn-go"):
            run = gr.Button(texts.LEARN_RUN, variant="primary", size="lg", elem_id="learn-run", scale=0, min_width=220)
            sample = gr.Button(texts.LEARN_SAMPLE, size="lg", elem_id="learn-sample", scale=0, min_width=160)
        with gr.Accordion(texts.LEARN_SETTINGS, open=False, elem_id="learn-settings"), gr.Row():
            steps = gr.Number(usual.steps, label=texts.STEPS_LABEL, step=1, min_width=90)
            guidance = gr.Number(usual.guidance, label=texts.GUIDANCE_LABEL, min_width=90)
            temperature = gr.Number(usual.temperature, label=texts.TEMPERATURE_LABEL, min_width=90)
    walk = fragment("learn/learn", "board.js")

    turns = Turns("lessons", most_each=4)

    @no_tool
    def learn(
        visitor: gr.Request,
        prompt: str,
        seed: int | None = None,
        steps: int = usual.steps,
        guidance: float = usual.guidance,
        temperature: float = usual.temperature,
    ) -> Iterator[dict[str, Any]]:
        """Explain one run: stream the progress, and finally the context, prediction and attention of each step."""
        with shown_to_user():
            request = GenerateRequest(prompt=prompt, seed=seed, steps=steps, guidance=guidance, temperature=temperature)
            with closing(turns.ask(visitor_of(visitor))) as turn:
                while not turn.wait(SECONDS_BETWEEN_NEWS):
                    yield {"waiting": {"ahead": turn.num_ahead}}
                with closing(explain(request)) as parts:
                    for part in parts:
                        yield told(part)

    asked = [run.click, prompt.submit]
    sample.click(None, [prompt], [prompt], js=NEXT_SAMPLE % json.dumps(list(texts.EXAMPLES)), api_visibility="private")
    gr.on(asked, None, js=TELL_WALK % "start", api_visibility="private")
    running = gr.on(
        asked,
        learn,
        [prompt, seed, steps, guidance, temperature],
        [walk],
        preprocess=False,  # the request checks itself
        show_progress="hidden",
        api_name="learn",
        concurrency_limit=None,  # visitors take turns
    )
    at_end(running, TELL_WALK % "end")


def told(part: LessonProgress | Lesson) -> dict[str, Any]:
    """Return what the browser receives: {"progress": …} or {"lesson": …}, with data URLs, and shares in thousandths."""
    if isinstance(part, LessonProgress):
        return {"progress": {"done": part.done, "total": part.total, "picture": _url(part.picture)}}
    steps = part.steps
    return {
        "lesson": {
            "prompt": part.prompt,
            "seed": part.seed,
            "guidance": part.settings.guidance,
            "mixed": part.mixed_in and {"thing": part.mixed_in, "plan": part.shares[0], "picture": part.shares[1]},
            "grid": part.grid,
            "heads": part.heads,
            "tokens": [[round(value, 2) for value in token] for token in part.tokens],
            "words": [{"text": word.text, "kind": word.kind} for word in part.words],
            "times": [round(time, 3) for time in part.times],
            "noisy": [_url(picture) for picture in part.noisy],
            "guesses": [_url(picture) for picture in part.guesses],
            "asked": [list(step.asked) for step in steps],
            "plan": [list(step.plan) for step in steps],
            "scales": [round(step.guidance, 3) for step in steps],
            "pictures": [_url(step.picture) for step in steps],
            "plain": [_url(step.plain) for step in steps],
            "finished": [_url(step.finished_now) for step in steps],
            "foreseen": [[_thousandths(value) for value in step.foreseen] for step in steps],
            "attention": [[[_thousandths(share) for share in row] for row in step.attention] for step in steps],
        }
    }


def _thousandths(value: float) -> int:
    return round(1000 * value)


def _url(picture: Image.Image) -> str:
    return data_url(picture, SMALLER)
