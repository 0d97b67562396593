"""The Compare tab: a grid of pictures, with one value per row and column, which fills while they are made."""

import secrets
import time
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator, Sequence
from contextlib import closing
from typing import Any

import gradio as gr

from jepa_app.generation.settings import SamplingSettings
from jepa_app.studio.frames import Frame, Waiting
from jepa_app.studio.grids import AXES, NONE, Cell, Grid, make_grid
from jepa_app.studio.requests import GenerateRequest
from jepa_app.ui import texts
from jepa_app.ui.encoding import png
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.fragment import fragment
from jepa_app.ui.serving.visitors import visitor_of
from jepa_app.ui.streams import RUNNING, at_end, ready_and_telling
from jepa_app.ui.tools import no_tool

SECONDS_BETWEEN = 0.1  # between deltas; frames that arrive in between are sent together
TELL_STOP, TELL_END = ready_and_telling("jepa:grid-stop"), ready_and_telling("jepa:grid-end")

MakeMany = Callable[[Sequence[GenerateRequest], Hashable], Generator[tuple[int, Frame | Waiting], None, None]]


def build_compare_tab(make_many: MakeMany, usual: SamplingSettings, styles: Sequence[str]) -> None:
    """Lay out the tab and wire it to a callable that makes many pictures together; `styles` are the weights'."""
    with gr.Row(elem_id="compare-board"):
        with gr.Column(elem_id="compare-inputs"):
            prompt = gr.Textbox(
                texts.VALUES["compare_prompt"],
                label=texts.COMPARE_PROMPT_LABEL,
                lines=1,
                max_lines=3,
                elem_id="compare-prompt",
            )
            axes = [
                _axis(texts.COMPARE_COLUMNS_LABEL, "x", "prompt", texts.VALUES["compare_columns"]),
                _axis(texts.COMPARE_ROWS_LABEL, "y", "guidance", texts.VALUES["compare_rows"]),
            ]
            with gr.Accordion(texts.COMPARE_SETTINGS, open=False):
                seed = gr.Number(7, label=texts.SEED_LABEL, step=1, elem_id="compare-seed")
                steps = gr.Number(usual.steps, label=texts.STEPS_LABEL, step=1)
                guidance = gr.Number(usual.guidance, label=texts.GUIDANCE_LABEL)
                temperature = gr.Number(usual.temperature, label=texts.TEMPERATURE_LABEL)
            with gr.Row():
                run = gr.Button(texts.COMPARE_RUN, variant="primary", size="lg", elem_id="make-grid", scale=3)
                stop = gr.Button(texts.STOP, size="lg", elem_id="stop-grid", scale=1, min_width=90, interactive=False)
        with gr.Column(elem_id="compare-results"):
            board = fragment("compare/compare")
            gr.Markdown(texts.COMPARE_HELP)

    @no_tool
    def grid(
        visitor: gr.Request,
        prompt: str,
        x_axis: str,
        x_values: str,
        y_axis: str,
        y_values: str,
        seed: int | None = None,
        steps: int = usual.steps,
        guidance: float = usual.guidance,
        temperature: float = usual.temperature,
    ) -> Iterator[dict[str, Any]]:
        """Make a grid over two of prompt, style, seed, steps, guidance and temperature; stream its cells."""
        with shown_to_user():
            base = GenerateRequest(prompt=prompt, steps=steps, guidance=guidance, temperature=temperature, seed=seed)
            plan = make_grid(base, x_axis, x_values or "", y_axis, y_values or "", styles)
            with closing(make_many([cell.request for cell in plan.cells], visitor_of(visitor))) as frames:
                yield from deltas(plan, frames)

    (x_axis, x_values), (y_axis, y_values) = axes
    inputs = [prompt, x_axis, x_values, y_axis, y_values, seed, steps, guidance, temperature]
    run.click(None, outputs=[stop], js=RUNNING, api_visibility="private")
    running = run.click(
        grid,
        inputs,
        [board],
        preprocess=False,
        show_progress="hidden",
        api_name="grid",
        concurrency_limit=None,  # the engine admits requests, makes them wait or refuses them
    )
    at_end(running, TELL_END, [stop])
    stop.click(None, outputs=[stop], cancels=[running], js=TELL_STOP, api_visibility="private")


def _axis(label: str, name: str, axis: str, values: str) -> tuple[gr.Dropdown, gr.Textbox]:
    with gr.Column(elem_classes="axis"):
        choice = gr.Dropdown(
            [(texts.AXES[name], name) for name in (*AXES, NONE)], value=axis, label=label, elem_id=f"{name}-axis"
        )
        text = gr.Textbox(
            values,
            label=texts.COMPARE_VALUES_LABEL,
            info=texts.COMPARE_VALUES,
            lines=2,
            max_lines=8,
            elem_id=f"{name}-values",
        )
    return choice, text


def deltas(grid: Grid, frames: Iterator[tuple[int, Frame | Waiting]]) -> Iterator[dict[str, Any]]:
    """Turn arriving frames into what the browser receives: first the grid, then cells, finally all cells again."""
    plan = {"x": grid.x_axis, "y": grid.y_axis, "columns": list(grid.columns), "rows": list(grid.rows)}
    always = {"grid": plan, "run": secrets.token_hex(4)}
    yield {**always, "cells": [], "done": False}
    latest: dict[int, Frame] = {}
    fresh: set[int] = set()
    told = time.monotonic()

    def cells(numbers: Iterable[int]) -> list[dict[str, Any]]:
        return [_told(grid.cells[number], latest[number]) for number in sorted(numbers)]

    for number, frame in frames:
        waiting: dict[str, Any] = {}
        if isinstance(frame, Frame):
            latest[number] = frame
            fresh.add(number)
        else:
            waiting = {"waiting": {"ahead": frame.ahead, "seconds": frame.seconds}}
        if time.monotonic() - told >= SECONDS_BETWEEN:
            yield {**always, **waiting, "cells": cells(fresh), "done": False}
            fresh.clear()
            told = time.monotonic()
    yield {**always, "cells": cells(latest), "done": True}


def _told(cell: Cell, frame: Frame) -> dict[str, Any]:
    request = cell.request
    return {
        "row": cell.row,
        "column": cell.column,
        "i": frame.index,
        "n": frame.total,
        "frame": png(frame.image),
        "prompt": request.prompt,
        "seed": frame.seed,
        "steps": request.steps,
        "guidance": request.guidance,
        "temperature": request.temperature,
        "seconds": round(frame.seconds, 3),
    }
