"""Features of pictures and captions, cached by content so that nothing is computed twice, within a memory limit.

Letters in shapes: M pictures, L captions, S picture side, T text tokens.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import fields, is_dataclass
from typing import TypeVar

import torch
from torch import Tensor

from jepa_app.matching.energies import (
    CAPTIONS_AT_ONCE,
    PICTURES_AT_ONCE,
    CaptionFeatures,
    PictureFeatures,
    blocks,
    caption_features,
    picture_features,
)
from jepa_app.matching.scoring import Scorer
from jepa_app.models.blocks import KeyValue
from jepa_app.models.ti_jepa import CaptionKeys

MAX_BYTES = 384 * 2**20  # 1,000 pictures of 64 patches take about 300 MB, 1,000 captions about 60 MB

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
            text = self.scorer.text_encoder.encode([captions[row] for row in rows])
            text = text.to(self.scorer.device, torch.float32)
            return split_captions(caption_features(self.scorer.network, text))

        return join_captions(self._find(captions, compute, CAPTIONS_AT_ONCE))

    def _find(
        self, keys: Sequence[Hashable], compute: Callable[[list[int]], list[Features]], at_once: int
    ) -> list[Features]:
        found: dict[Hashable, Features] = {}
        missing: dict[Hashable, int] = {}
        for row, key in enumerate(keys):
            kept = self._kept.get(key)
            if kept is None:
                missing.setdefault(key, row)
            else:
                self._kept.move_to_end(key)
                found[key] = kept  # type: ignore[assignment]  # the keys of pictures are bytes, those of captions are text
        rows = list(missing.values())
        for block in blocks(len(rows), at_once):
            for row, features in zip(rows[block], compute(rows[block]), strict=True):
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
    return [
        PictureFeatures(
            targets=features.targets[row, None].clone(),
            kept=tuple(_rows_of(layers, row) for layers in features.kept),
            null_errors=tuple(errors[row, None].clone() for errors in features.null_errors),
            sentences=tuple(sentences[row, None].clone() for sentences in features.sentences),
            least=features.least[row, None].clone(),
        )
        for row in range(len(features.targets))
    ]


def join_pictures(parts: Sequence[PictureFeatures]) -> PictureFeatures:
    """Join the features of pictures."""
    return PictureFeatures(
        targets=torch.cat([part.targets for part in parts]),
        kept=tuple(_joined(layers) for layers in zip(*(part.kept for part in parts), strict=True)),
        null_errors=tuple(torch.cat(errors) for errors in zip(*(part.null_errors for part in parts), strict=True)),
        sentences=tuple(torch.cat(each) for each in zip(*(part.sentences for part in parts), strict=True)),
        least=torch.cat([part.least for part in parts]),
    )


def split_captions(features: CaptionFeatures) -> list[CaptionFeatures]:
    """Split the features of L captions into L features of one caption each, without shared memory or padding."""
    lengths = features.keys.mask.sum(dim=1).tolist()
    return [
        CaptionFeatures(
            keys=CaptionKeys(
                _rows_of(features.keys.layers, row, length), features.keys.mask[row, None, :length].clone()
            ),
            pictures=features.pictures[row, None].clone(),
            sentences=features.sentences[row, None].clone(),
            least=features.least[row, None].clone(),
        )
        for row, length in enumerate(lengths)
    ]


def join_captions(parts: Sequence[CaptionFeatures]) -> CaptionFeatures:
    """Join the features of captions, padded to the longest."""
    longest = max(part.keys.mask.shape[1] for part in parts)
    return CaptionFeatures(
        keys=CaptionKeys(
            _joined([part.keys.layers for part in parts], longest),
            torch.cat([_padded(part.keys.mask, longest) for part in parts]),
        ),
        pictures=torch.cat([part.pictures for part in parts]),
        sentences=torch.cat([part.sentences for part in parts]),
        least=torch.cat([part.least for part in parts]),
    )


def _rows_of(layers: tuple[KeyValue, ...], row: int, length: int | None = None) -> tuple[KeyValue, ...]:
    return tuple(KeyValue(*(tensor[row, None, :length].clone() for tensor in kept)) for kept in layers)


def _joined(parts: Sequence[tuple[KeyValue, ...]], length: int | None = None) -> tuple[KeyValue, ...]:
    """Join the layers of several parts, layer by layer, padded to a length if one is given."""
    return tuple(
        KeyValue(*(torch.cat([_padded(tensor, length) for tensor in tensors]) for tensors in zip(*layer, strict=True)))
        for layer in zip(*parts, strict=True)
    )


def _padded(tensor: Tensor, length: int | None) -> Tensor:
    """Pad the second dimension with zeros (False) to a length."""
    if length is None or tensor.shape[1] == length:
        return tensor
    rest = tensor.new_zeros(tensor.shape[0], length - tensor.shape[1], *tensor.shape[2:])
    return torch.cat([tensor, rest], dim=1)
