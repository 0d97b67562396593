"""The project installs from its own folder, with the same requirements as the lists that the README names."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def listed(file: str) -> list[str]:
    lines = (ROOT / file).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith(("#", "-r"))]


def test_the_extras_are_the_lists_of_the_folders() -> None:
    extras = PROJECT["optional-dependencies"]
    assert extras["train"] == listed("training/requirements.txt")
    assert extras["test"] == ["jepa-studio[train]", *listed("tests/requirements.txt")]
    assert extras["gpu"] == [line.split(";")[0] for line in listed("requirements.txt") if line.startswith("xformers")]
    assert set(extras["ray"]) <= set(extras["test"])
    assert PROJECT["dynamic"] == ["dependencies"]


@pytest.mark.slow
def test_what_is_installed_runs_from_anywhere(tiny_weights: Path, tmp_path: Path) -> None:
    def run(*words: str | Path, **surroundings: str) -> str:
        done = subprocess.run(
            words,
            check=False,
            cwd=tmp_path,
            env=os.environ | surroundings,
            capture_output=True,
            text=True,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    source = tmp_path / "source"
    for name in ("jepa_app", "training"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = ["wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)]
    run(sys.executable, "-m", "pip", "--quiet", *build)
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
        [metadata] = [name for name in files.namelist() if name.endswith("METADATA")]
        required = [
            Requirement(line.removeprefix("Requires-Dist: "))
            for line in files.read(metadata).decode().splitlines()
            if line.startswith("Requires-Dist: ") and "extra ==" not in line
        ]
    assert required == [Requirement(line) for line in listed("requirements.txt")]
    site = {"PYTHONPATH": str(tmp_path / "site")}
    out = tmp_path / "apple.png"
    call = "import sys; from jepa_app.__main__ import main; sys.exit(main())"
    asked = ["generate", "red apple", "--steps", "2", "--out", str(out), "--weights", str(tiny_weights)]
    run(sys.executable, "-c", call, *asked, **site)
    assert out.is_file()
    page = "import jepa_app; from jepa_app.ui import page; print(jepa_app.__file__, len(page.serving_options()))"
    assert str(tmp_path / "site") in run(sys.executable, "-c", page, **site)
    assert "--allow-origin" in run(sys.executable, "-c", "from jepa_app.serve import main; main()", "--help", **site)
