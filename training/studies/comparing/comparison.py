"""Trains and measures variants of a model at equal compute, as the command `python -m training.compare` explains.

`training/studies/comparing/variants.py` says what is compared.
"""

import dataclasses
import json
import re
import statistics
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from jepa_app.files.whole_files import write_whole
from training.data.batches import CaptionedPictures
from training.data.selection import choose_pictures, fitting_and_measuring
from training.judging.evaluation import Settings, measure_pictures
from training.judging.match_figures import group_figures, hard_case_figures, match_matrix, matrix_figures
from training.judging.picture_figures import Sampling, generate
from training.judging.trials import FEWEST_PICTURES
from training.judging.weights import Matcher, PicturePipeline
from training.loop import CHECKPOINT, TrainStep, check_checkpoint, train, validate
from training.objectives.objective import Objective
from training.optimisation.schedule import Schedule
from training.recipes import Recipe
from training.studies.comparing.comparison_tables import Measured
from training.studies.comparing.variants import COMPARISONS

TIMED_STEPS = 6  # to estimate how many steps of the first variant fit into the time
TIMED_ROUNDS = 3
STEPS_FILE = "steps.json"  # of each variant, so that a stopped comparison goes on with the same


def compare(
    name: str,
    folder: Path,
    out: Path,
    *,
    minutes: float,
    seeds: int,
    prompts: int,
    settings: Sequence[str] = (),
    before: Sequence[Measured] = (),
    resume: bool = False,
) -> Iterator[Measured]:
    """Train and measure every variant with every seed, yielding each when it is done.

    If some were measured `before`, the others get as many operations as these had, whatever `minutes` is. With
    `resume`, a run that was stopped goes on from its checkpoint.

    Raises:
        ValueError: the comparison or a setting is unknown, a result from before is not one of its variants, or the
            folder is not usable.
    """
    if name not in COMPARISONS:
        raise ValueError(f"comparison is {name!r}; allowed: {', '.join(COMPARISONS)}")
    comparison = COMPARISONS[name]
    measuring = {variant: comparison.measuring(variant, prompts) for variant in comparison.variants}
    recipes = {variant: comparison.recipe_of(variant, settings) for variant in measuring}
    for one in before:
        if one.variant not in recipes:
            raise ValueError(f"{one.variant!r} was measured before; variants of {name}: {', '.join(recipes)}")
    done = {(one.variant, one.seed) for one in before}
    paced = next((one for one in before if one.variant not in comparison.as_many_pictures), None)
    steps = _kept_steps(out, recipes, paced) if resume else None
    steps = steps or _measured_steps(recipes, folder, out, minutes, paced, comparison.as_many_pictures)
    for seed in range(seeds):
        for variant in measuring:
            if (variant, seed) in done:
                continue
            recipe = comparison.recipe_of(variant, [*settings, f"schedule.seed={seed}"])
            data = CaptionedPictures.load(folder, recipe.image_size(), recipe.captions)
            schedule = dataclasses.replace(recipe.schedule, steps=steps[variant], validate_steps=steps[variant])
            torch.manual_seed(seed)  # for the initial weights
            objective: Objective[Any] = recipe.build(data)
            parameters = _trained_parameters(objective, data)
            validation = _trained(objective, data, schedule, out / run_name(variant, seed), resume)
            if comparison.matches:
                measured = _measure_matches(
                    objective.finished(), data, measuring[variant].prompts, comparison.hard_cases
                )
            else:
                measured = _measure_pictures(objective.finished(), data, folder, measuring[variant])
            figures = validation | {"parameters": parameters} | measured
            yield Measured(
                variant=variant, seed=seed, pictures_seen=schedule.steps * schedule.batch_size, figures=figures
            )


def _trained(
    objective: Objective[Any], data: CaptionedPictures, schedule: Schedule, run: Path, resume: bool
) -> dict[str, float]:
    """Train, or go on with a run that was stopped, and return the figures of the last step."""
    validation: dict[str, float] = {}
    for step in train(objective, data, schedule, run, resume=resume and (run / CHECKPOINT).exists()):
        validation = step.validation
    return validation or validate(objective, data, schedule)  # of a run that had reached its end


def _measured_steps(
    recipes: Mapping[str, Recipe],
    folder: Path,
    out: Path,
    minutes: float,
    paced: Measured | None,
    as_many: Mapping[str, str],
) -> dict[str, int]:
    """The steps of each variant, which are kept in `out` for a call that goes on.

    Raises:
        ValueError: there are runs of an earlier call, which has not gone on.
    """
    for variant in recipes if paced is None else ():  # before anything is overwritten
        check_checkpoint(out / run_name(variant, 0), resume=False)
    steps = _equal_steps(recipes, folder, out / "timing", minutes, paced)
    steps |= _equal_pictures(recipes, steps, as_many)
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / STEPS_FILE, json.dumps(steps, indent=2) + "\n")
    return steps


