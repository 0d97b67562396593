"""Many pictures with many captions: what a table costs, in time and memory, and what a quick look loses.

python -m tests.benchmarks.matching [--json] [--pictures 1000] [--captions 1000] [--best 20] [--data DIR] [--threads 0]

With --data, the pictures of a captioned folder stand in the table with their own captions. All pairs of --checked (100)
pictures and of --checked captions tell how often the quick look keeps what the whole energy ranks first. Without,
pictures are noise and captions made up, which costs the same. --threads sets torch's own threads (0: as it chose).
"""

import itertools
import os
import resource
import sys
import time
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jepa_app.compute import allowed_cores
from jepa_app.matching.energies import hidden_energies, quick_energies
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.tables import best_rows, table_rows
from tests.benchmarks.measure import report, seconds

COLOURS = ("red", "green", "blue", "yellow", "white", "black", "pink", "brown", "grey", "golden")
THINGS = ("apple", "heart", "car", "cat face", "house", "star", "clock", "tree", "hand", "fish")
SMALL = 100  # pictures and captions of the smaller table
STYLES = ("noto", "twemoji", "fluent", "openmoji", "blob", "emojione", "fluent 3d", "flat", "old", "plain")


def made_up(pictures: int, captions: int, side: int) -> tuple[torch.Tensor, list[str]]:
    """Noise, and captions that all differ."""
    pixels = 2 * torch.rand(pictures, 3, side, side, generator=torch.Generator().manual_seed(0)) - 1
    words = itertools.product(COLOURS, THINGS, STYLES)
    return pixels, [f"{colour} {thing}, {style} style" for colour, thing, style in itertools.islice(words, captions)]


def peak_mb() -> float:
    """The most memory that this process has held so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def captioned(folder: Path, count: int, side: int) -> tuple[torch.Tensor, list[str]]:
    """Pictures of a folder with their captions: all things differ, and styles are even."""
    from training.data.batches import CaptionedPictures
    from training.data.selection import choose_pictures

    data = CaptionedPictures.load(folder, side)
    batch = data.fixed(choose_pictures(data.rows, np.arange(len(data.rows)), count, 0))
    return batch.pixels, list(batch.captions)


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Time tables with the quick look, pairs with the whole energy, and the dot product of a dual encoder."""
    if options.threads:
        torch.set_num_threads(options.threads)
    scorer = Scorer.from_pretrained(options.weights, "cpu")
    pixels, captions = made_up(options.pictures, options.captions, scorer.image_size)
    if options.data:
        most = max(options.pictures, options.captions)
        pixels, captions = captioned(Path(options.data), most, scorer.image_size)
        pixels, captions = pixels[: options.pictures], captions[: options.captions]
    list(table_rows(FeatureCache(scorer), pixels[:2], captions[:2]))  # the first call loads libraries
    cache, before = FeatureCache(scorer), peak_mb()
    looked: list[torch.Tensor] = []
    began = time.process_time()
    figures: dict[str, Any] = {
        "table_seconds": seconds(lambda: looked.extend(best_rows(cache, pixels, captions, options.best))),
        "table_core_seconds": time.process_time() - began,
        "table_again_seconds": seconds(lambda: list(best_rows(cache, pixels, captions, options.best))),
        "table_rss_growth_mb": peak_mb() - before,
        "table_peak_rss_mb": peak_mb(),
        "kept_features_mb": cache.num_bytes / 2**20,
        "small_table_seconds": seconds(
            lambda: list(best_rows(FeatureCache(scorer), pixels[:SMALL], captions[:SMALL], options.best))
        ),
    }
    figures |= of_pairs(scorer, cache, pixels[:16], captions[:256])
    figures["full_table_seconds_estimated"] = figures["pair_us"] / 1e6 * options.pictures * options.captions
    if options.data:
        figures |= lost(cache, pixels, captions, torch.cat(looked), options.checked)
    setting = {"pictures": len(pixels), "captions": len(captions), "best": options.best}
    return figures, setting | {"cores": allowed_cores(), "load": round(os.getloadavg()[0], 1)}


def of_pairs(scorer: Scorer, cache: FeatureCache, pixels: torch.Tensor, captions: Sequence[str]) -> dict[str, float]:
    """Time and processor time of a pair, whose picture and caption are known, in microseconds."""
    network, pictures, words = scorer.network, cache.pictures(pixels), cache.captions(captions)
    width, pairs = len(captions), len(pixels) * len(captions)
    numbers = torch.arange(pairs)
    began = time.process_time()
    hidden = seconds(lambda: hidden_energies(network, pictures, words, numbers // width, numbers % width))
    busy = time.process_time() - began
    quick = seconds(lambda: quick_energies(network, pictures, words))
    one, other = torch.randn(1000, network.config.text_components), torch.randn(1000, network.config.text_components)
    dots = min(seconds(lambda: one @ other.T) for _ in range(5)) / 1e6
    return {
        "pair_us": 1e6 * (hidden + quick) / pairs,
        "pair_core_us": 1e6 * busy / pairs,
        "quick_pair_us": 1e6 * quick / pairs,
        "dual_encoder_pair_us": 1e6 * dots,
    }


def lost(
    cache: FeatureCache, pixels: torch.Tensor, captions: Sequence[str], looked: torch.Tensor, checked: int
) -> dict[str, float]:
    """How often the quick look (M, L) lost what the whole energy ranks first for a picture, or for a caption."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randperm(len(pixels), generator=generator)[:checked]
    columns = torch.randperm(len(captions), generator=generator)[:checked]
    of_rows = torch.cat(list(table_rows(cache, pixels[rows], captions)))
    some = [captions[column] for column in columns.tolist()]
    of_columns = torch.cat(list(table_rows(cache, pixels, some))).T
    first_caption, first_picture = of_rows.argmin(dim=1), of_columns.argmin(dim=1)
    return {
        "checked_pictures": len(rows),
        "checked_captions": len(columns),
        "whole_pairs": int((~looked.isnan()).sum()),
        "lost_first_captions": int(looked[rows, first_caption].isnan().sum()),
        "lost_first_pictures": int(looked[first_picture, columns].isnan().sum()),
        "recall_at_1_whole": float((first_caption == rows).float().mean()),
        "recall_at_1_quick": float((looked[rows].nan_to_num(torch.inf).argmin(dim=1) == rows).float().mean()),
    }


def main() -> int:
    """Measure and print."""
    sizes = ("--pictures=1000", "--captions=1000", "--best=20")
    return report("matching", measure, *sizes, "--data=", "--checked=100", "--threads=0")


if __name__ == "__main__":
    sys.exit(main())
