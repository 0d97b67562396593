"""Command line that draws the pictures of training/RESULTS.md: `python -m training.studies.gallery WEIGHTS --out DIR`.

`grid.png` holds 12 everyday prompts in 5 styles, `people.png` 12 of hands, bodies and people, and `strip.png` six steps
of one run. Seeds are fixed; nothing is picked.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont

from jepa_app.command_line import OneLineParser, telling_mistakes
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.pixels import to_pil

PROMPTS = (
    "red apple",
    "grinning face",
    "red heart",
    "cat face",
    "house",
    "sun",
    "pizza",
    "rose",
    "car",
    "fish",
    "tree",
    "book",
)
PEOPLE = (
    "waving hand",
    "thumbs up",
    "clapping hands",
    "victory hand",
    "eye",
    "brain",
    "baby",
    "astronaut",
    "police officer",
    "mermaid",
    "Santa Claus",
    "person running",
)
STYLES = ("noto", "twemoji", "openmoji", "fluent 3d", "fluent flat")
STRIP_PROMPT = "red apple, twemoji style"
STRIP_STEPS = (0, 3, 6, 9, 12, 15)
SIDE, GAP, LABEL = 128, 8, 22  # pixels


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures; exit status: 0 for success, 2 for a user's mistake."""
    parser = OneLineParser(prog="python -m training.studies.gallery", description=__doc__)
    parser.add_argument("weights", help="weights folder, hub id or ID@REVISION")
    parser.add_argument("--out", type=Path, required=True, help="folder for the three pictures")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the first column and the strip; the others count up (default: 1)"
    )
    options = parser.parse_args(arguments)
    pipeline = JepaTPipeline.from_pretrained(options.weights)
    options.out.mkdir(parents=True, exist_ok=True)
    for name, prompts in {"grid": PROMPTS, "people": PEOPLE}.items():
        draw_grid(pipeline, prompts, options.seed).save(options.out / f"{name}.png", optimize=True)
    draw_strip(pipeline, options.seed).save(options.out / "strip.png", optimize=True)
    return 0


def draw_grid(pipeline: JepaTPipeline, things: Sequence[str], seed: int) -> Image.Image:
    """Draw one column per thing and one row per style, labelled."""
    step, margin = SIDE + GAP, 80
    grid = Image.new("RGB", (margin + len(things) * step, LABEL + len(STYLES) * step), "white")
    pen = ImageDraw.Draw(grid)
    font = ImageFont.load_default(15)
    for column, thing in enumerate(things):
        pen.text((margin + column * step + SIDE / 2, LABEL / 2), thing, "black", font, anchor="mm")
    for row, style in enumerate(STYLES):
        pen.text((margin - GAP, LABEL + row * step + SIDE / 2), style, "black", font, anchor="rm")
        prompts = [f"{thing}, {style} style" for thing in things]
        generators = [torch.Generator().manual_seed(seed + column) for column in range(len(prompts))]
        pictures = to_pil(pipeline(prompts, generator=generators, output_type="pt").images)
        for column, picture in enumerate(pictures):
            grid.paste(_enlarged(picture), (margin + column * step, LABEL + row * step))
    return grid


def draw_strip(pipeline: JepaTPipeline, seed: int) -> Image.Image:
    """Draw the picture so far after some steps of one run, from left to right."""
    steps = list(pipeline.stream(STRIP_PROMPT, generator=torch.Generator().manual_seed(seed)))
    step = SIDE + GAP
    strip = Image.new("RGB", (len(STRIP_STEPS) * step - GAP, SIDE), "white")
    for column, index in enumerate(STRIP_STEPS):
        strip.paste(_enlarged(to_pil(steps[index].image)[0]), (column * step, 0))
    return strip


def _enlarged(picture: Image.Image) -> Image.Image:
    return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


if __name__ == "__main__":
    sys.exit(main())
