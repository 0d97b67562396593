"""Finds the known thing whose name means most nearly what a prompt says, by the text encoder's sentence features."""

import threading
from collections.abc import Iterable
from functools import cached_property, lru_cache

import torch
from torch import Tensor
from torch.nn.functional import normalize

from jepa_app.models.text import TextEncoder

LEAST_LIKENESS = 0.74  # cosine: "motorbike" and "motorcycle" have 0.81, "carrot" and "potato" 0.60
TEXTS_AT_ONCE = 64
KEPT_ANSWERS = 1024


class NearestThing:
    """Looks words up among the labels of things. The labels are encoded when the first words are looked up."""

    def __init__(self, labels: Iterable[str], encoder: TextEncoder) -> None:
        self._labels, self._encoder, self._lock = sorted(set(labels), key=_by_length), encoder, threading.Lock()
        self._find = lru_cache(KEPT_ANSWERS)(self._found)

    def __call__(self, words: str) -> str | None:
        """Return the label that is most like words; None if none is at least `LEAST_LIKENESS` like them."""
        with self._lock:
            return self._find(words)

    def prepare(self) -> None:
        """Encode the labels now: a thousand of them take seconds, which the first words would wait for."""
        with self._lock:
            _ = self._features

    def _found(self, words: str) -> str | None:
        if not self._labels:
            return None
        likeness = self._features @ sentence_features([words], self._encoder)[0]
        return self._labels[int(likeness.argmax())] if float(likeness.max()) >= LEAST_LIKENESS else None

    @cached_property
    def _features(self) -> Tensor:
        return sentence_features(self._labels, self._encoder)


def _by_length(label: str) -> tuple[int, str]:
    return len(label), label  # neighbours of one length need no padding


def sentence_features(texts: list[str], encoder: TextEncoder) -> Tensor:
    """Return the sentence features of texts (B, W), on the CPU and each of length one; what is too long is cut."""
    parts = [texts[first : first + TEXTS_AT_ONCE] for first in range(0, len(texts), TEXTS_AT_ONCE)]
    return normalize(torch.cat([encoder.encode(part, cuts=True).pooled().cpu() for part in parts]), dim=1)
