"""How well energies match pictures with captions: retrieval, right caption of ten, AUC, hard cases, calibration.

Everything is computed from energies, where lower is better; ties count against the model.
Letters in shapes: M pictures (and their M captions), P and N matched and mismatched pairs, S picture side in pixels.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from training.data.batches import CaptionedPictures
from training.data.captions import Row, canonical_caption
from training.data.hard_cases import Case, hard_cases
from training.data.selection import Indices, choose_pictures, kind_of
from training.judging.weights import Matcher

CHOICES = 10  # captions that a picture chooses from, including the right one
PICTURES_AT_ONCE = 20
CALIBRATION_BINS = 15
FEWEST_COMPARED = 20  # a figure from fewer comparisons than this is left out

Numbers = NDArray[np.floating]


def match_matrix(matcher: Matcher, data: CaptionedPictures, indices: Indices) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield energies and probabilities (M', M) of some pictures with the captions of all, until all M are done."""
    captions = [canonical_caption(data.rows[index]) for index in indices]
    for batch in data.in_parts(indices, PICTURES_AT_ONCE, matcher.image_size):
        scores = matcher.score(batch.pixels, captions)
        yield scores.energy.numpy(), scores.probability.numpy()


def matrix_figures(energy: Numbers, probability: Numbers, seed: int) -> dict[str, float]:
    """Figures of M pictures against their M captions, the right pairs on the diagonal of both (M, M) tables."""
    count = len(energy)
    figures = _recalls("recall", energy, energy.T)
    wrong = wrong_choices(count, min(CHOICES, count) - 1, seed)  # (M, 9)
    best_wrong = np.take_along_axis(energy, wrong, axis=1).min(axis=1)
    figures[f"caption_top1_of_{CHOICES}"] = float((np.diag(energy) < best_wrong).mean())
    figures["match_auc_random"] = match_auc(np.diag(energy), energy[~np.eye(count, dtype=bool)])
    figures["ece"] = calibration_error(*one_wrong(probability, seed))
    return figures


def wrong_choices(count: int, choices: int, seed: int) -> Indices:
    """For each of `count` captions, `choices` others drawn without repetition: (count, choices)."""
    rng = np.random.default_rng([seed, count])
    drawn = np.stack([rng.permutation(count - 1)[:choices] for _ in range(count)])
    return drawn + (drawn >= np.arange(count)[:, None])  # skips the right one


def match_auc(matched: Numbers, mismatched: Numbers) -> float:
    """The probability that a matched pair (P,) has lower energy than a mismatched one (N,); ties count half."""
    ordered = np.sort(mismatched)
    above = len(ordered) - np.searchsorted(ordered, matched, side="right")
    level = np.searchsorted(ordered, matched, side="right") - np.searchsorted(ordered, matched, side="left")
    return float((above + 0.5 * level).mean() / len(ordered))


