"""The paths of text through a trained JEPA-T: `python -m training.studies.text_paths WEIGHTS --data DIR --out DIR`.

Text enters as a prefix of the context, by cross-attention, and added to the condition before the losses. Here the
prompt takes some of these paths and the learned null text, which the network knows from training, takes the others;
nothing is trained. The study reports the denoising loss of real pictures and the judge's figures of generated ones;
all rows share prompts, seeds, orders and noise. Letters in shapes: B pictures, T text tokens, W text width.
"""

import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from jepa_app.generation.flow import make_denoising
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.context import Context
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
from training.judging.judge import frechet_distance
from training.judging.picture_figures import PICTURES_AT_ONCE, Indices, rank_figures
from training.judging.report import JudgedPictures, save_evidence, table
from training.judging.trials import Trials, TrialSettings
from training.objectives.asking import REVEALED_FRACTIONS, losses_when_revealed
from training.studies.study import Answer, Question, measured_sides, run_study, study_parser

PREFIX, CROSS_ATTENTION, INJECTION = "prefix", "cross-attention", "before the losses"
SIDES = ("", "_heldout_pairs")  # whose losses are reported, by the suffix of their figures


@dataclass(frozen=True, kw_only=True)
class Settings(TrialSettings):
    """How many pictures are made for each row, and how."""

    prompts: int = 150


class PartlyTold(JepaT):
    """A trained network that gets the prompt by some paths only; it shares all weights with the original."""

    def __init__(self, network: JepaT, ways: Collection[str]) -> None:
        nn.Module.__init__(self)
        self.config = network.config
        self.null_text, self.fusion, self.injection = network.null_text, network.fusion, network.injection
        self.d_jepa = network.d_jepa
        self._ways = frozenset(ways)

    def start(self, text: TextFeatures) -> Context:
        """Begin a batch of pictures (B, T, W), with the null text on the paths that are closed to the prompt."""
        null = self.null_features(len(text))
        prefix, read, joined = (text if way in self._ways else null for way in (PREFIX, CROSS_ATTENTION, INJECTION))
        return self.start_with(prefix=prefix, read=read, joined=joined)


def ways_of(network: JepaT) -> list[str]:
    """The paths by which text enters a network, as it was trained."""
    config = network.config
    entered = {
        PREFIX: config.text_prefix,
        CROSS_ATTENTION: config.fuse_before_predictor or config.fuse_after_predictor,
        INJECTION: config.fuse_before_loss,
    }
    return [way for way, is_open in entered.items() if is_open]


def rows_of(ways: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The rows of the table and the open paths in each: all, each left out, each alone, none."""
    rows = {"all ways": tuple(ways)}
    if len(ways) > 2:
        rows |= {f"without {(set(ways) - set(some)).pop()}": some for some in combinations(ways, len(ways) - 1)}
    if len(ways) > 1:
        rows |= {f"{way} alone": (way,) for way in ways}
    return rows | {"no text": ()}


@torch.inference_mode()
def losses(network: JepaT, trials: Trials, indices: Indices) -> dict[str, float]:
    """The denoising loss of real pictures with nothing revealed, and its mean over the trainer's revealed shares."""
    assert isinstance(trials.pipeline, JepaTPipeline)
    pipeline, process = trials.pipeline, make_denoising(network.config.denoising)
    sums = dict.fromkeys(REVEALED_FRACTIONS, 0.0)
    for number, batch in enumerate(trials.data.in_parts(indices, PICTURES_AT_ONCE)):
        tokens = pipeline.encode(batch.pixels).to(pipeline.dtype)
        text = pipeline.encode_prompts(batch.captions)
        generator = torch.Generator(pipeline.device).manual_seed(number)
        for fraction, loss in losses_when_revealed(process, network, text, tokens, generator).items():
            sums[fraction] += loss * len(tokens)
    means = {fraction: one / len(indices) for fraction, one in sums.items()}
    return {"loss_at_0": means[0.0], "loss": sum(means.values()) / len(means)}


def measure(trials: Trials, settings: Settings) -> Iterator[tuple[str, dict[str, float], JudgedPictures]]:
    """Yield each row's name, figures, and the pictures made.

    Raises:
        ValueError: the weights are not a JEPA-T, or the folder has too few trained pictures.
    """
    whole = trials.pipeline
    if not isinstance(whole, JepaTPipeline):
        raise ValueError("only JEPA-T takes text by these paths; give weights with a jepa-t folder")
    sides = measured_sides(trials.data)
    chosen = {
        suffix: trials.choose(sides[suffix], settings.prompts, settings.seed) for suffix in SIDES if suffix in sides
    }
    indices, others = chosen[""]
    for name, ways in rows_of(ways_of(whole.network)).items():
        network = PartlyTold(whole.network, ways)
        figures = {
            f"{kind}{suffix}": value
            for suffix, (members, _) in chosen.items()
            for kind, value in losses(network, trials, members).items()
        }
        trials.pipeline = JepaTPipeline(whole.image_tokenizer, network, whole.text_encoder)
        try:
            made = trials.make(indices, settings.sampling, name)
        finally:
            trials.pipeline = whole
        if trials.exam:
            figures |= rank_figures(trials.exam.look_up(made.features, indices, leave_out=False)[0], "")
        figures["frechet"] = frechet_distance(made.features, trials.real[others])
        yield name, figures, made.evidence("_" + name.replace(" ", "_").replace("-", "_"), settings.seed)


COLUMNS = {
    "loss_at_0": ("loss, nothing revealed", ".3f"),
    "loss": ("loss", ".3f"),
    "loss_at_0_heldout_pairs": ("held-out pairs, nothing revealed", ".3f"),
    "loss_heldout_pairs": ("held-out pairs", ".3f"),
    "concept_top5": ("right concept among the first five", ".3f"),
    "concept_median_rank": ("median rank of the right concept", ".0f"),
    "frechet": ("Frechet distance", ".0f"),
}


def markdown(rows: Mapping[str, Mapping[str, float]]) -> str:
    """The figures of the rows as a Markdown table."""
    shown = {name: words for name, words in COLUMNS.items() if name in next(iter(rows.values()))}
    lines = [[row, *(f"{figures[name]:{shown[name][1]}}" for name in shown)] for row, figures in rows.items()]
    return table(["the prompt goes by", *(words for words, _ in shown.values())], lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    return run_study(study_parser("text_paths", __doc__, defaults), defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    rows, count = {}, 0
    for name, figures, judged in measure(question.trials, question.settings):
        rows[name], count = figures, len(judged.prompts)
        save_evidence(judged, question.out)
    named = {f"{name}, {row}": value for row, figures in rows.items() for name, value in figures.items()}
    return Answer(figures=named, setting={"prompts": count}, table=markdown(rows))


if __name__ == "__main__":
    sys.exit(main())
