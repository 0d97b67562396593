"""Matching pictures with words, for the page and the command line: scores, explanations, tables of many pairs.

Everything shares one scorer, guarded by a lock; a large table releases the lock after every few rows.
"""

import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor

from jepa_app.limits import MAX_CAPTIONS, MAX_TABLE_SIDE, check_captions, check_words
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.features import CAPTIONS_AT_ONCE, blocks
from jepa_app.matching.foils import Difference, well_said_foils
from jepa_app.matching.maps import match_maps
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.tables import best_rows, listed_pairs, table_rows
from jepa_app.models.text import MAX_TOKENS
from jepa_app.pixels import to_pixels

FITS = 0.6  # probability from which a caption fits
CLEARLY = 0.2  # by how much a near miss must be beaten


@dataclass(frozen=True, kw_only=True)
class CaptionScore:
    """How one caption fits a picture: `energy` is better when lower, `probability` is in [0, 1].

    `better_than_wrong` and `better_than_right` are the shares in [0, 1] of the bundled wrong and right reference pairs
    that fit worse; None if the weights contain no references. `share` in [0, 1] is how likely the caption is among
    those given together, if one of them is right. A caption that misses narrowly `differs` in "colour", "side" or
    "number" from `closer`, which fits.
    """

    caption: str
    energy: float
    probability: float
    better_than_wrong: float | None = None
    better_than_right: float | None = None
    share: float | None = None
    differs: Difference | None = None
    closer: str | None = None


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """Why a caption fits a picture or not: the caption's W words and the picture's N = grid x grid patches, row by row.

    Attributes:
        score: of the whole caption.
        words: the words as typed.
        grid: patches along one side.
        gains: W energies, by which each word improves the match; below zero for words that make it worse.
        probabilities: W probabilities of the match if the word is dropped.
        patches: N shares of the error without words that the caption removes; below zero where it misleads.
        word_patches: W x N shares of the error without the word that the word removes; below zero where it misleads.
    """

    score: CaptionScore
    words: tuple[str, ...]
    grid: int
    gains: tuple[float, ...]
    probabilities: tuple[float, ...]
    patches: tuple[float, ...]
    word_patches: tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class TableRows:
    """Some rows of a table: the number of the first row, and energies and probabilities as rows of L numbers.

    NaN stands for pairs that were not among the most promising ones of their picture or caption.
    """

    first: int
    energy: tuple[tuple[float, ...], ...]
    probability: tuple[tuple[float, ...], ...]


