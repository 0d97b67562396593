"""Pictures in another colour: their dominant hue is turned to a named one, so that captions can name it.

Pictures are premultiplied, float32 (4, S, S) in [0, 1]. Hues are in turns, [0, 1): 0 is red, 1/3 green, 2/3 blue.
"""

import re
from typing import NamedTuple

import torch
from torch import Tensor

HUES = {
    "red": 0.0,
    "orange": 0.08,
    "yellow": 0.14,
    "green": 0.36,
    "turquoise": 0.5,
    "blue": 0.62,
    "purple": 0.77,
    "pink": 0.92,
}
"""Colour words and their hues."""

DETERMINER = re.compile(
    r"(?:an?|the|one|two|three|four|five|six|seven|eight|nine|ten|some|any|no|this|that|these|those|my|your|his|her|"
    r"its|our|their|several|many|each|every|another) ",
    re.IGNORECASE,
)
NEAR = 0.09  # how far from the dominant hue a pixel may be to be turned with it
_SATURATED, _BRIGHT, _OPAQUE = 0.35, 0.6, 0.5
_LEAST_SHARE, _LEAST_PART = 0.7, 0.25  # of the saturated pixels have that hue; of the opaque pixels are saturated
_BINS = 24


class Hsv(NamedTuple):
    """Hue in turns, saturation and value, (S, S) each."""

    hue: Tensor
    saturation: Tensor
    value: Tensor


def dominant_hue(picture: Tensor) -> float | None:
    """Return the hue that most saturated pixels of a picture share; None if there is no such hue."""
    hue, saturation, value = _hsv(picture)
    opaque = picture[3] > _OPAQUE
    saturated = opaque & (saturation > _SATURATED) & (value > _BRIGHT)
    if int(saturated.sum()) <= _LEAST_PART * int(opaque.sum()):
        return None
    hues = hue[saturated]
    middle = (int(torch.histc(hues.cpu(), _BINS, 0, 1).argmax()) + 0.5) / _BINS
    near = _distance(hues, middle) < NEAR
    if float(near.float().mean()) < _LEAST_SHARE:
        return None
    turned = hues[near] - middle
    return float((middle + (turned - turned.round()).mean()) % 1)


def recoloured(picture: Tensor, own: float, wanted: float) -> Tensor:
    """Return a picture in which the hue `own`, and hues near it, are turned to `wanted`."""
    hue, saturation, value = _hsv(picture)
    near = _distance(hue, own) < 2 * NEAR
    hue = torch.where(near, (hue - own + wanted) % 1, hue)
    return torch.cat([_rgb(Hsv(hue, saturation, value)) * picture[3:], picture[3:]])


def in_colour(label: str, colour: str) -> str:
    """Return a label that names a colour: its own colour word is replaced, or the word put before what it names."""
    said = re.search(rf"\b({'|'.join([*HUES, 'brown', 'black', 'white'])})\b", label)
    if said:
        changed = label[: said.start()] + colour + label[said.end() :]
    else:
        before = determiner[0] if (determiner := DETERMINER.match(label)) else ""
        changed = f"{before}{colour} {label[len(before) :]}"
    return re.sub(rf"^(a)n? (?={colour}\b)", r"\1n " if colour[0] in "aeiou" else r"\1 ", changed, flags=re.IGNORECASE)


def _distance(hue: Tensor, other: float) -> Tensor:
    turned = hue - other
    return (turned - turned.round()).abs()


def _hsv(picture: Tensor) -> Hsv:
    colours = picture[:3] / picture[3:].clamp(min=1e-3)  # (3, S, S), straight
    value, largest = colours.max(dim=0)
    chroma = value - colours.amin(dim=0)
    red, green, blue = colours
    safe = chroma.clamp(min=1e-6)
    sixths = torch.stack([(green - blue) / safe % 6, (blue - red) / safe + 2, (red - green) / safe + 4])
    hue = sixths.gather(0, largest[None])[0] / 6
    return Hsv(torch.where(chroma > 1e-6, hue % 1, 0.0), chroma / value.clamp(min=1e-6), value)


def _rgb(hsv: Hsv) -> Tensor:
    hue, saturation, value = hsv
    offsets = torch.tensor([5.0, 3.0, 1.0], device=hue.device).view(3, 1, 1)
    place = (offsets + hue * 6) % 6
    return value - value * saturation * torch.minimum(place, 4 - place).clamp(0, 1)
