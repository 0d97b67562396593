"""How a picture is sampled: the settings with their ranges and defaults, which are defined only here.

paper word -> code: AR step `step`, tau `temperature`, w `guidance`.
"""

from dataclasses import dataclass
from typing import Literal, Self, get_args

from jepa_app.config import JepaTConfig

STEPS = (1, 64)  # allowed in a request; never more than the picture has tokens
GUIDANCE = (0.0, 20.0)
TEMPERATURE = (0.0, 2.0)
DENOISING_STEPS = (1, 1000)

GuidanceSchedule = Literal["constant", "linear"]


@dataclass(frozen=True, kw_only=True)
class SamplingSettings:
    """How to sample.

    `guidance` is the guidance scale; 1 means no guidance. With `guidance_schedule` "constant" it applies at every step;
    with "linear" (as published) the scale rises from 1 with the revealed share and reaches it at the last step.
    `temperature` scales the noise that tokens are denoised from. `denoising_steps` is the number of evaluations of the
    denoiser per token. How many `steps` are allowed depends on the picture's tokens, so this is checked at the start.

    Raises:
        ValueError: a value is out of range.
    """

    steps: int = JepaTConfig.sampling_steps
    guidance: float = JepaTConfig.sampling_guidance
    temperature: float = JepaTConfig.sampling_temperature
    guidance_schedule: GuidanceSchedule = "constant"
    denoising_steps: int = 5

    @classmethod
    def suiting(cls, config: JepaTConfig) -> Self:
        """Return the settings that suit a network's weights."""
        return cls(
            steps=config.sampling_steps, guidance=config.sampling_guidance, temperature=config.sampling_temperature
        )

    def __post_init__(self) -> None:
        ranges = {"guidance": GUIDANCE, "temperature": TEMPERATURE, "denoising_steps": DENOISING_STEPS}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}; allowed: {low:g} to {high:g}")
        if self.guidance_schedule not in get_args(GuidanceSchedule):
            allowed = " or ".join(get_args(GuidanceSchedule))
            raise ValueError(f"guidance_schedule is {self.guidance_schedule!r}; allowed: {allowed}")
