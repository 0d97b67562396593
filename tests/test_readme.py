"""The README's commands exist with their flags, its links lead somewhere and its file map names what is there."""

import re
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
RUN_COMMAND = f"{INSTALL} && .venv/bin/python app.py"
TEST_COMMAND = f"{INSTALL} -r tests/requirements.txt && .venv/bin/python -m pytest"
OUR_PACKAGES = ("jepa_app", "training", "tests")


def shell_lines() -> list[str]:
    """The lines of the README's shell blocks, continued lines joined, comments and prompts removed."""
    blocks = re.findall(r"^```(?:bash|sh|shell|console)\n(.*?)^```", README, flags=re.DOTALL | re.MULTILINE)
    text = "\n".join(blocks).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def python_calls() -> list[list[str]]:
    """Words of every call of our own programs: [target, *arguments], the target a module name or app.py."""
    calls = []
    for line in shell_lines():
        for command in re.split(r"&&|\||;", line):
            words = shlex.split(command, comments=True)
            places = [place for place, word in enumerate(words) if Path(word).name in ("python", "python3")]
            if words and Path(words[0]).name == "accelerate" and "-m" in words:
                calls.append(words[words.index("-m") + 1 :])
            elif places and words[places[0] + 1 : places[0] + 2] == ["-m"]:
                calls.append(words[places[0] + 2 :])
            elif places:
                calls.append(words[places[0] + 1 :])
    return [call for call in calls if call and (call[0] == "app.py" or call[0].split(".")[0] in OUR_PACKAGES)]


def help_of(program: tuple[str, ...], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What --help prints for a program: a target and perhaps its subcommand."""
    target, *subcommand = program
    name = {"app.py": "app", "jepa_app": "jepa_app.__main__"}.get(target, target)
    monkeypatch.setattr(sys, "argv", [name, *subcommand, "--help"])
    with pytest.raises(SystemExit) as leaving:
        import_module(name).main()
    assert leaving.value.code == 0
    return capsys.readouterr().out


def test_the_two_commands_stand_in_the_readme_word_for_word() -> None:
    lines = shell_lines()
    assert lines.count(RUN_COMMAND) == 1
    assert lines.count(TEST_COMMAND) == 1


def test_every_module_that_is_run_exists() -> None:
    modules = {call[0] for call in python_calls() if call[0] != "app.py"}
    assert "jepa_app" in modules
    assert not [module for module in modules if find_spec(module) is None]


@pytest.mark.slow
def test_every_flag_exists(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    by_program: dict[tuple[str, ...], set[str]] = {}
    for call in python_calls():
        program = tuple(call[: 2 if call[0] in ("jepa_app", "training.corpus") else 1])
        flags = {word.split("=")[0] for word in call if word.startswith("--")}
        by_program.setdefault(program, set()).update(flags)
    missing = {}
    for program, flags in by_program.items():
        text = help_of(program, capsys, monkeypatch)
        unknown = sorted(flag for flag in flags if not re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text))
        if unknown:
            missing[" ".join(program)] = unknown
    assert not missing


def test_links_and_pictures_lead_to_files() -> None:
    targets = re.findall(r"\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", README)
    local = {next(filter(None, pair)).split("#")[0] for pair in targets}
    assert not [name for name in local if name and "://" not in name and not (ROOT / name).exists()]


def test_the_file_map_names_files_that_exist() -> None:
    """Every path of ours that the README writes with its ending, in the file map (by indentation) or in a sentence."""
    written = re.findall(r"(?:jepa_app|training|tests|weights)/[\w./-]*\.(?:py|md|json|txt|toml|safetensors)", README)
    assert not sorted({name for name in written if not (ROOT / name).exists()})


def test_the_file_map_is_complete() -> None:
    """Every module of the product is named in the README, so that a reader finds each idea's file."""
    modules = [*(ROOT / "jepa_app").rglob("*.py"), *(ROOT / "training").glob("*.py")]
    names = {path.name for path in modules if not path.name.startswith("__")}
    assert not sorted(name for name in names if not re.search(rf"(?<!\w){re.escape(name)}", README))
