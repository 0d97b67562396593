"""The task of scoring: how well the caption of each row fits its picture.

Letters in shapes: S picture side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
from PIL import Image
from transformers.utils import logging as transformers_logging

from jepa_app.compute import checked_device, keep_numbers_from_threads
from jepa_app.datasets.rows import Row, Wanted
from jepa_app.datasets.writing import ERROR, WORDS, Result
from jepa_app.files.pictures import open_picture
from jepa_app.limits import check_words
from jepa_app.matching.feature_cache import FeatureCache
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.tables import listed_pairs
from jepa_app.pixels import central_square, to_pixels
from jepa_app.studio.export import weights_name

COLUMNS = pa.schema([("energy", pa.float32()), ("probability", pa.float32())])


@dataclass(frozen=True, kw_only=True)
class ScoreTask:
    """Scores every row; attributes as in `Task`, and the columns to read, None where they are looked for."""

    weights: str
    picture_column: str | None = None
    caption_column: str | None = None
    rows_at_once: int = 64
    rows_a_part: int = 10_000
    rows_a_group: int = 4096

    @property
    def columns(self) -> pa.Schema:
        """Energy and probability."""
        return COLUMNS

    @property
    def settings(self) -> dict[str, Any]:
        """The weights and the columns that were named."""
        columns = {"image_column": self.picture_column, "caption_column": self.caption_column}
        return {"task": "score", "weights": weights_name(self.weights), **columns}

    @property
    def wanted(self) -> Wanted:
        """Pictures and captions."""
        return Wanted(
            words=("caption", "text"),
            with_pictures=True,
            written=(WORDS, *COLUMNS.names, ERROR),
            words_column=self.caption_column,
            picture_column=self.picture_column,
        )

    def load(self, device: str) -> "Scoring":
        """Load the scorer.

        Raises:
            ValueError: the weights are missing or damaged, or there is no such device.
        """
        keep_numbers_from_threads()
        transformers_logging.disable_progress_bar()
        return Scoring(Scorer.from_pretrained(self.weights, checked_device(device)))


class Scoring:
    """The scorer at work."""

    def __init__(self, scorer: Scorer) -> None:
        self._scorer = scorer

    def prepare(self, row: Row) -> Image.Image:
        """Open the picture of a row and return the square that is scored.

        Raises:
            ValueError: it cannot be read.
        """
        if row.picture is None:
            raise ValueError("the row has no picture")
        name = "the picture" if isinstance(row.picture, bytes) else row.picture.name
        return central_square(open_picture(row.picture, name), self._scorer.image_size)

    def work(self, rows: Sequence[Row], prepared: Sequence[Image.Image], places: Sequence[int]) -> list[Result]:
        """Score rows together; nothing is kept for later rows, whose numbers it would change in the last digits."""
        del places
        results: list[Result] = []
        captions: dict[str, int] = {}
        squares: list[Image.Image] = []
        columns: list[int] = []
        for row, square in zip(rows, prepared, strict=True):
            try:
                if row.words is None:
                    raise ValueError("the row has no caption")
                check_words("the caption", row.words)
                caption = row.words.strip()
                self._scorer.text_encoder.check(caption)
            except ValueError as mistake:
                results.append(str(mistake))
                continue
            columns.append(captions.setdefault(caption, len(captions)))
            squares.append(square)
            results.append({})
        if squares:
            pixels = to_pixels(squares, self._scorer.image_size)  # (M, 3, S, S)
            cache = FeatureCache(self._scorer)
            energy = listed_pairs(cache, pixels, list(captions), range(len(squares)), columns)
            found = zip(energy.tolist(), self._scorer.probability(energy).tolist(), strict=True)
            for number, result in enumerate(results):
                if isinstance(result, dict):
                    results[number] = dict(zip(COLUMNS.names, next(found), strict=True))
        return results
