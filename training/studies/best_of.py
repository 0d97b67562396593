"""What choosing by energy is worth: `python -m training.studies.best_of WEIGHTS --data DIR --out DIR`.

Pictures with several seeds are made for each prompt of the trained side, and TI-JEPA chooses the one with the lowest
energy, as "best of" on the page does. The judge, which knows nothing of TI-JEPA, compares its choices with no choice
(the first seed), with the highest energy, and with the best possible choice. All rows come from the same pictures.
Letters in shapes: K candidates for each of B prompts, D features, S picture side in pixels.
"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jepa_app.matching.scoring import Scorer
from jepa_app.pixels import to_pil
from training.judging.judge import frechet_distance
from training.judging.picture_figures import Indices, rank_figures
from training.judging.report import JudgedPictures, cell, save_evidence, table
from training.judging.trials import Trials, TrialSettings
from training.studies.study import Answer, Question, measured_sides, run_study, study_parser

BETWEEN_CANDIDATES = 1_000_003  # seeds: more than any row's number, so that no two pictures share one


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """How many pictures per prompt TI-JEPA chooses from; each of `counts` is a row of the table.

    Raises:
        ValueError: there is no count, or one is below 1.
    """

    prompts: int = 100
    counts: tuple[int, ...] = (1, 4, 9, 16)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.counts or not all(type(count) is int and count >= 1 for count in self.counts):
            raise ValueError(f"counts is {list(self.counts)}; allowed: a list of one or more whole numbers from 1")


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Pictures of rows `indices` (B,): pixels (K, B, 3, S, S), features (K, B, D), seeds and energies (K, B).

    `ranks` (K, B) are the ranks of the right concept, counted from 0; None where pictures have no concepts.
    """

    indices: Indices
    captions: Sequence[str]
    pixels: Tensor
    features: NDArray[np.float32]
    seeds: NDArray[np.int64]
    energies: NDArray[np.float32]
    ranks: NDArray[np.int64] | None

    @classmethod
    def make(cls, trials: Trials, scorer: Scorer, indices: Indices, settings: Settings) -> "Candidates":
        """Make, judge and score as many candidates per row as the largest count needs."""
        first = settings.seed + BETWEEN_CANDIDATES * np.arange(max(settings.counts))
        how = settings.sampling
        made = [
            trials.make(indices, replace(how, seed=int(seed)), f"seed {n}") for n, seed in enumerate(first, start=1)
        ]
        pixels = torch.stack([one.pixels for one in made])
        columns = [scorer.score(to_pil(pixels[:, n]), [one]).energy[:, 0] for n, one in enumerate(made[0].captions)]
        ranks = None
        if trials.exam:
            ranks = np.stack([trials.exam.look_up(one.features, indices, leave_out=False)[0] for one in made])
        return cls(
            indices=indices,
            captions=made[0].captions,
            pixels=pixels,
            features=np.stack([one.features for one in made]),
            seeds=first[:, None] + indices,
            energies=torch.stack(columns, dim=1).numpy(),
            ranks=ranks,
        )


def measure(trials: Trials, scorer: Scorer, settings: Settings) -> tuple[dict[str, float], JudgedPictures]:
    """Make candidates, choose and judge; return the figures, and the pictures chosen from the most candidates.

    Raises:
        ValueError: the folder has too few trained pictures.
    """
    indices, others = trials.choose(measured_sides(trials.data)[""], settings.prompts, settings.seed)
    candidates = Candidates.make(trials, scorer, indices, settings)
    most, places = max(settings.counts), np.arange(len(indices))
    choices = {f"_best_of_{count}": candidates.energies[:count].argmin(axis=0) for count in settings.counts}
    choices[f"_worst_of_{most}"] = candidates.energies.argmax(axis=0)
    figures = {}
    for suffix, chosen in choices.items():
        figures[f"energy{suffix}"] = float(candidates.energies[chosen, places].mean())
        figures[f"frechet{suffix}"] = frechet_distance(candidates.features[chosen, places], trials.real[others])
        if candidates.ranks is not None:
            figures |= rank_figures(candidates.ranks[chosen, places], suffix)
    if candidates.ranks is not None:
        figures |= rank_figures(candidates.ranks.min(axis=0), f"_judges_choice_of_{most}")
    figures["frechet_real"] = frechet_distance(trials.real[indices], trials.real[others])
    suffix = f"_best_of_{most}"
    chosen = choices[suffix]
    return figures, JudgedPictures(
        suffix=suffix,
        prompts=candidates.captions,
        seeds=candidates.seeds[chosen, places].tolist(),
        pixels=candidates.pixels[torch.from_numpy(chosen), torch.from_numpy(places)],
    )


COLUMNS = {
    "concept_top5": ("right concept among the first five", ".3f"),
    "concept_median_rank": ("median rank of the right concept", ".0f"),
    "frechet": ("Frechet distance", ".0f"),
    "energy": ("mean energy", ".3f"),
}


def markdown(figures: Mapping[str, float]) -> str:
    """The figures as a Markdown table, a row for each way of choosing."""
    kinds = [name.removeprefix("energy_") for name in figures if name.startswith("energy_")]
    kinds += [name.removeprefix("concept_top5_") for name in figures if name.startswith("concept_top5_judges")]
    shown = {name: words for name, words in COLUMNS.items() if f"{name}_{kinds[0]}" in figures}
    rows = [
        [
            kind.replace("_", " ").replace("judges", "the judge's"),
            *(cell(figures, f"{name}_{kind}", digits) for name, (_, digits) in shown.items()),
        ]
        for kind in kinds
    ]
    return table(["chosen by energy", *(words for words, _ in shown.values())], rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("best_of", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    trials = question.trials
    scorer = Scorer.from_pretrained(question.options.weights, question.options.device)
    figures, judged = measure(trials, scorer, question.settings)
    save_evidence(judged, question.out)
    return Answer(figures=figures, setting={"prompts": len(judged.prompts)}, table=markdown(figures))


if __name__ == "__main__":
    sys.exit(main())
