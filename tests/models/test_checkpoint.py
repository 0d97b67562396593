"""Weights on disk: round trips, refusals, and errors while writing that leave the previous ones."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from jepa_app.checkpoint import (
    MANIFEST,
    load_config,
    load_network,
    load_state,
    replacing,
    resolve_weights,
    save_network,
    verify_manifest,
    write_manifest,
)
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.config_base import Config
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import make_tokenizer
from tests.conftest import TINY_JEPA_T, awake
from tests.support.limits import largest_file

TENSORS = "model.safetensors"


@pytest.mark.parametrize(
    ("config_class", "build", "wrong"),
    [
        (TokenizerConfig, make_tokenizer, {"image_size": 1024, "patch_size": 1024, "channels": 4000}),
        (TIJepaConfig, TIJepa, {"image_size": 1024, "patch_size": 1}),
    ],
)
def test_parts_whose_size_no_depth_tells_are_counted_too(
    config_class: type[Config],
    build: Callable[[Any], nn.Module],
    wrong: dict[str, int],
    tiny_weights: Path,
    tmp_path: Path,
) -> None:
    part = "tokenizer" if config_class is TokenizerConfig else "ti-jepa"
    folder = Path(shutil.copytree(tiny_weights / part, tmp_path / part))
    described = json.loads((folder / "config.json").read_text()) | wrong
    (folder / "config.json").write_text(json.dumps(described))
    built: list[torch.device] = []

    def watched(config: Any) -> nn.Module:
        built.append(torch.get_default_device())
        return build(config)

    with pytest.raises(ValueError, match=r"cannot be loaded .its config describes [\d,]+ parameters and more, "):
        load_network(folder, config_class, watched)
    assert [device.type for device in built] == ["meta"]


@pytest.mark.parametrize("wrong", [{"width": 2**15}, {"encoder_depth": 200, "width": 2**10}, {"denoiser_width": 2**14}])
def test_a_config_that_describes_more_than_its_files_hold_is_refused_at_once(
    wrong: dict[str, int], tmp_path: Path
) -> None:
    folder = tmp_path / "jepa-t"
    save_network(folder, JepaT(TINY_JEPA_T), TINY_JEPA_T)
    assert load_network(folder, JepaTConfig, JepaT).config == TINY_JEPA_T
    described = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(described | wrong))

    def build(_: JepaTConfig) -> JepaT:
        pytest.fail("it would have filled the memory")

    with pytest.raises(ValueError, match=r"cannot be loaded .its config describes [\d,]+ parameters and more, "):
        load_network(folder, JepaTConfig, build)


@pytest.fixture
def weights(tiny_weights: Path, tmp_path: Path) -> Path:
    """A copy of the tiny weights that a test may damage."""
    return Path(shutil.copytree(tiny_weights, tmp_path / "weights"))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rename_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    name = sorted(tensors)[0]
    tensors[name + "_x"] = tensors.pop(name)
    save_file(tensors, path)


def reshape_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    name = next(name for name in sorted(tensors) if tensors[name].ndim == 2)
    tensors[name] = tensors[name][:-1].clone()
    save_file(tensors, path)


def drop_a_tensor(path: Path) -> None:
    tensors = load_file(path)
    del tensors[sorted(tensors)[0]]
    save_file(tensors, path)


def test_a_network_survives_the_disk(tmp_path: Path) -> None:
    network = awake(JepaT(TINY_JEPA_T))
    save_network(tmp_path / "net", network, TINY_JEPA_T)
    config = load_config(tmp_path / "net", JepaTConfig)
    assert config == TINY_JEPA_T
    loaded = JepaT(config)
    load_state(tmp_path / "net", loaded)
    for (name, saved), (other, read) in zip(network.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other
        assert torch.equal(saved, read)
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


def test_large_networks_are_cut_into_shards_below_ten_megabytes(tmp_path: Path) -> None:
    config = replace(TINY_JEPA_T, width=256, num_heads=4, encoder_depth=2, predictor_depth=2)
    network = awake(JepaT(config))
    save_network(tmp_path, network, config)
    shards = list(tmp_path.glob("*.safetensors"))
    assert len(shards) > 1
    assert max(shard.stat().st_size for shard in shards) < 10_000_000
    loaded = JepaT(config)
    load_state(tmp_path, loaded)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), loaded.parameters(), strict=True))
    shards[0].unlink()
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(tmp_path, JepaT(config))
    cut(tmp_path / "model.safetensors.index.json")
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(tmp_path, JepaT(config))


def test_saving_again_leaves_nothing_of_the_old_shards(tmp_path: Path) -> None:
    large = replace(TINY_JEPA_T, width=256, num_heads=4)
    save_network(tmp_path / "net", JepaT(large), large)
    save_network(tmp_path / "net", JepaT(TINY_JEPA_T), TINY_JEPA_T)
    assert sorted(path.name for path in (tmp_path / "net").iterdir()) == ["config.json", TENSORS]


@pytest.mark.parametrize(
    "damage", [cut, Path.unlink, rename_a_tensor, reshape_a_tensor, drop_a_tensor, lambda path: path.write_bytes(b"")]
)
def test_damaged_tensors_are_refused(weights: Path, damage: Callable[[Path], object]) -> None:
    damage(weights / "jepa-t" / TENSORS)
    with pytest.raises(ValueError, match=r"jepa-t cannot be loaded .*; restore the folder"):
        load_state(weights / "jepa-t", JepaT(TINY_JEPA_T))


def test_tensors_of_another_network_are_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(weights / "ti-jepa", JepaT(TINY_JEPA_T))
    with pytest.raises(ValueError, match="cannot be loaded"):
        load_state(weights / "jepa-t", JepaT(replace(TINY_JEPA_T, encoder_depth=1)))


def write(text: str | bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (Path.unlink, "config.json is missing; restore or train the weights"),
        (cut, "config.json is broken"),
        (write(b"\xff\xfe\x00"), "config.json is broken"),
        (write("[]"), "kind None; expected: JepaTConfig"),
        (write('{"config": "JepaTConfig", "depth": 3}'), "unknown JepaTConfig keys"),
        (write('{"config": "JepaTConfig", "width": "wide"}'), "width is 'wide'"),
    ],
)
def test_broken_configs_are_refused(weights: Path, damage: Callable[[Path], object], message: str) -> None:
    damage(weights / "jepa-t" / "config.json")
    with pytest.raises(ValueError, match=message):
        load_config(weights / "jepa-t", JepaTConfig)


def test_swapped_parts_are_refused(weights: Path) -> None:
    with pytest.raises(ValueError, match="kind TIJepaConfig; expected: TokenizerConfig; were they swapped"):
        load_config(weights / "ti-jepa", TokenizerConfig)
    with pytest.raises(ValueError, match="kind TokenizerConfig; expected: TIJepaConfig"):
        load_config(weights / "tokenizer", TIJepaConfig)


def test_the_manifest_accepts_what_it_was_written_for(weights: Path) -> None:
    verify_manifest(weights)
    listed = json.loads((weights / MANIFEST).read_text())["sha256"]
    assert sorted(listed) == [
        f"{part}/{name}" for part in ("jepa-t", "ti-jepa", "tokenizer") for name in ("config.json", TENSORS)
    ]
    (weights / "README.md").write_text("words about the weights are not weights")
    write_manifest(weights)
    assert json.loads((weights / MANIFEST).read_text())["sha256"] == listed


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (MANIFEST, Path.unlink, "manifest.json is missing"),
        (MANIFEST, cut, "manifest.json is broken"),
        (MANIFEST, write(b"\xff\xfe\x00"), "manifest.json is broken"),
        (MANIFEST, write("{}"), "manifest.json is broken"),
        (MANIFEST, write('{"sha256": []}'), "manifest.json is broken"),
        (f"jepa-t/{TENSORS}", Path.unlink, "model.safetensors is missing"),
        (f"tokenizer/{TENSORS}", flip_a_bit, "is corrupt: its SHA-256 differs"),
        ("ti-jepa/config.json", cut, "is corrupt"),
        ("jepa-t/more.safetensors", write("x"), r"missing from the manifest: \['jepa-t/more.safetensors'\]"),
    ],
)
def test_weights_that_differ_from_the_manifest_are_refused(
    weights: Path, name: str, damage: Callable[[Path], object], message: str
) -> None:
    damage(weights / name)
    with pytest.raises(ValueError, match=message):
        verify_manifest(weights)


def test_weights_that_are_nowhere_are_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert resolve_weights(tmp_path) == tmp_path
    for source in (tmp_path / "none", "a/b/c"):
        with pytest.raises(ValueError, match="it is no folder, and it is no hub id, such as owner/name"):
            resolve_weights(source)
    with pytest.raises(ValueError, match="must not be asked while HF_HUB_OFFLINE is set"):
        resolve_weights("nobody/nothing")
    for source, revision in (("nobody/nothing@", None), ("nobody/nothing@a", "b")):
        with pytest.raises(ValueError, match="give one revision, as ID@REVISION"):
            resolve_weights(source, revision)
    with pytest.raises(ValueError, match="is a folder, which has no revision 'main'"):
        resolve_weights(tmp_path, "main")


def test_a_folder_is_replaced_only_when_all_is_written(tmp_path: Path) -> None:
    folder = tmp_path / "made"
    with replacing(folder) as partial:
        (partial / "a").write_text("first")
        assert not folder.exists()

    def fail() -> None:
        with replacing(folder) as partial:
            (partial / "a").write_text("second")
            raise OSError("no space left on device")

    with pytest.raises(OSError, match="no space left"):
        fail()
    assert (folder / "a").read_text() == "first"
    assert list(tmp_path.iterdir()) == [folder]


def test_a_disk_that_fills_while_saving_leaves_the_previous_weights(weights: Path) -> None:
    network = JepaT(TINY_JEPA_T)
    with largest_file(20_000), pytest.raises(OSError, match="jepa-t"):
        save_network(weights / "jepa-t", network, TINY_JEPA_T)
    assert sorted(path.name for path in weights.iterdir()) == ["jepa-t", MANIFEST, "ti-jepa", "tokenizer"]
    verify_manifest(weights)
