"""Many pictures and captions at once: files in, a table of matches that fills row by row, and a CSV out."""

import base64
import secrets
import time
from array import array
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.engines.turns import Turns
from jepa_app.files.intake import Intake, read_uploads
from jepa_app.limits import MAX_TABLE_SIDE, text_lines
from jepa_app.studio.matches import TableRows
from jepa_app.ui import texts
from jepa_app.ui.encoding import jpeg
from jepa_app.ui.errors import shown_to_user
from jepa_app.ui.fragment import fragment
from jepa_app.ui.serving.visitors import visitor_of
from jepa_app.ui.streams import RUNNING, at_end, ready_and_telling
from jepa_app.ui.tools import no_tool
from jepa_app.ui.uploads import uploaded

SECONDS_BETWEEN_NEWS = 1.0  # while others have their tables made
SECONDS_BETWEEN = 0.2  # between deltas; rows that arrive in between are sent together
THUMB_SIDE = 48
MAX_FILES = 2 * MAX_TABLE_SIDE  # in one call: pictures and what tells of them
QUICK_FROM, QUICK_BEST = 2_000, 20  # pairs that take about a second in full; captions a quick look keeps per row
# Tells the table that the run is over, even if it was stopped or failed.
TELL_TABLE = ready_and_telling("jepa:table-end")

Upload = dict[str, Any]  # Gradio's FileData: path, url, orig_name, ...
ScoreTable = Callable[[Sequence[Image.Image], Sequence[str], int | None], Generator[TableRows, None, None]]


@dataclass(frozen=True, kw_only=True)
class ManyWork:
    """What the tab needs: tables, a check of captions, and the side of the squares that the model sees."""

    score_table: ScoreTable
    check_caption: Callable[[str], None]
    side: int


def build_many(work: ManyWork) -> None:
    """Lay out the tab and wire it."""
    with gr.Row(elem_id="many-inputs"):
        files = gr.File(
            label=texts.MANY_FILES_LABEL,
            file_count="multiple",
            file_types=["image", ".zip", ".csv", ".tsv", ".txt"],
            height=230,
            elem_id="many-files",
        )
        with gr.Column(elem_id="many-words"):
            captions = gr.Textbox(
                label=texts.MANY_CAPTIONS_LABEL,
                placeholder=texts.MANY_CAPTIONS_PLACEHOLDER,
                lines=5,
                max_lines=5,  # with a box that grows, Gradio takes seconds to measure a few hundred lines
                elem_id="many-captions",
            )
            quick = gr.Checkbox(True, label=texts.MANY_QUICK_LABEL, info=texts.MANY_QUICK_INFO, elem_id="many-quick")
            with gr.Row(elem_id="many-go"):
                run = gr.Button(texts.MANY_RUN, variant="primary", size="lg", elem_id="many-run", scale=3)
                stop = gr.Button(texts.STOP, size="lg", elem_id="many-stop", scale=1, min_width=90, interactive=False)
    board = fragment("match/many")
    gr.Markdown(texts.MANY_HELP, elem_id="many-help")

    turns = Turns("tables", most_each=8)

    @no_tool
    def score_many(
        visitor: gr.Request, files: list[Upload] | None, captions: str | None, quick: bool = True
    ) -> Iterator[dict[str, Any]]:
        """Score every picture with every caption; stream the table with rows as base64 of little-endian 32-bit floats.

        Files can be pictures, zip archives, CSV tables (picture, caption) and text files with one caption per line.
        NaN stands for pairs that the quick look left out.
        """
        with shown_to_user():
            lines = text_lines(captions)
            given = list(_paths_and_names(files))
            with closing(turns.ask(visitor_of(visitor))) as turn:
                while not turn.wait(SECONDS_BETWEEN_NEWS):
                    yield {"run": "waiting", "stage": "waiting", "ahead": turn.num_ahead}
                yield from deltas(work, given, lines, bool(quick))

    run.click(None, outputs=[stop], js=RUNNING, api_visibility="private")
    running = run.click(
        score_many,
        [files, captions, quick],
        [board],
        preprocess=False,
        show_progress="hidden",
        api_name="score_many",
        concurrency_limit=None,  # visitors take turns
    )
    at_end(running, TELL_TABLE, [stop])
    stop.click(None, outputs=[stop], cancels=[running], js=TELL_TABLE, api_visibility="private")


def deltas(
    work: ManyWork, files: Sequence[tuple[str, str]], captions: Sequence[str], quick: bool
) -> Iterator[dict[str, Any]]:
    """Yield what the browser receives: always everything so far, of which Gradio sends only the differences."""
    run, told = secrets.token_hex(4), 0.0
    intake: Intake | None = None
    for step in read_uploads(files, captions, work.side, work.check_caption):
        if isinstance(step, Intake):
            intake = step
        elif time.monotonic() - told >= SECONDS_BETWEEN:
            yield {"run": run, "stage": "reading", "done": step.done, "total": step.total}
            told = time.monotonic()
    assert intake is not None
    best = QUICK_BEST if quick and len(intake.pictures) * len(intake.captions) >= QUICK_FROM else None
    if best is not None and best >= len(intake.captions):
        best = None
    table = {
        "run": run,
        "stage": "scoring",
        "total": len(intake.pictures),
        "names": list(intake.names),
        "thumbs": [jpeg(picture.resize((THUMB_SIDE, THUMB_SIDE))) for picture in intake.pictures],
        "captions": list(intake.captions),
        "right": [list(pair) for pair in intake.right],
        "problems": [asdict(problem) for problem in intake.problems],
        "best": best,
    }
    energies: list[str] = []
    probabilities: list[str] = []
    yield table | {"done": 0, "energies": [], "probabilities": []}
    due = time.monotonic() + SECONDS_BETWEEN
    with closing(work.score_table(intake.pictures, intake.captions, best)) as parts:
        for part in parts:
            energies += map(_packed, part.energy)
            probabilities += map(_packed, part.probability)
            if time.monotonic() >= due:
                began = time.monotonic()
                yield table | _so_far(energies, probabilities)
                taken = time.monotonic() - began  # Gradio compares with the value before, slowly for long tables
                due = time.monotonic() + max(SECONDS_BETWEEN, 4 * taken)
    yield table | _so_far(energies, probabilities) | {"stage": "done"}


def _so_far(energies: list[str], probabilities: list[str]) -> dict[str, Any]:
    return {"done": len(energies), "energies": list(energies), "probabilities": list(probabilities)}


def _packed(row: Iterable[float]) -> str:
    """Return a row as base64 of little-endian 32-bit floats: a tenth of the size of JSON, with NaN allowed."""
    numbers = array("f", row)
    return base64.b64encode(numbers.tobytes()).decode("ascii")


def _paths_and_names(files: object) -> Iterator[tuple[str, str]]:
    if not isinstance(files, list | None):
        raise ValueError(f"files is of type {type(files).__name__}; allowed: a list of uploaded files")
    if len(files or []) > MAX_FILES:
        raise ValueError(f"got {len(files or []):,} files; allowed: at most {MAX_FILES:,} at once")
    for upload in files or []:
        if not isinstance(upload, dict) or not upload.get("path"):
            raise ValueError("a file arrived without its content; upload it again")
        path, name = uploaded(upload["path"]), upload.get("orig_name")
        yield str(path), name if isinstance(name, str) and name else path.name
