"""The mean of networks: what it holds, which files it keeps, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from jepa_app.checkpoint import load_network, save_network
from jepa_app.config import JepaTConfig
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.models.jepa_t import JepaT
from tests.conftest import TINY_JEPA_T
from training.soup import main


@pytest.fixture
def networks(tmp_path: Path) -> list[Path]:
    """Two networks of one shape that have seen different things; the first has settings for sampling of its own."""
    folders = [tmp_path / name for name in ("first", "second")]
    for seed, folder in enumerate(folders):
        torch.manual_seed(seed)
        save_network(folder, JepaT(TINY_JEPA_T), TINY_JEPA_T)
    for folder, thing in zip(folders, ("apple", "cat"), strict=True):
        Vocabulary(words=frozenset([thing]), things={"noto": frozenset([thing])}).save(folder)
    config = json.loads((folders[0] / "config.json").read_text())
    (folders[0] / "config.json").write_text(json.dumps(config | {"sampling_steps": 7}))
    return folders


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return load_network(folder, JepaTConfig, JepaT).state_dict()


def test_the_mean_is_weighted_and_keeps_the_first_ones_config(networks: list[Path], tmp_path: Path) -> None:
    out = tmp_path / "mean"
    assert main([*map(str, networks), "--shares", "3", "1", "--out", str(out)]) == 0
    first, second, mean = tensors(networks[0]), tensors(networks[1]), tensors(out)
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, first[name] * 0.75 + second[name] * 0.25)
    assert any(not torch.equal(first[name], second[name]) for name in first)
    assert Vocabulary.load(out) == Vocabulary.load(networks[0]) | Vocabulary.load(networks[1])
    assert json.loads((out / "config.json").read_text())["sampling_steps"] == 7


def test_shares_are_equal_unless_said(networks: list[Path], tmp_path: Path) -> None:
    assert main([*map(str, networks), "--out", str(tmp_path / "mean")]) == 0
    first, second, mean = tensors(networks[0]), tensors(networks[1]), tensors(tmp_path / "mean")
    for name, tensor in mean.items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)


def test_a_folder_may_be_replaced_by_its_mean_with_another(networks: list[Path]) -> None:
    first, second = (tensors(folder) for folder in networks)
    assert main([*map(str, networks), "--out", str(networks[0])]) == 0
    for name, tensor in tensors(networks[0]).items():
        torch.testing.assert_close(tensor, (first[name] + second[name]) / 2)


@pytest.mark.parametrize(
    ("change", "arguments", "message"),
    [
        ("", ["first"], "two or more"),
        ("", ["first", "second", "--shares", "1"], "1 shares for 2 folders"),
        ("", ["first", "second", "--shares", "1", "-1"], "above 0"),
        ("", ["first", "second", "--shares", "1", "nan"], "above 0"),
        ("", ["first", "nowhere"], "config.json is missing"),
        ("wider", ["first", "second"], "differ in denoiser_width"),
        ("no tensors", ["first", "second"], "no tensors"),
        ("cut", ["first", "second"], "cannot be loaded"),
        ("broken", ["first", "second"], "is broken"),
    ],
)
def test_what_has_no_mean_is_refused_on_one_line(
    change: str,
    arguments: list[str],
    message: str,
    networks: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = json.loads((networks[1] / "config.json").read_text())
    weights = networks[1] / "model.safetensors"
    if change == "wider":
        (networks[1] / "config.json").write_text(json.dumps(config | {"denoiser_width": 48}))
    elif change == "no tensors":
        weights.unlink()
    elif change == "cut":
        weights.write_bytes(weights.read_bytes()[:500])
    elif change == "broken":
        (networks[1] / "config.json").write_text("{")
    monkeypatch.chdir(tmp_path)
    shutil.copytree("first", "mean")
    assert main([*arguments, "--out", "mean"]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "mean" / "model.safetensors").read_bytes() == (networks[0] / "model.safetensors").read_bytes()
