"""Captioned pictures in memory, and batches of them as a pure function of the step.

Shapes: B batch, S picture side in pixels.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from training.data.captions import (
    BACKGROUNDS,
    CaptionOptions,
    Row,
    canonical_caption,
    counted_caption,
    direct_scene_caption,
    draw_relation,
    is_phrase,
    on_background,
    scene_caption,
    with_style,
)
from training.data.composition.composing import (
    MOST,
    WHITE,
    over_colours,
    premultiplied,
    repeated,
    shows_background,
    side_by_side,
)
from training.data.composition.recolouring import HUES, dominant_hue, in_colour, recoloured
from training.data.decoded import decode, decode_all, default_cache_dir
from training.data.folders import CaptionedFolder, read_folder
from training.data.selection import emphasised
from training.data.sentences import draw_words
from training.data.split import Split, split_rows

_COLOURS = tuple(BACKGROUNDS)
_HUES = tuple(HUES)
_DRAWS = 8  # uniform draws per batch position; a fixed width keeps positions independent of the batch size


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Pictures with captions: `pixels` float32 (B, 3, S, S) in [-1, 1], `indices` long (B,) rows of the folder.

    `opacity` float32 (B, 1, S, S) in [0, 1] tells the picture from white behind it; a named background is part of the
    picture. It is None where a batch was made without it. Pixels are where the pictures are kept, indices on the CPU.
    """

    pixels: torch.Tensor
    captions: list[str]
    indices: torch.Tensor
    opacity: torch.Tensor | None = None


