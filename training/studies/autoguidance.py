"""Guidance by a weaker generator: `python -m training.studies.autoguidance WEIGHTS --weaker DIR --data DIR --out DIR`.

A weaker generator, such as the same network earlier in training, makes the same mistakes more strongly, so predictions
are moved away from its own (autoguidance, arXiv 2406.02507). This is measured alone and beside guidance by the text;
every cell has the same prompts and seeds, all from the trained side.
Letters in shapes: B pictures, M asked tokens, C token channels, S picture side in pixels.
"""

import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jepa_app.checkpoint import load_network
from jepa_app.config import JepaTConfig
from jepa_app.generation.conditions import PackedConditions
from jepa_app.generation.flow import Predict, conditioned, guide
from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.results import JepaTOutput
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
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


class Voice:
    """One network that follows the pictures under one text, and says what it predicts for the tokens asked next."""

    def __init__(self, network: JepaT, text: TextFeatures, pictures: Sequence[Picture]) -> None:
        self.network = network
        self.pictures = list(pictures)
        self._conditions = PackedConditions(network, num_slots=len(pictures), prompt_length=text.mask.shape[1])
        starts = self._conditions.start(text)
        for number, picture in enumerate(pictures):
            self._conditions.add(picture, starts[number % len(starts)], None)

    def predict(self, times: Sequence[float]) -> Predict:
        """Return what it predicts for tokens x (M, C) at each time."""
        condition, _ = self._conditions.predict(self.pictures)
        denoiser = self.network.denoiser
        return conditioned(denoiser, denoiser.embed_times(torch.tensor(times, device=condition.device)), condition)

    def reveal(self, clean: Tensor) -> None:
        """Take in the asked tokens (M, C) of all pictures."""
        lengths = [len(picture.asked) for picture in self.pictures]
        for picture, part in zip(self.pictures, clean.split(lengths), strict=True):
            picture.reveal(part)
        if not self.pictures[0].is_done:
            self._conditions.extend(self.pictures)


class Autoguided:
    """A pipeline whose predictions move away from those of a weaker network by `scale`, and from the null text's."""

    def __init__(self, pipeline: JepaTPipeline, weaker: JepaT, scale: float) -> None:
        self._pipeline, self._weaker, self._scale = pipeline, weaker, scale
        self.image_tokenizer = pipeline.image_tokenizer

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self._pipeline.device

    @property
    def image_size(self) -> int:
        """Side in pixels of its pictures."""
        return self._pipeline.image_size

    @torch.no_grad()
    def __call__(
        self,
        prompt: Sequence[str],
        *,
        num_inference_steps: int,
        guidance_scale: float,
        temperature: float,
        generator: Sequence[torch.Generator],
        denoising_steps: int,
        **_: Any,
    ) -> JepaTOutput:
        """Make one picture per prompt, each from its own random generator: (B, 3, S, S) in [-1, 1]."""
        settings = SamplingSettings(
            steps=num_inference_steps, guidance=1, temperature=temperature, denoising_steps=denoising_steps
        )
        network, process = self._pipeline.network, self._pipeline.denoising
        text, null = self._pipeline.encode_prompts(prompt), network.null_features(1)

        def voice(network: JepaT, text: TextFeatures) -> Voice:
            seeds = (one.initial_seed() for one in generator)
            made = [Picture.begin(network, settings, torch.Generator().manual_seed(seed)) for seed in seeds]
            return Voice(network, text, made)

        strong, others = voice(network, text), []
        for other, words, scale in ((self._weaker, text, self._scale), (network, null, guidance_scale)):
            if scale != 1:
                others.append((voice(other, words), scale))
        times = process.times(denoising_steps)
        while not strong.pictures[0].is_done:
            noise = torch.cat([picture.noise[picture.asked] for picture in strong.pictures])
            predict = moved_away(strong.predict(times), [(other.predict(times), scale) for other, scale in others])
            clean = process.sample(
                predict,
                noise,
                num_steps=denoising_steps,
                temperature=temperature,
                draw=partial(torch.randn_like, noise),
            )
            for each in (strong, *(other for other, _ in others)):
                each.reveal(clean)
        tokens = torch.stack([picture.tokens for picture in strong.pictures])
        return JepaTOutput(images=self._pipeline.layers(tokens).colours)


def moved_away(strong: Predict, others: Sequence[tuple[Predict, float]]) -> Predict:
    """Return predictions moved away from those of others, each by its own scale; 1 is off."""

    def predict(x: Tensor, index: int) -> Tensor:
        own = strong(x, index)
        moves = [guide(other(x, index), own, torch.tensor(scale)) - own for other, scale in others]
        return own + torch.stack(moves).sum(dim=0) if moves else own

    return predict


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    defaults = Settings()
    parser = study_parser("autoguidance", __doc__, defaults)
    parser.add_argument("--weaker", required=True, metavar="DIR", help="weights of a generator of the same tokens")
    return run_study(parser, defaults, _answer, arguments)


def _answer(question: Question[Settings]) -> Answer:
    trials, settings = question.trials, question.settings
    pipeline = trials.pipeline
    if not isinstance(pipeline, JepaTPipeline) or pipeline.network.config.backbone != "cached":
        raise ValueError(f"{question.options.weights} holds no JEPA-T with a cached backbone")
    weaker = weaker_network(question.options.weaker, pipeline)
    indices, others = trials.choose(measured_sides(trials.data)[""], settings.prompts, settings.seed)
    rows: dict[tuple[str, ...], dict[str, float]] = {}
    figures: dict[str, float] = {}
    for scale, guidance in itertools.product(settings.weaker_scales, settings.text_scales):
        name = f"weaker_{scale:g}_text_{guidance:g}"
        trials.pipeline = Autoguided(pipeline, weaker, scale)
        made = trials.make(indices, replace(settings.sampling, guidance=guidance), name)
        rows[f"{scale:g}", f"{guidance:g}"] = judged_figures(trials, made, others)
        figures |= {f"{figure}_{name}": value for figure, value in rows[f"{scale:g}", f"{guidance:g}"].items()}
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
