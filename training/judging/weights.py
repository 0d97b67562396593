"""What a weights folder holds: a generator of pictures from prompts, and matchers of pictures with captions.

Letters in shapes: B pictures to make, M pictures to score, L captions, S picture side in pixels.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol, TypeVar

import torch
from torch import Tensor

from jepa_app.checkpoint import load_config, resolve_weights
from jepa_app.config import JepaTConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.results import JepaTOutput
from jepa_app.generation.settings import GuidanceSchedule, SamplingSettings
from jepa_app.matching.scoring import Scorer, Scores
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from training.peers.dit import DitPipeline
from training.peers.dual_encoder import PeerScorer

SettingsT = TypeVar("SettingsT", bound=SamplingSettings)


class PicturePipeline(Protocol):
    """What the evaluation needs from a generator."""

    image_tokenizer: Tokenizer

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def image_size(self) -> int:
        """Side in pixels of its pictures."""

    def __call__(
        self,
        prompt: Sequence[str],
        *,
        num_inference_steps: int,
        guidance_scale: float,
        temperature: float,
        guidance_schedule: GuidanceSchedule,
        denoising_steps: int,
        generator: Sequence[torch.Generator],
        output_type: Literal["pt"],
    ) -> JepaTOutput:
        """Make one picture per prompt, each from its own random generator: (B, 3, S, S) in [-1, 1]."""


class Matcher(Protocol):
    """A matcher to measure: TI-JEPA's `Scorer` or a peer of it."""

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures to score."""

    def score(self, pixels: Tensor, captions: Sequence[str]) -> Scores:
        """Score every picture (M, 3, S, S) with every caption."""


GENERATORS: Mapping[str, Callable[[Path, str], PicturePipeline]] = {
    "jepa-t": JepaTPipeline.from_pretrained,
    "dit": DitPipeline.from_pretrained,
}
"""Part of a weights folder -> how to load the generator in it on a device."""

MATCHERS: Mapping[str, Callable[[Path, str], Matcher]] = {
    "ti-jepa": Scorer.from_pretrained,
    "peer": PeerScorer.from_pretrained,
}
"""Part of a weights folder -> how to load the matcher in it on a device."""


def measured_weights(weights: Path | str) -> Path:
    """Return the local folder of weights, a folder or a hub id, with every part that can be measured.

    Raises:
        ValueError: as `resolve_weights`.
    """
    return resolve_weights(weights, parts=("tokenizer", *GENERATORS, *MATCHERS))


def suited(settings: SettingsT, weights: Path | str) -> SettingsT:
    """Return settings with the steps, guidance and temperature that suit the JEPA-T of a weights folder, if any.

    Raises:
        ValueError: the weights are neither a folder nor a hub id, or their config is broken.
    """
    part = measured_weights(weights) / "jepa-t"
    if not part.is_dir():
        return settings
    best = SamplingSettings.suiting(load_config(part, JepaTConfig))
    return replace(settings, steps=best.steps, guidance=best.guidance, temperature=best.temperature)


def load_generators(weights: Path, device: str) -> Iterator[PicturePipeline]:
    """Yield the generator that a weights folder holds, if there is one.

    It reads no keywords and no words of a like meaning: a thing that it was never shown would be measured as another
    one.

    Raises:
        ValueError: its weights are broken, or there are several, whose figures would share names.
    """
    found = _held(weights, GENERATORS)
    if len(found) > 1:
        raise ValueError(f"{weights} holds {' and '.join(found)}; allowed: one of them, since each is measured alone")
    for part in found:
        pipeline = GENERATORS[part](weights, device)
        if isinstance(pipeline, JepaTPipeline):
            pipeline.vocabulary = replace(pipeline.vocabulary, keywords={}, nearest=None)
        yield pipeline


def load_matchers(weights: Path, device: str) -> Iterator[Matcher]:
    """Yield the matchers that a weights folder holds.

    Raises:
        ValueError: weights that are there are broken.
    """
    for part in _held(weights, MATCHERS):
        yield MATCHERS[part](weights, device)


def _held(weights: Path, parts: Iterable[str]) -> list[str]:
    return [part for part in parts if (weights / part).is_dir()]
