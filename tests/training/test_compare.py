"""Variants trained with the same compute and measured side by side."""

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from PIL import Image
from torch import nn

from tests.conftest import write_tiny_weights
from training.compare import main
from training.data.batches import CaptionedPictures
from training.judging.evaluation import Settings, evaluate
from training.loop import TrainStep
from training.optimisation.muon import Muon, make_optimizers
from training.optimisation.schedule import Schedule
from training.studies.comparing import comparison as comparing
from training.studies.comparing.comparison import _trained_parameters, run_name
from training.studies.comparing.comparison_tables import Measured, chart, table
from training.studies.comparing.variants import COMPARISONS

COLOURS = ("red", "green", "blue", "orange", "purple", "black", "white", "yellow")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Coloured squares with captions."""
    folder = tmp_path_factory.mktemp("squares")
    lines = []
    for number in range(48):
        colour = COLOURS[number % len(COLOURS)]
        Image.new("RGB", (32, 32), colour).save(folder / f"{number}.png")
        lines.append(json.dumps({"file_name": f"{number}.png", "text": f"{colour} square {number}"}))
    (folder / "metadata.jsonl").write_text("\n".join(lines))
    return folder


@pytest.mark.parametrize("name", COMPARISONS)
def test_variants_are_recipes(name: str) -> None:
    comparison = COMPARISONS[name]
    assert len(comparison.variants) > 1
    recipes = [comparison.recipe_of(variant) for variant in comparison.variants]
    made = [
        (recipe, comparison.measuring(variant, 10), comparison.as_many_pictures.get(variant))
        for recipe, variant in zip(recipes, comparison.variants, strict=True)
    ]
    assert all(made.count(one) == 1 for one in made)
    assert len({run_name(variant, 0) for variant in comparison.variants}) == len(comparison.variants)


JUDGED_BY_PICTURES = [name for name, one in COMPARISONS.items() if one.recipe == "jepa_t"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the tiny tokenizer."""
    return write_tiny_weights(tmp_path_factory.mktemp("weights")) / "tokenizer"


@pytest.mark.parametrize("name", JUDGED_BY_PICTURES)
def test_each_variant_of_a_generator_takes_a_step(name: str, folder: Path, tokenizer: Path) -> None:
    comparison = COMPARISONS[name]
    data = CaptionedPictures.load(folder, 32)
    for variant in comparison.variants:
        recipe = comparison.recipe_of(variant, ["network.width=32", "network.num_heads=2", f"tokenizer={tokenizer}"])
        if hasattr(recipe.network, "depth"):
            recipe = replace(recipe, network=replace(recipe.network, depth=1))
        else:
            sizes = {"encoder_depth": 1, "predictor_depth": 1, "denoiser_width": 32, "denoiser_depth": 1}
            recipe = replace(recipe, network=replace(recipe.network, **sizes))
        objective = recipe.build(data)
        figures = losses_of_a_step(objective, data, recipe.schedule)
        assert all(math.isfinite(value) for value in figures.values()), variant
        assert comparison.measuring(variant, 10).prompts == 10
        assert 0 < _trained_parameters(objective, data) <= sum(one.numel() for one in objective.network.parameters())


def losses_of_a_step(objective: nn.Module, data: CaptionedPictures, schedule: Schedule) -> dict[str, float]:
    rates = {"matrix_lr": schedule.matrix_lr, "other_lr": schedule.other_lr, "weight_decay": schedule.weight_decay}
    before = [parameter.detach().clone() for parameter in objective.network.parameters()]
    losses = objective(data.batch(0, 4, 0), torch.Generator().manual_seed(0))
    losses["loss"].backward()
    for optimizer in make_optimizers(objective.network, **rates, muon=schedule.muon):
        assert schedule.muon or not isinstance(optimizer, Muon)
        optimizer.step()
    objective.zero_grad()
    moved = [not torch.equal(*pair) for pair in zip(before, objective.network.parameters(), strict=True)]
    assert any(moved)
    return {key: float(value.detach()) for key, value in losses.items()}


