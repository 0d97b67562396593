"""Pictures on trial: made for rows of a folder under one `Sampling`, and seen by the judge.

Every measurement of generated pictures begins here, so that the same rows and seeds give the same pictures in every
command. Letters in shapes: B pictures, M pictures of the folder, D features, S picture side in pixels.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self, TypeVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from jepa_app.files.whole_files import writing_whole
from training.data.batches import CaptionedPictures
from training.data.captions import Row, canonical_caption
from training.data.selection import balanced_order, is_of
from training.judging.judge import Features, Judge
from training.judging.picture_figures import (
    PICTURES_AT_ONCE,
    ConceptExam,
    Indices,
    Sampling,
    features_cache,
    generate,
    real_features,
    reconstruct,
)
from training.judging.report import SUBSETS, JudgedPictures
from training.judging.weights import GENERATORS, PicturePipeline, load_generators, measured_weights
from training.settings import require_at_least

FEWEST_PICTURES = 10  # a side of the split with fewer is not measured

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class TrialSettings(Sampling):
    """Which pictures are made and how: `prompts` per side of the split, with rows drawn by `seed`.

    Raises:
        ValueError: a number is too small to make sense.
    """

    prompts: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, {"prompts": FEWEST_PICTURES})

    @property
    def sampling(self) -> Sampling:
        """The settings of the sampler alone."""
        return Sampling(**{one.name: getattr(self, one.name) for one in fields(Sampling)})


@dataclass(frozen=True, kw_only=True)
class Made:
    """Pictures `pixels` (B, 3, S, S) in [-1, 1] of rows `indices` (B,), and the judge's `features` (B, D) of them."""

    indices: Indices
    captions: list[str]
    pixels: Tensor
    features: Features

    def evidence(self, suffix: str, seed: int) -> JudgedPictures:
        """The pictures to keep, made with `seed`, for the subset that the suffix of its figures names."""
        seeds = (seed + self.indices).tolist()
        return JudgedPictures(suffix=suffix, prompts=self.captions, seeds=seeds, pixels=self.pixels)


class Trials:
    """A generator, a folder, and the judge that has seen all real pictures of the folder.

    Attributes:
        real: (M, D) features of the folder's pictures at the size that the generator makes.
        exam: looks up which concept a picture shows; None where pictures have no code points.
    """

    def __init__(self, pipeline: PicturePipeline, data: CaptionedPictures, folder: Path) -> None:
        self.pipeline, self.data = pipeline, data
        self.judge = Judge.load(pipeline.device)
        self.real = features_of_all(self.judge, data, features_cache(folder, data.image_size))
        self.exam = ConceptExam(data, self.real) if all(row.hexcode for row in data.rows) else None

    @classmethod
    def load(cls, weights: Path | str, folder: Path, device: str | None = None) -> Self:
        """Load weights, a folder or a hub id, and the pictures of a folder at the size of the weights.

        Raises:
            ValueError: the weights hold no whole generator, or the folder is not usable.
        """
        device, parts = checked_device(device), measured_weights(weights)
        pipeline = next(load_generators(parts, device), None)
        if pipeline is None:
            raise ValueError(f"{weights} holds no {' or '.join(GENERATORS)}; train one with python -m training.train")
        return cls(pipeline, CaptionedPictures.load(folder, pipeline.image_size), folder)

    @property
    def setting(self) -> dict[str, object]:
        """What the figures of these pictures hold for."""
        return {
            "image_size": self.data.image_size,
            "device": str(self.pipeline.device),
            "real_pictures": len(self.data.rows),
            "concepts": self.exam.num_concepts if self.exam else 0,
            "torch": torch.__version__,
        }

    def choose(self, members: Indices, count: int, seed: int) -> tuple[Indices, Indices]:
        """Up to `count` rows of a side, styles evenly, and the same number of others to compare with.

        Half of a small side stays for the others.
        """
        order = balanced_order(self.data.rows, members, seed)
        indices, others = np.split(order, [min(count, len(order) // 2)])
        return indices, others[: len(indices)]

    def make(
        self, indices: Indices, how: Sampling, title: str, caption: Callable[[Row], str] = canonical_caption
    ) -> Made:
        """Generate pictures for the captions of rows, with a progress bar."""
        captions = [caption(self.data.rows[index]) for index in indices.tolist()]
        pictures = generate(self.pipeline, captions, indices, how)
        return self._judged(indices, captions, progress(pictures, title, len(indices), len))

    def restore(self, indices: Indices, noise: float = 0.0) -> Made:
        """The real pictures of rows as their tokens keep them, with `noise` added as `reconstruct` says."""
        batches = list(self.data.in_parts(indices, PICTURES_AT_ONCE))
        device, tokenizer = self.pipeline.device, self.pipeline.image_tokenizer
        pixels = (reconstruct(tokenizer, batch.pixels.to(device), noise).cpu() for batch in batches)
        return self._judged(indices, [caption for batch in batches for caption in batch.captions], pixels)

    def _judged(self, indices: Indices, captions: list[str], parts: Iterable[Tensor]) -> Made:
        pixels, features = zip(*((part, self.judge.features(part)) for part in parts), strict=True)
        return Made(indices=indices, captions=captions, pixels=torch.cat(pixels), features=np.concatenate(features))


def sides_of(data: CaptionedPictures, groups: Collection[str] = ()) -> dict[str, Indices]:
    """The sides of the split that are large enough to measure, by the suffix of their figures.

    With `groups`, only pictures of these groups or subgroups count.

    Raises:
        ValueError: no picture is of one of them.
    """
    known = {name for row in data.rows for name in (row.group, row.subgroup) if name}
    if unknown := [name for name in groups if name not in known]:
        raise ValueError(f"groups has {', '.join(unknown)}; allowed: {', '.join(sorted(known)) or 'nothing'}")
    asked = np.asarray([is_of(row, groups) for row in data.rows])
    split = data.split
    sides = [side[asked[side]] for side in (split.train, split.heldout_pairs, split.heldout_concepts)]
    return {suffix: side for suffix, side in zip(SUBSETS, sides, strict=True) if len(side) >= 2 * FEWEST_PICTURES}


def features_of_all(judge: Judge, data: CaptionedPictures, cache: Path) -> Features:
    """The features of all pictures of a folder, read from the cache or written to it."""
    if cache.is_file():
        cached: Features = np.load(cache)
        return cached
    features = np.concatenate(list(progress(real_features(judge, data), "judging real pictures", len(data.rows), len)))
    with writing_whole(cache) as partial, partial.open("wb") as file:  # np.save would add .npy to the name
        np.save(file, features)
    return features


def progress(items: Iterable[Item], title: str, total: int, size: Callable[[Item], int]) -> Iterator[Item]:
    """Pass items through with a progress bar on standard error that counts `size` of each."""
    with tqdm(total=total, desc=title.replace("_", " "), unit="picture", disable=None) as bar:
        for item in items:
            yield item
            bar.update(size(item))


def checked_device(name: str | None) -> str:
    """The device to compute on: `name`, or a GPU if there is one.

    Raises:
        ValueError: this machine has no such device.
    """
    found = torch.cuda.is_available()
    allowed = ["cpu", "cuda"] if found else ["cpu"]
    if name not in (None, *allowed):
        raise ValueError(f"device is {name!r}; allowed here: {', '.join(allowed)}")
    return name or allowed[-1]
