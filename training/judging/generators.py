"""Everything that makes pictures of prompts, by the part of a weights folder that holds it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol

import torch

from jepa_app.generation.pipeline import JepaTOutput, JepaTPipeline
from jepa_app.generation.settings import GuidanceSchedule
from jepa_app.models.tokenizer import Tokenizer
from training.peers.dit import DitPipeline


class PicturePipeline(Protocol):
    """What the evaluation asks of a generator."""

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
        """Make a picture a prompt, each from a generator of its own: (B, 3, S, S) in [-1, 1]."""


GENERATORS: Mapping[str, Callable[[Path, str], PicturePipeline]] = {
    "jepa-t": JepaTPipeline.from_pretrained,
    "dit": DitPipeline.from_pretrained,
}
"""Part of a weights folder -> how to load it on a device."""


def load_generators(weights: Path, device: str) -> Iterator[PicturePipeline]:
    """Yield the generator that a weights folder holds, if there is one.

    Raises:
        ValueError: its weights are broken, or there are several, whose figures would have the same names.
    """
    found = [part for part in GENERATORS if (weights / part).is_dir()]
    if len(found) > 1:
        raise ValueError(f"{weights} holds {' and '.join(found)}; allowed: one of them, to be measured alone")
    for part in found:
        yield GENERATORS[part](weights, device)
