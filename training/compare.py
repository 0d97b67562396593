"""Compare variants of a model at equal training time: `python -m training.compare NAME --data DIR --out DIR`.

Each variant is trained anew with every seed for the same processor time, on a small network. How many steps that makes
is timed first, all variants in turn and several times, since other work on a machine slows one down and not the next.
Then they are measured like any weights: generators by their loss, the judge's figures, their size and the time of one
picture; TI-JEPA by how well it matches held-out pairs and by signs of collapse. `training/comparisons.py` says what is
compared.
"""

import argparse
import dataclasses
import json
import re
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jepa_app.pipeline import JepaTPipeline
from jepa_app.scoring import Scorer
from training.command_line import OneLineParser
from training.comparisons import COMPARISONS
from training.data import CaptionedPictures
from training.dit import DitPipeline
from training.dit_objective import DitObjective
from training.evaluate import Settings, measure_pictures
from training.generators import PicturePipeline
from training.loop import train
from training.match_figures import Matcher, group_figures, match_matrix, matrix_figures
from training.objectives import JepaTObjective
from training.peer_objective import PeerObjective
from training.peers import PeerScorer
from training.picture_figures import Sampling, generate
from training.recipes import Recipe
from training.selection import choose_pictures, fitting_and_measuring
from training.tables import Measured, chart, table
from training.ti_calibration import finish
from training.ti_objective import TIJepaObjective
from training.trials import FEWEST_PICTURES

TIMED_STEPS = 6  # that tell how many steps fit into the time
TIMED_ROUNDS = 3


def compare(
    name: str, folder: Path, out: Path, *, minutes: float, seeds: int, prompts: int, settings: Sequence[str] = ()
) -> Iterator[Measured]:
    """Train and measure every variant with every seed, yielding each when it is done.

    Raises:
        ValueError: the comparison or a setting is unknown, or the folder is not usable.
    """
    if name not in COMPARISONS:
        raise ValueError(f"comparison is {name!r}; allowed: {', '.join(COMPARISONS)}")
    measuring = {variant: COMPARISONS[name].measuring(variant, prompts) for variant in COMPARISONS[name].variants}
    recipes = {variant: COMPARISONS[name].recipe_of(variant, settings) for variant in measuring}
    seconds = _seconds_a_step(recipes, folder, out / "timing")
    for seed in range(seeds):
        for variant in measuring:
            recipe = COMPARISONS[name].recipe_of(variant, [*settings, f"schedule.seed={seed}"])
            data = CaptionedPictures.load(folder, recipe.image_size(), recipe.captions)
            steps = max(2 * TIMED_STEPS, round(60 * minutes / seconds[variant]))
            schedule = dataclasses.replace(recipe.schedule, steps=steps, validate_steps=steps)
            torch.manual_seed(seed)  # of the initial weights
            objective = recipe.build(data)
            parameters = _trained_parameters(objective, data)
            *_, last = train(objective, data, schedule, out / run_name(variant, seed), resume=False)
            measured = _measure(objective, data, folder, measuring[variant])
            figures = last.validation | {"parameters": parameters} | measured
            yield Measured(variant=variant, seed=seed, pictures_seen=steps * schedule.batch_size, figures=figures)


def run_name(variant: str, seed: int) -> str:
    """The folder of a variant's run."""
    return f"{re.sub('[^a-z0-9]+', '-', variant.lower())}-{seed}"


def _seconds_a_step(recipes: Mapping[str, Recipe], folder: Path, out: Path) -> dict[str, float]:
    """Processor time of one step of each variant: the least of a few rounds, the variants in turn in each."""
    rounds: list[dict[str, float]] = []
    for _ in range(TIMED_ROUNDS):
        rounds.append({})
        for variant, recipe in recipes.items():
            data = CaptionedPictures.load(folder, recipe.image_size(), recipe.captions)
            rounds[-1][variant] = _median_step(recipe, data, out)
    return {variant: min(one[variant] for one in rounds) for variant in recipes}


def _median_step(recipe: Recipe, data: CaptionedPictures, out: Path) -> float:
    """Processor time of one step in seconds, by the median of a few."""
    short = dataclasses.replace(recipe.schedule, steps=2 * TIMED_STEPS, validate_pictures=0)
    objective, spent, before = recipe.build(data), list[float](), time.process_time()
    for step in train(objective, data, short, out / str(time.monotonic_ns()), resume=False):
        now = time.process_time()
        if step.step > TIMED_STEPS:
            spent.append(now - before)
        before = now
    return statistics.median(spent)


