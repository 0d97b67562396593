"""The training loop: a generator of `TrainStep` over accelerate; saves and resumes exactly.

All randomness of a step follows from (seed, step): a checkpoint needs only the networks, the optimizers, the step and,
for a run that ends by the clock, the time. Several processes share each batch, take the same steps and end together; a
checkpoint can be resumed by another number of them.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.checkpointing import load_accelerator_state, save_accelerator_state
from PIL import Image
from safetensors import SafetensorError
from torch import nn

from jepa_app.checkpoint import replacing
from jepa_app.masking import SharedGenerator
from training.data.ahead import ahead
from training.data.batches import Batch, CaptionedPictures
from training.objectives.objective import Objective
from training.optimisation.muon import make_optimizers
from training.optimisation.processes import (
    JointMistake,
    average_gradients,
    join_processes,
    mean_figures,
    numbers_of_all,
    own_part,
    same_everywhere,
    together,
)
from training.optimisation.schedule import Schedule

CHECKPOINT = "checkpoint"
STEP_FILE = "step.json"
MADE_AHEAD = 3  # batches for a GPU
LOAD_ERRORS = (RuntimeError, ValueError, KeyError, EOFError, SafetensorError, UnpicklingError, FileNotFoundError)


class Reached(NamedTuple):
    """How far a run has come: done steps, and seconds of training."""

    step: int = 0
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What one step did: `step` counts done steps, `losses` are means of the batch, `seconds` the time it took.

    `progress` is the share of the run that is done, `waiting` the share of the step's time spent waiting for its batch.
    `validation` and `preview` are present only every `validate_steps` steps.
    """

    step: int
    losses: dict[str, float]
    rate: float
    seconds: float
    waiting: float
    pictures_per_second: float
    progress: float = 0.0
    validation: dict[str, float] = field(default_factory=dict)
    preview: Image.Image | None = None
    saved: bool = False


def train(
    objective: Objective[Any],
    data: CaptionedPictures,
    schedule: Schedule,
    out: Path,
    *,
    resume: bool,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[TrainStep]:
    """Train to the end of the schedule, or until `stopping()` says so after a step; yield after every step.

    The weights to use are written to `out/weights` and the state to resume from to `out/checkpoint`, always at the end
    too; both are replaced as a whole, so an error while writing leaves the previous ones. Of several processes the main
    one validates and writes; all stop after the same step if one of them is `stopping`.

    Raises:
        ValueError: there is a checkpoint without `resume`, or `resume` without a checkpoint; the loss or its gradient
            is not finite; the batch cannot be divided among the processes.
    """
    run = _Run(objective, data, schedule)
    reached = run.load(out, resume)
    saved_at = time.monotonic()
    started = saved_at - reached.seconds

    def status_after(step: int) -> tuple[float, bool, bool]:
        """How far the run is and whether a checkpoint is due, by the main process's clock; whether any is stopping."""
        now = time.monotonic()
        due = now - saved_at > 60 * schedule.checkpoint_minutes
        rows = numbers_of_all([schedule.progress_at(step, now - started), due, stopping()])
        return rows[0][0], bool(rows[0][1]), any(row[2] for row in rows)

    with ahead(run.batch, reached.step, run.made_ahead) as batches:
        step, (progress, *_) = reached.step, status_after(reached.step)
        while progress < 1:
            done = run.take(step, schedule.rate_at(step, progress), batches)
            step += 1
            progress, due, is_stopped = status_after(step)
            validation, preview, last = {}, None, progress == 1 or is_stopped
            if run.is_main and (step % schedule.validate_steps == 0 or progress == 1):
                validation, preview = run.validate(), run.objective.preview()
            if due or last:
                run.save(out, Reached(step, time.monotonic() - started))
                saved_at = time.monotonic()
            yield replace(done, progress=progress, validation=validation, preview=preview, saved=due or last)
            if last:
                return


def validate(objective: Objective[Any], data: CaptionedPictures, schedule: Schedule) -> dict[str, float]:
    """Return the figures that a run's last step has, by name."""
    return _Run(objective, data, schedule).validate()


class _Run:
    """An objective on the device to train on, with its optimizers and this process's part of each batch."""

    def __init__(self, objective: Objective[Any], data: CaptionedPictures, schedule: Schedule) -> None:
        state = join_processes()
        self._part = own_part(schedule.batch_size)
        self.accelerator = Accelerator(mixed_precision="bf16" if schedule.in_bfloat16 else "no")
        device = self.accelerator.device
        self.objective = objective.to(device)
        same_everywhere(objective)
        self._optimizers = _optimizers(objective.network, schedule)
        self._base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers]
        self._data, self._schedule = data, schedule
        self.is_main = state.is_main_process
        self._generator = SharedGenerator.of(device, state.process_index, state.num_processes)
        self.made_ahead = MADE_AHEAD if device.type == "cuda" else 0
        data.move_to(device)
        self.objective.move_to(device)

    def batch(self, step: int) -> Batch:
        """Return this process's part of a step's batch."""
        return self._data.batch(step, self._schedule.batch_size, self._schedule.seed, part=self._part)

    def take(self, step: int, rate: float, batches: Iterator[Batch]) -> TrainStep:
        """Take a step, counted from 0, with a factor on the learning rates."""
        began = time.monotonic()
        _set_rates(self._optimizers, self._base_rates, rate)
        batch = next(batches)
        waited = time.monotonic() - began
        self._generator.manual_seed(_mix(self._schedule.seed, step))
        clip = self._schedule.clip
        losses = _step(self.accelerator, self.objective, self._optimizers, batch, self._generator, clip)
        self.objective.after_step(step)
        seconds = time.monotonic() - began
        return TrainStep(
            step=step + 1,
            losses=losses,
            rate=rate,
            seconds=seconds,
            waiting=waited / seconds,
            pictures_per_second=self._schedule.batch_size / seconds,
        )

    def validate(self) -> dict[str, float]:
        """Return figures of the sides of the data."""
        return _validate(self.objective, self._data, self._schedule, torch.Generator(self.accelerator.device))

    def save(self, out: Path, reached: Reached) -> None:
        """Write the checkpoint and the weights from the main process, while the others wait."""
        with together():
            if not self.is_main:
                return
            with replacing(out / CHECKPOINT) as partial:
                save_accelerator_state(str(partial), [self.objective.state_dict()], self._optimizers, [], [], 0, 0)
                (partial / STEP_FILE).write_text(json.dumps(reached._asdict()))
            self.objective.save(out / "weights")
            self.objective.save_unaveraged(out / "unaveraged")

    def load(self, out: Path, resume: bool) -> Reached:
        """Return where to start from, with the state of that moment in every process."""
        with together():
            reached = check_checkpoint(out, resume)
            if resume:
                self._load(out / CHECKPOINT)
        return reached

    def _load(self, folder: Path) -> None:
        own = [[dict(group) for group in optimizer.param_groups] for optimizer in self._optimizers]
        try:
            load_accelerator_state(str(folder), [self.objective], self._optimizers, [], [], 0)
            _take_settings(self._optimizers, own)
        except LOAD_ERRORS as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(
                f"the checkpoint {folder} cannot be loaded ({reason}); resume with the recipe and settings that it was "
                "made with, or start again in another --out"
            ) from error