def calibration_error(matched: Numbers, mismatched: Numbers) -> float:
    """Expected calibration error: how far probabilities are from the share of pairs that match, in equal bins.

    Each bin is weighted by its number of pairs ("On Calibration of Modern Neural Networks", arXiv 1706.04599, Eq. 3).
    """
    probability, truth, bins = _binned(matched, mismatched)
    gaps = np.bincount(bins, weights=probability - truth, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def _binned(matched: Numbers, mismatched: Numbers) -> tuple[Numbers, Numbers, Indices]:
    """Probabilities of all pairs, whether they match, and their bins."""
    probability = np.concatenate([matched, mismatched])
    truth = np.concatenate([np.ones(len(matched)), np.zeros(len(mismatched))])
    return probability, truth, np.minimum((probability * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)


def group_figures(energy: Numbers, probability: Numbers, rows: Sequence[Row], seed: int) -> dict[str, float]:
    """AUC and calibration against captions of other things of the same group and style, from the same (M, M) tables.

    Empty when the M `rows` have fewer than 20 such pairs of pictures and captions.
    """
    kinds = np.asarray([kind_of(row) for row in rows])
    near = (kinds[:, None] == kinds) & ~np.eye(len(rows), dtype=bool)  # (M, M)
    if near.sum() < FEWEST_COMPARED:
        return {}
    chosen = near.any(axis=1).nonzero()[0]  # each with one of its near captions: half of all pairs match
    draws = np.random.default_rng([seed, len(rows)]).random(near.shape)
    wrong = np.where(near, draws, -1).argmax(axis=1)[chosen]
    return {
        "match_auc_same_group": match_auc(np.diag(energy), energy[near]),
        "ece_same_group": calibration_error(np.diag(probability)[chosen], probability[chosen, wrong]),
    }


def hard_case_figures(
    matcher: Matcher, data: CaptionedPictures, members: Indices, count: int, seed: int
) -> dict[str, float]:
    """AUC against nearly right captions (`data/hard_cases.py`) and how often the right one beats them all.

    Each kind is measured on up to `count` of the rows `members` that have such captions, and left out when there are
    fewer than 20 of them.
    """
    cases = hard_cases(data, members, count, seed, matcher.image_size)
    figures: dict[str, float] = {}
    for kind, found in cases.items():
        figures |= _case_figures(matcher, found, kind)
    return figures


def _case_figures(matcher: Matcher, cases: Sequence[Case], kind: str) -> dict[str, float]:
    if sum(len(wrong) for _, wrong in cases) < FEWEST_COMPARED:
        return {}
    matched, mismatched, wins, pairs = [], [], [], []
    for batch, wrong in cases:
        scores = matcher.score(batch.pixels, [*batch.captions, *wrong])
        energy = scores.energy[0].numpy()
        matched.append(energy[:1])
        mismatched.append(energy[1:])
        wins.append(bool(energy[0] < energy[1:].min()))
        pairs.append(scores.probability[0, :2].numpy())  # the right caption and one wrong one: half of all match
    right, wrong_too = np.stack(pairs).T
    return {
        f"match_auc_{kind}": match_auc(np.concatenate(matched), np.concatenate(mismatched)),
        f"match_wins_{kind}": float(np.mean(wins)),
        f"ece_{kind}": calibration_error(right, wrong_too),
    }


def concept_figures(
    matcher: Matcher, data: CaptionedPictures, members: Indices, count: int, seed: int
) -> dict[str, float]:
    """How often one of up to `count` of the rows `members` finds its caption among all concepts, and vice versa.

    Every other concept takes part with one picture and its caption, spread evenly over the styles. Ties count against
    the model.
    """
    asked = choose_pictures(data.rows, members, count, seed)
    own = {data.rows[index].label for index in asked.tolist()}
    everything: Indices = np.arange(len(data.rows), dtype=np.int64)
    others = [i for i in choose_pictures(data.rows, everything, len(everything), seed).tolist() if _new(data, i, own)]
    captions = [canonical_caption(data.rows[index]) for index in [*asked.tolist(), *others]]
    pictures = np.concatenate([asked, np.asarray(others, dtype=np.int64)])
    to_captions = matcher.score(data.fixed(asked, matcher.image_size).pixels, captions).energy.numpy()
    parts = [part.pixels for part in data.in_parts(pictures, PICTURES_AT_ONCE, matcher.image_size)]
    to_pictures = np.concatenate([matcher.score(part, captions[: len(asked)]).energy.numpy() for part in parts]).T
    return _recalls("concept_recall", to_captions, to_pictures)


def _recalls(name: str, to_captions: Numbers, to_pictures: Numbers) -> dict[str, float]:
    """How often the right one, on the diagonal of energies (M, L), is first in its row, and among the first five."""
    figures: dict[str, float] = {}
    for direction, table in (("i2t", to_captions), ("t2i", to_pictures)):
        ranks = (table <= np.diag(table)[:, None]).sum(axis=1) - 1  # (M,)
        figures |= {f"{name}_at_{most}_{direction}": float((ranks < most).mean()) for most in (1, 5)}
    return figures


def _new(data: CaptionedPictures, index: int, labels: set[str]) -> bool:
    return data.rows[index].label not in labels


def reliability(matched: Numbers, mismatched: Numbers) -> list[dict[str, float]]:
    """The points of the reliability curve: mean probability, share that matches and number of pairs of each full bin.

    The bins are those of `calibration_error`.
    """
    probability, truth, bins = _binned(matched, mismatched)
    return [
        {
            "probability": float(probability[bins == place].mean()),
            "share": float(truth[bins == place].mean()),
            "pairs": int((bins == place).sum()),
        }
        for place in np.unique(bins).tolist()
    ]


def one_wrong(table: Numbers, seed: int) -> tuple[Numbers, Numbers]:
    """The right pairs (M,) of an (M, M) table and one wrong pair per picture (M,): half of all pairs match."""
    count = len(table)
    wrong = wrong_choices(count, min(CHOICES, count) - 1, seed)  # as in `matrix_figures`
    return np.diag(table), np.take_along_axis(table, wrong[:, :1], axis=1)[:, 0]
