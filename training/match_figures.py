"""How well TI-JEPA's energies match pictures with captions: retrieval, right caption of ten, AUC, calibration.

Everything is read off energies, lower is better; ties count against the model.
Letters in shapes: M pictures (and their M captions), P and N matched and mismatched pairs, S picture side in pixels.
"""

import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from jepa_app.scoring import Scorer
from training.captions import BACKGROUNDS, Row, canonical_caption, with_style
from training.data import CaptionedPictures
from training.selection import balanced_order

CHOICES = 10  # captions a picture chooses from, the right one included
COLOURS_TRIED = 3  # wrong colours a picture with a colour in its label is given
PICTURES_AT_ONCE = 20
CALIBRATION_BINS = 15
FEWEST_COMPARED = 20  # a figure of fewer comparisons than this is left out

Numbers = NDArray[np.floating]


def choose_pictures(rows: Sequence[Row], indices: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Up to `count` rows with labels that all differ, so that every other caption is wrong; styles evenly."""
    chosen: dict[str, int] = {}
    for index in balanced_order(rows, indices, seed).tolist():
        chosen.setdefault(rows[index].label, index)
    return np.asarray(list(chosen.values())[:count], dtype=np.int64)


def match_matrix(
    scorer: Scorer, data: CaptionedPictures, indices: NDArray[np.int64]
) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield energies and probabilities (M', M) of some pictures with the captions of all, until all M are done."""
    captions = [canonical_caption(data.rows[index]) for index in indices]
    for start in range(0, len(indices), PICTURES_AT_ONCE):
        batch = data.fixed(indices[start : start + PICTURES_AT_ONCE], scorer.image_size)
        scores = scorer.score(batch.pixels, captions)
        yield scores.energy.numpy(), scores.probability.numpy()


def matrix_figures(energy: Numbers, probability: Numbers, seed: int) -> dict[str, float]:
    """Figures of M pictures against their M captions, the right pairs on the diagonal of both (M, M) tables."""
    count = len(energy)
    figures = {}
    for direction, table in (("i2t", energy), ("t2i", energy.T)):
        ranks = (table <= np.diag(table)[:, None]).sum(axis=1) - 1  # (M,)
        for most in (1, 5):
            figures[f"recall_at_{most}_{direction}"] = float((ranks < most).mean())
    wrong = wrong_choices(count, min(CHOICES, count) - 1, seed)  # (M, 9)
    best_wrong = np.take_along_axis(energy, wrong, axis=1).min(axis=1)
    figures[f"caption_top1_of_{CHOICES}"] = float((np.diag(energy) < best_wrong).mean())
    figures["match_auc_random"] = match_auc(np.diag(energy), energy[~np.eye(count, dtype=bool)])
    mismatched = np.take_along_axis(probability, wrong[:, :1], axis=1)[:, 0]  # one a picture: half of all pairs match
    figures["ece"] = calibration_error(np.diag(probability), mismatched)
    return figures


def wrong_choices(count: int, choices: int, seed: int) -> NDArray[np.int64]:
    """For each of `count` captions, `choices` others drawn without repetition: (count, choices)."""
    rng = np.random.default_rng([seed, count])
    drawn = np.stack([rng.permutation(count - 1)[:choices] for _ in range(count)])
    return drawn + (drawn >= np.arange(count)[:, None])  # skips the right one


def match_auc(matched: Numbers, mismatched: Numbers) -> float:
    """The probability that a matched pair (P,) has less energy than a mismatched one (N,); ties count half."""
    ordered = np.sort(mismatched)
    above = len(ordered) - np.searchsorted(ordered, matched, side="right")
    level = np.searchsorted(ordered, matched, side="right") - np.searchsorted(ordered, matched, side="left")
    return float((above + 0.5 * level).mean() / len(ordered))


def calibration_error(matched: Numbers, mismatched: Numbers) -> float:
    """Expected calibration error: how far probabilities lie from the share of pairs that match, in equal bins.

    Pairs in a bin count by their number ("On Calibration of Modern Neural Networks", arXiv 1706.04599, Eq. 3).
    """
    probability = np.concatenate([matched, mismatched])
    truth = np.concatenate([np.ones(len(matched)), np.zeros(len(mismatched))])
    bins = np.minimum((probability * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights=probability - truth, minlength=CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / len(probability))


def group_figures(energy: Numbers, rows: Sequence[Row]) -> dict[str, float]:
    """AUC against captions of other things of the same group in the same style, read off the same (M, M) table.

    Empty when fewer than 20 such pairs of pictures and captions are among the M `rows`.
    """
    kinds = np.asarray([f"{row.style}|{row.group}" if row.group else f"none|{place}" for place, row in enumerate(rows)])
    near = (kinds[:, None] == kinds) & ~np.eye(len(rows), dtype=bool)  # (M, M)
    if near.sum() < FEWEST_COMPARED:
        return {}
    return {"match_auc_same_group": match_auc(np.diag(energy), energy[near])}


def attribute_figures(
    scorer: Scorer, data: CaptionedPictures, members: NDArray[np.int64], count: int, seed: int
) -> dict[str, float]:
    """AUC against the right caption with another colour word, over up to `count` of the rows `members`.

    Only labels with one colour word take part ("red heart"). Empty when fewer than 20 of the rows have such a label.
    """
    order = [index for index in balanced_order(data.rows, members, seed).tolist() if colour_word(data.rows[index])]
    if len(order) < FEWEST_COMPARED:
        return {}
    rng = np.random.default_rng([seed, len(order)])
    matched, mismatched = [], []
    for index in order[:count]:
        row = data.rows[index]
        captions = [canonical_caption(row), *recoloured(row, rng.permutation(len(BACKGROUNDS)).tolist())]
        energy = scorer.score(data.fixed([index], scorer.image_size).pixels, captions).energy[0].numpy()
        matched.append(energy[:1])
        mismatched.append(energy[1:])
    return {"match_auc_attribute": match_auc(np.concatenate(matched), np.concatenate(mismatched))}


def colour_word(row: Row) -> str | None:
    """The colour that a label names; None when it names none or several."""
    said = re.findall(rf"\b({'|'.join(BACKGROUNDS)})\b", row.label)
    return said[0] if len(said) == 1 else None


def recoloured(row: Row, order: Sequence[int]) -> list[str]:
    """The row's caption with its colour word replaced by others, the first of the colours in a given order."""
    own = colour_word(row)
    others = [colour for colour in (list(BACKGROUNDS)[place] for place in order) if colour != own]
    return [with_style(re.sub(rf"\b{own}\b", colour, row.label), row.style) for colour in others[:COLOURS_TRIED]]