def test_parts_that_are_switched_off_are_not_counted(folder: Path, tokenizer: Path) -> None:
    data = CaptionedPictures.load(folder, 32)
    settings = ["network.width=32", "network.num_heads=2", f"tokenizer={tokenizer}"]
    counts = {
        variant: _trained_parameters(COMPARISONS["fusion"].recipe_of(variant, settings).build(data), data)
        for variant in ("off", "before the predictor only", "after the predictor only")
    }
    assert counts["off"] < counts["before the predictor only"] == counts["after the predictor only"]


def test_the_chart_has_a_bar_a_variant_and_a_dot_a_seed() -> None:
    rows = [
        Measured(variant=variant, seed=seed, pictures_seen=9, figures={"frechet": value} if value else {})
        for variant, seed, value in (("a < b", 0, 10.0), ("c", 0, 20.0), ("a < b", 1, 20.0), ("d", 0, 0.0))
    ]
    drawn = ElementTree.fromstring(chart(rows, ["frechet"]))
    tags = [element.tag.rsplit("}", 1)[-1] for element in drawn]
    assert tags.count("circle") == 3
    bars = [element for element in drawn if element.get("height") != "100%" and element.tag.endswith("rect")]
    assert [float(bar.get("width", 0)) for bar in bars] == [pytest.approx(0.75 * 380), pytest.approx(380)]
    assert "a < b" in [element.text for element in drawn]


def test_the_table_shows_means_and_half_the_span() -> None:
    rows = [
        Measured(variant=variant, seed=seed, pictures_seen=100, figures={"frechet": value, "else": 1.0})
        for variant, seed, value in (("a", 0, 10.0), ("b", 0, 20.0), ("a", 1, 14.0), ("b", 1, 20.0))
    ]
    assert table(rows, ["frechet"]).splitlines() == [
        "| figure | a | b |",
        "| --- | --- | --- |",
        "| pictures_seen | 100 ± 0 | 100 ± 0 |",
        "| frechet | 12 ± 2 | 20 ± 0 |",
    ]