def _optimizers(network: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    return make_optimizers(
        network,
        matrix_lr=schedule.matrix_lr,
        other_lr=schedule.other_lr,
        weight_decay=schedule.weight_decay,
        muon=schedule.muon,
    )


def _take_settings(optimizers: list[torch.optim.Optimizer], own: list[list[dict[str, Any]]]) -> None:
    """Give optimizers, which a checkpoint has brought its settings, those of this run again.

    Raises:
        ValueError: the checkpoint's optimizers are of another kind.
    """
    for optimizer, groups in zip(optimizers, own, strict=True):
        for loaded, group in zip(optimizer.param_groups, groups, strict=True):
            if not loaded.keys() >= group.keys():
                raise ValueError("its optimizers are of another kind")
            loaded.update({name: value for name, value in group.items() if name != "params"})


def _set_rates(optimizers: list[torch.optim.Optimizer], base_rates: list[list[float]], factor: float) -> None:
    for optimizer, rates in zip(optimizers, base_rates, strict=True):
        for group, base in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = base * factor


def _step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    batch: Batch,
    generator: torch.Generator,
    clip: float,
) -> dict[str, float]:
    with accelerator.autocast():
        losses = objective(batch, generator)
    accelerator.backward(losses["loss"])
    average_gradients(objective)
    norm = accelerator.clip_grad_norm_(objective.parameters(), clip)
    figures = {name: float(value.detach()) for name, value in losses.items()}
    figures = mean_figures(figures | {"gradient_norm": float(norm)})
    for name, words in (("loss", "loss"), ("gradient_norm", "norm of the gradient")):
        if not math.isfinite(figures[name]):  # before it can reach the weights, and from them a checkpoint
            raise JointMistake(
                f"the {words} is {figures[name]}; resume from the last checkpoint with lower learning rates"
            )
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    return figures


def _validate(
    objective: Objective[Any], data: CaptionedPictures, schedule: Schedule, generator: torch.Generator
) -> dict[str, float]:
    figures: dict[str, float] = {}
    for name in ("train", "heldout_pairs", "heldout_concepts"):
        indices = getattr(data.split, name)[: schedule.validate_pictures]
        if len(indices):
            generator.manual_seed(_mix(schedule.seed, -1))
            values = objective.validate(data.fixed(indices), generator)
            figures |= {f"{name}/{key}": value for key, value in values.items()}
    return figures


def _mix(seed: int, step: int) -> int:
    return (seed * 1_000_003 + step + 1) % (1 << 62)


def check_checkpoint(out: Path, resume: bool) -> Reached:
    """Return where to start from; refuse to overwrite a run that can be resumed, or to resume one that is absent.

    Raises:
        ValueError: there is a checkpoint without `resume`, or `resume` without a sound checkpoint.
    """
    folder = out / CHECKPOINT
    if not resume and folder.exists():
        raise ValueError(f"{folder} already holds a run; add --resume to continue it or choose another --out")
    if not resume:
        return Reached()
    try:
        found = json.loads((folder / STEP_FILE).read_text())
        return Reached(int(found["step"]), float(found.get("seconds", 0)))
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint in {folder}; leave out --resume to start a run") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder / STEP_FILE} is broken ({error}); start again in another --out") from error
