"""Scores a table of pairs into another table, a few hundred rows at a time, so its length costs no memory."""

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from jepa_app.files.intake import Problem, table_rows
from jepa_app.files.pictures import open_picture
from jepa_app.pixels import central_square
from jepa_app.studio.matches import CaptionScore, Matching

COLUMNS = ("picture", "caption", "energy", "probability")
ROWS_AT_ONCE = 512
OPENED_PICTURES = 4096  # squares kept for later rows: 50 MB

Rows = list[tuple[str, str, str]]  # (where, picture, caption)


@dataclass(frozen=True)
class ScoredRows:
    """Rows that were written, in the order of the table, and the rows that were left out."""

    rows: list[dict[str, Any]]
    problems: list[Problem]


def score_csv(source: Path, target: Path, load: Callable[[], Matching]) -> Iterator[ScoredRows]:
    """Score a table with the columns picture and caption, and yield the rows as they are written.

    Paths of pictures are relative to the table's folder. `load` is called once the first rows could be read.

    Raises:
        ValueError: the source is not such a table, or has no rows.
        OSError: the target cannot be written.
    """
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            rows = table_rows(lines, str(source))
            part = list(islice(rows, ROWS_AT_ONCE))
            if not part:
                raise ValueError(f"{source} has no rows; add at least one below its first line")
            matching = load()
            square = _opener(source.parent, matching.image_size)
            with target.open("w", newline="", encoding="utf-8") as scores:
                writer = csv.DictWriter(scores, fieldnames=COLUMNS)
                writer.writeheader()
                while part:
                    scored = _score(matching, square, part)
                    writer.writerows(scored.rows)
                    scores.flush()
                    yield scored
                    part = list(islice(rows, ROWS_AT_ONCE))
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{source} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong


def score_record(score: CaptionScore) -> dict[str, Any]:
    """A score as the command line prints it."""
    return {
        "caption": score.caption,
        "energy": round(score.energy, 6),
        "probability": round(score.probability, 6),
    }


def _opener(folder: Path, side: int) -> Callable[[str], Image.Image]:
    @lru_cache(OPENED_PICTURES)
    def square(name: str) -> Image.Image:
        return central_square(open_picture(folder / name), side)

    return square


def _score(matching: Matching, square: Callable[[str], Image.Image], rows: Rows) -> ScoredRows:
    pictures: dict[str, Image.Image] = {}
    captions: dict[str, int] = {}
    pairs: list[tuple[str, int]] = []
    problems = []
    for where, name, caption in rows:
        try:
            if not name or not caption:
                raise ValueError("it lacks a picture or a caption")
            if caption not in captions:
                matching.check_caption(caption)
            if name not in pictures:
                pictures[name] = square(name)
        except ValueError as mistake:
            problems.append(Problem(f"{where}, picture {name!r}", str(mistake)))
            continue
        pairs.append((name, captions.setdefault(caption, len(captions))))
    if not pairs:
        return ScoredRows([], problems)
    numbers = {name: number for number, name in enumerate(pictures)}
    numbered = [(numbers[name], caption) for name, caption in pairs]
    scores = matching.score_pairs(list(pictures.values()), list(captions), numbered)
    written = [{"picture": name, **score_record(score)} for (name, _), score in zip(pairs, scores, strict=True)]
    return ScoredRows(written, problems)
