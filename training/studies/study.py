"""The skeleton of a study: one question about weights and pictures, and the document that answers it.

A study's own file says what can be set, how the answer is found, and how its table looks.
"""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Generic, TypeVar

from jepa_app.command_line import OneLineParser
from training.command_line import Report, measuring_parser, run
from training.data.batches import CaptionedPictures
from training.judging.judge import frechet_distance
from training.judging.picture_figures import Indices, Sampling, rank_figures
from training.judging.report import cell, table
from training.judging.trials import Made, Trials, sides_of
from training.judging.weights import suited

SettingsT = TypeVar("SettingsT", bound=Sampling)

JUDGED = {
    "concept_top1": ("right concept first", ".3f"),
    "concept_top5": ("among the first five", ".3f"),
    "concept_top5_left_out": ("the same, own design left out", ".3f"),
    "frechet": ("Frechet distance", ".0f"),
}
"""What the judge says of a set of pictures: figure -> its words in a table, and its format."""


class Question(Generic[SettingsT]):
    """A study's input: the options of its command, and the settings."""

    def __init__(self, options: argparse.Namespace, settings: SettingsT) -> None:
        self.options = options
        self.settings = settings

    @cached_property
    def trials(self) -> Trials:
        """The generator and the pictures, loaded when they are first asked for.

        Raises:
            ValueError: the weights hold no whole generator, or the folder of pictures is not usable.
        """
        return Trials.load(self.options.weights, self.options.data, self.options.device)

    @cached_property
    def out(self) -> Path:
        """The folder to write to; it is created on first access."""
        folder: Path = self.options.out
        folder.mkdir(parents=True, exist_ok=True)
        return folder


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a study found: `figures`, the `setting` they hold for besides the input, and a table in Markdown."""

    figures: dict[str, float]
    setting: dict[str, object]
    table: str


def study_parser(name: str, description: str | None, defaults: Sampling) -> OneLineParser:
    """The arguments of the study in `training/studies/<name>.py`; `defaults` are the settings that --set changes."""
    return measuring_parser(f"studies.{name}", description, defaults, needs_out=True)


def run_study(
    parser: OneLineParser,
    defaults: SettingsT,
    answer: Callable[[Question[SettingsT]], Answer],
    arguments: Sequence[str] | None,
) -> int:
    """Answer, print and write figures.json; exit status: 0 for success, 2 for a user's mistake."""

    def report(options: argparse.Namespace, settings: SettingsT) -> Report:
        question = Question(options, settings)
        found = answer(question)
        asked = {"weights": str(options.weights), "data": str(options.data), **asdict(settings)}
        setting = asked | question.trials.setting | found.setting
        return Report(document={"figures": found.figures, "setting": setting}, table=found.table)

    return run(parser, defaults, report, arguments, suited)


def judged_figures(trials: Trials, made: Made, others: Indices) -> dict[str, float]:
    """Return the figures of `JUDGED`, and ranks, of pictures beside as many real ones, the rows `others`."""
    figures = {"frechet": frechet_distance(made.features, trials.real[others])}
    for suffix, leave_out in (("", False), ("_left_out", True)):
        if trials.exam:
            ranks, _ = trials.exam.look_up(made.features, made.indices, leave_out=leave_out)
            figures |= rank_figures(ranks, suffix)
    return figures


def judged_table(header: Sequence[str], rows: Mapping[tuple[str, ...], Mapping[str, float]]) -> str:
    """A Markdown table with the figures of `JUDGED`; `rows` maps the first cells of a row to its figures."""
    lines = [
        [*first, *(cell(figures, name, digits) for name, (_, digits) in JUDGED.items())]
        for first, figures in rows.items()
    ]
    return table([*header, *(words for words, _ in JUDGED.values())], lines)


def measured_sides(data: CaptionedPictures) -> dict[str, Indices]:
    """The sides of the split that are large enough to measure, the trained one among them.

    Raises:
        ValueError: the folder has too few trained pictures.
    """
    sides = sides_of(data)
    if "" not in sides:
        raise ValueError("too few pictures in the folder; give one with a few hundred")
    return sides
