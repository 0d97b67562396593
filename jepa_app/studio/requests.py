"""Requests to the studio; they check their own values."""

import secrets
from dataclasses import dataclass

from jepa_app.generation.settings import GUIDANCE, STEPS, TEMPERATURE, SamplingSettings
from jepa_app.limits import check_words

MAX_SEED = 2**31 - 1
MAX_TOKENS = 4096  # of a picture
MAX_FRAMES = 256  # of a run, including all the runs that it continues


@dataclass(frozen=True, kw_only=True)
class Edit:
    """The starting picture: a kept run, or a kept uploaded picture, after one of its steps.

    `job` and `step` (counted from 0) name a frame. `redo` lists the row-major positions of the tokens to redo; with
    `ring`, their neighbours are redone too. Without `redo`, the run continues from the step.

    Raises:
        ValueError: a value is of the wrong type or out of range.
    """

    job: str
    step: int
    redo: tuple[int, ...] = ()
    ring: bool = True

    def __post_init__(self) -> None:
        if not isinstance(self.job, str) or not self.job:
            raise ValueError(f"job is {self.job!r}; it must be the id of a kept run")
        _check_whole("step", self.step, 0, MAX_FRAMES - 1)
        if not isinstance(self.redo, tuple) or len(self.redo) > MAX_TOKENS:
            kind = type(self.redo).__name__
            raise ValueError(f"redo is of type {kind}; allowed: a tuple of at most {MAX_TOKENS} positions")
        for position in self.redo:
            _check_whole("position", position, 0, MAX_TOKENS - 1)


@dataclass(frozen=True, kw_only=True)
class GenerateRequest:
    """A request for one picture. `seed=None` draws a fresh seed, which the frames report.

    `guidance` 1 is the plain model and 0 ignores the prompt; `temperature` scales the noise each token starts from.

    Raises:
        ValueError: a value is of the wrong type or out of range; the message says what is allowed.
    """

    prompt: str
    negative_prompt: str = ""
    steps: int = SamplingSettings.steps
    guidance: float = SamplingSettings.guidance
    temperature: float = SamplingSettings.temperature
    seed: int | None = None
    edit: Edit | None = None

    def __post_init__(self) -> None:
        check_words("prompt", self.prompt)
        if not isinstance(self.negative_prompt, str) or self.negative_prompt.strip():
            check_words("negative prompt", self.negative_prompt)
        _check_whole("steps", self.steps, *STEPS)
        _check_real("guidance", self.guidance, *GUIDANCE)
        _check_real("temperature", self.temperature, *TEMPERATURE)
        if self.seed is not None:
            _check_whole("seed", self.seed, 0, MAX_SEED)


def settings_of(request: GenerateRequest) -> SamplingSettings:
    """Return the sampling settings of a request."""
    return SamplingSettings(
        steps=request.steps, guidance=float(request.guidance), temperature=float(request.temperature)
    )


def seed_of(request: GenerateRequest) -> int:
    """Return a request's seed, or a fresh one if it names none."""
    return secrets.randbelow(MAX_SEED + 1) if request.seed is None else request.seed


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"{name} is {value!r}; allowed: a whole number from {low} to {high}")


def _check_real(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]  # NaN is never in range
        raise ValueError(f"{name} is {value!r}; allowed: a number from {low:g} to {high:g}")
