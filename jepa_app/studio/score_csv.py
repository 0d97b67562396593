"""Scores a table of pairs into another table, a few hundred rows at a time, so its length costs no memory."""

import csv
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from jepa_app.files.intake import Problem
from jepa_app.files.names import find_file
from jepa_app.files.pair_tables import FORMULA, TableRow, table_rows
from jepa_app.files.pictures import open_picture
from jepa_app.pixels import central_square
from jepa_app.studio.matches import CaptionScore, Matching

COLUMNS = ("picture", "caption", "energy", "probability")
ROWS_AT_ONCE = 512
OPENED_PICTURES = 4096  # squares kept for later rows: 50 MB


@dataclass(frozen=True)
class ScoredRows:
    """Rows that were written, in the order of the table, and the rows that were left out."""

    rows: list[dict[str, Any]]
    problems: list[Problem]


def score_csv(source: Path, target: Path, load: Callable[[], Matching]) -> Iterator[ScoredRows]:
    """Score a table with the columns picture and caption, and yield the rows as they are written.

    Paths of pictures are relative to the table's folder. `load` is called once the first rows could be read. The target
    gets its name when it is complete; until then, and if anything goes wrong, an older file stays.

    Raises:
        ValueError: the source is not such a table, has no rows, or is the target.
        OSError: the target cannot be written.
    """
    if target.exists() and source.exists() and target.samefile(source):
        raise ValueError(f"{target} is the table to be read; write the scores to another file")
    partial = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        with source.open(newline="", encoding="utf-8-sig") as lines:
            rows = table_rows(lines, str(source))
            part = list(islice(rows, ROWS_AT_ONCE))
            if not part:
                raise ValueError(f"{source} has no rows; add at least one below its first line")
            matching = load()
            square = _opener(source.parent, matching.image_size)
            with partial.open("w", newline="", encoding="utf-8-sig") as scores:  # the mark lets Excel read it
                writer = csv.DictWriter(scores, fieldnames=COLUMNS)
                writer.writeheader()
                while part:
                    scored = _score(matching, square, part)
                    writer.writerows(map(harmless, scored.rows))
                    scores.flush()
                    yield scored
                    part = list(islice(rows, ROWS_AT_ONCE))
            partial.replace(target)
    except UnicodeDecodeError as wrong:
        raise ValueError(f"{source} is not UTF-8 text ({wrong.reason}); save it as UTF-8") from wrong
    finally:
        partial.unlink(missing_ok=True)


def harmless(row: dict[str, Any]) -> dict[str, Any]:
    """Put an apostrophe before text that a spreadsheet would run as a formula; reading a table takes it off again."""
    return {
        name: f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value
        for name, value in row.items()
    }


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
        return central_square(open_picture(find_file(folder, name) or folder / name), side)

    return square


def _score(matching: Matching, square: Callable[[str], Image.Image], rows: list[TableRow]) -> ScoredRows:
    pictures: dict[str, Image.Image] = {}
    captions: dict[str, int] = {}
    pairs: list[tuple[str, int]] = []
    problems = []
    for where, name, caption, mistake in rows:
        try:
            if mistake:
                raise ValueError(f"it {mistake}")
            if caption not in captions:
                matching.check_caption(caption)
            if name not in pictures:
                pictures[name] = square(name)
        except ValueError as wrong:
            problems.append(Problem(f"{where}, picture {name!r}", str(wrong)))
            continue
        pairs.append((name, captions.setdefault(caption, len(captions))))
    if not pairs:
        return ScoredRows([], problems)
    numbers = {name: number for number, name in enumerate(pictures)}
    numbered = [(numbers[name], caption) for name, caption in pairs]
    scores = matching.score_pairs(list(pictures.values()), list(captions), numbered)
    written = [{"picture": name, **score_record(score)} for (name, _), score in zip(pairs, scores, strict=True)]
    return ScoredRows(written, problems)
