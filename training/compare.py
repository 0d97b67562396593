"""Compare variants of a model at equal training time: `python -m training.compare NAME --data DIR --out DIR`.

Each variant is trained anew with every seed for the same processor time, on a small network, and measured like any
weights: JEPA-T by the denoising loss at revealed fractions, the judge's figures and the time of one picture; TI-JEPA by
how well it matches held-out pairs and by signs of collapse.
"""

import argparse
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jepa_app.pipeline import JepaTPipeline
from jepa_app.scoring import Scorer
from training.command_line import OneLineParser
from training.data import CaptionedPictures
from training.evaluate import Settings, measure_pictures
from training.loop import train
from training.match_figures import Matcher, group_figures, match_matrix, matrix_figures
from training.objectives import REVEALED_FRACTIONS, JepaTObjective
from training.peer_objective import PeerObjective
from training.peers import PeerScorer
from training.recipes import Recipe, Schedule, make_recipe
from training.selection import choose_pictures, fitting_and_measuring
from training.ti_calibration import finish
from training.ti_objective import TIJepaObjective
from training.trials import FEWEST_PICTURES

SMALL = (
    "network.width=128",
    "network.encoder_depth=3",
    "network.predictor_depth=3",
    "network.denoiser_width=192",
    "network.denoiser_depth=2",
)
PATCHES_OF_16 = ("network.patch_size=16",)  # a quarter of the patches
ASKED_OF_16 = ("loss.asked=8", "loss.asked_hidden=8")
MATCH_FIGURES = (
    "match_auc_random",
    "match_auc_same_group",
    "recall_at_1_i2t",
    "recall_at_1_t2i",
    "ece",
    "heldout_pairs/image_rank",
    "heldout_pairs/image_std",
    "heldout_pairs/sentence_rank",
    "heldout_pairs/sentence_std",
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison:
    """Variants of a recipe: settings of all of them, settings by variant, and the figures that the table shows.

    `recipes` names another recipe for some variants.
    """

    recipe: str
    settings: tuple[str, ...]
    variants: dict[str, tuple[str, ...]]
    shown: tuple[str, ...]
    recipes: dict[str, str] = dataclasses.field(default_factory=dict)

    def recipe_of(self, variant: str, settings: Sequence[str] = ()) -> Recipe:
        """Return the recipe of a variant with further settings changed."""
        name = self.recipes.get(variant, self.recipe)
        return make_recipe(name, [*self.settings, *self.variants[variant], *settings])


TIMED_STEPS = 6  # that tell how many steps fit into the time
COMPARISONS: dict[str, Comparison] = {
    "backbones": Comparison(
        recipe="jepa_t",
        settings=SMALL,
        variants={
            "cached": (),
            "bidirectional, as published": ("network.backbone=bidirectional",),
            "bidirectional, subsets asked": ("network.backbone=bidirectional_subset",),
        },
        shown=(
            *(f"heldout_pairs/denoising_loss@{fraction}" for fraction in REVEALED_FRACTIONS),
            "heldout_pairs/denoising_loss",
            "train/denoising_loss",
            "concept_top5",
            "concept_median_rank",
            "concept_median_rank_heldout_pairs",
            "frechet",
            "frechet_real",
            "milliseconds",
        ),
    ),
    "ti_jepa": Comparison(
        recipe="ti_jepa",
        settings=(*PATCHES_OF_16, *ASKED_OF_16),
        variants={
            "both directions": (),
            "text -> image only": ("loss.image_to_text_weight=0",),
            "image -> text only": ("loss.text_to_image_weight=0",),
            "without EMA": ("loss.averaged_targets=false",),
            "without masking": ("loss.whole_share=1",),
        },
        shown=MATCH_FIGURES,
    ),
    "peers": Comparison(
        recipe="ti_jepa",
        settings=PATCHES_OF_16,
        variants={"TI-JEPA": ASKED_OF_16, "CLIP": (), "SigLIP": ()},
        shown=MATCH_FIGURES[:7],
        recipes={"CLIP": "clip", "SigLIP": "siglip"},
    ),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one variant trained with one seed."""

    variant: str
    seed: int
    pictures_seen: int
    figures: dict[str, float]


def compare(
    name: str, folder: Path, out: Path, *, minutes: float, seeds: int, prompts: int, settings: Sequence[str] = ()
) -> Iterator[Measured]:
    """Train and measure every variant with every seed, yielding each when it is done.

    Raises:
        ValueError: the comparison or a setting is unknown, or the folder is not usable.
    """
    if name not in COMPARISONS:
        raise ValueError(f"comparison is {name!r}; allowed: {', '.join(COMPARISONS)}")
    for seed in range(seeds):
        for variant in COMPARISONS[name].variants:
            recipe = COMPARISONS[name].recipe_of(variant, [*settings, f"schedule.seed={seed}"])
            data = CaptionedPictures.load(folder, recipe.image_size(), recipe.captions)
            steps = _steps_within(recipe, data, 60 * minutes, out / "timing")
            schedule = dataclasses.replace(recipe.schedule, steps=steps, validate_steps=steps)
            torch.manual_seed(seed)  # of the initial weights
            objective = recipe.build(data)
            run = out / f"{re.sub('[^a-z]+', '-', variant.lower())}-{seed}"
            *_, last = train(objective, data, schedule, run, resume=False)
            figures = last.validation | _measure(objective, data, folder, prompts)
            yield Measured(variant=variant, seed=seed, pictures_seen=steps * schedule.batch_size, figures=figures)


def _steps_within(recipe: Recipe, data: CaptionedPictures, seconds: float, out: Path) -> int:
    """How many steps fit into so much processor time, by the median of a few; the text is cached beforehand."""
    short = Schedule(steps=2 * TIMED_STEPS, validate_pictures=0, batch_size=recipe.schedule.batch_size)
    objective, spent, before = recipe.build(data), [], time.process_time()
    for step in train(objective, data, short, out / str(time.monotonic_ns()), resume=False):
        now = time.process_time()
        if step.step > TIMED_STEPS:
            spent.append(now - before)
        before = now
    return max(2 * TIMED_STEPS, round(seconds / statistics.median(spent)))


def _measure(objective: nn.Module, data: CaptionedPictures, folder: Path, count: int) -> dict[str, float]:
    if isinstance(objective, TIJepaObjective):
        network = finish(objective.ema.network, objective.text, objective.anchors)
        return _measure_matches(Scorer(network, objective.text.encoder), data, count)
    if isinstance(objective, PeerObjective):
        return _measure_matches(PeerScorer(objective.finished(), objective.text.encoder), data, count)
    assert isinstance(objective, JepaTObjective)
    pipeline = JepaTPipeline(objective.tokenizer, objective.ema.network, objective.text.encoder)
    figures = measure_pictures(pipeline, data, folder, Settings(prompts=count)).figures
    return figures | {"milliseconds": min(_picture_milliseconds(pipeline) for _ in range(8))}


def _measure_matches(matcher: Matcher, data: CaptionedPictures, count: int) -> dict[str, float]:
    """Match held-out pairs, of the half that nobody calibrates on; all other pictures where there are too few."""
    _, members = fitting_and_measuring(data.rows, data.split.heldout_pairs)
    members = members if len(members) >= FEWEST_PICTURES else np.arange(len(data.rows), dtype=np.int64)
    indices = choose_pictures(data.rows, members, count, seed=0)
    parts = match_matrix(matcher, data, indices)
    energy, probability = (np.concatenate(part) for part in zip(*parts, strict=True))
    return matrix_figures(energy, probability, seed=0) | group_figures(energy, [data.rows[i] for i in indices])


def _picture_milliseconds(pipeline: JepaTPipeline) -> float:
    began = time.perf_counter()
    pipeline("red apple, noto style", generator=torch.Generator().manual_seed(0))
    return 1000 * (time.perf_counter() - began)


def table(measured: Sequence[Measured], shown: Sequence[str]) -> str:
    """Means over the seeds, with half the span between the least and the greatest, as a Markdown table."""
    variants = list(dict.fromkeys(one.variant for one in measured))
    names = [name for name in shown if name in measured[0].figures]
    lines = ["| figure | " + " | ".join(variants) + " |", "|---" * (len(variants) + 1) + "|"]
    for name in ["pictures_seen", *names]:
        cells = []
        for variant in variants:
            rows = [one for one in measured if one.variant == variant]
            values = [one.pictures_seen if name == "pictures_seen" else one.figures[name] for one in rows]
            cells.append(f"{statistics.mean(values):.4g} ± {(max(values) - min(values)) / 2:.2g}")
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; exit status 0 done, 2 a user's mistake (told in one line on standard error)."""
    parser = OneLineParser(prog="python -m training.compare", description=__doc__)
    parser.add_argument("name", help=f"one of: {', '.join(COMPARISONS)}")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures.json")
    parser.add_argument("--minutes", type=float, default=5.0, help="processor time of each training (default 5)")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant (default 2)")
    parser.add_argument("--prompts", type=int, default=100, help="pictures of a side to measure (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all")
    options: argparse.Namespace = parser.parse_args(arguments)
    measured: list[Measured] = []
    try:
        for one in compare(
            options.name,
            options.data,
            options.out,
            minutes=options.minutes,
            seeds=options.seeds,
            prompts=options.prompts,
            settings=options.set,
        ):
            measured.append(one)
            rows = [dataclasses.asdict(one) for one in measured]
            (options.out / "figures.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in measured], indent=2))
    else:
        print(table(measured, COMPARISONS[options.name].shown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
