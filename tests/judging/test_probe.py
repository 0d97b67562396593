"""The linear probe: features that tell the class are found out, features that do not are not."""

import numpy as np
import pytest
import torch

from training.data.captions import Row
from training.studies.probe import FOLDS, accuracy, group_classes, markdown, one_a_concept, probe, sentiment_classes

CLASSES = ("sun", "moon", "star")


def _features(signal: float) -> tuple[torch.Tensor, list[str], np.ndarray]:
    generator = torch.Generator().manual_seed(0)
    truth = torch.arange(150) % 3
    features = torch.randn(150, 6, generator=generator)
    features[torch.arange(150), truth] += signal
    return features, [CLASSES[number] for number in truth.tolist()], np.arange(150) // 3 % FOLDS


def test_a_probe_tells_what_is_there_and_no_more() -> None:
    clear, blind = probe(*_features(6.0)), probe(*_features(0.0))
    assert clear[""] > 0.95
    assert clear["_16_shot"] > 0.9
    assert clear["_16_shot"] >= clear["_1_shot"] > 0.6
    assert clear["_chance"] == pytest.approx(1 / 3)
    assert 0.2 < blind[""] < 0.47  # a third by chance
    assert 0.2 < blind["_16_shot"] < 0.47


def test_small_classes_and_unknown_rows_are_left_out() -> None:
    features, names, folds = _features(6.0)
    names[:5] = ["", "", "rare", "rare", "rare"]
    assert probe(features, names, folds)[""] > 0.95
    assert probe(features, ["sun"] * 140 + ["moon"] * 10, folds) == {}


def test_accuracy_is_of_the_test_rows() -> None:
    left, right = torch.full((10, 1), -1.0), torch.full((10, 1), 1.0)
    train = (torch.cat([left, right]), torch.tensor([0] * 10 + [1] * 10))
    test = (torch.tensor([[-2.0], [3.0], [0.5], [0.7]]), torch.tensor([0, 1, 1, 0]))
    assert accuracy(train, test, 2, 1e-3) == 0.75


def test_classes_of_known_emoji() -> None:
    rows = [
        Row(file="a", label="red heart", style="noto", group="smileys-emotion", hexcode="2764-FE0F"),
        Row(file="b", label="pouting face", style="noto", group="smileys-emotion", hexcode="1F621"),
        Row(file="c", label="nothing", style="noto"),
        Row(file="d", label="red heart", style="blob", hexcode="2764"),
    ]
    assert sentiment_classes(rows) == ["positive", "negative", "", "positive"]
    assert group_classes(rows) == ["smileys-emotion", "smileys-emotion", "", ""]
    assert one_a_concept(rows).tolist() == [0, 1]


def test_the_table_shows_what_was_measured() -> None:
    figures = {f"probe_group_picture{name}": 0.5 for name in ("", "_chance", *(f"_{n}_shot" for n in (1, 2, 4, 8, 16)))}
    lines = markdown(figures).splitlines()
    assert lines[2] == "| group | picture |" + " 0.500 |" * 7
    assert len(lines) == 3