def _trained_parameters(objective: nn.Module, data: CaptionedPictures) -> int:
    """How many numbers the loss reaches: parts that a variant has switched off are not counted."""
    objective(data.batch(0, 2, 0), torch.Generator().manual_seed(0))["loss"].backward()
    parameters = list(objective.network.parameters())  # type: ignore[union-attr, operator]
    reached = sum(parameter.numel() for parameter in parameters if parameter.grad is not None)
    objective.zero_grad()
    return reached


def _measure(objective: nn.Module, data: CaptionedPictures, folder: Path, settings: Settings) -> dict[str, float]:
    count = settings.prompts
    if isinstance(objective, TIJepaObjective):
        network = finish(objective.ema.network, objective.text, objective.anchors)
        return _measure_matches(Scorer(network, objective.text.encoder), data, count)
    if isinstance(objective, PeerObjective):
        return _measure_matches(PeerScorer(objective.finished(), objective.text.encoder), data, count)
    pipeline: PicturePipeline
    if isinstance(objective, DitObjective):
        pipeline = DitPipeline(objective.tokenizer, objective.ema.network, objective.text.encoder)
    else:
        assert isinstance(objective, JepaTObjective)
        pipeline = JepaTPipeline(objective.tokenizer, objective.ema.network, objective.text.encoder)
    figures = measure_pictures(pipeline, data, folder, settings).figures
    return figures | {"milliseconds": min(_picture_milliseconds(pipeline, settings) for _ in range(8))}


def _measure_matches(matcher: Matcher, data: CaptionedPictures, count: int) -> dict[str, float]:
    """Match held-out pairs, of the half that nobody calibrates on; all other pictures where there are too few."""
    _, members = fitting_and_measuring(data.rows, data.split.heldout_pairs)
    members = members if len(members) >= FEWEST_PICTURES else np.arange(len(data.rows), dtype=np.int64)
    indices = choose_pictures(data.rows, members, count, seed=0)
    parts = match_matrix(matcher, data, indices)
    energy, probability = (np.concatenate(part) for part in zip(*parts, strict=True))
    return matrix_figures(energy, probability, seed=0) | group_figures(energy, [data.rows[i] for i in indices])


def _picture_milliseconds(pipeline: PicturePipeline, how: Sampling) -> float:
    began = time.perf_counter()
    next(generate(pipeline, ["red apple, noto style"], np.zeros(1, dtype=np.int64), how))
    return 1000 * (time.perf_counter() - began)


def main(arguments: Sequence[str] | None = None) -> int:
    """Compare and print; exit status 0 done, 2 a user's mistake (told in one line on standard error)."""
    cautions = [f"{name}: {one.caution}." for name, one in COMPARISONS.items() if one.caution]
    parser = OneLineParser(
        prog="python -m training.compare",
        description=__doc__,
        epilog="\n".join(("What to know of a table:", *cautions)),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", help=f"one of: {', '.join(COMPARISONS)}")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for runs and figures.json")
    parser.add_argument("--minutes", type=float, default=5.0, help="processor time of each training (default 5)")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant (default 2)")
    parser.add_argument("--prompts", type=int, default=100, help="pictures of a side to measure (default 100)")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of a table")
    parser.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw a chart of the figures that tell most")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a setting of all")
    options: argparse.Namespace = parser.parse_args(arguments)
    measured: list[Measured] = []
    try:
        limits = {name: getattr(options, name) for name in ("minutes", "seeds", "prompts")}
        for one in compare(options.name, options.data, options.out, settings=options.set, **limits):
            measured.append(one)
            rows = [dataclasses.asdict(one) for one in measured]
            (options.out / "figures.json").write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    comparison = COMPARISONS[options.name]
    if options.plot:
        options.plot.parent.mkdir(parents=True, exist_ok=True)
        options.plot.write_text(chart(measured, comparison.plotted), encoding="utf-8")
    if options.json:
        print(json.dumps([dataclasses.asdict(one) for one in measured], indent=2))
    else:
        print(table(measured, comparison.shown))
        if comparison.caution:
            print(f"\n{comparison.caution[0].upper()}{comparison.caution[1:]}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
