"""Quality by sampler settings: `python -m training.studies.sweep WEIGHTS --data DIR --out DIR --over AXES`.

AXES are one or two of guidance, temperature and steps: "guidance,temperature" gives a table and a heat map for each
figure (D-JEPA, arXiv 2410.03755, shows the same two in its figure 4), "steps" a table and curves. Every cell has the
same prompts and seeds, all from the trained side. Cells are written to cells.json as they are done; a second run with
the same weights, pictures and settings reads finished cells from there.
"""

import hashlib
import itertools
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from jepa_app.checkpoint import sha256
from jepa_app.files.whole_files import writing_whole
from training.data.folders import read_folder
from training.judging.charts import chart, heat_panel, line_panel
from training.judging.judge import Features, frechet_distance
from training.judging.picture_figures import Indices, Sampling, rank_figures
from training.judging.report import table
from training.judging.trials import Trials, TrialSettings
from training.judging.weights import measured_weights
from training.studies.study import Answer, Question, measured_sides, run_study, study_parser

AXES = {"guidance": "guidances", "temperature": "temperatures", "steps": "step_counts"}
"""What can be swept -> the setting with its values."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """How a figure is shown."""

    words: str
    digits: str
    less_is_better: bool


FIGURES = {
    "frechet": Shown(words="Frechet distance", digits=".0f", less_is_better=True),
    "concept_top5": Shown(words="right concept among the first five", digits=".3f", less_is_better=False),
    "concept_median_rank": Shown(words="median rank of the right concept", digits=".0f", less_is_better=True),
}


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """The values of each axis; `guidance`, `temperature` and `steps` hold where their axis is not swept."""

    prompts: int = 100
    guidances: tuple[float, ...] = (1.0, 2.0, 3.0, 4.5, 6.0)
    temperatures: tuple[float, ...] = (0.8, 0.9, 1.0, 1.1)
    step_counts: tuple[int, ...] = (1, 2, 4, 8, 16, 32, 64)

    def values(self, axis: str) -> tuple[float, ...]:
        """The values of an axis.

        Raises:
            ValueError: there is none, or one is not a number.
        """
        name, is_whole = AXES[axis], axis == "steps"
        found: tuple[float, ...] = getattr(self, name)
        if not found or not all(type(value) is int or (type(value) is float and not is_whole) for value in found):
            raise ValueError(f"{name} is {list(found)}; allowed: a list of one or more {'whole ' * is_whole}numbers")
        return found if is_whole else tuple(map(float, found))


def axes_of(text: str) -> tuple[str, ...]:
    """The axes that "guidance,temperature" names.

    Raises:
        ValueError: one is unknown or named twice, or there are more than two.
    """
    axes = tuple(part.strip() for part in text.split(","))
    if not set(axes) <= set(AXES) or len(set(axes)) != len(axes) or len(axes) > 2:
        raise ValueError(f"--over is {text!r}; allowed: one or two of {', '.join(AXES)}, separated by a comma")
    return axes


def cells_of(settings: Settings, axes: Sequence[str], num_tokens: int) -> list[Sampling]:
    """The sampler's settings in every cell; the last axis varies fastest.

    Raises:
        ValueError: the sampler does not accept a value.
    """
    combinations = itertools.product(*(settings.values(axis) for axis in axes))
    changes: list[dict[str, Any]] = [dict(zip(axes, values, strict=True)) for values in combinations]
    cells = [replace(settings.sampling, **change) for change in changes]
    for cell in cells:
        if not 1 <= cell.steps <= num_tokens:
            raise ValueError(f"steps is {cell.steps}; allowed: 1 to {num_tokens}, the tokens of a picture")
    return cells


class Kept:
    """Figures of cells, kept in a file by the settings that they hold for."""

    def __init__(self, path: Path, fixed: dict[str, object]) -> None:
        self._path, self._fixed = path, fixed
        self._figures: dict[str, dict[str, float]] = {}
        if path.is_file():
            try:
                self._figures = {
                    json.dumps(one["setting"], sort_keys=True): one["figures"] for one in json.loads(path.read_text())
                }
            except (ValueError, TypeError, KeyError) as error:
                raise ValueError(f"{path} does not hold cells of an earlier sweep: {error}; remove it") from error

    def get(self, cell: Sampling) -> dict[str, float] | None:
        """The figures of a cell, if it is done."""
        return self._figures.get(self._key(cell))

    def add(self, cell: Sampling, figures: dict[str, float]) -> None:
        """Keep the figures of a cell; the file changes all at once."""
        self._figures[self._key(cell)] = figures
        cells = [{"setting": json.loads(key), "figures": one} for key, one in self._figures.items()]
        with writing_whole(self._path) as partial:
            partial.write_text(json.dumps(cells, indent=2) + "\n", encoding="utf-8")

    def _key(self, cell: Sampling) -> str:
        return json.dumps(self._fixed | asdict(cell), sort_keys=True)


def judged(trials: Trials, indices: Indices, features: Features, others: Indices) -> dict[str, float]:
    """The figures of the pictures of rows, from their features."""
    figures = {"frechet": frechet_distance(features, trials.real[others])}
    if trials.exam:
        ranks, _ = trials.exam.look_up(features, indices, leave_out=False)
        figures |= {name: value for name, value in rank_figures(ranks, "").items() if name in FIGURES}
    return figures


def name_of(axes: Sequence[str], cell: Sampling) -> str:
    """What a cell's figures are called: "guidance_3_temperature_0.9"."""
    return "_".join(f"{axis}_{getattr(cell, axis):g}" for axis in axes)


