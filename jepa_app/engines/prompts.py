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

    def of(self, request: EngineRequest) -> list[tuple[str, TextFeatures]]:
        """Return the prompt of a request and, if there is one, its negative prompt, each with its features.

        Raises:
            ValueError: a prompt is empty or too long.
        """
        prompts = [request.prompt, request.negative_prompt] if request.negative_prompt else [request.prompt]
        with self._lock:
            return [(one, self._texts.get(one, partial(self._pipeline.encode_prompts, [one]))) for one in prompts]
