"""Measures weights on a folder of captioned pictures (the command is `python -m training.evaluate`).

Pictures are judged by a network that is not ours (`judge.py`), matches by the model's own energies
(`match_figures.py`).
"""

import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from training.data.batches import CaptionedPictures
from training.data.selection import choose_pictures, fitting_and_measuring
from training.judging.judge import Features, frechet_distance
from training.judging.match_figures import (
    concept_figures,
    group_figures,
    hard_case_figures,
    match_matrix,
    matrix_figures,
    one_wrong,
    reliability,
)
from training.judging.picture_figures import ConceptExam, Indices, rank_figures
from training.judging.report import JudgedPictures
from training.judging.trials import (
    FEWEST_PICTURES,
    Trials,
    TrialSettings,
    checked_device,
    progress,
    sides_of,
)
from training.judging.weights import (
    GENERATORS,
    MATCHERS,
    Matcher,
    PicturePipeline,
    load_generators,
    load_matchers,
    measured_weights,
)
from training.settings import require_at_least


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """What is measured: `prompts` pictures per side of the split are generated, `matches` per side are matched.

    `concepts` of the latter are looked up among the captions and pictures of all concepts, a pair for each. With
    `groups` only pictures of these groups or subgroups are made and matched; the judge still knows all concepts.

    Raises:
        ValueError: a number is too small to make sense.
    """

    matches: int = 200
    concepts: int = 0
    groups: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        require_at_least(self, {"matches": FEWEST_PICTURES, "concepts": 0})


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """Measured `figures` by name, the `setting` they hold for, and the generated pictures that they were measured on.

    `curves` are the points of reliability curves, by name.
    """

    figures: dict[str, float]
    setting: dict[str, object]
    curves: dict[str, list[dict[str, float]]] = field(default_factory=dict)
    judged: tuple[JudgedPictures, ...] = ()

    def __or__(self, other: "Evaluation") -> "Evaluation":
        """Both together."""
        return Evaluation(
            figures=self.figures | other.figures,
            setting=self.setting | other.setting,
            curves=self.curves | other.curves,
            judged=self.judged + other.judged,
        )


def evaluate(weights: Path | str, folder: Path, settings: Settings, device: str | None = None) -> Evaluation:
    """Measure `weights`, a folder or a hub id, on the captioned pictures of `folder`.

    Raises:
        ValueError: the weights hold no model or a broken one, or the folder is not usable.
    """
    started = time.perf_counter()
    device = checked_device(device)
    parts = measured_weights(weights)
    result = Evaluation(figures={}, setting={"weights": str(weights), "data": str(folder), **asdict(settings)})
    for pipeline in load_generators(parts, device):
        result |= measure_pictures(pipeline, CaptionedPictures.load(folder, pipeline.image_size), folder, settings)
    for matcher in load_matchers(parts, device):
        result |= measure_matches(matcher, CaptionedPictures.load(folder, matcher.image_size), settings)
    if not result.figures:
        known = ", ".join((*GENERATORS, *MATCHERS))
        raise ValueError(f"{weights} holds none of {known}; train one with python -m training.train")
    seconds = round(time.perf_counter() - started, 1)
    return result | Evaluation(figures={}, setting={"torch": torch.__version__, "seconds": seconds})


def measure_pictures(
    pipeline: PicturePipeline, data: CaptionedPictures, folder: Path, settings: Settings
) -> Evaluation:
    """Generate pictures for captions of each side of the split and have the judge look at them."""
    trials = Trials(pipeline, data, folder)
    result = Evaluation(figures={}, setting=trials.setting)
    for suffix, members in sides_of(data, settings.groups).items():
        indices, reference = trials.choose(members, settings.prompts, settings.seed)
        made = trials.make(indices, settings, f"generating{suffix}")
        restored, real = trials.restore(indices).features, trials.real[indices]
        judged = made.evidence(suffix, settings.seed)
        if trials.exam:
            figures, ranks, nearest = _concept_figures(trials.exam, indices, made.features, restored, real, suffix)
            result |= Evaluation(figures=figures, setting={})
            judged = replace(judged, ranks=ranks.tolist(), nearest=nearest)
        if suffix == "":
            figures = _frechet_figures(trials.real[reference], made.features, restored, real)
            result |= Evaluation(figures=figures, setting={"frechet_pictures": len(indices)})
        result |= Evaluation(figures={}, setting={f"prompts{suffix}": len(indices)}, judged=(judged,))
    return result


def measure_matches(matcher: Matcher, data: CaptionedPictures, settings: Settings) -> Evaluation:
    """Match pictures of each side with captions; of the held-out pairs, the half that is never calibrated on."""
    result = Evaluation(figures={}, setting={"match_image_size": data.image_size})
    for suffix, members in sides_of(data, settings.groups).items():
        if suffix == "_heldout_pairs":
            _, members = fitting_and_measuring(data.rows, members)
        indices = choose_pictures(data.rows, members, settings.matches, settings.seed)
        if len(indices) < FEWEST_PICTURES:
            continue
        parts = match_matrix(matcher, data, indices)
        tables = list(progress(parts, f"matching{suffix}", len(indices), lambda part: len(part[0])))
        energy, probability = (np.concatenate(part) for part in zip(*tables, strict=True))
        figures = matrix_figures(energy, probability, settings.seed)
        figures |= group_figures(energy, probability, [data.rows[index] for index in indices], settings.seed)
        figures |= hard_case_figures(matcher, data, members, settings.matches, settings.seed)
        if settings.concepts:
            figures |= concept_figures(matcher, data, members, settings.concepts, settings.seed)
        named = {f"{name}{suffix}": value for name, value in figures.items()}
        curves = {f"reliability{suffix}": reliability(*one_wrong(probability, settings.seed))}
        result |= Evaluation(figures=named, setting={f"matches{suffix}": len(indices)}, curves=curves)
    return result


def _concept_figures(
    exam: ConceptExam, indices: Indices, made: Features, restored: Features, real: Features, suffix: str
) -> tuple[dict[str, float], Indices, list[str]]:
    """Concept accuracy of generated, restored and real pictures of the same rows; ranks and guesses of the first."""
    ranks, nearest = exam.look_up(made, indices, leave_out=False)
    figures = rank_figures(ranks, suffix)
    for kind, features in {"_other_designs": made, "_reconstruction": restored, "_real": real}.items():
        figures |= rank_figures(exam.look_up(features, indices, leave_out=True)[0], suffix + kind)
    return figures, ranks, nearest


def _frechet_figures(reference: Features, made: Features, restored: Features, real: Features) -> dict[str, float]:
    """Distances of equal numbers of pictures from the same reference: other real pictures of the same styles."""
    kinds = {"frechet": made, "frechet_reconstruction": restored, "frechet_real": real}
    return {name: frechet_distance(features, reference) for name, features in kinds.items()}