def markdown(axes: Sequence[str], cells: Sequence[Sampling], found: Sequence[Mapping[str, float]]) -> str:
    """One axis: a table with a row per value; two: a table per figure."""
    shown = [name for name in FIGURES if name in found[0]]
    if len(axes) == 1:
        rows = [
            [f"{getattr(cell, axes[0]):g}", *(f"{figures[name]:{FIGURES[name].digits}}" for name in shown)]
            for cell, figures in zip(cells, found, strict=True)
        ]
        return table([axes[0], *(FIGURES[name].words for name in shown)], rows)
    names, columns = ([f"{value:g}" for value in dict.fromkeys(getattr(cell, axis) for cell in cells)] for axis in axes)
    parts = []
    for name in shown:
        texts = [f"{figures[name]:{FIGURES[name].digits}}" for figures in found]
        lines = [texts[start : start + len(columns)] for start in range(0, len(texts), len(columns))]
        header = [f"{FIGURES[name].words}: {axes[0]}, {axes[1]} →", *columns]
        parts.append(table(header, [[first, *line] for first, line in zip(names, lines, strict=True)]))
    return "\n\n".join(parts)


def drawing(axes: Sequence[str], cells: Sequence[Sampling], found: Sequence[Mapping[str, float]]) -> str:
    """A panel for each figure as SVG: a curve over one axis, a heat map over two."""
    panels = []
    for name in (name for name in FIGURES if name in found[0]):
        shown, values = FIGURES[name], [figures[name] for figures in found]
        title = f"{shown.words} ({'lower' if shown.less_is_better else 'higher'} is better)"
        if len(axes) == 1:
            points = sorted(zip((getattr(cell, axes[0]) for cell in cells), values, strict=True))
            panels.append(line_panel(title, axes[0], {axes[0]: points}, logarithmic=axes[0] == "steps"))
            continue
        down, across = ([f"{one:g}" for one in dict.fromkeys(getattr(cell, axis) for cell in cells)] for axis in axes)
        rows = [values[start : start + len(across)] for start in range(0, len(values), len(across))]
        digits, less = shown.digits, shown.less_is_better
        panels.append(heat_panel(title, (axes[0], down), (axes[1], across), rows, shown=digits, less_is_better=less))
    return chart(panels)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    parser = study_parser("sweep", __doc__, defaults)
    parser.add_argument("--over", required=True, metavar="AXES", help=f"one or two of {', '.join(AXES)}")
    return run_study(parser, defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    axes, settings = axes_of(question.options.over), question.settings
    trials = question.trials
    cells = cells_of(settings, axes, trials.pipeline.image_tokenizer.config.num_tokens)
    indices, others = trials.choose(measured_sides(trials.data)[""], settings.prompts, settings.seed)
    fixed = {
        "weights": _fingerprint(measured_weights(question.options.weights)),
        "data": read_folder(question.options.data).fingerprint(),
        "prompts": len(indices),
    }
    kept, found = Kept(question.out / "cells.json", fixed), []
    for cell in cells:
        figures = kept.get(cell)
        if figures is None:
            made = trials.make(indices, cell, name_of(axes, cell))
            figures = judged(trials, indices, made.features, others)
            kept.add(cell, figures)
        found.append(figures)
    named = {
        f"{name}_{name_of(axes, cell)}": value
        for cell, figures in zip(cells, found, strict=True)
        for name, value in figures.items()
    }
    named["frechet_real"] = frechet_distance(trials.real[indices], trials.real[others])
    (question.out / f"{'-'.join(axes)}.svg").write_text(drawing(axes, cells, found), encoding="utf-8")
    setting: dict[str, object] = {"over": list(axes), "prompts": len(indices)}
    return Answer(figures=named, setting=setting, table=markdown(axes, cells, found))


def _fingerprint(weights: Path) -> str:
    """A name for the files of a weights folder that changes with any of them."""
    files = sorted(path for path in weights.glob("*/*") if path.suffix in (".json", ".safetensors"))
    return hashlib.sha256("".join(sha256(path) for path in files).encode()).hexdigest()[:16]


if __name__ == "__main__":
    sys.exit(main())
