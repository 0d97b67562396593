"""Things in a design new to them: `python -m training.studies.mixing.new_pairs WEIGHTS --data DIR --out DIR`.

A network that has seen a koala in four designs knows the koala, and knows the fifth design from other things; asked for
both it loses the koala. Here the prompt without its design ("koala" for "koala, noto style") takes over a part of the
predictions of the plan, and the design is painted by moving away from it, as the studio does with the shares in the
weights' config (`sampling_thing_shares`). The judge says whether the thing is there, and the nearest training pictures
in its features, whether the design is.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.styles import in_style
from training.judging.judge import Features
from training.judging.neighbours import TrainingPictures
from training.judging.picture_figures import Indices
from training.judging.report import SUBSETS, save_evidence
from training.judging.trials import Trials, TrialSettings
from training.studies.mixing.voices import Chorus, Part, mixable
from training.studies.study import (
    Answer,
    Question,
    judged_figures,
    judged_table,
    measured_sides,
    run_study,
    study_parser,
)

SIDES = ("_heldout_pairs", "")  # that are measured, by the suffix of their figures


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """Each of `mixes` is a row: the share of the thing alone in the plan and in the picture, and the guidance.

    A share below zero moves away from the thing alone, towards the design.

    Raises:
        ValueError: there is none, or one is not three numbers.
    """

    mixes: tuple[tuple[float, ...], ...] = (
        (0, 0, 1.5),
        (0.6, -0.5, 1.5),
        (0.75, -0.5, 1.5),
        (0.8, -0.5, 1.5),
        (0.8, -1, 1.5),
        (1, 0, 1.5),
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mixes or not all(len(mix) == 3 for mix in self.mixes):
            raise ValueError(f"mixes is {list(self.mixes)}; allowed: a list of one or more lists of three numbers")


def mixed(pipeline: JepaTPipeline, in_plan: float, in_picture: float) -> Chorus:
    """Return a pipeline in which the thing alone has these shares of the prompt's predictions."""

    def parts(prompts: Sequence[str], guidance: float) -> list[Part]:
        network = pipeline.network
        whole, thing = (pipeline.encode_prompts(asked) for asked in (prompts, [in_style(one, "") for one in prompts]))
        plan, picture = guidance * in_plan, guidance * in_picture
        return [
            Part(network=network, text=whole, planning=guidance - plan, painting=guidance - picture),
            Part(network=network, text=thing, planning=plan, painting=picture),
            Part(network=network, text=network.null_features(1), planning=1 - guidance, painting=1 - guidance),
        ]

    return Chorus(pipeline, parts)


def design_share(trials: Trials, known: TrainingPictures, features: Features, indices: Indices) -> float:
    """Return the share of the three training pictures nearest to each of B pictures that are in its row's style."""
    styles = np.array([row.style for row in trials.data.rows])
    return float((styles[known.by_features(features).rows] == styles[indices][:, None]).mean())


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("mixing.new_pairs", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    trials, settings = question.trials, question.settings
    pipeline = mixable(trials.pipeline)
    found, known = measured_sides(trials.data), TrainingPictures(trials.data, trials.real)
    figures: dict[str, float] = {}
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    for side in (side for side in SIDES if side in found):
        indices, others = trials.choose(found[side], settings.prompts, settings.seed)
        for in_plan, in_picture, guidance in settings.mixes:
            name = f"plan_{in_plan:g}_picture_{in_picture:g}_guidance_{guidance:g}{side}"
            trials.pipeline = mixed(pipeline, in_plan, in_picture)
            made = trials.make(indices, replace(settings.sampling, guidance=guidance), name)
            own = judged_figures(trials, made, others)
            own["design"] = design_share(trials, known, made.features, indices)
            first = (SUBSETS[side], f"{in_plan:g}", f"{in_picture:g}", f"{guidance:g}", f"{own['design']:.3f}")
            rows[first] = own
            figures |= {f"{figure}_{name}": value for figure, value in own.items()}
            save_evidence(made.evidence(f"_{name}", settings.seed), question.out)
        trials.pipeline = pipeline
        figures[f"design_real{side}"] = design_share(trials, known, trials.real[indices], indices)
    header = ["pictures", "thing alone in the plan", "in the picture", "guidance", "nearest are in the design"]
    return Answer(figures=figures, setting={}, table=judged_table(header, rows))


if __name__ == "__main__":
    sys.exit(main())
