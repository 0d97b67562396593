"""What a visitor sees of a run: the picture after each step, or how long the run must still wait."""

from dataclasses import dataclass

from PIL import Image

from jepa_app.studio.requests import GenerateRequest


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture after one step.

    `job` names the run. `index` counts from 0 to `total` - 1 and includes the frames of the runs that it continues.
    `revealed` lists the row-major positions of the tokens that this step made known, on a board of `grid` x `grid`
    tokens. `born` gives, for each position, the frame that revealed its token, or -1 where none is known. `planned` of
    the `num_plan` tokens of the plan are known; they show through where nothing is painted yet. `seconds` have passed
    since the run started. `request` is the request with the seed used, or None for an uploaded picture.
    """

    job: str
    index: int
    total: int
    image: Image.Image
    revealed: tuple[int, ...]
    born: tuple[int, ...]
    planned: int
    num_plan: int
    grid: int
    request: GenerateRequest | None
    seconds: float

    @property
    def seed(self) -> int:
        """The seed of the run, or 0 for an uploaded picture."""
        return 0 if self.request is None or self.request.seed is None else self.request.seed


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run that has not been admitted yet: `ahead` others come first, and it waits about `seconds` (None: unknown)."""

    ahead: int
    seconds: float | None