def test_an_unknown_comparison_is_refused_in_one_line(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["colours", "--data", str(folder), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert told == f"error: comparison is 'colours'; allowed: {', '.join(COMPARISONS)}"
    assert main(["backbones", "--data", str(folder), "--out", str(tmp_path), "--prompts", "5"]) == 2
    assert "prompts is 5; allowed: 10 or more" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())  # nothing was trained before


@pytest.mark.slow
def test_variants_are_trained_measured_and_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_tiny_weights(tmp_path / "weights")
    variants = {"cached": (), "published": ("network.backbone=bidirectional",)}
    comparison = replace(COMPARISONS["backbones"], variants=variants, caution="this is a test")
    monkeypatch.setitem(COMPARISONS, "tiny", comparison)
    tiny = [f"tokenizer={weights / 'tokenizer'}", "network.width=32", "network.num_heads=2", "schedule.batch_size=4"]
    tiny += ["network.encoder_depth=1", "network.predictor_depth=1", "network.denoiser_width=32"]
    settings = [word for setting in tiny for word in ("--set", setting)]
    arguments = ["tiny", "--data", str(folder), "--out", str(tmp_path / "out"), "--minutes", "0.001", "--seeds", "1"]
    assert main([*arguments, "--prompts", "10", "--plot", str(tmp_path / "charts" / "tiny.svg"), *settings]) == 0
    assert "published" in (tmp_path / "charts" / "tiny.svg").read_text()
    rows = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [(row["variant"], row["seed"]) for row in rows] == [("cached", 0), ("published", 0)]
    for row in rows:
        assert row["pictures_seen"] >= 48
        assert row["figures"]["milliseconds"] > 0
        assert row["figures"]["frechet"] >= 0
    printed = capsys.readouterr().out
    assert printed.startswith("| figure | cached | published |")
    assert "| milliseconds |" in printed
    assert printed.endswith("\n\nThis is a test.\n")

    again = [*arguments[:-1], "2", "--minutes", "9", "--resume", "--prompts", "10", *settings]
    assert main(again) == 0  # trains the second seed alone, as long as the first
    resumed = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert resumed[:2] == rows
    seen = [(row["variant"], row["seed"], row["pictures_seen"]) for row in resumed]
    assert seen[2:] == [(variant, 1, pictures) for variant, _, pictures in seen[:2]]


@pytest.mark.slow
@pytest.mark.parametrize("stopped_in", ["training", "measuring"])
def test_a_comparison_goes_on_where_it_was_stopped(
    stopped_in: str, tmp_path: Path, folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {"cached": (), "again": ("schedule.warmup=3",)}
    monkeypatch.setitem(COMPARISONS, "tiny", replace(COMPARISONS["backbones"], variants=variants))
    tiny = [f"tokenizer={tokenizer}", "network.width=32", "network.num_heads=2", "schedule.batch_size=4"]
    tiny += ["network.encoder_depth=1", "network.predictor_depth=1", "network.denoiser_width=32"]
    asked = {"minutes": 0.001, "seeds": 1, "prompts": 10, "settings": tiny}

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        if stopped_in == "measuring":
            patched.setattr(comparing, "_measure_pictures", stop)
        else:
            whole = comparing.train

            def begun(*arguments: Any, **options: Any) -> Iterator[TrainStep]:
                is_timed = arguments[3].parent.name == "timing"
                for step in whole(*arguments, **options, stopping=lambda: not is_timed):
                    yield step
                    if not is_timed:
                        stop()

            patched.setattr(comparing, "train", begun)
        with pytest.raises(KeyboardInterrupt):
            list(comparing.compare("tiny", folder, tmp_path, **asked))
    steps = json.loads((tmp_path / "steps.json").read_text())
    assert (tmp_path / "cached-0" / "checkpoint").exists()
    with monkeypatch.context() as patched:
        patched.setattr(comparing, "_equal_steps", lambda *_: dict.fromkeys(variants, 99))
        with pytest.raises(ValueError, match="add --resume"):
            list(comparing.compare("tiny", folder, tmp_path, **asked))
    measured = list(comparing.compare("tiny", folder, tmp_path, **asked, resume=True))
    assert [one.variant for one in measured] == ["cached", "again"]
    assert [one.pictures_seen for one in measured] == [4 * steps["cached"], 4 * steps["again"]]
    assert "train/denoising_loss" in measured[0].figures


def test_what_was_measured_before_must_fit(tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["sizes", "--data", str(folder), "--out", str(tmp_path), "--resume"]
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps([{"variant": "huge", "seed": 0, "pictures_seen": 48, "figures": {}}]))
    assert main(arguments) == 2
    known = ", ".join(COMPARISONS["sizes"].variants)
    assert capsys.readouterr().err == f"error: 'huge' was measured before; variants of sizes: {known}\n"
    figures.write_text('{"frechet": 1}')
    assert main(arguments) == 2
    assert "is not what a comparison writes" in capsys.readouterr().err


@pytest.mark.slow
def test_variants_get_as_many_operations(folder: Path, tokenizer: Path, tmp_path: Path) -> None:
    settings = [f"tokenizer={tokenizer}", "network.width=32", "network.num_heads=2", "schedule.batch_size=4"]
    settings += ["network.encoder_depth=1", "network.predictor_depth=1", "network.denoiser_width=32"]
    comparison = COMPARISONS["prediction"]
    recipes = {name: comparison.recipe_of(name, settings) for name in comparison.variants}
    data = CaptionedPictures.load(folder, recipes["weight 4"].image_size(), recipes["weight 4"].captions)
    operations = {name: comparing._operations_a_step(recipe, data, tmp_path) for name, recipe in recipes.items()}
    with_features = {operations[name] for name in comparison.variants if name != "weight 0"}
    assert len(with_features) == 1
    assert 0 < operations["weight 0"] < min(with_features)
    steps = comparing._equal_steps(recipes, folder, tmp_path, minutes=0.2)
    assert len({steps[name] for name in comparison.variants if name != "weight 0"}) == 1
    ratio = operations["weight 4"] / operations["weight 0"]
    assert steps["weight 0"] / steps["weight 4"] == pytest.approx(ratio, rel=2 / steps["weight 4"])


def test_variants_see_as_many_pictures() -> None:
    comparison = COMPARISONS["sizes"]
    recipes = {name: comparison.recipe_of(name) for name in comparison.variants}
    small = recipes["tiny, as many pictures"]
    half = replace(small, schedule=replace(small.schedule, batch_size=recipes["base"].schedule.batch_size // 2))
    recipes["tiny, as many pictures"] = half
    steps = comparing._equal_pictures(recipes, {"base": 100, "tiny": 700}, comparison.as_many_pictures)
    assert steps == {"tiny, as many pictures": 200}


def test_operations_are_those_of_the_matrix_products() -> None:
    q = torch.zeros(1, 2, 3, 4, requires_grad=True)
    with comparing.sdpa_kernel(comparing.SDPBackend.MATH), comparing._Operations() as operations:
        (torch.zeros(5, 6) @ torch.zeros(6, 7)).sum()
        torch.nn.functional.scaled_dot_product_attention(q, q, q)
    assert operations.total == 2 * 5 * 6 * 7 + 2 * (2 * 2 * 3 * 3 * 4)


@pytest.mark.slow
def test_a_transformer_is_measured_beside_jepa_t(
    tmp_path: Path, folder: Path, tokenizer: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {"JEPA-T": ("network.encoder_depth=1", "network.predictor_depth=1"), "DiT": ("network.depth=1",)}
    comparison = replace(COMPARISONS["generators"], variants=variants, measured={"DiT": ("steps=3",)})
    monkeypatch.setitem(COMPARISONS, "tiny", comparison)
    settings = ["network.width=32", "network.num_heads=2", f"tokenizer={tokenizer}", "schedule.batch_size=4"]
    measured = list(comparing.compare("tiny", folder, tmp_path, minutes=0.001, seeds=1, prompts=10, settings=settings))
    assert [one.variant for one in measured] == ["JEPA-T", "DiT"]
    shown = table(measured, comparison.shown)
    for figure in ("frechet", "parameters", "milliseconds"):
        assert f"| {figure} |" in shown
    assert "train/joint_denoising_loss" in measured[1].figures
    result = evaluate(tmp_path / "dit-0" / "weights", folder, Settings(prompts=10, steps=3))
    assert result.figures["frechet"] == pytest.approx(measured[1].figures["frechet"], rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ti_jepa", "peers"])
def test_matchers_are_trained_and_measured_side_by_side(
    name: str, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = ["network.image_size=32", "network.width=32", "network.predictor_width=32", "network.num_heads=2"]
    tiny += ["network.image_depth=1", "network.text_depth=1", "network.predictor_depth=1", "schedule.batch_size=4"]
    tiny += ["network.patch_size=8", "calibration_pictures=4"]
    settings = [word for setting in tiny for word in ("--set", setting)]
    arguments = [name, "--data", str(folder), "--out", str(tmp_path), "--minutes", "0.001", "--seeds", "1"]
    assert main([*arguments, "--prompts", "20", "--json", *settings]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["variant"] for row in rows] == list(COMPARISONS[name].variants)
    for row in rows:
        assert 0 <= row["figures"]["match_auc_random"] <= 1
        assert row["figures"]["train/image_rank"] >= 1
