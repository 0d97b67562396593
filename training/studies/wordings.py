"""How freely can a picture be asked for? `python -m training.studies.wordings WEIGHTS --data DIR --out DIR`.

The same things are asked for in several wordings: by the canonical caption, by the thing alone, in a caption that
training draws now and then, in sentences that no caption of the training has, and by one of the thing's keywords, which
other things may have too. All wordings share rows and seeds.
The network reads them itself, unless the studio's reading (`Vocabulary.caption_of`) is asked for.
"""

import random
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.styles import in_style, style_words
from training.data.captions import Row, canonical_caption, with_article
from training.judging.report import SUBSETS, save_evidence
from training.judging.trials import TrialSettings
from training.judging.weights import measured_weights
from training.studies.study import (
    Answer,
    Question,
    judged_figures,
    judged_table,
    measured_sides,
    run_study,
    study_parser,
)

SIDES = ("", "_heldout_pairs")  # that are measured, by the suffix of their figures


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """How many pictures are made for each wording and side, and how; `read` lets the studio read the prompts first."""

    read: bool = False


def _in_style(row: Row, words: str) -> str:
    return f"{words} in the {style_words(row.style)} design" if row.style else words


def _keyword(row: Row) -> str:
    """One of the keywords of a row that are not its label; its label if it has none."""
    others = sorted({tag for tag in row.tags if tag.lower() != row.label.lower()})
    return random.Random(row.file).choice(others or [row.label])


WORDINGS: Mapping[str, Callable[[Row], str]] = {
    "canonical": canonical_caption,
    "styled": lambda row: f"{style_words(row.style)} emoji of {with_article(row.label)}".strip(),
    "sentence": lambda row: _in_style(row, f"please draw a picture of {with_article(row.label)}"),
    "thing": lambda row: row.label,
    "thing_sentence": lambda row: f"could you show me {with_article(row.label)}",
    "keyword": lambda row: in_style(_keyword(row), style_words(row.style) if row.style else ""),
}
"""Ways to ask for what a row shows; the first two are captions of the training, the sentences are not."""

SHOWN = {
    "canonical": "red apple, twemoji style",
    "styled": "twemoji emoji of a red apple",
    "sentence": "please draw a picture of a red apple in the twemoji design",
    "thing": "red apple",
    "thing_sentence": "could you show me a red apple",
    "keyword": "fruit, twemoji style",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("wordings", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    trials, settings = question.trials, question.settings
    if isinstance(trials.pipeline, JepaTPipeline):
        part = measured_weights(question.options.weights) / "jepa-t"
        trials.pipeline.vocabulary = (
            Vocabulary.load(part, trials.pipeline.text_encoder) if settings.read else Vocabulary()
        )
    found = measured_sides(trials.data)
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    figures: dict[str, float] = {}
    counts: dict[str, object] = {}
    for side in (side for side in SIDES if side in found):
        indices, others = trials.choose(found[side], settings.prompts, settings.seed)
        counts[f"prompts{side}"] = len(indices)
        for wording, caption in WORDINGS.items():
            made = trials.make(indices, settings.sampling, f"{SUBSETS[side]}, {wording}", caption)
            own = judged_figures(trials, made, others)
            rows[SHOWN[wording], SUBSETS[side]] = own
            figures |= {f"{name}_{wording}{side}": value for name, value in own.items()}
            save_evidence(made.evidence(f"_{wording}{side}", settings.seed), question.out)
    return Answer(figures=figures, setting=counts, table=judged_table(["asked for as", "pictures"], rows))


if __name__ == "__main__":
    sys.exit(main())
