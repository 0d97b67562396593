"""Command line of the trainer: `python -m training.train RECIPE --data DIR --out DIR`.

Ctrl-C or a SIGTERM ends the run after the current step and saves it; a second one ends it at once.
"""

import argparse
import dataclasses
import json
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import numpy as np
import torch
from accelerate import PartialState
from tqdm import tqdm

from jepa_app.command_line import MISTAKE, OneLineParser, check_folder, telling_mistakes
from jepa_app.compute import keep_freed_memory
from jepa_app.files.whole_files import write_whole
from training.data.batches import CaptionedPictures
from training.loop import TrainStep, check_checkpoint, train
from training.objectives.objective import Objective
from training.objectives.text_cache import TextCache, long_captions
from training.optimisation.processes import JointMistake, join_processes, leave_processes, own_part, together
from training.optimisation.schedule import Schedule
from training.recipes import RECIPES, Recipe, make_recipe

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class _Parser(OneLineParser):
    """A parser whose errors are mistakes like any other: of several processes one tells them."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments.

        Raises:
            ValueError: always.
        """
        raise ValueError(f"{message}; see {self.prog} --help")


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Run a recipe; exit status: 0 for success, 1 if interrupted, 2 for a user's mistake.

    Several processes that a launcher started train together, and the main one speaks for all.
    """
    keep_freed_memory()
    processes = join_processes()
    try:
        return 0 if run(arguments) else 1
    except JointMistake:
        leave_processes()
        if processes.is_main_process:
            raise
        return MISTAKE


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = _Parser(prog="python -m training.train", description=__doc__)
    parser.add_argument("recipe", choices=sorted(RECIPES), help="what to train")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, weights and logs")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in --out")
    parser.add_argument("--steps", type=int, help="train up to this many steps in total")
    parser.add_argument("--minutes", type=float, help="train for so many minutes, however many steps that are")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="change a recipe's setting")
    return parser.parse_args(arguments)


@contextmanager
def interrupts() -> Iterator[threading.Event]:
    """Yield an event that the first SIGINT or SIGTERM sets; a second one has its usual effect.

    It has none in one of several processes: their launcher passes on a signal that they may have got already.
    """
    asked = threading.Event()
    usual: dict[int, Any] = {}
    is_alone = PartialState().num_processes == 1

    def ask(number: int, frame: FrameType | None) -> None:
        del frame
        asked.set()
        if is_alone:
            signal.signal(number, usual[number])

    for number in (signal.SIGINT, signal.SIGTERM):
        usual[number] = signal.signal(number, ask)
    try:
        yield asked
    finally:
        for caught, handler in usual.items():
            signal.signal(caught, handler)


def run(arguments: Sequence[str] | None) -> bool:
    """Train with a progress bar, logging to tensorboard and `log.jsonl`; return whether the run is complete.

    Raises:
        ValueError: an argument, a setting, the data or a checkpoint is not usable.
    """
    is_main = PartialState().is_main_process
    with together():  # before anything of an earlier run is overwritten
        options = _parse(arguments)
        recipe = _recipe(options)
        own_part(recipe.schedule.batch_size)
        if is_main:
            check_folder(options.out)
        reached = check_checkpoint(options.out, options.resume)
    data = _load(options.data, recipe)
    torch.manual_seed(recipe.schedule.seed)  # of the first weights
    with together():
        objective = recipe.build(data)
    with together():
        if is_main:
            _warn(objective, data)
            options.out.mkdir(parents=True, exist_ok=True)
            write_whole(options.out / "recipe.json", json.dumps(dataclasses.asdict(recipe), indent=2) + "\n")
            if recipe.schedule.steps == 0:  # principal components are fitted, not trained
                objective.save(options.out / "weights")
    if recipe.schedule.steps == 0:
        leave_processes()
        return True
    schedule, done = recipe.schedule, reached.step
    progress = schedule.progress_at(*reached)
    with interrupts() as asked:
        with _shown(options.out, schedule, done) as show:
            for step in train(objective, data, schedule, options.out, resume=options.resume, stopping=asked.is_set):
                done, progress = step.step, step.progress
                show(step)
        if progress < 1 and is_main:
            whole = "" if schedule.minutes else f" of {schedule.steps}"
            print(f"interrupted and saved after step {done}{whole}; add --resume to continue", file=sys.stderr)
        leave_processes()
    return progress == 1


def _recipe(options: argparse.Namespace) -> Recipe:
    given = {"steps": options.steps, "minutes": options.minutes}
    settings = [*options.set, *(f"schedule.{name}={value}" for name, value in given.items() if value is not None)]
    recipe = make_recipe(options.recipe, settings)
    if options.minutes is not None and not options.minutes > 0:
        raise ValueError(f"--minutes is {options.minutes}; allowed: above 0")
    if recipe.schedule.steps == 0 and recipe.schedule.minutes:
        raise ValueError("--minutes is for recipes that train; this one is fitted at once")
    if recipe.schedule.steps == 0 and not recipe.fits_without_steps:
        raise ValueError("schedule.steps is 0; allowed: 1 or more; only linear tokenizers need no training")
    return recipe


def _load(folder: Path, recipe: Recipe) -> CaptionedPictures:
    """Load the pictures; the first process of each machine decodes them for the others."""
    is_first, loaded = PartialState().is_local_main_process, []
    for turn in (True, False):
        with together():
            if is_first == turn:
                loaded.append(CaptionedPictures.load(folder, recipe.image_size(), recipe.captions))
    return loaded[0]


def _warn(objective: Objective[Any], data: CaptionedPictures) -> None:
    """Tell of captions that lose their ends, if the objective reads any."""
    text = getattr(objective, "text", None)
    for warning in long_captions(data.rows, text.encoder) if isinstance(text, TextCache) else ():
        print(f"warning: {warning}", file=sys.stderr)


@contextmanager
def _shown(out: Path, schedule: Schedule, done: int) -> Iterator[Callable[[TrainStep], None]]:
    """Yield what shows a step in the bar and the logs; processes other than the main one show nothing."""
    if not PartialState().is_main_process:
        yield lambda _: None
        return
    bar = tqdm(total=None if schedule.minutes else schedule.steps, initial=done, unit="step")

    def show(step: TrainStep) -> None:
        bar.update(step.step - bar.n)
        bar.set_postfix(
            loss=f"{step.losses['loss']:.3f}",
            pictures_s=f"{step.pictures_per_second:.0f}",
            waiting=f"{step.waiting:.0%}",
            done=f"{step.progress:.0%}",
            refresh=False,
        )
        if step.step % 20 == 0 or step.validation or step.saved:
            _log(step, writer, log, out)

    with _tensorboard(out) as writer, (out / "log.jsonl").open("a") as log, bar:
        yield show


@contextmanager
def _tensorboard(out: Path) -> Iterator["SummaryWriter | None"]:
    """Yield a writer of TensorBoard's logs, or None where that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # takes seconds to import
    except ImportError:
        print("tensorboard is not installed: figures are written to log.jsonl only", file=sys.stderr)
        yield None
        return
    with SummaryWriter(out / "tensorboard") as writer:
        yield writer


def _log(step: TrainStep, writer: "SummaryWriter | None", log: TextIO, out: Path) -> None:
    if writer is not None:
        for name, value in (step.losses | step.validation).items():
            writer.add_scalar(name, value, step.step)
    if step.preview is not None:
        (out / "samples").mkdir(exist_ok=True)
        step.preview.save(out / "samples" / f"{step.step:07}.png")
        if writer is not None:
            writer.add_image("samples", np.asarray(step.preview), step.step, dataformats="HWC")
    row = {field.name: getattr(step, field.name) for field in dataclasses.fields(step) if field.name != "preview"}
    log.write(json.dumps(row | {"time": time.time()}) + "\n")
    log.flush()


if __name__ == "__main__":
    sys.exit(main())
