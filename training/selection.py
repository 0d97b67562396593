"""Which pictures stand for a whole side of the split when it is measured."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.captions import Row


def balanced_order(rows: Sequence[Row], indices: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """All of `indices` in a random order of which every beginning holds the styles as evenly as there are pictures."""
    shuffled = np.random.default_rng(seed).permutation(indices)
    seen: Counter[str] = Counter()
    turns = []
    for index in shuffled.tolist():
        style = rows[index].style
        turns.append(seen[style])
        seen[style] += 1
    return shuffled[np.argsort(turns, kind="stable")]
