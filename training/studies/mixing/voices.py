"""Sampling with predictions that are a weighted sum of several: of other networks, or under other texts.

Guidance by text is a sum of two: the prompt's prediction times its scale, the null text's times what is missing to one.
Studies try others here; the studio's own sampler knows guidance, and the mixture for a thing that is new to a style.
Letters in shapes: B pictures, M asked tokens, C token channels, S picture side in pixels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from jepa_app.generation.conditions import PackedConditions
from jepa_app.generation.flow import Predict, conditioned
from jepa_app.generation.picture import Picture
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.results import JepaTOutput
from jepa_app.generation.settings import SamplingSettings
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextFeatures
from training.judging.weights import PicturePipeline


@dataclass(frozen=True, kw_only=True)
class Part:
    """A prediction's part in the sum: of a network under texts, one for each picture or one for all.

    `planning` and `painting` weigh it for the tokens of the plan and for those of the picture; all parts sum to 1.
    """

    network: JepaT
    text: TextFeatures
    planning: float
    painting: float


class Voice:
    """A network that follows pictures under its texts, and says what it predicts for the tokens asked next."""

    def __init__(self, part: Part, pictures: Sequence[Picture]) -> None:
        self.part = part
        self.pictures = list(pictures)
        longest = part.text.mask.shape[1]
        self._conditions = PackedConditions(part.network, num_slots=len(pictures), prompt_length=longest)
        starts = self._conditions.start(part.text)
        for number, picture in enumerate(pictures):
            self._conditions.add(picture, [starts[number % len(starts)]])

    def predict(self, times: Sequence[float]) -> Predict:
        """Return what it predicts for tokens x (M, C) at each time."""
        condition = torch.cat([own for (own,) in self._conditions.predict(self.pictures)])
        denoiser = self.part.network.denoiser
        return conditioned(denoiser, denoiser.embed_times(torch.tensor(times, device=condition.device)), condition)

    def reveal(self, clean: Tensor) -> None:
        """Take in the asked tokens (M, C) of all pictures."""
        lengths = [len(picture.asked) for picture in self.pictures]
        for picture, part in zip(self.pictures, clean.split(lengths), strict=True):
            picture.reveal(part)
        if not self.pictures[0].is_done:
            self._conditions.extend(self.pictures)


class Chorus:
    """A pipeline for the judge whose predictions are sums; `parts` says of what, for prompts and a guidance scale."""

    def __init__(self, pipeline: JepaTPipeline, parts: Callable[[Sequence[str], float], Sequence[Part]]) -> None:
        self._pipeline, self._parts = pipeline, parts
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
        process, network = self._pipeline.denoising, self._pipeline.network

        def begun() -> list[Picture]:
            seeds = [one.initial_seed() for one in generator]
            return [Picture.begin(network, settings, torch.Generator().manual_seed(seed)) for seed in seeds]

        parts = [part for part in self._parts(prompt, guidance_scale) if part.planning or part.painting]
        voices = [Voice(part, begun()) for part in parts]
        pictures, times = voices[0].pictures, process.times(denoising_steps)
        while not pictures[0].is_done:
            is_plan = bool(pictures[0].asked[0] >= network.config.num_tokens)
            heard = [(voice, voice.part.planning if is_plan else voice.part.painting) for voice in voices]
            predict = summed([(voice.predict(times), weight) for voice, weight in heard if weight])
            noise = torch.cat([picture.noise[picture.asked] for picture in pictures])
            clean = process.sample(
                predict,
                noise,
                num_steps=denoising_steps,
                temperature=temperature,
                draw=partial(torch.randn_like, noise),
            )
            for voice in voices:
                voice.reveal(clean)
        tokens = torch.stack([picture.tokens for picture in pictures])
        return JepaTOutput(images=self._pipeline.layers(tokens).colours)


def mixable(pipeline: PicturePipeline) -> JepaTPipeline:
    """Return a pipeline whose predictions can be summed.

    Raises:
        ValueError: it is not a JEPA-T with a cached backbone.
    """
    if not isinstance(pipeline, JepaTPipeline) or pipeline.network.config.backbone != "cached":
        raise ValueError("the weights hold no JEPA-T with a cached backbone; give some that do")
    return pipeline


def summed(predictions: Sequence[tuple[Predict, float]]) -> Predict:
    """Return the weighted sum of predictions."""

    def predict(x: Tensor, index: int) -> Tensor:
        return torch.stack([weight * one(x, index) for one, weight in predictions]).sum(dim=0)

    return predict
