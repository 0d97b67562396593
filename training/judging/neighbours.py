"""The training pictures nearest to others: by what the judge sees in them, and by their pixels at a low resolution.

By features: the cosine distance of the square roots of the judge's features, minus their mean over the training
pictures. Unlike in `ConceptGallery`, the mean of a style is not subtracted, because here style counts.
By pixels: the root mean square difference of pictures reduced to 16 x 16, whose values are in [-1, 1].
Letters in shapes: B pictures, M training pictures, D features, S picture side in pixels.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from training.data.batches import CaptionedPictures
from training.judging.judge import Features
from training.judging.picture_figures import PICTURES_AT_ONCE, Indices

LOW_RESOLUTION = 16  # pixels
SHOWN = 3  # nearest pictures that are kept

Distances = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Found:
    """The nearest training pictures of B pictures: `rows` (B, 3) of the folder and `distances` (B, 3), ascending."""

    rows: Indices
    distances: Distances

    @property
    def closest(self) -> Distances:
        """The distance (B,) of each picture to its nearest training picture."""
        return self.distances[:, 0]

    @property
    def first(self) -> Indices:
        """The row (B,) of each picture's nearest training picture."""
        return self.rows[:, 0]


class TrainingPictures:
    """The training pictures of a folder, in which to find the nearest."""

    def __init__(self, data: CaptionedPictures, real: Features) -> None:
        self._rows = data.split.train
        roots = np.sqrt(real[self._rows])
        self._mean = roots.mean(axis=0)
        self._directions = self._direction(real[self._rows])  # (M, D)
        parts = data.in_parts(self._rows, PICTURES_AT_ONCE)
        self._thumbnails = np.concatenate([thumbnails(part.pixels) for part in parts])  # (M, 768)

    def nearest(self, pixels: Tensor, features: Features) -> dict[str, Found]:
        """The nearest training pictures of B pictures by each measure."""
        return {"features": self.by_features(features), "pixels": self.by_pixels(pixels)}

    def by_features(self, features: Features) -> Found:
        """The nearest by the judge's features (B, D)."""
        return self._found(1 - self._direction(features) @ self._directions.T)

    def by_pixels(self, pixels: Tensor) -> Found:
        """The nearest by pixels (B, 3, S, S), as they look at 16 x 16."""
        small, known = thumbnails(pixels), self._thumbnails
        squares = np.square(small).sum(axis=1)[:, None] + np.square(known).sum(axis=1) - 2 * small @ known.T  # (B, M)
        return self._found(np.sqrt(np.maximum(squares, 0) / small.shape[1]))

    def _direction(self, features: Features) -> Features:
        centred = np.sqrt(features) - self._mean
        unit: Features = centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
        return unit

    def _found(self, distances: Distances) -> Found:
        order = np.argsort(distances, axis=1, kind="stable")[:, :SHOWN]
        return Found(rows=self._rows[order], distances=np.take_along_axis(distances, order, axis=1))


def thumbnails(pixels: Tensor) -> NDArray[np.float32]:
    """Pictures (B, 3, S, S) in [-1, 1] reduced to 16 x 16 pixels: (B, 768)."""
    small = interpolate(pixels.float(), size=(LOW_RESOLUTION, LOW_RESOLUTION), mode="area")
    flat: NDArray[np.float32] = small.flatten(start_dim=1).numpy()
    return flat
