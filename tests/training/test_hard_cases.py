"""Nearly right captions: what they keep, what they change, and that they follow from the row and generator alone."""

import numpy as np
import pytest

from training.data.captions import Row
from training.data.hard_cases import WRONG_CAPTIONS, colour_word, nonsense, recoloured, shuffled, sides_swapped

HEART = Row(file="h", label="red heart", style="fluent3d")
CAT = Row(file="c", label="cat with wry smile", style="noto")


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize("kind", WRONG_CAPTIONS)
def test_wrong_captions_differ_from_the_right_one_and_repeat_with_the_generator(kind: str) -> None:
    for row, right in ((HEART, "red heart, fluent 3d style"), (CAT, "cat with wry smile, noto style")):
        captions = WRONG_CAPTIONS[kind](row, draw())
        assert right not in captions
        assert captions == WRONG_CAPTIONS[kind](row, draw())
        assert len(captions) <= 3
        assert all(caption.endswith(right.split(",")[1]) for caption in captions)


def test_only_the_colour_is_replaced() -> None:
    captions = recoloured(HEART, draw())
    assert len(set(captions)) == 3
    assert all(caption.split()[1] == "heart," and caption.split()[0] != "red" for caption in captions)
    labels = ("red heart", "redhead", "black and white flag")
    assert [colour_word(Row(file="", label=label)) for label in labels] == ["red", None, None]
    assert recoloured(CAT, draw()) == []


def test_shuffled_words_are_the_same_words() -> None:
    captions = shuffled(CAT, draw())
    assert captions
    assert all(sorted(caption.split(", ")[0].split()) == sorted(CAT.label.split()) for caption in captions)
    assert shuffled(HEART, draw()) == []  # two words say the same either way round


def test_nonsense_has_as_many_words_and_none_of_them() -> None:
    for caption in nonsense(CAT, draw()):
        words = caption.split(", ")[0].split()
        assert len(words) == 4
        assert not set(words) & set(CAT.label.split())


def test_sides_are_swapped_and_nothing_else() -> None:
    assert sides_swapped(HEART, "left of", CAT) == "a red heart right of a cat with wry smile, fluent 3d style"
    assert sides_swapped(HEART, "below", CAT) == "a red heart above a cat with wry smile, fluent 3d style"
