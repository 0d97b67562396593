"""Whether pictures show the scenes that were asked for: prompts with a known truth, and a judge that looks at crops.

Scenes are composed of pictures of the folder as in training, so each prompt has a real picture. It and its
reconstruction are judged by the same rule, which gives the ceiling of each figure. The floor is the generated picture
judged by the truth of another prompt. Real pictures are found because they are in the judge's own gallery; the figures
`_other_designs` leave out the row's design, so that only the likeness to other drawings of the concept counts.

Crops are looked up among whole pictures, which is sharp enough: on the exact crops of 66 scenes of the emoji corpus at
64 px both objects are found in all real ones, in .86 of the reconstructions, and in .47 of the real ones when their
own designs are left out.

Letters: B pictures, W views of each, D features, S picture side in pixels.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.batches import Batch, CaptionedPictures
from training.data.captions import BACKGROUNDS, NUMBERS, RELATIONS
from training.data.composition.composing import MOST
from training.data.plurals import plural
from training.data.selection import balanced_order
from training.judging.judge import Features, Judge
from training.judging.picture_figures import ConceptExam, Indices
from training.judging.pixel_facts import background_colours, count_things, on_white

FOUND = 5  # an object counts as found among this many nearest concepts of a view
PLACES = 3  # of views of half the side, in quarters of the side, down and across
_TOWARDS = {"left of": (0, 1), "right of": (0, -1), "above": (1, 0), "below": (-1, 0)}  # down, across

Flags = NDArray[np.bool_]
Item = TypeVar("Item")
Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One prompt, its real picture and the truth: the row, and whatever else was asked for."""

    picture: Batch
    row: int
    other: int = -1
    relation: str = ""
    colour: str = ""
    number: int = 0

    @property
    def prompt(self) -> str:
        """The caption of the picture."""
        return self.picture.captions[0]


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What was seen of B pictures: `views` (B, W, D) features, and facts of the pixels."""

    views: Features
    colours: list[str]
    numbers: Indices


def choose_scenes(data: CaptionedPictures, members: Indices, count: int, seed: int) -> dict[str, list[Scene]]:
    """Up to `count` scenes of each kind from the rows `members`: styles evenly; relations, colours and numbers in turn.

    A kind for which the rows offer nothing is left out.
    """
    order = balanced_order(data.rows, members, seed).tolist()
    countable = [index for index in order if plural(data.rows[index].label)]
    scenes = {
        "one_object": [Scene(picture=data.fixed([index]), row=index) for index in order[:count]],
        "two_objects": [
            Scene(picture=data.scene(first, relation, second), row=first, other=second, relation=relation)
            for (first, second), relation in _in_turn(_pairs(data, order)[:count], RELATIONS)
        ],
        "background": [
            Scene(picture=data.coloured(index, colour), row=index, colour=colour)
            for index, colour in _in_turn(order[:count], list(BACKGROUNDS))
        ],
        "count": [
            Scene(picture=data.counted(index, number, turned=place // MOST % 2 == 1), row=index, number=number)
            for place, (index, number) in enumerate(_in_turn(countable[:count], range(1, MOST + 1)))
        ],
    }
    return {kind: chosen for kind, chosen in scenes.items() if chosen}


def look(judge: Judge, kind: str, pixels: Tensor) -> Sight:
    """View pictures (B, 3, S, S) in [-1, 1]: whole, in nine overlapping quarters for two objects, both for counts."""
    # the gallery's pictures are on white
    whole = judge.features(on_white(pixels) if kind == "background" else pixels)[:, None]  # (B, 1, D)
    views = {"two_objects": [], "count": [whole]}.get(kind, [whole])
    if kind in ("two_objects", "count"):
        crops = _windows(pixels)  # (B, 9, 3, S/2, S/2)
        views.append(np.stack([judge.features(each) for each in crops.unbind(dim=1)], axis=1))
    return Sight(views=np.concatenate(views, axis=1), colours=background_colours(pixels), numbers=count_things(pixels))


def verdicts(
    exam: ConceptExam,
    kind: str,
    sight: Sight,
    scenes: Sequence[Scene],
    truths: Sequence[Scene],
    *,
    leave_out: bool = False,
) -> dict[str, Flags]:
    """What is right in the pictures of `scenes`, judged by `truths`: the same scenes, or others for comparison.

    `leave_out` leaves out the real pictures of the concept in the truth's own design, as `ConceptExam.look_up` does.
    """
    rows = [scene.row for scene in scenes]
    first, place = _found(exam, sight.views, rows, [scene.row for scene in truths], leave_out)
    if kind == "two_objects":
        second, other_place = _found(exam, sight.views, rows, [scene.other for scene in truths], leave_out)
        both = first & second & (place != other_place)
        stands = np.asarray([_stands(*each) for each in zip(place, other_place, truths, strict=True)])
        return {
            "object_of_two": np.concatenate([first, second]),
            "two_objects": both,
            "relation": both & stands,
            "relation_where_found": stands[both],
        }
    if kind == "background":
        named = [colour == truth.colour for colour, truth in zip(sight.colours, truths, strict=True)]
        return {"background": np.asarray(named), "background_object": np.asarray(named) & first}
    if kind == "count":
        right = sight.numbers == [truth.number for truth in truths]
        return {"count": right, "count_object": right & first}
    return {"one_object": first}


def scene_figures(
    exam: ConceptExam, kind: str, scenes: Sequence[Scene], sights: Mapping[str, Sight], seed: int
) -> dict[str, float]:
    """The shares of scenes of a kind that are right, by the suffix of their figures; "" is for generated pictures.

    Generated pictures are also judged by the truths of other prompts, and separately by colour, number or relation.
    """
    figures: dict[str, float] = {}
    shuffled = [scenes[place] for place in _exchanged(len(scenes), seed)]
    for suffix, sight in sights.items():
        figures |= _shares(verdicts(exam, kind, sight, scenes, scenes), suffix)
        if kind in ("one_object", "two_objects"):
            strict = verdicts(exam, kind, sight, scenes, scenes, leave_out=True)
            figures |= _shares(strict, f"{suffix}_other_designs")
        if suffix == "":
            others = dict(verdicts(exam, kind, sight, scenes, shuffled))
            others.pop("relation_where_found", None)
            figures |= _shares(others, "_other_prompts")
            if kind == "two_objects":
                # only the right objects can be placed as another prompt said, so only its relation is used
                turned = [replace(own, relation=other.relation) for own, other in zip(scenes, shuffled, strict=True)]
                placed = {"relation_where_found": verdicts(exam, kind, sight, scenes, turned)["relation_where_found"]}
                figures |= _shares(placed, "_other_prompts")
            figures |= _by_word(kind, scenes, verdicts(exam, kind, sight, scenes, scenes))
    return figures


def _exchanged(count: int, seed: int) -> list[int]:
    """Places in another order, none at its own place: a random cycle through all of them."""
    cycle = np.random.default_rng([seed, count]).permutation(count)
    order = np.empty(count, dtype=np.int64)
    order[cycle] = np.roll(cycle, 1)
    places: list[int] = order.tolist()
    return places


def _by_word(kind: str, scenes: Sequence[Scene], right: Mapping[str, Flags]) -> dict[str, float]:
    words = {
        "two_objects": ("relation", [scene.relation.replace(" ", "_") for scene in scenes]),
        "background": ("background", [scene.colour for scene in scenes]),
        "count": ("count", [NUMBERS[scene.number - 1] for scene in scenes]),
    }
    if kind not in words:
        return {}
    name, said = words[kind]
    return {f"{name}_{word}": float(right[name][np.asarray(said) == word].mean()) for word in dict.fromkeys(said)}


def _shares(right: Mapping[str, Flags], suffix: str) -> dict[str, float]:
    return {f"{name}{suffix}": float(flags.mean()) for name, flags in right.items() if len(flags)}


def _found(
    exam: ConceptExam, views: Features, rows: Sequence[int], shown: Sequence[int], leave_out: bool
) -> tuple[Flags, Indices]:
    """Whether some view shows the concept of the rows `shown`, in the style of `rows`, and which view does so best."""
    num_views = views.shape[1]
    ranks, distances = exam.place(
        views.reshape(-1, views.shape[2]), np.repeat(rows, num_views), np.repeat(shown, num_views), leave_out=leave_out
    )
    order = (ranks + np.minimum(distances, 2) / 4).reshape(-1, num_views)  # by rank, then by distance
    return order.min(axis=1) < FOUND, order.argmin(axis=1)


def _stands(place: int, other: int, truth: Scene) -> bool:
    """Whether the first object is where the relation says: further that way than across."""
    step = np.subtract(divmod(int(other), PLACES), divmod(int(place), PLACES))  # down, across
    towards = np.asarray(_TOWARDS[truth.relation])
    along = int(step @ towards)
    return along > int(np.abs(step).sum()) - abs(along)


def _windows(pixels: Tensor) -> Tensor:
    """The nine crops (B, 9, 3, S/2, S/2) of half the side, row by row."""
    half, quarter = pixels.shape[-1] // 2, pixels.shape[-1] // 4
    corners = [(down * quarter, across * quarter) for down in range(PLACES) for across in range(PLACES)]
    return torch.stack([pixels[:, :, top : top + half, left : left + half] for top, left in corners], dim=1)


def _pairs(data: CaptionedPictures, order: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours in the order of rows with the same style but different labels."""
    waiting: dict[str, int] = {}
    pairs = []
    for index in order:
        row = data.rows[index]
        first = waiting.pop(row.style, None)
        if first is None:
            waiting[row.style] = index
        elif data.rows[first].label != row.label:
            pairs.append((first, index))
    return pairs


def _in_turn(items: Sequence[Item], values: Sequence[Value]) -> list[tuple[Item, Value]]:
    return [(item, values[place % len(values)]) for place, item in enumerate(items)]
