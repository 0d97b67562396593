"""What the evaluation writes: a table in Markdown, picture grids and a list of what was judged."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from jepa_app.pixels import picture_grid, to_pil
from training.judging.charts import chart, line_panel

SUBSETS = {"": "trained", "_heldout_pairs": "held-out pairs", "_heldout_concepts": "held-out concepts"}
"""Suffix of a figure's name -> the subset's name in tables."""

_CONCEPT_COLUMNS = {
    "": "generated",
    "_other_designs": "generated, own design left out",
    "_reconstruction": "reconstruction",
    "_real": "real",
}
_CONCEPT_ROWS = {"concept_top1": "right concept first", "concept_top5": "among the first five"}
_MATCH_ROWS = {
    "caption_top1_of_10": "right caption first among 10",
    "recall_at_1_i2t": "picture to caption, R@1",
    "recall_at_5_i2t": "picture to caption, R@5",
    "recall_at_1_t2i": "caption to picture, R@1",
    "recall_at_5_t2i": "caption to picture, R@5",
    "match_auc_random": "AUC, random captions",
    "match_auc_same_group": "AUC, captions of the same group and style",
    "match_auc_attribute": "AUC, another colour",
    "match_auc_recoloured": "AUC, recoloured pictures with another colour",
    "match_auc_count": "AUC, another number",
    "match_auc_shuffled": "AUC, words in another order",
    "match_auc_nonsense": "AUC, words of no meaning",
    "match_auc_sides": "AUC, two things with sides swapped",
    "ece_same_group": "calibration error, captions of the same group and style",
    "ece_attribute": "calibration error, another colour",
    "ece_recoloured": "calibration error, recoloured pictures with another colour",
    "ece_count": "calibration error, another number",
    "ece_shuffled": "calibration error, words in another order",
    "ece_nonsense": "calibration error, words of no meaning",
    "ece_sides": "calibration error, sides swapped",
    "match_wins_attribute": "right colour beats three others",
    "match_wins_recoloured": "right colour of a recoloured picture beats three others",
    "match_wins_count": "right number beats two others",
    "match_wins_shuffled": "right order beats three others",
    "match_wins_nonsense": "right words beat three of no meaning",
    "match_wins_sides": "right side beats the other",
    "concept_recall_at_1_i2t": "picture to caption among all concepts, R@1",
    "concept_recall_at_5_i2t": "picture to caption among all concepts, R@5",
    "concept_recall_at_1_t2i": "caption to picture among all concepts, R@1",
    "concept_recall_at_5_t2i": "caption to picture among all concepts, R@5",
    "ece": "calibration error",
}
_FRECHET_ROWS = {"frechet": "generated", "frechet_reconstruction": "reconstruction", "frechet_real": "real"}

GRID_COLUMNS = 20
FEWEST_PAIRS = 20  # for each point of the drawn reliability curve


@dataclass(frozen=True, kw_only=True)
class JudgedPictures:
    """Generated pictures `pixels` (B, 3, S, S) in [-1, 1] of one subset, and the judge's verdict on each, if asked."""

    suffix: str
    prompts: Sequence[str]
    seeds: Sequence[int]
    pixels: Tensor
    ranks: Sequence[int] = ()
    nearest: Sequence[str] = ()


def markdown(figures: Mapping[str, float], setting: Mapping[str, object]) -> str:
    """The figures as Markdown tables; a table or row without figures is left out."""
    parts = []
    subsets = [suffix for suffix in SUBSETS if f"concept_top1{suffix}" in figures]
    if subsets:
        header = ["concept", "pictures", *_CONCEPT_COLUMNS.values()]
        rows = [
            [words, SUBSETS[suffix], *(cell(figures, f"{name}{suffix}{kind}") for kind in _CONCEPT_COLUMNS)]
            for name, words in _CONCEPT_ROWS.items()
            for suffix in subsets
        ]
        parts.append(table(header, rows))
    if "frechet" in figures:
        rows = [[words, cell(figures, name, ".0f")] for name, words in _FRECHET_ROWS.items()]
        parts.append(table(["pictures", f"Frechet distance, n = {setting['frechet_pictures']}"], rows))
    subsets = [suffix for suffix in SUBSETS if f"match_auc_random{suffix}" in figures]
    if subsets:
        rows = [
            [words, *(cell(figures, f"{name}{suffix}") for suffix in subsets)]
            for name, words in _MATCH_ROWS.items()
            if any(f"{name}{suffix}" in figures for suffix in subsets)
        ]
        parts.append(table(["match", *(SUBSETS[suffix] for suffix in subsets)], rows))
    return "\n\n".join(parts)


def save_evidence(judged: JudgedPictures, folder: Path) -> None:
    """Write what was judged: `grid<suffix>.png`, and `judged<suffix>.csv` with a line per picture, in grid order."""
    folder.mkdir(parents=True, exist_ok=True)
    width = min(GRID_COLUMNS, len(judged.prompts))
    picture_grid(to_pil(judged.pixels), width).save(folder / f"grid{judged.suffix}.png")
    with (folder / f"judged{judged.suffix}.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns: dict[str, Iterable[object]] = {"prompt": judged.prompts, "seed": judged.seeds}
        if len(judged.ranks):
            columns |= {"rank": [rank + 1 for rank in judged.ranks], "nearest": judged.nearest}
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def reliability_chart(curves: Mapping[str, Sequence[Mapping[str, float]]]) -> str:
    """Reliability curves of the sides of the split as SVG: how many of the pairs that were given a probability match.

    Neighbouring points are merged until each stands for enough pairs; any remainder joins the last.
    """
    lines = {"as said": [(0.0, 0.0), (1.0, 1.0)]}
    for suffix, words in SUBSETS.items():
        points = curves.get(f"reliability{suffix}", ())
        lines |= {words: _joined(points)} if points else {}
    return chart([line_panel("share of pairs that match", "probability given", lines, dots=False)])


def _joined(points: Sequence[Mapping[str, float]]) -> list[tuple[float, float]]:
    groups: list[list[Mapping[str, float]]] = [[]]
    for point in points:
        if sum(one["pairs"] for one in groups[-1]) >= FEWEST_PAIRS:
            groups.append([])
        groups[-1].append(point)
    if len(groups) > 1 and sum(one["pairs"] for one in groups[-1]) < FEWEST_PAIRS:
        groups[-2:] = [groups[-2] + groups[-1]]
    joined = []
    for group in groups:
        pairs = sum(one["pairs"] for one in group)
        probability, share = (sum(one[name] * one["pairs"] for one in group) for name in ("probability", "share"))
        joined.append((probability / pairs, share / pairs))
    return joined


def cell(figures: Mapping[str, float], name: str, shown: str = ".3f") -> str:
    """A figure in a table, in the format `shown`; empty where it was not measured."""
    return f"{figures[name]:{shown}}" if name in figures else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
