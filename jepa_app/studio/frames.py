"""What a visitor sees of a run: the picture after each step, or how long the run must still wait."""

from dataclasses import dataclass

from PIL import Image

from jepa_app.generation.results import check_size
from jepa_app.studio.requests import GenerateRequest


@dataclass(frozen=True, kw_only=True)
class Frame:
    """The picture after one step.

    `job` names the run. `index` counts from 0 to `total` - 1 and includes the frames of the runs that it continues.
    `revealed` lists the row-major positions of the tokens that this step made known, on a board of `grid` x `grid`
    tokens. `born` gives, for each position, the frame that revealed its token, or -1 where none is known. `planned` of
    the `num_plan` tokens of the plan are known; they show through where nothing is painted yet. `seconds` have passed
    since the run started. `request` is the request with the seed used, or None for an uploaded picture.

    `image` is on white. A finished picture has its largest size, and where the decoder tells what is opaque, `cutout`
    is the same with a transparent background (RGBA).
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
    cutout: Image.Image | None = None

    @property
    def seed(self) -> int:
        """The seed of the run, or 0 for an uploaded picture."""
        return 0 if self.request is None or self.request.seed is None else self.request.seed


@dataclass(frozen=True, kw_only=True)
class Finish:
    """How a finished picture is given out: `size` pixels wide (None: as large as it is), or without its background."""

    size: int | None = None
    transparent: bool = False

    def check(self, largest: int, *, knows_opacity: bool) -> None:
        """Refuse what the weights cannot give, before any work is done.

        Raises:
            ValueError: the size is not allowed, or the weights do not know what is opaque.
        """
        check_size(self.size, largest)
        if not isinstance(self.transparent, bool):
            raise ValueError(f"transparent is {self.transparent!r}; allowed: true or false")
        if self.transparent and not knows_opacity:
            raise ValueError("these weights do not know what is opaque; leave out transparent")

    def of(self, frame: Frame) -> Image.Image:
        """Return the picture of a finished frame in this form."""
        picture = frame.cutout if self.transparent and frame.cutout is not None else frame.image
        if self.size is None or self.size == picture.width:
            return picture
        if picture.mode == "RGBA":  # averaged with the colours multiplied by opacity, so that no edge turns dark
            return picture.convert("RGBa").resize((self.size, self.size), Image.Resampling.BOX).convert("RGBA")
        return picture.resize((self.size, self.size), Image.Resampling.BOX)


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """A run that has not been admitted yet: `ahead` others come first, and it waits about `seconds` (None: unknown)."""

    ahead: int
    seconds: float | None
