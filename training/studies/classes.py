"""Class-conditional generation by the same network: `python -m training.studies.classes WEIGHTS --data DIR --out DIR`.

A class is a label in a style; its name, "red apple, twemoji style", is the whole prompt. No two pictures share
a label, styles come evenly, and all are of the trained side. Pictures are made without guidance and with it, and
measured as class-conditional generators are: Frechet distance, inception score, precision and recall. Next to them are
the values of real pictures of the same classes, as they are and as their tokens keep them.

The inception score takes a softmax over the distances to the concepts of the gallery, own design left out. Its
temperature is the one with the lowest cross-entropy on other real pictures. The alternative, the judge's own softmax
over ImageNet's classes, says nothing here: of 200 pictures at 64 px, real ones score 15.2, the same with noise of half
a standard deviation on their tokens 21.5, and with twice that, where nothing is left to see, 13.3; by the concepts the
scores are 20.1, 1.5 and 1.2.
Frechet distances are to the same number of other real pictures in the same styles; all figures hold for this number.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.selection import balanced_order, choose_pictures
from training.judging.judge import Features, frechet_distance, inception_score, precision_and_recall, right_ranks
from training.judging.picture_figures import Indices, rank_figures
from training.judging.report import save_evidence, table
from training.judging.trials import Trials, TrialSettings
from training.studies.study import Answer, Question, measured_sides, run_study, study_parser

UNGUIDED = 1.0
TEMPERATURES = np.geomspace(0.005, 1, 48)  # of the softmax over distances to concepts


def measure(trials: Trials, settings: TrialSettings, out: Path) -> tuple[dict[str, float], int]:
    """Generate without guidance and with it, measure, and keep the pictures in `out`; return figures and class count.

    Raises:
        ValueError: too few trained pictures in the folder.
    """
    indices, others = choose_classes(trials, measured_sides(trials.data)[""], settings)
    real = trials.real[indices]
    temperature = None
    if trials.exam:
        temperature = best_temperature(*trials.exam.distances(trials.real[others], others, leave_out=True))
    figures = class_figures(trials, indices, real, others, temperature, "_real")
    restored = trials.restore(indices).features
    figures |= class_figures(trials, indices, restored, others, temperature, "_reconstruction")
    for guidance in dict.fromkeys((UNGUIDED, settings.guidance)):
        suffix = f"_guidance_{guidance:g}"
        made = trials.make(indices, replace(settings, guidance=guidance), f"generating{suffix}")
        figures |= class_figures(trials, indices, made.features, others, temperature, suffix)
        save_evidence(made.evidence(suffix, settings.seed), out)
    return figures, len(indices)


def choose_classes(trials: Trials, trained: Indices, settings: TrialSettings) -> tuple[Indices, Indices]:
    """Trained rows with labels that all differ, and as many others to compare with; styles evenly in both."""
    rows = trials.data.rows
    indices = choose_pictures(rows, trained, min(settings.prompts, len(trained) // 2), settings.seed)
    chosen = set(indices.tolist())
    order = balanced_order(rows, trained, settings.seed)
    others = order[[index not in chosen for index in order.tolist()]]
    return indices, others[: len(indices)]


def class_figures(
    trials: Trials, indices: Indices, features: Features, others: Indices, temperature: float | None, suffix: str
) -> dict[str, float]:
    """All figures of the pictures of rows, from their features; concepts are looked up with their own design left out.

    `temperature` is that of the softmax over distances to concepts; None where pictures have no concepts.
    """
    reference = trials.real[others]
    precision, recall = precision_and_recall(reference, features)
    figures = {
        f"frechet{suffix}": frechet_distance(features, reference),
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
    }
    if trials.exam and temperature is not None:
        distances, right = trials.exam.distances(features, indices, leave_out=True)
        figures[f"inception_score{suffix}"] = inception_score(np.exp(log_softmax(distances, temperature)))
        figures |= rank_figures(right_ranks(distances, right), f"_other_designs{suffix}")
    return figures


def log_softmax(distances: NDArray[np.float32], temperature: float) -> NDArray[np.float64]:
    """Logarithms of probabilities (B, K) that fall with the distances, the faster the lower the temperature."""
    scores = -distances.astype(np.float64) / temperature
    scores -= scores.max(axis=1, keepdims=True)
    shares: NDArray[np.float64] = scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))
    return shares


def best_temperature(distances: NDArray[np.float32], right: NDArray[np.int64]) -> float:
    """The temperature of lowest cross-entropy over pictures (B, K), of those whose right concept (B,) can be found."""
    places = np.arange(len(right))
    told = np.isfinite(distances[places, right])
    places = np.arange(int(told.sum()))

    def cross_entropy(temperature: float) -> float:
        return -float(log_softmax(distances[told], temperature)[places, right[told]].sum())

    return min(TEMPERATURES.tolist(), key=cross_entropy)


COLUMNS = {
    "inception_score": ("inception score", ".2f"),
    "frechet": ("Frechet distance", ".0f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "concept_top5_other_designs": ("right concept among the first five, own design left out", ".3f"),
}


def markdown(figures: Mapping[str, float], prompts: int) -> str:
    """The figures as a Markdown table: a row for each guidance, for reconstructions and for real pictures."""
    kinds = [name.removeprefix("frechet") for name in figures if name.startswith("frechet")]
    kinds = [*(kind for kind in kinds if "guidance" in kind), "_reconstruction", "_real"]
    shown = {name: words for name, words in COLUMNS.items() if f"{name}_real" in figures}
    rows = [
        [kind[1:].replace("_", " "), *(f"{figures[name + kind]:{digits}}" for name, (_, digits) in shown.items())]
        for kind in kinds
    ]
    return table([f"{prompts} classes", *(words for words, _ in shown.values())], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = TrialSettings()
    return run_study(study_parser("classes", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[TrialSettings]) -> Answer:
    figures, prompts = measure(question.trials, question.settings, question.out)
    return Answer(figures=figures, setting={"prompts": prompts}, table=markdown(figures, prompts))


if __name__ == "__main__":
    sys.exit(main())
