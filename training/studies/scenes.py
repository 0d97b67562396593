"""Measure how weights follow composed prompts: `python -m training.studies.scenes WEIGHTS --data DIR --out DIR`.

One object, two objects and their relation, a named background colour, one to three of a thing: pictures are generated
with fixed seeds and judged against known truths (`judging/scene_figures.py`), next to the same judge's ceilings.
"""

import csv
import sys
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from jepa_app.pixels import to_pil
from training.judging.picture_figures import Sampling, generate, reconstruct
from training.judging.report import cell, table
from training.judging.scene_figures import Scene, choose_scenes, look, scene_figures, verdicts
from training.judging.trials import Trials, progress
from training.judging.weights import PicturePipeline
from training.settings import require_at_least
from training.studies.study import Answer, Question, run_study, study_parser

FEWEST_SCENES = 12  # per kind: each colour once
COLUMNS, SIDE, GAP, LINES = 6, 144, 12, 3  # of the drawn pictures; in pixels, except the first and the last
DRAWN_ROWS = {"one_object": 1, "two_objects": 2, "background": 1, "count": 1}

_WORDS = {
    "one_object": "one object found",
    "object_of_two": "each of two objects found",
    "two_objects": "both objects found",
    "relation": "both found and placed as said",
    "relation_where_found": "placed as said, where both were found",
    "background": "background of the colour said",
    "background_object": "background and object right",
    "count": "as many as said",
    "count_object": "as many as said, and the object found",
}
_OF_OTHERS = ("object_of_two", "relation_where_found")  # shares of something other than all scenes
_COLUMNS = {"": "generated", "_reconstruction": "reconstruction", "_real": "real", "_other_prompts": "other prompts"}


@dataclass(frozen=True, kw_only=True)
class Settings(Sampling):
    """What is measured: up to `scenes` prompts of each kind, and how their pictures are generated.

    Raises:
        ValueError: a number is too small to make sense.
    """

    scenes: int = 120

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, {"scenes": FEWEST_SCENES})


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures by name; for each kind of scene the prompts, the pictures and what was right."""

    figures: dict[str, float]
    scenes: dict[str, list[Scene]]
    pixels: dict[str, Tensor]
    right: dict[str, dict[str, list[bool]]]


def measure(trials: Trials, settings: Settings) -> Measured:
    """Generate scenes of trained rows and judge them.

    Raises:
        ValueError: the folder of pictures names no concepts.
    """
    pipeline, data, judge, exam = trials.pipeline, trials.data, trials.judge, trials.exam
    if exam is None:
        raise ValueError("scenes need pictures with code points, as training.corpus build makes them")
    chosen = choose_scenes(data, data.split.train, settings.scenes, settings.seed)
    result = Measured(figures={}, scenes=chosen, pixels={}, right={})
    for kind, scenes in chosen.items():
        made = _generated(pipeline, scenes, kind, settings)
        real = torch.cat([scene.picture.pixels for scene in scenes])
        restored = reconstruct(pipeline.image_tokenizer, real.to(pipeline.device)).cpu()
        pictures = {"": made, "_reconstruction": restored, "_real": real}
        sights = {suffix: look(judge, kind, pixels) for suffix, pixels in pictures.items()}
        result.figures.update(scene_figures(exam, kind, scenes, sights, settings.seed))
        result.pixels[kind] = made
        right = verdicts(exam, kind, sights[""], scenes, scenes)
        result.right[kind] = {name: flags.tolist() for name, flags in right.items() if name not in _OF_OTHERS}
    return result


def draw_scenes(measured: Measured) -> Image.Image:
    """The first pictures of each kind with their prompts below, not cherry-picked."""
    rows = [
        (kind, row * COLUMNS)
        for kind in measured.scenes
        for row in range(DRAWN_ROWS[kind])
        if row * COLUMNS < len(measured.scenes[kind])
    ]
    font = ImageFont.load_default(12)
    step, height = SIDE + GAP, SIDE + GAP + LINES * 15
    sheet = Image.new("RGB", (COLUMNS * step + GAP, len(rows) * height + GAP), (238, 238, 238))
    pen = ImageDraw.Draw(sheet)
    for line, (kind, start) in enumerate(rows):
        part = slice(start, start + COLUMNS)
        pictures = to_pil(measured.pixels[kind][part])
        for column, (scene, picture) in enumerate(zip(measured.scenes[kind][part], pictures, strict=True)):
            left, top = GAP + column * step, GAP + line * height
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), (left, top))
            text = "\n".join(textwrap.wrap(scene.prompt, 24, max_lines=LINES, placeholder=" …"))
            pen.multiline_text((left + SIDE / 2, top + SIDE + 3), text, "black", font, anchor="ma", align="center")
    return sheet


def markdown(figures: Mapping[str, float]) -> str:
    """The shares that are right as a Markdown table, with their ceilings and floor."""
    rows = [
        [words, *(cell(figures, name + suffix, ".2f") for suffix in _COLUMNS)]
        for name, words in _WORDS.items()
        if name in figures
    ]
    return table(["scenes", *_COLUMNS.values()], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and keep; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("scenes", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    measured = measure(question.trials, question.settings)
    draw_scenes(measured).save(question.out / "scenes.png", optimize=True)
    _write_table(measured, question.settings.seed, question.out / "scenes.csv")
    counts: dict[str, object] = {f"scenes_{kind}": len(scenes) for kind, scenes in measured.scenes.items()}
    return Answer(figures=measured.figures, setting=counts, table=markdown(measured.figures))


def _generated(pipeline: PicturePipeline, scenes: Sequence[Scene], kind: str, settings: Settings) -> Tensor:
    """Pictures (B, 3, S, S) of the scenes' prompts; the seed of each is the setting's plus its row number."""
    rows = np.asarray([scene.row for scene in scenes], dtype=np.int64)
    made = generate(pipeline, [scene.prompt for scene in scenes], rows, settings)
    return torch.cat(list(progress(made, f"generating {kind}", len(scenes), len)))


def _write_table(measured: Measured, seed: int, path: Path) -> None:
    """One line per prompt and verdict: kind, prompt, seed, what was asked, whether it is right."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("kind", "prompt", "seed", "figure", "right"))
        for kind, scenes in measured.scenes.items():
            for name, flags in measured.right[kind].items():
                for scene, flag in zip(scenes, flags, strict=True):
                    writer.writerow((kind, scene.prompt, seed + scene.row, name, int(flag)))


if __name__ == "__main__":
    sys.exit(main())
