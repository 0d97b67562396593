"""Composed prompts with a known truth: the judge finds it on real scenes, and on no others."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from training.data.batches import CaptionedPictures
from training.data.captions import BACKGROUNDS, RELATIONS
from training.data.split import is_heldout_concept
from training.judging.judge import Judge
from training.judging.picture_figures import ConceptExam, real_features
from training.judging.pixel_facts import LARGEST_STEP, background_colours, blockiness, count_things, on_white
from training.judging.scene_figures import _exchanged, choose_scenes, look, scene_figures, verdicts
from training.studies import scenes

SIZE = 32
SHAPES = ("circle", "bar", "ring", "cross", "triangle", "frame")
HUES = ("red", "green", "blue", "orange")
STYLES = {"noto": None, "twemoji": "black"}


def draw(shape: str, hue: str, outline: str | None) -> Image.Image:
    picture = Image.new("RGBA", (4 * SIZE, 4 * SIZE))
    pen, low, high = ImageDraw.Draw(picture), SIZE // 2, 4 * SIZE - SIZE // 2
    if shape == "circle":
        pen.ellipse((low, low, high, high), hue, outline, 6)
    elif shape == "bar":
        pen.rectangle((low, 1.5 * SIZE, high, 2.5 * SIZE), hue, outline, 6)
    elif shape == "ring":
        pen.ellipse((low, low, high, high), None, hue, 20)
    elif shape == "cross":
        pen.line((low, low, high, high), hue, 24)
        pen.line((low, high, high, low), hue, 24)
    elif shape == "triangle":
        pen.polygon([(2 * SIZE, low), (low, high), (high, high)], hue, outline, 6)
    else:
        pen.rectangle((low, low, high, high), None, hue, 20)
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """24 concepts in two styles, all trained on but what is held out by chance."""
    folder = tmp_path_factory.mktemp("shapes")
    codes = [f"{code:X}" for code in range(0x1F300, 0x1F700) if not is_heldout_concept(f"{code:X}")]
    lines = []
    for number, (shape, hue) in enumerate((shape, hue) for shape in SHAPES for hue in HUES):
        for style, outline in STYLES.items():
            (folder / style).mkdir(exist_ok=True)
            file = f"{style}/{number}.png"
            draw(shape, hue, outline).save(folder / file)
            lines.append({"file": file, "style": style, "label": f"{hue} {shape}", "hexcode": codes[number]})
    (folder / "captions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def data(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> CaptionedPictures:
    return CaptionedPictures.load(corpus, SIZE, cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


@pytest.fixture(scope="module")
def exam(data: CaptionedPictures, judge: Judge) -> ConceptExam:
    return ConceptExam(data, np.concatenate(list(real_features(judge, data))))


def test_scenes_ask_for_everything_evenly_and_once(data: CaptionedPictures) -> None:
    chosen = choose_scenes(data, data.split.train, 12, seed=0)
    pairs = chosen["two_objects"]
    assert {data.rows[scene.row].style for scene in pairs} == set(STYLES)
    assert all(data.rows[scene.row].style == data.rows[scene.other].style for scene in pairs)
    assert all(data.rows[scene.row].label != data.rows[scene.other].label for scene in pairs)
    trained = set(data.split.train.tolist())
    assert {index for scene in pairs for index in (scene.row, scene.other)} <= trained
    assert set(Counter(scene.relation for scene in pairs).values()) == {3}
    assert {scene.relation for scene in pairs} == set(RELATIONS)
    assert {scene.colour for scene in chosen["background"]} == set(BACKGROUNDS)
    assert Counter(scene.number for scene in chosen["count"]) == {1: 4, 2: 4, 3: 4}
    for name, asked in (("relation", "two_objects"), ("colour", "background")):
        assert all(f" {getattr(scene, name)} " in scene.prompt for scene in chosen[asked])
    again = choose_scenes(data, data.split.train, 12, seed=0)
    assert [scene.prompt for scene in again["count"]] == [scene.prompt for scene in chosen["count"]]


@pytest.mark.parametrize("size", [32, 64, 128])
def test_things_are_counted_by_what_stands_apart(size: int) -> None:
    picture = torch.full((3, 3, size, size), 0.5)
    unit = size // 16
    picture[1, :, unit : 5 * unit, unit : 5 * unit] = -1
    picture[2, :, unit : 5 * unit, unit : 5 * unit] = -1
    picture[2, 0, 8 * unit : 14 * unit, 2 * unit : 3 * unit] = -1  # a hook, whose end is far from its beginning
    picture[2, 0, 13 * unit : 14 * unit, 2 * unit : 12 * unit] = -1
    picture[2, 0, 8 * unit : 14 * unit, 11 * unit : 12 * unit] = -1
    picture[2, :, size // 2, size // 2] = -1  # a speck
    assert count_things(picture).tolist() == [0, 1, 2]


def test_steps_at_the_borders_of_tiles_show_as_blockiness() -> None:
    ramp = torch.linspace(-0.5, 0.5, 32).expand(2, 3, 32, 32)
    smooth = (ramp + ramp.transpose(2, 3)) / 2
    assert blockiness(smooth, 4) == pytest.approx(1, abs=1e-4)
    tiles = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    uneven = smooth + 0.05 * tiles.repeat_interleave(8, 2).repeat_interleave(8, 3)
    assert blockiness(uneven, 4) > 2
    assert blockiness(uneven.roll((4, 4), dims=(2, 3)), 4) < 0.8  # the same steps elsewhere
    drawn = smooth.clone()
    drawn[..., 16:] += 1  # a real edge at a border counts as little as the largest step
    slope = 0.5 / 31
    cut = (2 * slope + LARGEST_STEP) / 3  # of the three joins along a row
    assert blockiness(drawn, 4) == pytest.approx((cut + slope) / (2 * slope), rel=1e-4)


def test_backgrounds_are_named_and_made_white(data: CaptionedPictures) -> None:
    for name, colour in BACKGROUNDS.items():
        near = torch.tensor(colour).float().reshape(1, 3, 1, 1) / 127.5 - 1 + 0.05
        picture = near.expand(1, 3, 32, 32).clone()
        picture[:, :, 8:24, 8:24] = -near.sign()
        assert background_colours(picture) == [name]
        white = on_white(picture)
        assert (white[:, :, 0] == 1).all()
        assert torch.equal(white[:, :, 8:24, 8:24], picture[:, :, 8:24, 8:24])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["one_object", "two_objects", "background", "count"])
def test_real_scenes_are_right_and_those_of_other_prompts_are_not(
    kind: str, data: CaptionedPictures, judge: Judge, exam: ConceptExam
) -> None:
    chosen = choose_scenes(data, data.split.train, 12, seed=0)[kind]
    real = torch.cat([scene.picture.pixels for scene in chosen])
    sight = look(judge, kind, real)
    figures = scene_figures(exam, kind, chosen, {"": sight, "_real": sight}, seed=0)
    assert all(place != other for count in (2, 12, 60) for place, other in enumerate(_exchanged(count, 0)))
    names = [name for name in verdicts(exam, kind, sight, chosen, chosen) if name in figures]
    assert names
    for name in names:
        assert figures[name] == figures[f"{name}_real"] >= 0.75
        assert figures[f"{name}_other_prompts"] < figures[name] - 0.2
    if kind == "two_objects":
        opposite = dict(zip(RELATIONS, ("right of", "left of", "below", "above"), strict=True))
        turned = [replace(scene, relation=opposite[scene.relation]) for scene in chosen]
        right = verdicts(exam, kind, sight, chosen, turned)
        assert right["two_objects"].mean() == figures["two_objects"]
        assert not right["relation"].any()


@pytest.mark.slow
def test_the_command_measures_and_draws(
    tiny_weights: Path,
    corpus: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    few = ["--set", "scenes=12", "--set", "steps=2", "--device", "cpu"]
    assert scenes.main([str(tiny_weights), "--data", str(corpus), "--out", str(tmp_path), "--json", *few]) == 0
    document = json.loads(capsys.readouterr().out)
    assert json.loads((tmp_path / "figures.json").read_text()) == document
    figures = document["figures"]
    assert document["setting"]["scenes_two_objects"] == 12
    for name in ("one_object", "two_objects", "relation", "background", "count"):
        assert 0 <= figures[name] <= figures[f"{name}_real"] <= 1
        assert figures[f"{name}_real"] >= 0.75
    assert {"background_red", "count_three", "relation_left_of", "two_objects_real_other_designs"} <= set(figures)
    with (tmp_path / "scenes.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    right = [int(line["right"]) for line in lines if line["figure"] == "relation"]
    assert np.mean(right) == pytest.approx(figures["relation"])
    assert len(right) == 12
    with Image.open(tmp_path / "scenes.png") as picture:
        assert picture.width > 800
        assert len(picture.convert("RGB").getcolors(picture.width * picture.height) or []) > 100


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "scenes=3"], "scenes is 3; allowed: 12 or more"),
        (["--set", "prompts=3"], "setting 'prompts' is unknown; allowed: steps, guidance"),
        (["--device", "tpu"], "device is 'tpu'"),
        ([], "holds no jepa-t or dit; train one with python -m training.train"),
    ],
)
def test_mistakes_are_told_in_one_line(
    arguments: list[str], message: str, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tokenizer").mkdir()
    assert scenes.main([str(tmp_path), "--data", str(corpus), "--out", str(tmp_path / "out"), *arguments]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert told.count("\n") == 1
    assert not (tmp_path / "out").exists()
