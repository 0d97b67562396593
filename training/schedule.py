"""How long and how fast a run trains."""

import math
from dataclasses import dataclass

import torch

from jepa_app.compute import multiplies_bfloat16

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; learning rates warm up linearly, stay, and fall over the last `decay` share.

    `checkpoint_minutes` is the longest time between two checkpoints, `validate_steps` the steps between validations
    (and sample grids). `matrix_lr` is the learning rate of weight matrices, trained by Muon (by AdamW with `muon`
    off), and `other_lr` that of all other parameters, trained by AdamW. `precision` is that of a step on a CPU:
    "bfloat16" computes with bfloat16 copies of the weights, and "auto" does so if the CPU has units for it. (A GPU
    always does.)
    """

    steps: int = 20_000
    batch_size: int = 48
    muon: bool = True
    matrix_lr: float = 2e-3
    other_lr: float = 2e-3
    weight_decay: float = 0.02
    warmup: int = 100
    decay: float = 0.3
    clip: float = 1.0
    seed: int = 0
    checkpoint_minutes: float = 8.0
    validate_steps: int = 500
    validate_pictures: int = 192
    precision: str = "auto"

    def __post_init__(self) -> None:
        if self.precision not in PRECISIONS:
            raise ValueError(f"schedule.precision is {self.precision!r}; allowed: {', '.join(PRECISIONS)}")
        least = {"steps": 0, "batch_size": 1, "warmup": 1, "validate_steps": 1, "validate_pictures": 0, "seed": 0}
        least |= {"matrix_lr": 0, "other_lr": 0, "weight_decay": 0, "decay": 0, "clip": 0, "checkpoint_minutes": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not low <= value < math.inf:
                raise ValueError(f"schedule.{name} is {value}; allowed: {low} or more")

    @property
    def in_bfloat16(self) -> bool:
        """Whether a step computes in bfloat16 by itself; on a GPU accelerate sees to that."""
        if self.precision == "auto":
            return not torch.cuda.is_available() and multiplies_bfloat16(torch.device("cpu"))
        return self.precision == "bfloat16"

    def rate_at(self, step: int) -> float:
        """Return the factor on the learning rates at a step, counted from 0: warm up, stay, cool down to 2 %."""
        cooling = max(1, round(self.steps * self.decay))
        down = min(1.0, (self.steps - step) / cooling)
        return min(1.0, (step + 1) / self.warmup) * max(0.02, down)
