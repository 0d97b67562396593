"""Memorised or new pictures: `python -m training.studies.memory WEIGHTS --data DIR --out DIR`.

Pictures are generated for trained rows, for held-out pairs (a known concept in a design it was never trained in) and
for held-out concepts, and for each the nearest training picture is found, by two measures (`judging/neighbours.py`):
the judge's features, and pixels at a low resolution. A picture is close by a measure if it lies nearer to a training
picture than 95 % of the real held-out pictures lie to theirs, and `memorised` if it is close by either. The share
counts copies of any training picture, whatever the prompt. Real pictures go through the tokenizer first, as
generated ones come out of it, so that what its tokens lose does not count.

`memorised` of real held-out pictures is the share of false alarms; a few of them are pixel for pixel like a trained
one (flags, for instance). `memorised` of copies is the share of copies of training pictures that are detected: as their
tokens keep them, and with noise of 0.3 standard deviations on the tokens, which stands for an imperfect memory. Pixels
survive the noise and features do not, so pixels detect copies, and features say what a picture resembles.

Distances are absolute, not the ratio of the first to the second: the three Fluent styles draw a concept nearly alike,
so a copy of one has a near neighbour in another and would not look like a copy. They are held out together, so no real
held-out picture has its sibling in training; and whether the nearest picture shows the prompted style is judged by its
design (`styles.design_of`), so that a sibling counts. Letters in shapes: B pictures.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from jepa_app.pixels import to_pil
from jepa_app.styles import design_of
from training.data.batches import CaptionedPictures
from training.data.captions import Row, canonical_caption
from training.data.split import concept_of
from training.judging.charts import chart, line_panel
from training.judging.neighbours import SHOWN, Distances, Found, TrainingPictures
from training.judging.picture_figures import Indices
from training.judging.report import SUBSETS, cell, table
from training.judging.trials import Made, Trials, TrialSettings, sides_of
from training.settings import require_at_least
from training.studies.study import Answer, Question, run_study, study_parser

CLOSE = 0.05  # the share of real held-out pictures that lie closer than the threshold
BINS = 30
MEASURES = {"features": "distance of features", "pixels": "distance of pixels"}
COPIES = {"_copies": 0.0, "_noisy_copies": 0.3}  # suffix -> noise on the tokens of trained pictures


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """Which pictures are made; `shown` is how many of each side the sheets show.

    Raises:
        ValueError: a number is too small to make sense.
    """

    shown: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, {"shown": 1})


def measure(trials: Trials, settings: Settings, out: Path) -> tuple[dict[str, float], dict[str, object]]:
    """Generate, look up, and draw sheets and histograms into `out`; return figures and what they hold for.

    Raises:
        ValueError: the folder has too few held-out pictures to say how close real ones come.
    """
    sides = sides_of(trials.data)
    heldout = {suffix: members for suffix, members in sides.items() if suffix}
    if not heldout or "" not in sides:
        raise ValueError(
            "too few held-out pictures in the folder to compare with; give one with a few hundred pictures"
        )
    known = TrainingPictures(trials.data, trials.real)
    real = {suffix: _restored(trials, known, members) for suffix, members in heldout.items()}
    closest = {name: np.concatenate([one[name].closest for one in real.values()]) for name in MEASURES}
    thresholds = {name: float(np.quantile(values, CLOSE)) for name, values in closest.items()}
    figures = {f"threshold_{name}": value for name, value in thresholds.items()}
    for suffix, found in real.items():
        figures |= distance_figures(found, thresholds, f"{suffix}_real")
        figures |= shown_figures(trials.data.rows, heldout[suffix], found["features"].first, f"{suffix}_real")

    setting: dict[str, object] = {}
    generated: dict[str, dict[str, Found]] = {}
    for suffix, members in sides.items():
        indices, _ = trials.choose(members, settings.prompts, settings.seed)
        made = trials.make(indices, settings, f"generating{suffix}")
        generated[suffix] = known.nearest(made.pixels, made.features)
        figures |= distance_figures(generated[suffix], thresholds, suffix)
        figures |= shown_figures(trials.data.rows, indices, generated[suffix]["features"].first, suffix)
        setting[f"prompts{suffix}"] = len(indices)
        draw_sheet(trials.data, made, generated[suffix]["features"], settings.shown).save(out / f"nearest{suffix}.png")
        if suffix == "":
            for copies, noise in COPIES.items():
                figures |= distance_figures(_restored(trials, known, indices, noise), thresholds, copies)
    (out / "distances.svg").write_text(histograms(generated, closest, thresholds), encoding="utf-8")
    return figures, setting


def _restored(trials: Trials, known: TrainingPictures, rows: Indices, noise: float = 0.0) -> dict[str, Found]:
    """The nearest training pictures of real pictures as their tokens keep them."""
    restored = trials.restore(rows, noise)
    return known.nearest(restored.pixels, restored.features)


def distance_figures(found: Mapping[str, Found], thresholds: Mapping[str, float], suffix: str) -> dict[str, float]:
    """The shares of pictures that are close by either measure and by each, and the median distances."""
    close = {name: one.closest < thresholds[name] for name, one in found.items()}
    figures = {f"memorised{suffix}": float(np.logical_or.reduce(list(close.values())).mean())}
    for name, one in found.items():
        figures[f"memorised_{name}{suffix}"] = float(close[name].mean())
        figures[f"nearest_{name}{suffix}"] = float(np.median(one.closest))
    return figures


def shown_figures(rows: Sequence[Row], indices: Indices, nearest: Indices, suffix: str) -> dict[str, float]:
    """How often the nearest training picture shows the prompted concept, the prompted design, and both at once.

    What a side cannot show is absent: no training picture shows a held-out concept, or both halves of a held-out pair.
    """
    pairs = [(rows[asked], rows[found]) for asked, found in zip(indices.tolist(), nearest.tolist(), strict=True)]
    concept = np.asarray([_concept(asked) == _concept(found) for asked, found in pairs])
    design = np.asarray([design_of(asked.style) == design_of(found.style) for asked, found in pairs])
    figures = {}
    if all(row.hexcode for pair in pairs for row in pair) and "concepts" not in suffix:
        figures[f"nearest_concept{suffix}"] = float(concept.mean())
    if all(row.style for pair in pairs for row in pair):
        figures[f"nearest_design{suffix}"] = float(design.mean())
        if f"nearest_concept{suffix}" in figures and "pairs" not in suffix:
            figures[f"nearest_both{suffix}"] = float((concept & design).mean())
    return figures


def _concept(row: Row) -> str:
    return concept_of(row.hexcode or "")


def histograms(
    generated: Mapping[str, Mapping[str, Found]], closest: Mapping[str, Distances], thresholds: Mapping[str, float]
) -> str:
    """Distances to the nearest training picture as SVG, a panel for each measure."""
    panels = []
    for name, words in MEASURES.items():
        values = {SUBSETS[suffix]: found[name].closest for suffix, found in generated.items()}
        values["real, held-out"] = closest[name]
        edges = np.linspace(0, max(float(one.max()) for one in values.values()), BINS + 1)
        middles = ((edges[1:] + edges[:-1]) / 2).tolist()
        lines = {}
        for kind, one in values.items():
            shares = np.histogram(one, edges)[0] / len(one)
            lines[kind] = list(zip(middles, shares.tolist(), strict=True))
        title, across = f"share of pictures, by {words}", f"{words} to the nearest trained picture"
        panels.append(line_panel(title, across, lines, dots=False, upright=(thresholds[name], "close")))
    return chart(panels)


SIDE, GAP, LABEL, PROMPT = 112, 12, 50, 190  # pixels


def draw_sheet(data: CaptionedPictures, made: Made, found: Found, count: int) -> Image.Image:
    """The first pictures, a row each: prompt, generated picture, its nearest training pictures with their captions."""
    count, step = min(count, len(made.captions)), SIDE + 2 * GAP
    sheet = Image.new("RGB", (PROMPT + (1 + SHOWN) * step, 30 + count * (SIDE + LABEL)), "white")
    pen, font, small = ImageDraw.Draw(sheet), ImageFont.load_default(14), ImageFont.load_default(11)
    heads = ("generated", *(f"{place}. nearest trained" for place in range(1, SHOWN + 1)))
    for column, words in enumerate(heads):
        pen.text((PROMPT + column * step + SIDE / 2, 15), words, "black", font, anchor="mm")
    for number in range(count):
        top = 30 + number * (SIDE + LABEL)
        pen.text((GAP, top + SIDE / 2), _wrapped(made.captions[number], PROMPT - 2 * GAP, font), "black", font, "lm")
        rows = found.rows[number].tolist()
        pictures = torch.cat([made.pixels[number : number + 1], data.fixed(rows).pixels])
        for column, picture in enumerate(to_pil(pictures)):
            place = (PROMPT + column * step, top)
            sheet.paste(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC), place)
        for column, (row, distance) in enumerate(zip(rows, found.distances[number].tolist(), strict=True), start=1):
            words = _wrapped(f"{canonical_caption(data.rows[row])} ({distance:.2f})", SIDE + GAP, small)
            pen.text((PROMPT + column * step + SIDE / 2, top + SIDE + 2), words, "#555", small, "ma", align="center")
    return sheet


def _wrapped(words: str, width: float, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    """Words in lines of at most `width` pixels, three at most."""
    lines = [""]
    for word in words.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return "\n".join(lines[:3])


ROWS = {
    "memorised": "memorised",
    "memorised_features": "close by features",
    "memorised_pixels": "close by pixels",
    "nearest_features": "median distance of features",
    "nearest_pixels": "median distance of pixels",
    "nearest_concept": "nearest shows the prompted concept",
    "nearest_design": "nearest shows the prompted design",
    "nearest_both": "nearest shows both",
}
COLUMNS = {
    "": "trained",
    "_heldout_pairs": "held-out pairs",
    "_heldout_concepts": "held-out concepts",
    "_heldout_pairs_real": "real, held-out pairs",
    "_heldout_concepts_real": "real, held-out concepts",
    "_copies": "copies of trained",
    "_noisy_copies": "noisy copies",
}


def markdown(figures: Mapping[str, float]) -> str:
    """The figures as a Markdown table."""
    columns = [column for column in COLUMNS if f"memorised{column}" in figures]
    header = ["nearest training picture", *(COLUMNS[column] for column in columns)]
    names = [[f"{name}{column}" for column in columns] for name in ROWS]
    cells = [[cell(figures, name) for name in row] for row in names]
    return table(header, [[words, *row] for words, row in zip(ROWS.values(), cells, strict=True) if any(row)])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("memory", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    figures, setting = measure(question.trials, question.settings, question.out)
    return Answer(figures=figures, setting=setting, table=markdown(figures))


if __name__ == "__main__":
    sys.exit(main())
