"""How long and how fast a run trains."""

import math
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to train; learning rates warm up linearly, hold, and fall over the last `decay` share.

    `checkpoint_minutes` is the longest time between two checkpoints, `validate_steps` the steps between validations
    (and sample grids). `matrix_lr` is the learning rate of weight matrices, which Muon trains (AdamW with `muon` off),
    `other_lr` that of all other parameters, AdamW's.
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

    def __post_init__(self) -> None:
        least = {"steps": 0, "batch_size": 1, "warmup": 1, "validate_steps": 1, "validate_pictures": 0, "seed": 0}
        least |= {"matrix_lr": 0, "other_lr": 0, "weight_decay": 0, "decay": 0, "clip": 0, "checkpoint_minutes": 0}
        for name, low in least.items():
            value = getattr(self, name)
            if not low <= value < math.inf:
                raise ValueError(f"schedule.{name} is {value}; allowed: {low} or more")

    def rate_at(self, step: int) -> float:
        """Return the factor on the learning rates at a step counted from 0: warm up, hold, cool down to 2 %."""
        cooling = max(1, round(self.steps * self.decay))
        down = min(1.0, (self.steps - step) / cooling)
        return min(1.0, (step + 1) / self.warmup) * max(0.02, down)