class Matching:
    """A scorer that many threads may use at once."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer
        self._cache = FeatureCache(scorer)
        self._turn = threading.Lock()

    @property
    def image_size(self) -> int:
        """Side in pixels of the square that the model sees."""
        return self._scorer.image_size

    def check_caption(self, caption: str) -> None:
        """Refuse a caption that cannot be scored.

        Raises:
            ValueError: it is empty, too long, or has more word pieces than the encoder takes.
        """
        check_words("the caption", caption)
        self._scorer.text_encoder.check(caption.strip())

    def score(self, picture: Image.Image, captions: Sequence[str]) -> list[CaptionScore]:
        """Rank captions for a picture, best first (only its central square is used).

        Raises:
            ValueError: there is no caption, there are more than 20, or one is empty or too long.
        """
        check_captions(captions)
        with self._turn:
            pixels = self._pixels([picture])
            energy = self._scorer.score(pixels, [caption.strip() for caption in captions]).energy[0]
            scores = self._near_misses(pixels, self._told(captions, energy))
        shares = self._scorer.shares(energy).tolist()
        told = [replace(score, share=share) for score, share in zip(scores, shares, strict=True)]
        return sorted(told, key=lambda score: score.energy)

    def score_matrix(
        self, pictures: Sequence[Image.Image], captions: Sequence[str]
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Return the energies and the probabilities of M pictures x K captions, each as M rows of K numbers.

        Raises:
            ValueError: as `score`, or there is no picture or more than 20.
        """
        check_captions(captions)
        if not 1 <= len(pictures) <= MAX_CAPTIONS:
            raise ValueError(f"got {len(pictures)} pictures; allowed: 1 to {MAX_CAPTIONS} at once")
        return self.energies(pictures, captions)

    def energies(
        self, pictures: Sequence[Image.Image], captions: Sequence[str]
    ) -> tuple[list[list[float]], list[list[float]]]:
        """Like `score_matrix`, for any number of pictures and captions, none of which is cached.

        Raises:
            ValueError: there is no picture or no caption, or one has more word pieces than the encoder takes.
        """
        with self._turn:
            scores = self._scorer.score(self._pixels(pictures), [caption.strip() for caption in captions])
        return scores.energy.tolist(), scores.probability.tolist()

    def score_pairs(
        self, pictures: Sequence[Image.Image], captions: Sequence[str], pairs: Sequence[tuple[int, int]]
    ) -> list[CaptionScore]:
        """Score pairs (number of the picture, number of the caption); each picture and caption is encoded once.

        Raises:
            ValueError: there are no pictures or captions, or a caption is empty or too long.
        """
        for caption in captions:
            check_words("the caption", caption)
        rows, columns = [row for row, _ in pairs], [column for _, column in pairs]
        with self._turn:
            texts = [caption.strip() for caption in captions]
            energy = listed_pairs(self._cache, self._pixels(pictures), texts, rows, columns)
        return self._told([captions[column] for column in columns], energy)

    def score_table(
        self, pictures: Sequence[Image.Image], captions: Sequence[str], best: int | None = None
    ) -> Generator[TableRows, None, None]:
        """Yield the rows of the table of M pictures and L captions; closing the iterator ends the work.

        The first items contain no rows, because captions are still being encoded. With `best`, only that many captions
        of each picture, and a few pictures of each caption, get the full energy: the most promising ones by the terms
        that cost next to nothing. Then the pictures too are encoded before the first row.

        Raises:
            ValueError: there are no pictures or captions, more than 1,000 of them, or a caption is empty or too long.
        """
        for name, things in (("pictures", pictures), ("captions", captions)):
            if not 1 <= len(things) <= MAX_TABLE_SIDE:
                raise ValueError(f"got {len(things)} {name}; allowed: 1 to {MAX_TABLE_SIDE:,} at once")
        for number, caption in enumerate(captions, start=1):
            check_words(f"caption {number}", caption)
        pixels, texts = self._pixels(pictures), [caption.strip() for caption in captions]
        for block in blocks(len(texts), CAPTIONS_AT_ONCE):
            with self._turn:
                self._cache.captions(texts[block])
            yield TableRows(
                first=0, energy=(), probability=()
            )  # a thousand captions take a while: let other callers in, and allow stopping
        rows = table_rows(self._cache, pixels, texts) if best is None else best_rows(self._cache, pixels, texts, best)
        first = 0
        while True:
            with self._turn:
                energy = next(rows, None)
            if energy is None:
                return
            probability = self._scorer.probability(energy)
            yield TableRows(first=first, energy=_nested(energy), probability=_nested(probability))
            first += len(energy)

    def explain(self, picture: Image.Image, caption: str) -> Explanation:
        """Take the match of a picture and a caption apart.

        Raises:
            ValueError: the caption is empty, too long or contains no words.
        """
        check_words("the caption", caption)
        with self._turn:
            maps = match_maps(self._scorer, self._pixels([picture])[0], caption.strip())
        [score] = self._told([caption], torch.tensor([maps.energy]))
        without = self._scorer.probability(maps.energy + maps.contribution)
        alone = maps.patch_error - maps.patch_energy  # error of the null text
        return Explanation(
            score=score,
            words=maps.words,
            grid=maps.grid,
            gains=tuple(maps.contribution.tolist()),
            probabilities=tuple(without.tolist()),
            patches=tuple((-maps.patch_energy / alone).tolist()),
            word_patches=_nested(maps.word_patch / (maps.word_patch + maps.patch_error)),
        )

    def _near_misses(self, pixels: Tensor, scores: Sequence[CaptionScore]) -> list[CaptionScore]:
        """Say of captions that do not fit a picture (1, 3, S, S) in which one thing they differ from one that does."""
        tried = [
            (number, *foil)
            for number, score in enumerate(scores)
            if score.probability < FITS
            for foil in well_said_foils(score.caption)
            if self._scorer.text_encoder.num_pieces(foil.caption) <= MAX_TOKENS
        ]
        told = list(scores)
        if not tried:
            return told
        probability = self._scorer.score(pixels, [caption for _, _, caption in tried]).probability[0].tolist()
        best = [FITS] * len(told)
        for (number, differs, caption), fits in zip(tried, probability, strict=True):
            if fits >= max(best[number], told[number].probability + CLEARLY):
                best[number] = fits
                told[number] = replace(told[number], differs=differs, closer=caption)
        return told

    def _pixels(self, pictures: Sequence[Image.Image]) -> Tensor:
        return to_pixels(pictures, self.image_size)

    def _told(self, captions: Sequence[str], energy: Tensor) -> list[CaptionScore]:
        probability, standing = self._scorer.probability(energy), self._scorer.standing(energy)
        wrong = standing.better_than_mismatched.tolist() if standing else [None] * len(captions)
        right = standing.better_than_matched.tolist() if standing else [None] * len(captions)
        return [
            CaptionScore(
                caption=caption,
                energy=float(energy[row]),
                probability=float(probability[row]),
                better_than_wrong=wrong[row],
                better_than_right=right[row],
            )
            for row, caption in enumerate(captions)
        ]


def _nested(table: Tensor) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(row) for row in table.tolist())
