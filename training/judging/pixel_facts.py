"""What the pixels of a picture say without a network: its background, how many things there are, how far joins show.

Counting connected parts was chosen on real pictures of the emoji corpus, composed as in training (240 of 64 px):
the number is right for .99 of them, and for .97 after the tokenizer. It relies on the gaps of `composing.repeated`.

Letters: B pictures, N pixels, S picture side in pixels; pictures are (B, 3, S, S) in [-1, 1].
"""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from training.data.captions import BACKGROUNDS

APART = 0.2  # difference from the background in a channel (range 2) from which a pixel belongs to a thing
LARGEST_STEP = 0.16  # in a channel (range 2) that counts at the border of tiles: what is larger is drawn
SMALLEST = 0.2  # of the largest part's area; anything smaller does not count as a thing


def border(pixels: Tensor) -> Tensor:
    """The outermost S/32 of pictures: (B, 3, N)."""
    size = pixels.shape[-1]
    width = max(1, size // 32)
    outside = torch.ones(size, size, dtype=torch.bool)
    outside[width:-width, width:-width] = False
    return pixels[:, :, outside]


def background_colours(pixels: Tensor) -> list[str]:
    """The word of `BACKGROUNDS` for each picture: the one that is nearest in sRGB to most border pixels."""
    colours = torch.tensor(list(BACKGROUNDS.values())) / 127.5 - 1  # (12, 3)
    distances = (border(pixels)[:, None] - colours[:, :, None]).square().sum(dim=2)  # (B, 12, N)
    nearest = distances.argmin(dim=1).mode(dim=1).values  # (B,)
    return [list(BACKGROUNDS)[place] for place in nearest.tolist()]


def on_white(pixels: Tensor) -> Tensor:
    """The pictures with white wherever their colour is near the border's median colour."""
    return torch.where(_differs(pixels)[:, None], pixels, 1.0)


def count_things(pixels: Tensor) -> NDArray[np.int64]:
    """How many separate things each picture shows: (B,).

    A thing is connected, except for gaps of S/32, differs from the median colour of the border, and is not a speck next
    to the largest one.
    """
    numbers = []
    for labels in _parts(pixels):
        areas = np.unique(labels[labels > 0], return_counts=True)[1]
        numbers.append(int((areas > SMALLEST * areas.max()).sum()) if len(areas) else 0)
    return np.asarray(numbers, dtype=np.int64)


def blockiness(pixels: Tensor, grid: int) -> float:
    """How far the joins of `grid` x `grid` tiles show: mean step of neighbouring pixels across them over that inside.

    As blind measures of blocking artefacts do (Wang, Bovik and Evans, ICIP 2000), with steps cut at `LARGEST_STEP`, so
    that the edges of what is drawn weigh little. It tells generated pictures from reconstructions by the same decoder;
    by itself it says little, since it grows with sharpness, and edges of drawings often lie in the middle.
    """
    tile = pixels.shape[-1] // grid
    across, inside = [], []
    for axis in (-1, -2):
        steps = pixels.diff(dim=axis).abs().mean(dim=1).clamp(max=LARGEST_STEP).transpose(axis, -1)  # (B, S, S - 1)
        at_join = (torch.arange(steps.shape[-1]) + 1) % tile == 0
        across.append(steps[..., at_join].mean())
        inside.append(steps[..., ~at_join].mean())
    return float(sum(across) / sum(inside))


def _parts(pixels: Tensor) -> NDArray[np.int64]:
    """Which part each pixel belongs to, 0 for the background: (B, S, S)."""
    size = pixels.shape[-1]
    reach = size // 64
    differs = _differs(pixels)
    mask = F.max_pool2d(differs.float(), 2 * reach + 1, stride=1, padding=reach).numpy() > 0
    labels = mask * np.arange(1, size * size + 1).reshape(size, size)
    while True:  # the largest number of a part spreads along its rows and columns
        spread = labels.copy()
        for axis in (1, 2):
            for step in (1, -1):
                part = (slice(None),) * axis + (slice(None, None, step),)
                spread[part] = _spread(spread[part], mask[part], axis)
        if np.array_equal(spread, labels):
            return labels * differs.numpy()
        labels = spread


def _differs(pixels: Tensor) -> Tensor:
    """Which pixels (B, S, S) differ from the median colour of the border."""
    background = border(pixels).median(dim=2).values[..., None, None]  # (B, 3, 1, 1)
    return (pixels - background).abs().amax(dim=1) > APART


def _spread(labels: NDArray[np.int64], mask: NDArray[np.bool_], axis: int) -> NDArray[np.int64]:
    """Running maxima along an axis, restarted after each background pixel."""
    begins = np.cumsum(~mask, axis=axis) * (labels.shape[-1] ** 2 + 1)
    return (np.maximum.accumulate(labels + begins, axis=axis) - begins) * mask
