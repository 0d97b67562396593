"""What a visitor sees of a run: the picture after each step, or how long the run still has to wait."""

from dataclasses import dataclass

from PIL import Image

from jepa_app.studio.requests import GenerateRequest


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture after one step.

    `job` names the run; `index` counts from 0 to `total` - 1, the frames of the runs that it goes on from included;
    `revealed` are the row-major positions of the tokens that this step made known, on a board of `grid` x `grid`
    tokens, and `born` tells of each position which frame revealed its token, -1 where none is known; `seconds` have
    passed since the run began. `request` was asked for, with the seed that was drawn; None of a picture from outside.
    """

    job: str
    index: int
    total: int
    image: Image.Image
    revealed: tuple[int, ...]
    born: tuple[int, ...]
    grid: int
    request: GenerateRequest | None
    seconds: float

    @property
    def seed(self) -> int:
        """The seed of the run, 0 of a picture from outside."""
        return 0 if self.request is None or self.request.seed is None else self.request.seed


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run that was not let in yet: `ahead` others come first, in about `seconds` (None: not known)."""

    ahead: int
    seconds: float | None
