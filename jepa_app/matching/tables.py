"""Energies of many pictures and captions: a whole table row by row, or a list of pairs.

Each picture and each caption is encoded once. All terms of the energy but one are a matrix product. That one costs a
predictor pass per pair, so in a large table it can be left out for all but the most promising captions of each picture.

Letters in shapes: M pictures, L captions, P pairs, S picture side.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from jepa_app.matching.energies import (
    PAIRS_AT_ONCE,
    PICTURES_AT_ONCE,
    blocks,
    hidden_energies,
    pair_energies,
    quick_energies,
)
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.models.tokenizers.tokenizer import check_pixels


def table_rows(cache: FeatureCache, pixels: Tensor, captions: Sequence[str]) -> Iterator[Tensor]:
    """Yield the energies of pictures (M, 3, S, S) with L captions, a few rows (M', L) at a time, on the CPU.

    Raises:
        ValueError: there is no picture or no caption, a picture has the wrong size or is not finite, or a caption is
            too long.
    """
    network = cache.scorer.network
    _check(cache, pixels, captions)
    words = cache.captions(captions)
    for block in blocks(len(pixels), _rows_at_once(len(captions))):
        yield cache.scorer.combine(pair_energies(network, cache.pictures(pixels[block]), words))


def best_rows(cache: FeatureCache, pixels: Tensor, captions: Sequence[str], best: int) -> Iterator[Tensor]:
    """Like `table_rows`, but with NaN for all but the `best` captions of each picture by the quick terms alone.

    Raises:
        ValueError: as `table_rows`, or `best` is below 1.
    """
    if best < 1:
        raise ValueError(f"best is {best}; allowed: 1 or more")
    network, scorer = cache.scorer.network, cache.scorer
    _check(cache, pixels, captions)
    words = cache.captions(captions)
    for block in blocks(len(pixels), _rows_at_once(min(best, len(captions)))):
        pictures = cache.pictures(pixels[block])
        quick = quick_energies(network, pictures, words)
        chosen = scorer.combine(quick).topk(min(best, len(captions)), largest=False).indices  # (M', best)
        rows = torch.arange(len(chosen))[:, None].expand_as(chosen)
        at = (rows.flatten().to(scorer.device), chosen.flatten().to(scorer.device))
        hidden = torch.full_like(quick.text_to_hidden, torch.nan)
        hidden[at] = hidden_energies(network, pictures, words, *at)
        yield scorer.combine(replace(quick, text_to_hidden=hidden))


def listed_pairs(
    cache: FeatureCache, pixels: Tensor, captions: Sequence[str], rows: Sequence[int], columns: Sequence[int]
) -> Tensor:
    """Return the energies (P,) of the pairs of pictures (M, 3, S, S) and captions given by `rows` and `columns`.

    Raises:
        ValueError: as `table_rows`.
    """
    network, scorer = cache.scorer.network, cache.scorer
    _check(cache, pixels, captions)
    pictures, words = cache.pictures(pixels), cache.captions(captions)
    at = (torch.tensor(rows, device=scorer.device), torch.tensor(columns, device=scorer.device))
    terms = quick_energies(network, pictures, words).stacked()[at]  # (P, E)
    terms[:, 1] = hidden_energies(network, pictures, words, *at)
    return scorer.combine_terms(terms)


def _rows_at_once(pairs: int) -> int:
    """Return how many rows, each with this many costly pairs, to compute together; few enough for frequent updates."""
    return max(1, min(PICTURES_AT_ONCE, PAIRS_AT_ONCE // pairs))


def _check(cache: FeatureCache, pixels: Tensor, captions: Sequence[str]) -> None:
    if not len(pixels) or not captions:
        raise ValueError(f"got {len(pixels)} pictures and {len(captions)} captions; allowed: at least one of each")
    check_pixels(pixels, cache.scorer.image_size)
