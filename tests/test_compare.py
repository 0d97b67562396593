"""Variants trained for the same time and measured side by side."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import write_tiny_weights
from training import compare
from training.compare import COMPARISONS, Measured, main, table

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
    assert all(recipe != recipes[0] for recipe in recipes[1:])


def test_the_table_shows_means_and_half_the_span() -> None:
    rows = [
        Measured(variant=variant, seed=seed, pictures_seen=100, figures={"frechet": value, "else": 1.0})
        for variant, seed, value in (("a", 0, 10.0), ("b", 0, 20.0), ("a", 1, 14.0), ("b", 1, 20.0))
    ]
    assert table(rows, ["frechet"]).splitlines() == [
        "| figure | a | b |",
        "|---|---|---|",
        "| pictures_seen | 100 ± 0 | 100 ± 0 |",
        "| frechet | 12 ± 2 | 20 ± 0 |",
    ]


def test_an_unknown_comparison_is_refused_in_one_line(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["colours", "--data", str(folder), "--out", str(tmp_path)]) == 2
    told = capsys.readouterr().err.strip()
    assert told == "error: comparison is 'colours'; allowed: backbones, ti_jepa, peers"


@pytest.mark.slow
def test_variants_are_trained_measured_and_kept(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    weights = write_tiny_weights(tmp_path / "weights")
    variants = {"cached": (), "published": ("network.backbone=bidirectional",)}
    comparison = replace(COMPARISONS["backbones"], variants=variants)
    monkeypatch.setattr(compare, "COMPARISONS", {"tiny": comparison})
    tiny = [f"tokenizer={weights / 'tokenizer'}", "network.width=32", "network.num_heads=2", "schedule.batch_size=4"]
    tiny += ["network.encoder_depth=1", "network.predictor_depth=1", "network.denoiser_width=32"]
    settings = [word for setting in tiny for word in ("--set", setting)]
    arguments = ["tiny", "--data", str(folder), "--out", str(tmp_path / "out"), "--minutes", "0.001", "--seeds", "1"]
    assert main([*arguments, "--prompts", "10", *settings]) == 0
    rows = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert [(row["variant"], row["seed"]) for row in rows] == [("cached", 0), ("published", 0)]
    for row in rows:
        assert row["pictures_seen"] >= 48
        assert row["figures"]["milliseconds"] > 0
        assert row["figures"]["frechet"] >= 0
    printed = capsys.readouterr().out
    assert printed.startswith("| figure | cached | published |")
    assert "| milliseconds |" in printed


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
