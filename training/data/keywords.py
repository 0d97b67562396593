"""Which labels a corpus's keywords may mean, so that a prompt such as "car" is read as what training called it."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize

from jepa_app.models.text import TextEncoder
from training.data.captions import Row

TEXTS_AT_ONCE = 64


def keywords_of(rows: Sequence[Row], encoder: TextEncoder) -> dict[str, tuple[str, ...]]:
    """Return the keywords of rows that are no labels themselves, each with the labels that have it.

    The likeliest comes first: the one whose text feature is nearest to the keyword's and to the mean of all that have
    it. So "heart" means the red heart rather than the beating one.
    """
    meant: dict[str, dict[str, None]] = {}
    labels = dict.fromkeys(row.label for row in rows)
    for row in rows:
        for tag in row.tags:
            meant.setdefault(tag, {})[row.label] = None
    meant = {tag: found for tag, found in meant.items() if tag not in labels}
    if not meant:
        return {}
    places = {label: place for place, label in enumerate(labels)}
    of_labels, of_tags = _features(list(labels), encoder), _features(list(meant), encoder)
    ordered = {}
    for (tag, found), feature in zip(meant.items(), of_tags, strict=True):
        own = of_labels[[places[label] for label in found]]  # (labels, W)
        scores = own @ (feature + normalize(own.mean(dim=0), dim=0))
        ordered[tag] = tuple(list(found)[place] for place in scores.argsort(descending=True, stable=True).tolist())
    return ordered


def _features(texts: Sequence[str], encoder: TextEncoder) -> Tensor:
    """Sentence features of texts (B, W), each of length one; what is too long is cut."""
    parts = [texts[first : first + TEXTS_AT_ONCE] for first in range(0, len(texts), TEXTS_AT_ONCE)]
    return normalize(torch.cat([encoder.encode(part, cuts=True).pooled().cpu() for part in parts]), dim=1)
