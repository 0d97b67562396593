"""How good generated pictures are, by the judge: the right concept among all, and the distance from real pictures.

Letters in shapes: B pictures, M pictures of the folder, S picture side in pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.tokenizers.resizing import resize_pixels
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from jepa_app.styles import design_of
from training.data.batches import CaptionedPictures
from training.data.decoded import default_cache_dir
from training.data.folders import read_folder
from training.data.split import concept_of
from training.judging.judge import ConceptGallery, Features, Judge, right_ranks
from training.judging.weights import PicturePipeline
from training.settings import require_at_least

PICTURES_AT_ONCE = 50

Indices = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Sampling(SamplingSettings):
    """How pictures are generated; the picture of row r has the seed `seed` + r, whatever else is generated.

    Raises:
        ValueError: a number is out of its range, or the schedule is unknown.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, {"steps": 1})


def generate(
    pipeline: PicturePipeline, prompts: Sequence[str], indices: Indices, how: Sampling, side: int | None = None
) -> Iterator[Tensor]:
    """Yield pictures (B, 3, S, S) in [-1, 1], one for each prompt and its row, a few at a time.

    They are `side` pixels wide, by default as wide as those that the tokenizer encodes.
    """
    side = side or pipeline.image_tokenizer.config.image_size
    for start in range(0, len(prompts), PICTURES_AT_ONCE):
        part = slice(start, start + PICTURES_AT_ONCE)
        made = pipeline(
            list(prompts[part]),
            num_inference_steps=how.steps,
            guidance_scale=how.guidance,
            temperature=how.temperature,
            guidance_schedule=how.guidance_schedule,
            denoising_steps=how.denoising_steps,
            generator=[torch.Generator().manual_seed(how.seed + index) for index in indices[part].tolist()],
            output_type="pt",
        )
        assert isinstance(made.images, Tensor)  # as asked for by output_type
        yield resize_pixels(made.images.float().cpu(), side)


@torch.inference_mode()
def reconstruct(tokenizer: Tokenizer, pixels: Tensor, noise: float = 0.0) -> Tensor:
    """Real pictures (B, 3, S, S) as their tokens keep them: the best that a perfect generator could give.

    `noise` is added to the tokens, in units of their standard deviation, to stand for an imperfect one.
    """
    tokens = tokenizer.encode(pixels)  # (B, N, C)
    added = torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0)).to(tokens)
    return tokenizer.decode(tokens + noise * tokens.std() * added)


def real_features(judge: Judge, data: CaptionedPictures) -> Iterator[Features]:
    """Yield the features of all pictures of a folder, in order, a few at a time."""
    for part in data.in_parts(range(len(data.rows)), PICTURES_AT_ONCE):
        yield judge.features(part.pixels)


def features_cache(folder: Path, image_size: int) -> Path:
    """Where the features of a folder's pictures at a size are cached; the name changes when a picture does."""
    return default_cache_dir() / f"{read_folder(folder).fingerprint()}-{image_size}-judge.npy"


class ConceptExam:
    """Which concepts pictures show, looked up among all real pictures of a folder.

    Args:
        data: the folder.
        features: (M, D) of its pictures at the size of the pictures to look up, so that sharpness does not matter.

    Raises:
        ValueError: a picture has no code point, so its concept cannot be matched with other pictures.
    """

    def __init__(self, data: CaptionedPictures, features: Features) -> None:
        hexcodes = [row.hexcode for row in data.rows if row.hexcode]
        if len(hexcodes) < len(data.rows):
            raise ValueError("concept accuracy needs pictures with code points, as training.corpus build makes them")
        self._concepts = [concept_of(hexcode) for hexcode in hexcodes]
        self._styles = [row.style for row in data.rows]
        self._designs = [design_of(style) for style in self._styles]
        self._gallery = ConceptGallery(features, self._concepts, self._styles, self._designs)
        labels = {concept: row.label for concept, row in zip(self._concepts, data.rows, strict=True)}
        self._labels = [labels[concept] for concept in self._gallery.concepts.tolist()]

    @property
    def num_concepts(self) -> int:
        """How many concepts there are to choose from."""
        return len(self._labels)

    def look_up(self, features: Features, indices: Indices, *, leave_out: bool) -> tuple[Indices, list[str]]:
        """The rank of the right concept, 0 first, and the label of the nearest one, for pictures of rows.

        `leave_out` leaves out the real pictures that show the row's concept in the row's design: for a real picture,
        itself and its near copies; for a generated one, what its network may have learnt by heart.
        """
        distances, right = self.distances(features, indices, leave_out=leave_out)
        nearest = [self._labels[column] for column in distances.argmin(axis=1).tolist()]
        return right_ranks(distances, right), nearest

    def distances(
        self, features: Features, indices: Indices, *, leave_out: bool
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """The distances (B, K) of pictures of rows to every concept, and the columns (B,) of the right ones."""
        concepts, styles, designs = ([names[i] for i in indices] for names in self._names)
        known = (concepts, designs) if leave_out else ()
        return self._gallery.distances(features, styles, *known), self._gallery.ids(concepts)

    def place(
        self, features: Features, indices: Indices, shown: Indices, *, leave_out: bool
    ) -> tuple[Indices, NDArray[np.float32]]:
        """The rank of the concept of the rows `shown`, 0 first, and the distance to it, for pictures of `indices`.

        Pictures are in the style of their own row; `leave_out` leaves out the designs of the rows `shown`.
        """
        styles = [self._styles[index] for index in indices]
        concepts, designs = ([names[index] for index in shown] for names in (self._concepts, self._designs))
        known = (concepts, designs) if leave_out else ()
        distances = self._gallery.distances(features, styles, *known)
        right = self._gallery.ids(concepts)
        return right_ranks(distances, right), distances[np.arange(len(right)), right]

    @property
    def _names(self) -> tuple[list[str], list[str], list[str]]:
        return self._concepts, self._styles, self._designs


def rank_figures(ranks: Indices, suffix: str) -> dict[str, float]:
    """Top-1 and top-5 accuracy and the median rank, counted from 1, of ranks counted from 0."""
    return {
        f"concept_top1{suffix}": float((ranks < 1).mean()),
        f"concept_top5{suffix}": float((ranks < 5).mean()),
        f"concept_median_rank{suffix}": float(np.median(ranks)) + 1,
    }
