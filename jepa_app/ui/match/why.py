"""The explanation below a ranking: which words help to predict which parts of the picture."""

import secrets
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import gradio as gr
from PIL import Image

from jepa_app.engines.turns import Turns, Visitor
from jepa_app.pixels import central_square
from jepa_app.studio.matches import Explanation
from jepa_app.ui.encoding import data_url
from jepa_app.ui.errors import answering
from jepa_app.ui.fragment import fragment

SHOWN_SIDE = 384  # side in pixels of the picture under the map
KEPT_PICTURES = 64  # the least recently used are dropped first

Explain = Callable[[Image.Image, str], Explanation]


@dataclass(frozen=True)
class _Kept:
    """The square that the model sees, and the same square at a size for people."""

    seen: Image.Image
    shown: Image.Image


class KeptPictures:
    """The most recently ranked pictures, under unguessable names, so that a page can ask only about its own."""

    def __init__(self, side: int, most: int = KEPT_PICTURES) -> None:
        self._side = side
        self._most = most
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._turn = threading.Lock()

    def add(self, picture: Image.Image) -> str:
        """Keep a picture and return its name."""
        name = secrets.token_urlsafe(16)
        shown = central_square(picture, max(1, min(SHOWN_SIDE, *picture.size)))
        with self._turn:
            self._kept[name] = _Kept(central_square(picture, self._side), shown)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return name

    def find(self, name: object) -> _Kept:
        """Return a kept picture.

        Raises:
            ValueError: it is no longer kept.
        """
        with self._turn:
            if not isinstance(name, str) or name not in self._kept:
                raise ValueError("this picture is no longer kept on the server; rank its captions again")
            self._kept.move_to_end(name)
            return self._kept[name]


def make_why(explain_pair: Explain, kept: KeptPictures) -> gr.HTML:
    """Return the explanation of the caption chosen in the ranking; `why.js` listens for the choice."""

    turns = Turns("explanations")

    @answering
    def explain(asked: object, visitor: Visitor) -> dict[str, Any]:
        if not isinstance(asked, dict):
            raise ValueError("the request names no pair; send a picture and a caption")
        picture, caption = kept.find(asked.get("picture")), asked.get("caption")
        with turns.taken(visitor):
            return told(explain_pair(picture.seen, str(caption)), picture.shown)

    return fragment("match/why", server_functions=[explain])


def told(explanation: Explanation, shown: Image.Image) -> dict[str, Any]:
    """Return an explanation as it is sent to the browser."""
    return {
        "source": data_url(shown),
        "probability": explanation.score.probability,
        "words": list(explanation.words),
        "grid": explanation.grid,
        "gains": _rounded(explanation.gains),
        "probabilities": _rounded(explanation.probabilities),
        "patches": _rounded(explanation.patches),
        "word_patches": [_rounded(row) for row in explanation.word_patches],
    }


def _rounded(values: tuple[float, ...]) -> list[float]:
    return [round(value, 5) for value in values]
