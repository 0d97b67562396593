"""Features of pictures and captions, cached by content so that nothing is computed twice, within a memory limit.

Letters in shapes: M pictures, L captions, S picture side, T text tokens.
"""

import hashlib
import itertools
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from jepa_app.compute import on_all_cores
from jepa_app.matching.features import (
    CAPTIONS_AT_ONCE,
    PICTURES_AT_ONCE,
    CaptionFeatures,
    FoilFeatures,
    PictureFeatures,
    blocks,
    picture_features,
)
from jepa_app.matching.scoring import Scorer

MAX_BYTES = 640 * 2**20  # 1,000 pictures of 64 patches take 207 MB, 1,000 captions 73 MB, 11,000 foils 190 MB

Features = TypeVar("Features", PictureFeatures, CaptionFeatures)


class FeatureCache:
    """Caches what a scorer computes for each picture and caption; the least recently used entries are dropped first.

    It is not thread-safe: callers must take turns.
    """

    def __init__(self, scorer: Scorer, max_bytes: int = MAX_BYTES) -> None:
        self.scorer = scorer
        self.max_bytes = max_bytes
        self.num_bytes = 0
        self._kept: OrderedDict[Hashable, PictureFeatures | CaptionFeatures] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def pictures(self, pixels: Tensor) -> PictureFeatures:
        """Return the features of pictures (M, 3, S, S) in [-1, 1], computing those that are not cached."""
        keys = [hashlib.sha256(picture.contiguous().numpy().tobytes()).digest() for picture in pixels]

        def compute(rows: list[int]) -> list[PictureFeatures]:
            chosen = pixels[rows].to(self.scorer.device, torch.float32)
            return split_pictures(picture_features(self.scorer.network, chosen))

        return join_pictures(self._find(keys, compute, PICTURES_AT_ONCE))

    def captions(self, captions: Sequence[str]) -> CaptionFeatures:
        """Return the features of captions, computing those that are not cached.

        Raises:
            ValueError: a caption has more word pieces than the encoder accepts.
        """

        def compute(rows: list[int]) -> list[CaptionFeatures]:
            return split_captions(self.scorer.caption_features([captions[row] for row in rows]))

        return join_captions(self._find(captions, compute, CAPTIONS_AT_ONCE, self.scorer.text_encoder.num_pieces))

    def _find(
        self,
        keys: Sequence[Any],
        compute: Callable[[list[int]], list[Features]],
        at_once: int,
        length: Callable[[Any], int] | None = None,
    ) -> list[Features]:
        """Find the features of keys, and compute those that are missing, with others of their length if they have one.

        A key is whatever tells one picture or caption from another.
        """
        found: dict[Hashable, Features] = {}
        missing: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            kept = self._kept.get(key)
            if kept is None:
                missing.setdefault(key, row)
            else:
                self._kept.move_to_end(key)
                found[key] = kept  # type: ignore[assignment]  # the keys of pictures are bytes, those of captions are text
        rows = [missing[key] for key in (missing if length is None else sorted(missing, key=length))]
        parts = [rows[block] for block in blocks(len(rows), at_once)]
        for part, computed in zip(parts, on_all_cores(compute, parts, self.scorer.device), strict=True):
            for row, features in zip(part, computed, strict=True):
                found[keys[row]] = features
                self._keep(keys[row], features)
        return [found[key] for key in keys]

    def _keep(self, key: Hashable, features: PictureFeatures | CaptionFeatures) -> None:
        self._kept[key] = features
        self.num_bytes += bytes_of(features)
        while self.num_bytes > self.max_bytes and self._kept:
            _, forgotten = self._kept.popitem(last=False)
            self.num_bytes -= bytes_of(forgotten)


def bytes_of(features: object) -> int:
    """Return the memory in bytes that the tensors of features take."""
    return sum(tensor.element_size() * tensor.numel() for tensor in _tensors(features))


def _tensors(part: object) -> Iterator[Tensor]:
    if isinstance(part, Tensor):
        yield part
    elif isinstance(part, tuple):
        for each in part:
            yield from _tensors(each)
    elif is_dataclass(part):
        for field in fields(part):
            yield from _tensors(getattr(part, field.name))


def split_pictures(features: PictureFeatures) -> list[PictureFeatures]:
    """Split the features of M pictures into M features of one picture each, which share no memory."""
    return [_row_of(features, row) for row in range(len(features.targets))]


def join_pictures(parts: Sequence[PictureFeatures]) -> PictureFeatures:
    """Join the features of pictures."""
    return _mapped(_joined, *parts)


def split_captions(features: CaptionFeatures) -> list[CaptionFeatures]:
    """Split the features of L captions into L features of one caption each, without padding; they share no memory."""
    lengths = features.later.mask.sum(dim=1).tolist()
    plain = replace(features, foils=None)
    rows = [_row_of(_with_length(plain, length), row) for row, length in enumerate(lengths)]
    if features.foils is None:
        return rows
    return [replace(row, foils=_foils_of(features.foils, number)) for number, row in enumerate(rows)]


def join_captions(parts: Sequence[CaptionFeatures]) -> CaptionFeatures:
    """Join the features of captions, padded to the longest."""
    longest = max(part.later.mask.shape[1] for part in parts)
    joined = _mapped(_joined, *(_with_length(replace(part, foils=None), longest) for part in parts))
    foils = [part.foils for part in parts if part.foils is not None]
    if not foils:
        return joined
    starts = itertools.accumulate((len(part.sentences) for part in parts[:-1]), initial=0)
    moved = [replace(each, owners=each.owners + start) for each, start in zip(foils, starts, strict=True)]
    return replace(joined, foils=_mapped(_joined, *moved))


def _foils_of(foils: FoilFeatures, number: int) -> FoilFeatures:
    """The foils of one caption, as those of the first."""
    own = (foils.owners == number).nonzero().flatten()
    chosen = _mapped(lambda tensor: tensor[own], foils)
    return replace(chosen, owners=torch.zeros_like(own))


def _row_of(features: Features, row: int) -> Features:
    return _mapped(lambda tensor: tensor[row, None].clone(), features)


def _joined(*tensors: Tensor) -> Tensor:
    return torch.cat(tensors)


def _with_length(features: CaptionFeatures, length: int) -> CaptionFeatures:
    """Cut captions to a number of tokens, or pad them with zeros (False); they share memory where they can."""
    return replace(features, later=_mapped(lambda tensor: _cut_or_padded(tensor, length), features.later))


def _cut_or_padded(tensor: Tensor, length: int) -> Tensor:
    missing = length - tensor.shape[1]
    if missing <= 0:
        return tensor[:, :length]
    return torch.cat([tensor, tensor.new_zeros(tensor.shape[0], missing, *tensor.shape[2:])], dim=1)


def _mapped(function: Callable[..., Tensor], *parts: Any) -> Any:
    """Apply a function to the tensors that stand in the same place of parts of one kind, and return such a part.

    What is None in the first part stays None.
    """
    first = parts[0]
    if first is None:
        return None
    if isinstance(first, Tensor):
        return function(*parts)
    if is_dataclass(first):
        names = [field.name for field in fields(first)]
        changed = {name: _mapped(function, *(getattr(part, name) for part in parts)) for name in names}
        return replace(first, **changed)  # type: ignore[type-var]  # an instance, not a class
    values = [_mapped(function, *each) for each in zip(*parts, strict=True)]
    return type(first)(*values) if hasattr(first, "_fields") else tuple(values)
