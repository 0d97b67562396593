"""The prompts of requests, encoded once and kept for those who use them again."""

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import Generic, TypeVar

from jepa_app.engines.waiting import EngineRequest
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.text import TextFeatures

KEPT_PROMPTS = 128

ValueT = TypeVar("ValueT")
Texts = dict[str, tuple[str, TextFeatures]]  # "prompt", "negative" and "thing" as in `Sampler.add`, with their features


class Recent(Generic[ValueT]):
    """A cache of the values of the most recently requested keys."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._values: OrderedDict[str, ValueT] = OrderedDict()

    def get(self, key: str, make: Callable[[], ValueT]) -> ValueT:
        """Return the value of a key, making it now if it is not cached."""
        if key not in self._values:
            self._values[key] = make()
        self._values.move_to_end(key)
        if len(self._values) > self._capacity:
            self._values.popitem(last=False)
        return self._values[key]


class Prompts:
    """Encodes prompts in the thread of whoever asks, one at a time."""

    def __init__(self, pipeline: JepaTPipeline) -> None:
        self._pipeline = pipeline
        self._lock = threading.Lock()
        self._texts: Recent[TextFeatures] = Recent(KEPT_PROMPTS)

    def of(self, request: EngineRequest) -> Texts:
        """Return the texts that the picture of a request follows.

        Raises:
            ValueError: a prompt is empty or too long.
        """
        seed = request.seed if request.style_seed is None else request.style_seed
        prompt = self._pipeline.vocabulary.in_a_style(request.prompt, seed)
        thing = self._pipeline.thing_alone(prompt)
        asked = {"prompt": prompt, "negative": request.negative_prompt, "thing": thing}
        with self._lock:
            return {name: self._encoded(text, by_keywords=name != "negative") for name, text in asked.items() if text}

    def _encoded(self, text: str, *, by_keywords: bool) -> tuple[str, TextFeatures]:
        key = self._pipeline.vocabulary.caption_of(text, by_keywords=by_keywords)
        return key, self._texts.get(key, partial(self._pipeline.encode_prompts, [text], by_keywords=by_keywords))


def features_of(texts: Texts) -> dict[str, TextFeatures]:
    """Return the features of texts, for `Sampler.add_begun`."""
    return {name: features for name, (_, features) in texts.items()}
