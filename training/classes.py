"""Class-conditional generation by the same network: `python -m training.classes WEIGHTS --data DIR --out DIR`.

A class is a label in a style, and its name, "red apple, twemoji style", the whole prompt. As many labels as
pictures, styles evenly, all of the trained side; made without guidance and with it, and measured as class-conditional
generators are: Frechet distance, inception score, precision and recall, with the values of real pictures of the same
classes beside them, as they are and as their tokens keep them.

The inception score takes the judge's own softmax over ImageNet's thousand classes. Few emoji are among these, yet the
score asks only whether each picture is told for certain and all of them differently, which holds for real emoji: 300
of them at 64 px reach 16.5. A softmax over the distances to the concepts
of the gallery was the other choice; its temperature would be ours to choose, and the score would follow from that.
Frechet distances are from as many other real pictures in the same styles; all figures hold for this number of pictures.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from training.command_line import Report, measuring_parser, run
from training.judge import Features, frechet_distance, inception_score, precision_and_recall
from training.picture_figures import Indices, rank_figures
from training.report import JudgedPictures, save_evidence, table
from training.selection import balanced_order, choose_pictures
from training.trials import Trials, TrialSettings, sides_of

UNGUIDED = 1.0


def measure(trials: Trials, settings: TrialSettings, out: Path) -> tuple[dict[str, float], dict[str, object]]:
    """Generate without guidance and with it, measure, and keep the pictures in `out`; figures and what they hold for.

    Raises:
        ValueError: too few trained pictures in the folder.
    """
    if "" not in sides_of(trials.data):
        raise ValueError("too few pictures in the folder; give one with a few hundred")
    indices, others = choose_classes(trials, settings)
    reference, real = trials.real[others], trials.real[indices]
    figures = class_figures(trials, indices, real, reference, "_real")
    restored = trials.restore(indices).features
    figures |= class_figures(trials, indices, restored, reference, "_reconstruction")
    for guidance in dict.fromkeys((UNGUIDED, settings.guidance)):
        suffix = f"_guidance_{guidance:g}"
        made = trials.make(indices, replace(settings.sampling, guidance=guidance), f"generating{suffix}")
        figures |= class_figures(trials, indices, made.features, reference, suffix)
        seeds = (settings.seed + indices).tolist()
        save_evidence(JudgedPictures(suffix=suffix, prompts=made.captions, seeds=seeds, pixels=made.pixels), out)
    return figures, trials.setting | {"prompts": len(indices)}


def choose_classes(trials: Trials, settings: TrialSettings) -> tuple[Indices, Indices]:
    """Trained rows with labels that all differ, and equally many others to compare with; styles evenly in both."""
    rows, trained = trials.data.rows, trials.data.split.train
    indices = choose_pictures(rows, trained, min(settings.prompts, len(trained) // 2), settings.seed)
    chosen = set(indices.tolist())
    order = balanced_order(rows, trained, settings.seed)
    others = order[[index not in chosen for index in order.tolist()]]
    return indices, others[: len(indices)]


def class_figures(
    trials: Trials, indices: Indices, features: Features, reference: Features, suffix: str
) -> dict[str, float]:
    """All figures of pictures of some rows by their features; concepts are looked up with their own design left out."""
    precision, recall = precision_and_recall(reference, features)
    figures = {
        f"inception_score{suffix}": inception_score(trials.judge.probabilities(features)),
        f"frechet{suffix}": frechet_distance(features, reference),
        f"precision{suffix}": precision,
        f"recall{suffix}": recall,
    }
    if trials.exam:
        ranks, _ = trials.exam.look_up(features, indices, leave_out=True)
        figures |= rank_figures(ranks, f"_other_designs{suffix}")
    return figures


COLUMNS = {
    "inception_score": ("inception score", ".2f"),
    "frechet": ("Frechet distance", ".0f"),
    "precision": ("precision", ".3f"),
    "recall": ("recall", ".3f"),
    "concept_top5_other_designs": ("right concept among the first five, own design left out", ".3f"),
}


def markdown(figures: Mapping[str, float], prompts: object) -> str:
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
    """Measure and print; exit status 0 done, 2 a user's mistake (told in one line on standard error)."""
    defaults = TrialSettings()
    return run(measuring_parser("classes", __doc__, defaults, needs_out=True), defaults, _reported, arguments)


def _reported(options: argparse.Namespace, settings: TrialSettings) -> Report:
    trials = Trials.load(options.weights, options.data, options.device)
    figures, setting = measure(trials, settings, options.out)
    asked = {"weights": str(options.weights), "data": str(options.data), **asdict(settings)}
    document = {"figures": figures, "setting": asked | setting}
    return Report(document=document, table=markdown(figures, setting["prompts"]))


if __name__ == "__main__":
    sys.exit(main())
