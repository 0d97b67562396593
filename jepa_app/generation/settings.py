"""How a picture is sampled: the settings, their ranges and their defaults; nothing else repeats these numbers.

paper word -> code: AR step `step`, tau `temperature`, w `guidance`.
"""

from dataclasses import dataclass
from typing import Literal, get_args

STEPS = (1, 64)  # of a picture that is asked for; never more than it has tokens
GUIDANCE = (0.0, 20.0)
TEMPERATURE = (0.0, 2.0)
DENOISING_STEPS = (1, 1000)

GuidanceSchedule = Literal["constant", "linear"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to sample.

    `guidance` holds at every step (`guidance_schedule` "constant"), or is reached at the last one, rising with the
    revealed share from 1 ("linear", as published); 1 is no guidance. `temperature` scales the noise that tokens are
    denoised from. `denoising_steps` are the evaluations of the denoiser for one token. How many `steps` a picture can
    take depends on its tokens, so they are checked when it begins.

    Raises:
        ValueError: a value is out of its range.
    """

    steps: int = 16
    guidance: float = 3.0
    temperature: float = 0.8
    guidance_schedule: GuidanceSchedule = "constant"
    denoising_steps: int = 5

    def __post_init__(self) -> None:
        ranges = {"guidance": GUIDANCE, "temperature": TEMPERATURE, "denoising_steps": DENOISING_STEPS}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; allowed: {low:g} to {high:g}")
        if self.guidance_schedule not in get_args(GuidanceSchedule):
            allowed = " or ".join(get_args(GuidanceSchedule))
            raise ValueError(f"guidance_schedule is {self.guidance_schedule!r}; allowed: {allowed}")
