"""What a comparison measured, as a Markdown table and as a chart."""

import dataclasses
import html
import statistics
from collections.abc import Sequence

from training.judging.charts import svg
from training.judging.report import table as markdown_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measured:
    """Figures of one variant trained with one seed."""

    variant: str
    seed: int
    pictures_seen: int
    figures: dict[str, float]


def table(measured: Sequence[Measured], shown: Sequence[str]) -> str:
    """Means over the seeds, with half the range from the smallest to the largest, as a Markdown table."""
    variants = list(dict.fromkeys(one.variant for one in measured))
    names = [name for name in shown if any(name in one.figures for one in measured)]
    lines = []
    for name in ["pictures_seen", *names]:
        cells = []
        for variant in variants:
            rows = [one for one in measured if one.variant == variant]
            known = [one.figures | {"pictures_seen": one.pictures_seen} for one in rows]
            values = [figures[name] for figures in known if name in figures]
            cells.append(f"{statistics.mean(values):.4g} ± {(max(values) - min(values)) / 2:.2g}" if values else "")
        lines.append([name, *cells])
    return markdown_table(["figure", *variants], lines)


WIDTH, LABELS, ROW, TITLE = 740, 280, 24, 34  # pixels of the chart; LABELS and TITLE are space for text


def chart(measured: Sequence[Measured], plotted: Sequence[str]) -> str:
    """Bars of the means over the seeds, with a dot per seed, as an SVG: one block per figure, one bar per variant."""
    variants = list(dict.fromkeys(one.variant for one in measured))
    parts, top = [], 0
    for name in plotted:
        values = {
            variant: [one.figures[name] for one in measured if one.variant == variant and name in one.figures]
            for variant in variants
        }
        most = max((abs(value) for row in values.values() for value in row), default=0.0) or 1.0
        parts.append(f'<text x="8" y="{top + 22}" font-weight="bold">{html.escape(name)}</text>')
        top += TITLE
        for variant, row in values.items():
            parts += _bar(variant, row, most, top)
            top += ROW
    return svg(WIDTH, top + 10, parts)


def _bar(variant: str, values: Sequence[float], most: float, top: int) -> list[str]:
    """One variant's label and, where it has the figure, bar, dots and number."""
    label = f'<text x="{LABELS - 8}" y="{top + 16}" text-anchor="end" fill="#444">{html.escape(variant)}</text>'
    if not values:
        return [label]
    middle, room = statistics.mean(values), WIDTH - LABELS - 80
    bar = (
        f'<rect x="{LABELS}" y="{top + 4}" width="{room * abs(middle) / most:.1f}" height="{ROW - 8}" fill="#4f46e5"/>'
    )
    dots = [
        f'<circle cx="{LABELS + room * abs(value) / most:.1f}" cy="{top + ROW / 2:.1f}" r="3" fill="#d97706"/>'
        for value in values
    ]
    number = f'<text x="{WIDTH - 72}" y="{top + 16}" fill="#444">{middle:.4g}</text>'
    return [label, bar, *dots, number]
