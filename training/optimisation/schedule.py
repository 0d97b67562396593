"""How long and how fast a run trains."""

import math
from dataclasses import dataclass

import torch

from jepa_app.compute import multiplies_bfloat16

PRECISIONS = ("auto", "float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; learning rates warm up linearly, stay, and fall over the last `decay` share.

    With `minutes` above 0 the clock decides instead of `steps`: the run ends cooled down after so many minutes of
    training, however fast the machine is. `compiled` lets torch compile the network's blocks first, which takes a
    minute or two and needs a C++ compiler on a CPU.

    `batch_size` counts the pictures of a step, which several processes share in equal parts.
    `checkpoint_minutes` is the longest time between two checkpoints, `validate_steps` the steps between validations
    (and sample grids). `matrix_lr` is the learning rate of weight matrices, trained by Muon (by AdamW with `muon`
    off), and `other_lr` that of all other parameters, trained by AdamW. `precision` is that of a step:
    "bfloat16" computes products in bfloat16 while the weights stay in float32, and "auto" does so if the machine has
    units for it.
    """

    steps: int = 20_000
    minutes: float = 0.0
    compiled: bool = False
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
        least |= {
            "matrix_lr": 0,
            "other_lr": 0,
            "weight_decay": 0,
            "decay": 0,
            "checkpoint_minutes": 0,
            "minutes": 0,
        }
        for name, low in least.items():
            value = getattr(self, name)
            if not low <= value < math.inf:
                raise ValueError(f"schedule.{name} is {value}; allowed: {low} or more")

        if not 0 < self.clip < math.inf:
            raise ValueError(f"schedule.clip is {self.clip}; allowed: above 0")

    @property
    def in_bfloat16(self) -> bool:
        """Whether a step computes in bfloat16."""
        if self.precision == "auto":
            return multiplies_bfloat16(torch.device("cuda" if torch.cuda.is_available() else "cpu"))
        return self.precision == "bfloat16"

    def progress_at(self, step: int, seconds: float) -> float:
        """Return the share of the run that is done after `step` steps and so many seconds of training; 1 is the end."""
        return min(1.0, seconds / (60 * self.minutes) if self.minutes else step / max(1, self.steps))

    def rate_at(self, step: int, progress: float) -> float:
        """Return the factor on the learning rates at a step, counted from 0: warm up, stay, cool down to 2 %."""
        down = min(1.0, (1 - progress) / self.decay) if self.decay else 1.0
        return min(1.0, (step + 1) / self.warmup) * max(0.02, down)
