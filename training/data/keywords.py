"""Which labels a corpus's keywords may mean, so that a prompt such as "car" is read as what training called it."""

from collections.abc import Sequence

import torch
from torch.nn.functional import normalize

from jepa_app.generation.likeness import sentence_features
from jepa_app.models.text import TextEncoder
from training.data.captions import Row

LEAST_LIKENESS = 0.45  # cosine of the text features of a keyword and of what it means
QUALITY = 0.3  # by how much less likely a keyword names what it is a quality of
_BEFORE_MORE = ("with", "without", "of", "at", "in", "on", "behind", "showing", "over", "and")


def keywords_of(rows: Sequence[Row], encoder: TextEncoder) -> dict[str, tuple[str, ...]]:
    """Return the keywords of rows that are no labels themselves, each with the labels that have it.

    The likeliest comes first: the one whose text feature is nearest to the keyword's and to the mean of all that have
    it, so that "heart" means the red heart rather than the beating one. Those of which the keyword only says a quality
    are less likely, so that "water" does not mean the water pistol, though "palm" means the palm tree. A keyword that
    is unlike what it would mean is left out ("ugly", which the swan has).
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
    of_labels, of_tags = sentence_features(list(labels), encoder), sentence_features(list(meant), encoder)
    ordered = {}
    for (tag, found), feature in zip(meant.items(), of_tags, strict=True):
        own = of_labels[[places[label] for label in found]]  # (labels, W)
        scores = own @ (feature + normalize(own.mean(dim=0), dim=0))
        scores -= torch.tensor([QUALITY * _is_quality(tag, label) for label in found])
        order = scores.argsort(descending=True, stable=True).tolist()
        if float(own[order[0]] @ feature) >= LEAST_LIKENESS:
            ordered[tag] = tuple(list(found)[place] for place in order)
    return ordered


def _is_quality(keyword: str, label: str) -> bool:
    """Whether a label has the keyword in it, but not as what is seen: "water pistol", "snowman without snow"."""
    asked, words = keyword.lower().split(), label.lower().replace("-", " ").split()
    place = next((place for place in range(len(words)) if words[place : place + len(asked)] == asked), None)
    if place is None:
        return False
    after = words[place + len(asked) : place + len(asked) + 1]
    return "without" in words[:place] or (bool(after) and after[0] not in _BEFORE_MORE)
