"""Everything that can tell whether a picture and a caption match, by the part of a weights folder that holds it."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from jepa_app.matching.scoring import Scorer
from training.judging.match_figures import Matcher
from training.peers.dual_encoder import PeerScorer

MATCHERS: Mapping[str, Callable[[Path, str], Matcher]] = {
    "ti-jepa": Scorer.from_pretrained,
    "peer": PeerScorer.from_pretrained,
}
"""Part of a weights folder -> how to load it on a device."""


def load_matchers(weights: Path, device: str) -> Iterator[Matcher]:
    """Yield the matchers that a weights folder holds.

    Raises:
        ValueError: weights that are there are broken.
    """
    for part, load in MATCHERS.items():
        if (weights / part).is_dir():
            yield load(weights, device)