class CaptionedPictures:
    """A folder of captioned pictures, decoded once to uint8 RGBA and composited when a batch is requested.

    `pixels` is uint8 (rows, 4, S, S). Batches are composed on `device`.
    """

    def __init__(
        self, folder: CaptionedFolder, pixels: NDArray[np.uint8], image_size: int, options: CaptionOptions
    ) -> None:
        self.rows = folder.rows
        self.split: Split = split_rows(folder.rows)
        self.image_size = image_size
        self.options = options
        self._paths = folder.paths
        self._labels = frozenset(row.label for row in folder.rows)
        self.device = torch.device("cpu")
        self._pixels: NDArray[np.uint8] | torch.Tensor = pixels  # an array may lie in a file, a tensor on the device
        self._drawn = {
            "train": emphasised(folder.rows, self.split.train, options),
            "heldout_pairs": self.split.heldout_pairs,
            "heldout_concepts": self.split.heldout_concepts,
        }
        self._by_style = _indices_by_style(folder.rows, self._drawn)

    @classmethod
    def load(
        cls,
        folder: Path | str,
        image_size: int,
        options: CaptionOptions | None = None,
        cache_dir: Path | None = None,
    ) -> "CaptionedPictures":
        """Read a folder in either layout and decode its pictures at `image_size`, or find them decoded in the cache.

        The cache is one .npy file per folder, state and size in `cache_dir` (by default `jepa` in the user's cache
        folder). It is memory-mapped, so a second start is immediate and processes share it.

        Raises:
            ValueError: the size is impossible, the folder has no captioned pictures, a picture is missing or broken,
                or the emphasis is on something that no picture has.
        """
        if not 8 <= image_size <= 1024 or image_size % 2:
            raise ValueError(f"image_size is {image_size}; allowed: an even number of pixels from 8 to 1024")
        contents = read_folder(folder)
        path = (cache_dir or default_cache_dir()) / f"{contents.fingerprint()}-{image_size}.npy"
        if not path.is_file():
            decode_all(contents.paths, image_size, path)
        return cls(contents, np.load(path, mmap_mode="r"), image_size, options or CaptionOptions())

    def move_to(self, device: torch.device) -> None:
        """Keep all pictures on a device, as bytes, and compose batches there; on a CPU they stay in their file."""
        self.device = device
        if device.type != "cpu":
            self._pixels = torch.from_numpy(np.asarray(self._pixels)).to(device)

    def batch(self, step: int, batch_size: int, seed: int, subset: str = "train", part: slice = slice(None)) -> Batch:
        """The training batch of a step: a pure function of its arguments, so exact resume needs no state.

        Rows follow a permutation drawn from (seed, epoch); composition and caption follow from (seed, step, position).
        `subset` is "train", "heldout_pairs" or "heldout_concepts". Scenes are made of rows of the same subset. Only the
        positions of `part` are made.

        Raises:
            ValueError: the subset is unknown or empty, or the batch size is below 1.
        """
        members = self._members(subset)
        if batch_size < 1:
            raise ValueError(f"batch_size is {batch_size}; allowed: 1 or more")
        places = step * batch_size + np.arange(batch_size, dtype=np.int64)
        indices = np.empty(batch_size, dtype=np.int64)
        for epoch in np.unique(places // len(members)):
            here = places // len(members) == epoch
            indices[here] = members[_permutation(len(members), seed, int(epoch))[places[here] % len(members)]]
        draws = np.random.default_rng([seed, step, 1]).random((batch_size, _DRAWS))
        return self._composed(indices[part], draws[part], subset)

    def fixed(self, indices: Sequence[int] | NDArray[np.int64], image_size: int | None = None) -> Batch:
        """Rows as they are: white background, canonical caption; for validation and evaluation.

        An `image_size` other than the loaded one is decoded from the files.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if image_size in (None, self.image_size):
            rgba = self._rgba(indices)
        else:
            decoded = np.stack([decode(self._paths[index], image_size) for index in indices])
            rgba = torch.from_numpy(decoded).to(self.device)
        picture = premultiplied(rgba)
        return Batch(
            **_on_colours(picture, [None] * len(picture)),
            captions=[canonical_caption(self.rows[index]) for index in indices],
            indices=torch.from_numpy(indices.copy()),
        )

    def in_parts(
        self, indices: Sequence[int] | NDArray[np.int64], size: int, image_size: int | None = None
    ) -> Iterator[Batch]:
        """Yield rows as `fixed` gives them, `size` at a time."""
        for start in range(0, len(indices), size):
            yield self.fixed(indices[start : start + size], image_size)

    def scene(self, first: int, relation: str, second: int) -> Batch:
        """One picture of two rows, the first `relation` ("left of", …) the second, on white, with its caption."""
        pictures = premultiplied(self._rgba([first, second]))
        return Batch(
            **_on_colours(side_by_side(pictures[0], pictures[1], relation)[None], [None]),
            captions=[scene_caption(self.rows[first], relation, self.rows[second])],
            indices=torch.tensor([first]),
        )

    def counted(self, index: int, number: int, turned: bool) -> Batch:
        """One picture that shows a row `number` times, 1 to 3, on white, with its caption.

        Raises:
            ValueError: the row's label has no plural.
        """
        caption = counted_caption(self.rows[index], number)
        if caption is None:
            raise ValueError(
                f"{self.rows[index].label!r} has no plural; allowed: labels that training.data.plurals.plural knows"
            )
        picture = premultiplied(self._rgba([index]))[0]
        return Batch(
            **_on_colours(repeated(picture, number, turned)[None], [None]),
            captions=[caption],
            indices=torch.tensor([index]),
        )

    def recoloured(self, index: int, colour: str) -> Batch | None:
        """A row with its main colour turned to one of `HUES`, which its caption names; None if it has none."""
        picture = premultiplied(self._rgba([index]))[0]
        own, row = dominant_hue(picture), self.rows[index]
        if own is None:
            return None
        return Batch(
            **_on_colours(recoloured(picture, own, HUES[colour])[None], [None]),
            captions=[with_style(in_colour(row.label, colour), row.style)],
            indices=torch.tensor([index]),
        )

    def coloured(self, index: int, colour: str) -> Batch:
        """A row on a background of `BACKGROUNDS`, which its caption names."""
        picture = premultiplied(self._rgba([index]))
        return Batch(
            **_on_colours(picture, [BACKGROUNDS[colour]]),
            captions=[on_background(canonical_caption(self.rows[index]), colour)],
            indices=torch.tensor([index]),
        )

    def _rgba(self, indices: Sequence[int] | NDArray[np.int64]) -> torch.Tensor:
        """Rows as uint8 (B, 4, S, S) on the device."""
        if isinstance(self._pixels, torch.Tensor):
            return self._pixels[torch.as_tensor(indices, device=self.device)]
        return torch.from_numpy(self._pixels[np.asarray(indices)])

    def _members(self, subset: str) -> NDArray[np.int64]:
        if subset not in self._drawn:
            raise ValueError(f"subset is {subset!r}; allowed: {', '.join(self._drawn)}")
        if not len(self._drawn[subset]):
            raise ValueError(f"the subset {subset!r} is empty: the folder has only {len(self.rows)} pictures")
        return self._drawn[subset]

    def _composed(self, indices: NDArray[np.int64], draws: NDArray[np.float64], subset: str) -> Batch:
        picture = premultiplied(self._rgba(indices))  # (B, 4, S, S)
        captions: list[str] = []
        colours: list[tuple[int, int, int] | None] = []
        for place, index in enumerate(indices.tolist()):
            row = self.rows[index]
            caption = draw_words(row, self.options, self._labels, *draws[place, [7, 3, 4]])
            if draws[place, 0] < self.options.scenes:
                second = self._partner(index, draws[place, 1], subset) if is_phrase(row.label) else None
                if second is not None:
                    relation = draw_relation(self.options, draws[place, 2])
                    other = premultiplied(self._rgba([second]))[0]
                    picture[place] = side_by_side(picture[place], other, relation)
                    caption = scene_caption(row, relation, self.rows[second])
                    if draws[place, 3] < self.options.direct:  # a scene has no other use for these draws
                        caption = direct_scene_caption(row, relation, self.rows[second], draws[place, 4])
            elif draws[place, 0] < self.options.scenes + self.options.counts:
                number = 1 + int(draws[place, 1] * MOST)
                if counted := counted_caption(row, number):
                    picture[place] = repeated(picture[place], number, draws[place, 2] < 0.5)
                    caption = counted
            elif draws[place, 0] < self.options.scenes + self.options.counts + self.options.recoloured:
                own = dominant_hue(picture[place])
                if own is not None and is_phrase(row.label):
                    name = _HUES[int(draws[place, 1] * len(_HUES))]
                    picture[place] = recoloured(picture[place], own, HUES[name])
                    caption = with_style(in_colour(row.label, name), row.style)
            colour = None
            if draws[place, 5] < self.options.backgrounds and shows_background(picture[place]):
                name = _COLOURS[int(draws[place, 6] * len(_COLOURS))]
                caption, colour = on_background(caption, name), BACKGROUNDS[name]
            captions.append(caption)
            colours.append(colour)
        return Batch(**_on_colours(picture, colours), captions=captions, indices=torch.from_numpy(indices))

    def _partner(self, index: int, draw: float, subset: str) -> int | None:
        """Another row of the same style and subset with a different label, or None if there is none."""
        candidates = self._by_style[subset, self.rows[index].style]
        start = int(draw * len(candidates))
        for offset in range(len(candidates)):
            candidate = int(candidates[(start + offset) % len(candidates)])
            if self.rows[candidate].label != self.rows[index].label and is_phrase(self.rows[candidate].label):
                return candidate
        return None


def _on_colours(picture: torch.Tensor, colours: Sequence[tuple[int, int, int] | None]) -> dict[str, torch.Tensor]:
    """Pixels and opacity of premultiplied pictures (B, 4, S, S) on backgrounds of their own, or (None) on white."""
    named = torch.tensor([colour is not None for colour in colours], dtype=torch.bool, device=picture.device)
    opacity = torch.where(named.view(-1, 1, 1, 1), 1.0, picture[:, 3:])
    return {"pixels": over_colours(picture, [colour or WHITE for colour in colours]), "opacity": opacity}


def _indices_by_style(
    rows: Sequence[Row], drawn: Mapping[str, NDArray[np.int64]]
) -> dict[tuple[str, str], NDArray[np.int64]]:
    lists: dict[tuple[str, str], list[int]] = {}
    for subset, members in drawn.items():
        for index in members:
            lists.setdefault((subset, rows[index].style), []).append(int(index))
    return {key: np.asarray(indices, dtype=np.int64) for key, indices in lists.items()}


@functools.lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, epoch, 0]).permutation(length)