def _kept_steps(out: Path, recipes: Mapping[str, Recipe], paced: Measured | None) -> dict[str, int] | None:
    """The steps of each variant that an earlier call wrote; None if it wrote none for these, or others were taken."""
    try:
        steps = json.loads((out / STEPS_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(steps, dict) or steps.keys() != recipes.keys() or any(type(n) is not int for n in steps.values()):
        return None
    if paced and steps[paced.variant] * recipes[paced.variant].schedule.batch_size != paced.pictures_seen:
        return None
    return steps


def run_name(variant: str, seed: int) -> str:
    """The folder of a variant's run."""
    return f"{re.sub('[^a-z0-9]+', '-', variant.lower())}-{seed}"


def _equal_steps(
    recipes: Mapping[str, Recipe], folder: Path, out: Path, minutes: float, before: Measured | None = None
) -> dict[str, int]:
    """Steps of each variant for as many operations as the one measured before had.

    Without one, the first variant gets `minutes` of processor time, and the others get as many operations.
    """
    data = {name: CaptionedPictures.load(folder, one.image_size(), one.captions) for name, one in recipes.items()}
    operations = {name: _operations_a_step(one, data[name], out) for name, one in recipes.items()}
    if before is not None:
        all_operations = before.pictures_seen / recipes[before.variant].schedule.batch_size * operations[before.variant]
    else:
        first = next(iter(recipes))
        seconds = min(_seconds_a_step(recipes[first], data[first], out) for _ in range(TIMED_ROUNDS))
        all_operations = 60 * minutes / seconds * operations[first]
    return {name: max(2 * TIMED_STEPS, round(all_operations / one)) for name, one in operations.items()}


def _equal_pictures(
    recipes: Mapping[str, Recipe], steps: Mapping[str, int], as_many: Mapping[str, str]
) -> dict[str, int]:
    """Steps of the variants that are to see as many pictures as another one does in its `steps`."""
    batches = {name: recipe.schedule.batch_size for name, recipe in recipes.items()}
    return {name: max(1, round(steps[other] * batches[other] / batches[name])) for name, other in as_many.items()}


def _operations_a_step(recipe: Recipe, data: CaptionedPictures, out: Path) -> int:
    """Floating point operations of matrix products and convolutions in a training step, optimizer included."""
    steps = _short_training(recipe, data, out)
    next(steps)  # the first creates the optimizer's state
    with sdpa_kernel(SDPBackend.MATH), _Operations() as operations:  # fused attention would not be counted
        next(steps)
    steps.close()
    return operations.total


class _Operations(TorchDispatchMode):
    """Counts operations by PyTorch's formulas.

    FlopCounterMode uses the same formulas, but its hooks refuse modules that are used without gradient.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if formula := flop_registry.get(func.overloadpacket):
            self.total += formula(*args, **(kwargs or {}), out_val=result)
        return result


def _seconds_a_step(recipe: Recipe, data: CaptionedPictures, out: Path) -> float:
    """Processor time of one step in seconds: the median of a few."""
    spent, before = list[float](), time.process_time()
    for step in _short_training(recipe, data, out):
        now = time.process_time()
        if step.step > TIMED_STEPS:
            spent.append(now - before)
        before = now
    return statistics.median(spent)


def _short_training(recipe: Recipe, data: CaptionedPictures, out: Path) -> Generator[TrainStep]:
    short = dataclasses.replace(recipe.schedule, steps=2 * TIMED_STEPS, validate_pictures=0)
    yield from train(recipe.build(data), data, short, out / str(time.monotonic_ns()), resume=False)


def _trained_parameters(objective: Objective[Any], data: CaptionedPictures) -> int:
    """How many parameters the loss reaches: parts that a variant switches off are not counted."""
    objective(data.batch(0, 2, 0), torch.Generator().manual_seed(0))["loss"].backward()
    reached = sum(one.numel() for one in objective.network.parameters() if one.grad is not None)
    objective.zero_grad()
    return reached


def _measure_pictures(
    pipeline: PicturePipeline, data: CaptionedPictures, folder: Path, settings: Settings
) -> dict[str, float]:
    """The judge's figures of generated pictures, and the time for one."""
    figures = measure_pictures(pipeline, data, folder, settings).figures
    return figures | {"milliseconds": min(_picture_milliseconds(pipeline, settings) for _ in range(8))}


def _measure_matches(matcher: Matcher, data: CaptionedPictures, count: int, hard: bool) -> dict[str, float]:
    """Match held-out pairs of the half that is not calibrated on; with too few, all other pictures.

    With `hard` they are also matched with nearly right captions.
    """
    _, members = fitting_and_measuring(data.rows, data.split.heldout_pairs)
    members = members if len(members) >= FEWEST_PICTURES else np.arange(len(data.rows), dtype=np.int64)
    indices = choose_pictures(data.rows, members, count, seed=0)
    parts = match_matrix(matcher, data, indices)
    energy, probability = (np.concatenate(part) for part in zip(*parts, strict=True))
    rows = [data.rows[index] for index in indices]
    figures = matrix_figures(energy, probability, seed=0) | group_figures(energy, probability, rows, seed=0)
    return figures | (hard_case_figures(matcher, data, members, count, seed=0) if hard else {})


def _picture_milliseconds(pipeline: PicturePipeline, how: Sampling) -> float:
    began = time.perf_counter()
    next(generate(pipeline, ["red apple, noto style"], np.zeros(1, dtype=np.int64), how))
    return 1000 * (time.perf_counter() - began)


def read_measured(file: Path) -> list[Measured]:
    """Read what a comparison wrote about its variants so far.

    Raises:
        ValueError: the file holds something else.
    """
    try:
        return [Measured(**row) for row in json.loads(file.read_text(encoding="utf-8"))]
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file} is not what a comparison writes: {error}") from None
