"""`score`: how well captions fit a picture, a table of pairs, or a data set of any length."""

import argparse
import sys
from pathlib import Path
from typing import Any

from jepa_app.commands.datasets import (
    add_dataset_options,
    check_dataset_options,
    refuse_dataset_options,
    run_dataset,
    weights_place,
)
from jepa_app.commands.options import check_target, load_studio, report, writing
from jepa_app.files.pictures import open_picture
from jepa_app.studio.score_csv import score_csv, score_record


def add_score(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add the command and its options."""
    score = commands.add_parser("score", parents=[shared], help="score how well captions fit a picture")
    score.set_defaults(run=run_score)
    score.add_argument("picture", nargs="?", type=Path, help="picture file")
    score.add_argument("captions", nargs="*", metavar="caption", help="caption to score")
    score.add_argument("--csv", type=Path, help="CSV table with the columns picture and caption, instead of PICTURE")
    score.add_argument("--out", type=Path, help="CSV table to write: picture, caption, energy, probability")
    files = "shards of pictures and captions: .parquet, .tar or folders with metadata.jsonl"
    add_dataset_options(score, files, with_pictures=True)


def run_score(options: argparse.Namespace) -> None:
    """`score`: score captions for one picture, a table of pairs, or a data set."""
    if options.dataset is not None:
        _score_dataset(options)
        return
    refuse_dataset_options(options)
    if options.csv is not None:
        if options.picture is not None or options.out is None:
            raise ValueError("--csv reads the pairs from a table: give --csv PAIRS --out SCORES, and no picture")
        _score_table(options)
        return
    if options.out is not None:
        raise ValueError(
            "--out works only with --csv or --dataset; for one picture, redirect the output of --json to a file"
        )
    if options.picture is None or not options.captions:
        raise ValueError('give a picture and at least one caption: score apple.png "red apple" "blue car"')
    picture = open_picture(options.picture)
    scores = [score_record(score) for score in load_studio(options).matching.score(picture, options.captions)]
    # never shown as certain: at most 99.9 %
    lines = [f"{row['energy']:9.4f}  {min(row['probability'], 0.999):6.1%}  {row['caption']}" for row in scores]
    report(options, scores, "\n".join(["   energy  probable  caption (lower energy is better)", *lines]))


def _score_table(options: argparse.Namespace) -> None:
    """Score a table of pairs; rows that cannot be scored are reported and left out.

    Raises:
        ValueError: the table cannot be read, or some rows were left out.
    """
    check_target(options.out, (".csv",))
    if not options.csv.is_file():
        raise ValueError(f"there is no text file at {options.csv}; check the path")
    records: list[dict[str, Any]] = []
    written = left_out = 0
    with writing(options.out):
        for part in score_csv(options.csv, options.out, lambda: load_studio(options).matching):
            for problem in part.problems:
                print(f"error: {problem.name}: {' '.join(problem.reason.split())}", file=sys.stderr)
            written, left_out = written + len(part.rows), left_out + len(part.problems)
            if options.json:  # nothing else needs a long table in memory
                records += part.rows
    report(options, records, f"{written} pairs in {options.out}")
    if left_out:
        raise ValueError(f"{left_out} of {written + left_out} rows were left out; the other rows are in {options.out}")


def _score_dataset(options: argparse.Namespace) -> None:
    check_dataset_options(options, {"picture": "PICTURE", "csv": "--csv"})
    from jepa_app.datasets.scoring import ScoreTask  # needs pyarrow, which nothing else does

    task = ScoreTask(
        weights=weights_place(options.weights),
        picture_column=options.image_column,
        caption_column=options.caption_column,
    )
    run_dataset(options, task)
