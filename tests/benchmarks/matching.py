"""Many pictures with many captions: what a table costs, in time and memory, and what a quick look loses.

python -m tests.benchmarks.matching [--json] [--pictures 1000] [--captions 1000] [--best 20] [--data DIR]

With --data, --checked (120) held-out pictures of a captioned folder tell how often the quick look keeps the caption
that the whole energy finds best; without, pictures are noise and captions made up, which costs the same.
"""

import itertools
import resource
import sys
from argparse import Namespace
from pathlib import Path
from typing import Any

import torch

from jepa_app.matching.energies import hidden_energies, quick_energies
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.tables import best_rows, table_rows
from tests.benchmarks.measure import report, seconds

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "pink", "brown", "grey", "golden")
THINGS = ("apple", "heart", "car", "cat face", "house", "star", "clock", "tree", "hand", "fish")
STYLES = ("noto", "twemoji", "fluent", "openmoji", "blob", "emojione", "fluent 3d", "flat", "old", "plain")


def made_up(pictures: int, captions: int, side: int) -> tuple[torch.Tensor, list[str]]:
    """Noise, and captions that all differ."""
    pixels = 2 * torch.rand(pictures, 3, side, side, generator=torch.Generator().manual_seed(0)) - 1
    words = itertools.product(COLOURS, THINGS, STYLES)
    return pixels, [f"{colour} {thing}, {style} style" for colour, thing, style in itertools.islice(words, captions)]


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Time a table with the quick look, single pairs, and the dot product of a dual encoder."""
    scorer = Scorer.from_pretrained(options.weights, "cpu")
    pixels, captions = made_up(options.pictures, options.captions, scorer.image_size)
    cache = FeatureCache(scorer)
    before = peak_mb()
    figures: dict[str, Any] = {
        "table_seconds": seconds(lambda: list(best_rows(cache, pixels, captions, options.best))),
        "table_again_seconds": seconds(lambda: list(best_rows(cache, pixels, captions, options.best))),
        "table_rss_growth_mb": peak_mb() - before,
        "table_peak_rss_mb": peak_mb(),
        "kept_features_mb": cache.num_bytes / 2**20,
    }
    few, some = cache.pictures(pixels[:16]), cache.captions(captions[:256])
    network = scorer.network
    width, pairs = len(some.sentences), len(few.targets) * len(some.sentences)
    numbers = torch.arange(pairs)
    hidden = seconds(lambda: hidden_energies(network, few, some, numbers // width, numbers % width))
    quick = seconds(lambda: quick_energies(network, few, some))
    one, other = torch.randn(1000, network.config.text_components), torch.randn(1000, network.config.text_components)
    dots = min(seconds(lambda: one @ other.T) for _ in range(5)) / 1e6
    figures |= {
        "pair_us": 1e6 * (hidden + quick) / pairs,
        "quick_pair_us": 1e6 * quick / pairs,
        "dual_encoder_pair_us": 1e6 * dots,
        "full_table_seconds_estimated": (hidden + quick) / pairs * options.pictures * options.captions,
    }
    if options.data:
        figures |= quick_look(scorer, Path(options.data), options.checked, options.best)
    return figures, {"pictures": options.pictures, "captions": options.captions, "best": options.best}


def quick_look(scorer: Scorer, folder: Path, count: int, best: int) -> dict[str, float]:
    """How often the quick look keeps what the whole energy ranks first, and the right caption's rank 1."""
    from training.data.batches import CaptionedPictures
    from training.data.selection import choose_pictures

    data = CaptionedPictures.load(folder, scorer.image_size)
    batch = data.fixed(choose_pictures(data.rows, data.split.heldout_pairs, count, 0))
    cache = FeatureCache(scorer)
    whole = torch.cat(list(table_rows(cache, batch.pixels, batch.captions)))
    looked = torch.cat(list(best_rows(cache, batch.pixels, batch.captions, best)))
    first = whole.argmin(dim=1)
    kept = ~looked.isnan()[torch.arange(len(first)), first]
    right = torch.arange(len(first))
    return {
        "checked_pictures": len(first),
        "quick_keeps_first": float(kept.float().mean()),
        "recall_at_1_whole": float((first == right).float().mean()),
        "recall_at_1_quick": float((looked.nan_to_num(torch.inf).argmin(dim=1) == right).float().mean()),
    }


def main() -> int:
    """Measure and print."""
    return report("matching", measure, "--pictures=1000", "--captions=1000", "--best=20", "--data=", "--checked=120")


if __name__ == "__main__":
    sys.exit(main())
