"""Finds pictures that were joined to a concept by name and show something else ("wave": of the hand, or of the sea).

Each is looked up among all pictures by the judge's features, its own concept represented only by pictures that were
joined by code point. A picture that is nearer to a quarter of all other concepts than to its own is considered wrong.
On the whole corpus this drops about 90 of 6,000: the plain mistakes, a sixth of them, and right pictures that are
drawn so differently from the others that the judge does not recognise them either. `dropped.jsonl` lists them.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from training.data.composition.composing import on_white
from training.data.decoded import decode
from training.drawings.concepts import NEEDED_REFERENCES
from training.judging.judge import ConceptGallery, Features, Judge, right_ranks

WRONG_FROM = 0.25  # share of all concepts that are nearer than its own
_PICTURES = 64  # judged at a time


@dataclass(frozen=True, kw_only=True)
class JoinedPicture:
    """A rendered picture, and whether its package names the concept's code point (or only a name)."""

    path: Path
    concept: str
    style: str
    by_code: bool


def wrong_joins(pictures: Sequence[JoinedPicture], size: int) -> dict[int, int]:
    """The pictures whose name join is wrong: their index, and how many concepts are nearer than their own.

    A concept with fewer than `NEEDED_REFERENCES` pictures joined by code point cannot be checked: its pictures are
    kept. `size` is the pictures' side.
    """
    references = Counter(picture.concept for picture in pictures if picture.by_code)
    positions = [i for i, p in enumerate(pictures) if not p.by_code and references[p.concept] >= NEEDED_REFERENCES]
    if not positions:
        return {}
    features = _features([picture.path for picture in pictures], size)
    concepts = [picture.concept for picture in pictures]
    styles = [picture.style for picture in pictures]
    # as one "design", the pictures joined by name are left out of their own concept
    joins = ["code" if picture.by_code else "name" for picture in pictures]
    gallery = ConceptGallery(features, concepts, styles, joins)
    own = [concepts[position] for position in positions]
    distances = gallery.distances(features[positions], [styles[i] for i in positions], own, ["name"] * len(positions))
    ranks = right_ranks(distances, gallery.ids(own))
    limit = WRONG_FROM * len(gallery.concepts)
    return {position: int(rank) for position, rank in zip(positions, ranks, strict=True) if rank >= limit}


def _features(paths: Sequence[Path], size: int) -> Features:
    judge = Judge.load()
    features = []
    for start in tqdm(range(0, len(paths), _PICTURES), desc="checking name joins", disable=None):
        rgba = np.stack([decode(path, size) for path in paths[start : start + _PICTURES]])
        features.append(judge.features(on_white(torch.from_numpy(rgba))))
    return np.concatenate(features)
