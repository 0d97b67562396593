"""Energies of many pictures and captions: a whole table row by row, or a list of pairs.

Each picture and each caption is encoded once. All terms of the energy but one are a matrix product. That one costs a
predictor pass per pair, so in a large table it can be left out for all but the most promising pairs.

Letters in shapes: M pictures, L captions, P pairs, S picture side.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from jepa_app.matching.combining import Parts
from jepa_app.matching.energies import hidden_energies, pair_energies, quick_energies
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.features import PICTURES_AT_ONCE, blocks
from jepa_app.models.tokenizers.tokenizer import check_pixels

PAIRS_A_TURN = 512  # scored before others get a turn
BEST_PICTURES = 5  # of each caption; most are among those whose best captions include it
PICTURES_A_TURN = 4 * PICTURES_AT_ONCE


def table_rows(cache: FeatureCache, pixels: Tensor, captions: Sequence[str]) -> Iterator[Tensor]:
    """Yield the energies of pictures (M, 3, S, S) with L captions, a few rows (M', L) at a time, on the CPU.

    Raises:
        ValueError: there is no picture or no caption, a picture has the wrong size or is not finite, or a caption is
            too long.
    """
    network = cache.scorer.network
    _check(cache, pixels, captions)
    words = cache.captions(captions)
    for block in blocks(len(pixels), _rows_a_turn(len(captions))):
        yield cache.scorer.combine(pair_energies(network, cache.pictures(pixels[block]), words))


def best_rows(cache: FeatureCache, pixels: Tensor, captions: Sequence[str], best: int) -> Iterator[Tensor]:
    """Like `table_rows`, but with NaN for all but the most promising pairs.

    These are the `best` captions of each picture, and up to `BEST_PICTURES` pictures of each caption, by the quick
    terms alone. All pictures are compared before the first row is finished; meanwhile, the parts have no rows (0, L).

    Raises:
        ValueError: as `table_rows`, or `best` is below 1.
    """
    if best < 1:
        raise ValueError(f"best is {best}; allowed: 1 or more")
    network, scorer = cache.scorer.network, cache.scorer
    _check(cache, pixels, captions)
    words = cache.captions(captions)
    parts = []
    for block in blocks(len(pixels), PICTURES_A_TURN):
        parts.append(scorer.parts(quick_energies(network, cache.pictures(pixels[block]), words)))
        yield parts[-1].base[:0]
    quick = Parts(*(torch.cat(part) for part in zip(*parts, strict=True)))  # (M, L) each
    chosen = promising(scorer.join(quick), best, min(best, BEST_PICTURES))
    for block in blocks(len(pixels), _rows_a_turn(int(chosen.sum()) // len(pixels))):
        rows, columns = chosen[block].nonzero(as_tuple=True)
        at = (rows.to(scorer.device), columns.to(scorer.device))
        energies = torch.full_like(quick.base[block], torch.nan)
        hidden = hidden_energies(network, cache.pictures(pixels[block]), words, *at)
        energies[rows, columns] = scorer.with_hidden(Parts(*(part[block][rows, columns] for part in quick)), hidden)
        yield energies


def promising(energies: Tensor, captions: int, pictures: int) -> Tensor:
    """Return where (M, L) the energies (M, L) of each picture's best captions, or each caption's best pictures, are."""
    chosen = torch.zeros_like(energies, dtype=torch.bool)
    for dim, best in ((1, captions), (0, pictures)):
        lowest = energies.topk(min(best, energies.shape[dim]), dim=dim, largest=False).indices
        chosen.scatter_(dim, lowest, True)
    return chosen


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


def _rows_a_turn(pairs: int) -> int:
    """Return how many rows, each with this many costly pairs, to compute together; few enough for frequent updates."""
    return max(1, min(PICTURES_AT_ONCE, PAIRS_A_TURN // pairs))


def _check(cache: FeatureCache, pixels: Tensor, captions: Sequence[str]) -> None:
    if not len(pixels) or not captions:
        raise ValueError(f"got {len(pixels)} pictures and {len(captions)} captions; allowed: at least one of each")
    check_pixels(pixels, cache.scorer.image_size)
