"""The task of generating: a picture for the prompt of each row.

Letters in shapes: B pictures, T tokens, C token channels.
"""

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import torch
from PIL import Image
from transformers.utils import logging as transformers_logging

from jepa_app.compute import checked_device
from jepa_app.datasets.rows import Row, Wanted
from jepa_app.datasets.writing import ERROR, WORDS, Result
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.generation.results import refuse_overflow
from jepa_app.generation.sampler import sample
from jepa_app.pixels import to_cutouts, to_pil
from jepa_app.studio.export import png_settings, run_settings
from jepa_app.studio.frames import Finish
from jepa_app.studio.requests import MAX_SEED, GenerateRequest, settings_of

COLUMNS = pa.schema([("image", pa.binary()), ("seed", pa.int64()), ("settings", pa.string())])


@dataclass(frozen=True, kw_only=True)
class PaintTask:
    """Makes a picture for every row; attributes as in `Task`.

    `request` holds the settings of all pictures and the seed of the first row of each file; row k has seed + k. Its
    prompt stands for those of the rows, whose column `prompt_column` names (None: it is looked for).
    """

    weights: str
    request: GenerateRequest
    finish: Finish
    prompt_column: str | None = None
    rows_at_once: int = 32
    rows_a_part: int = 1024
    rows_a_group: int = 128

    @property
    def columns(self) -> pa.Schema:
        """The picture as PNG, its seed, and all its settings as JSON."""
        return COLUMNS

    @property
    def settings(self) -> dict[str, Any]:
        """The weights, the settings of the pictures and the column that was named."""
        asked = run_settings(self.request, self.request.seed or 0, self.weights)
        form = {"size": self.finish.size, "transparent": self.finish.transparent}
        return {"task": "generate", **asked, **form, "caption_column": self.prompt_column}

    @property
    def wanted(self) -> Wanted:
        """Prompts."""
        return Wanted(
            words=("prompt", "caption", "text"),
            with_pictures=False,
            written=(WORDS, *COLUMNS.names, ERROR),
            words_column=self.prompt_column,
        )

    def load(self, device: str) -> "Painting":
        """Load the generator.

        Raises:
            ValueError: the weights are missing or damaged, there is no such device, or the negative prompt is too long.
        """
        transformers_logging.disable_progress_bar()
        return Painting(self, JepaTPipeline.from_pretrained(self.weights, checked_device(device)))


class Painting:
    """The generator at work."""

    def __init__(self, task: PaintTask, pipeline: JepaTPipeline) -> None:
        self._task, self._pipeline = task, pipeline
        negative = task.request.negative_prompt.strip()
        self._negative = pipeline.encode_prompts([negative], by_keywords=False) if negative else None

    def prepare(self, row: Row) -> None:
        """Nothing can be done without the network."""
        del row

    def work(self, rows: Sequence[Row], prepared: Sequence[None], places: Sequence[int]) -> list[Result]:
        """Make the pictures of rows together."""
        del prepared
        results: list[Result] = []
        requests: list[GenerateRequest] = []
        first = self._task.request.seed or 0
        for row, place in zip(rows, places, strict=True):
            try:
                if row.words is None:
                    raise ValueError("the row has no prompt")
                request = replace(self._task.request, prompt=row.words, seed=(first + place) % (MAX_SEED + 1))
                self._pipeline.text_encoder.check(request.prompt)
            except ValueError as mistake:
                results.append(str(mistake))
                continue
            requests.append(request)
            results.append({})
        if requests:
            made = iter(self._made(requests))
            results = [next(made) if isinstance(result, dict) else result for result in results]
        return results

    @torch.inference_mode()
    def _made(self, requests: Sequence[GenerateRequest]) -> list[Result]:
        pipeline = self._pipeline
        prompts = [pipeline.vocabulary.in_a_style(request.prompt, request.seed or 0) for request in requests]
        text = pipeline.encode_prompts(prompts)
        generators = [torch.Generator().manual_seed(request.seed or 0) for request in requests]
        settings = settings_of(requests[0])
        things = [pipeline.thing_features(prompt) for prompt in prompts]
        *_, last = sample(pipeline.network, pipeline.denoising, text, self._negative, settings, generators, things)
        tokens = torch.stack([step.tokens for step in last]).float()  # (B, T, C)
        return [self._finished(request, one) for request, one in zip(requests, tokens, strict=True)]

    def _finished(self, request: GenerateRequest, tokens: torch.Tensor) -> Result:
        layers = self._pipeline.image_tokenizer.decode_layers(tokens[None], self._task.finish.size)
        try:
            refuse_overflow(layers.colours)
        except ValueError as overflow:
            return str(overflow)
        [picture] = to_cutouts(*layers) if self._task.finish.transparent else to_pil(layers.colours)
        settings = run_settings(request, request.seed or 0, self._task.weights)
        return {"image": _png(picture, settings), "seed": request.seed, "settings": json.dumps(settings)}


def _png(picture: Image.Image, settings: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", pnginfo=png_settings(settings))
    return buffer.getvalue()
