"""Guidance by a weaker one: `python -m training.studies.mixing.autoguidance WEIGHTS --weaker DIR --data DIR --out DIR`.

A weaker generator, such as the same network earlier in training, makes the same mistakes more strongly, so predictions
are moved away from its own (autoguidance, arXiv 2406.02507). This is measured alone and beside guidance by the text;
every cell has the same prompts and seeds, all from the trained side.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace

from jepa_app.checkpoint import load_network
from jepa_app.config import JepaTConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.jepa_t import JepaT
from training.judging.trials import TrialSettings
from training.judging.weights import measured_weights
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


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """Scales of guidance by the weaker generator and by the text; 1 is off. Each pair of them is a row of the table.

    Raises:
        ValueError: there is none, or one is not a number.
    """

    weaker_scales: tuple[float, ...] = (1.0, 1.5, 2.0)
    text_scales: tuple[float, ...] = (1.0, 1.5)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("weaker_scales", "text_scales"):
            values = getattr(self, name)
            if not values or not all(type(value) in (int, float) for value in values):
                raise ValueError(f"{name} is {list(values)}; allowed: a list of one or more numbers")


def autoguided(pipeline: JepaTPipeline, weaker: JepaT, scale: float) -> Chorus:
    """Return a pipeline that moves away from a weaker network by `scale`, and from the null text by its guidance."""

    def parts(prompts: Sequence[str], guidance: float) -> list[Part]:
        text, null = pipeline.encode_prompts(prompts), pipeline.network.null_features(1)
        weights = {"own": scale + guidance - 1, "weaker": 1 - scale, "null": 1 - guidance}
        heard = {"own": (pipeline.network, text), "weaker": (weaker, text), "null": (pipeline.network, null)}
        return [
            Part(network=network, text=text, planning=weights[name], painting=weights[name])
            for name, (network, text) in heard.items()
        ]

    return Chorus(pipeline, parts)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    parser = study_parser("mixing.autoguidance", __doc__, defaults)
    parser.add_argument("--weaker", required=True, metavar="DIR", help="weights of a generator of the same tokens")
    return run_study(parser, defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    trials, settings = question.trials, question.settings
    pipeline = mixable(trials.pipeline)
    weaker = weaker_network(question.options.weaker, pipeline)
    indices, others = trials.choose(measured_sides(trials.data)[""], settings.prompts, settings.seed)
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    figures: dict[str, float] = {}
    for scale, guidance in itertools.product(settings.weaker_scales, settings.text_scales):
        name = f"weaker_{scale:g}_text_{guidance:g}"
        trials.pipeline = autoguided(pipeline, weaker, scale)
        made = trials.make(indices, replace(settings.sampling, guidance=guidance), name)
        own = judged_figures(trials, made, others)
        rows[f"{scale:g}", f"{guidance:g}"] = own
        figures |= {f"{figure}_{name}": value for figure, value in own.items()}
    header = ["away from the weaker one", "away from the null text"]
    return Answer(figures=figures, setting={"weaker": str(question.options.weaker)}, table=judged_table(header, rows))


def weaker_network(source: str, pipeline: JepaTPipeline) -> JepaT:
    """Load the generator of a weights folder or hub id, which must predict the same tokens as a pipeline's.

    Raises:
        ValueError: there is none, or it predicts other tokens.
    """
    folder = measured_weights(source) / "jepa-t"
    network = load_network(folder, JepaTConfig, JepaT).to(pipeline.device, pipeline.dtype).eval().requires_grad_(False)
    ours, theirs = pipeline.network.config, network.config
    for name in ("num_tokens", "channels", "plan", "denoising", "backbone"):
        if getattr(ours, name) != getattr(theirs, name):
            raise ValueError(f"{source}: {name} is {getattr(theirs, name)}; allowed: {getattr(ours, name)}")
    return network


if __name__ == "__main__":
    sys.exit(main())
