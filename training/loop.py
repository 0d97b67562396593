"""The training loop: a generator of `TrainStep` over accelerate; saves and resumes exactly.

All randomness of a step follows from (seed, step): a checkpoint needs only the networks, the optimizers and the step.
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from accelerate import Accelerator
from PIL import Image
from safetensors import SafetensorError
from torch import nn

from jepa_app.checkpoint import replacing
from training.data.batches import Batch, CaptionedPictures
from training.muon import make_optimizers
from training.objectives.objective import Objective
from training.schedule import Schedule

CHECKPOINT = "checkpoint"
STEP_FILE = "step.json"


@dataclass(frozen=True, kw_only=True)
class TrainStep:
    """What one step did: `step` counts done steps, `losses` are means of the batch, `seconds` the time it took.

    `validation` and `preview` are present only every `validate_steps` steps.
    """

    step: int
    losses: dict[str, float]
    rate: float
    seconds: float
    pictures_per_second: float
    validation: dict[str, float]
    preview: Image.Image | None
    saved: bool


def train(
    objective: Objective[Any],
    data: CaptionedPictures,
    schedule: Schedule,
    out: Path,
    *,
    resume: bool,
    stopping: Callable[[], bool] = lambda: False,
) -> Iterator[TrainStep]:
    """Train until `schedule.steps`, or until `stopping()` says so after a step; yield after every step.

    The weights to use are written to `out/weights` and the state to resume from to `out/checkpoint`, always at the end
    too; both are replaced as a whole, so an error while writing leaves the previous ones.

    Raises:
        ValueError: there is a checkpoint without `resume`, or `resume` without a checkpoint; the loss is not finite.
    """
    accelerator = Accelerator(mixed_precision="bf16" if torch.cuda.is_available() else "no")
    optimizers = _optimizers(objective.network, schedule)
    base_rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
    prepared, *optimizers = accelerator.prepare(objective, *optimizers)
    plain: Objective[Any] = accelerator.unwrap_model(prepared)
    start = _load(accelerator, out, resume)
    generator = torch.Generator(accelerator.device)
    saved_at = time.monotonic()
    for step in range(start, schedule.steps):
        began = time.monotonic()
        rate = schedule.rate_at(step)
        _set_rates(optimizers, base_rates, rate)
        index = step * accelerator.num_processes + accelerator.process_index
        batch = data.batch(index, schedule.batch_size, schedule.seed)
        generator.manual_seed(_mix(schedule.seed, index))
        losses = _step(accelerator, prepared, optimizers, batch, generator, schedule.clip)
        plain.after_step(step)
        seconds = time.monotonic() - began
        done = step + 1
        validation, preview, saved = {}, None, False
        if done % schedule.validate_steps == 0 or done == schedule.steps:
            validation, preview = _validate(plain, data, schedule, generator), plain.preview()
        last = done == schedule.steps or stopping()
        due = last or time.monotonic() - saved_at > 60 * schedule.checkpoint_minutes
        if due and accelerator.is_main_process:
            _save(accelerator, plain, out, done)
            saved, saved_at = True, time.monotonic()
        yield TrainStep(
            step=done,
            losses=losses,
            rate=rate,
            seconds=seconds,
            pictures_per_second=schedule.batch_size * accelerator.num_processes / seconds,
            validation=validation,
            preview=preview,
            saved=saved,
        )
        if last:
            return


def _optimizers(network: nn.Module, schedule: Schedule) -> list[torch.optim.Optimizer]:
    return make_optimizers(
        network,
        matrix_lr=schedule.matrix_lr,
        other_lr=schedule.other_lr,
        weight_decay=schedule.weight_decay,
        muon=schedule.muon,
    )


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
    norm = accelerator.clip_grad_norm_(objective.parameters(), clip)
    for optimizer in optimizers:
        optimizer.step()
        optimizer.zero_grad()
    figures = {name: float(value.detach()) for name, value in losses.items()} | {"gradient_norm": float(norm)}
    if not math.isfinite(figures["loss"]):
        raise ValueError(f"the loss is {figures['loss']}; resume from the last checkpoint with lower learning rates")
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


def _save(accelerator: Accelerator, objective: Objective[Any], out: Path, step: int) -> None:
    with replacing(out / CHECKPOINT) as partial:
        accelerator.save_state(str(partial))
        (partial / STEP_FILE).write_text(json.dumps({"step": step}))
    objective.save(out / "weights")


def _load(accelerator: Accelerator, out: Path, resume: bool) -> int:
    start = check_checkpoint(out, resume)
    if not resume:
        return start
    folder = out / CHECKPOINT
    try:
        accelerator.load_state(str(folder))
        return start
    except (RuntimeError, ValueError, KeyError, EOFError, SafetensorError, UnpicklingError, FileNotFoundError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ValueError(
            f"the checkpoint {folder} cannot be loaded ({reason}); resume with the recipe and settings that it was "
            "made with, or start again in another --out"
        ) from error


def check_checkpoint(out: Path, resume: bool) -> int:
    """Return the step to start from; refuse to overwrite a run that can be resumed, or to resume one that is absent.

    Raises:
        ValueError: there is a checkpoint without `resume`, or `resume` without a sound checkpoint.
    """
    folder = out / CHECKPOINT
    if not resume and folder.exists():
        raise ValueError(f"{folder} already holds a run; add --resume to continue it or choose another --out")
    if not resume:
        return 0
    try:
        return int(json.loads((folder / STEP_FILE).read_text())["step"])
    except FileNotFoundError:
        raise ValueError(f"there is no checkpoint in {folder}; leave out --resume to start a run") from None
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / STEP_FILE} is broken ({error}); start again in another --out") from error
