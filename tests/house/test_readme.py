"""The commands of the Markdown files exist with their flags, links lead somewhere, and what is named is there."""

import re
import shlex
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.documents import DOCUMENTS, NAMES, ROOT, blocks, without_blocks

README = DOCUMENTS["README.md"]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -r requirements.txt"
RUN_COMMAND = f"{INSTALL} && .venv/bin/python app.py"
TEST_COMMAND = f"{INSTALL} -r tests/requirements.txt && .venv/bin/python -m pytest"
OUR_PACKAGES = ("jepa_app", "training", "tests")
PATH = r"(?:jepa_app|training|tests|weights)/[\w./-]*\.(?:py|md|json|txt|toml|safetensors|css|js|html)"
each_document = pytest.mark.parametrize("name", NAMES)


def shell_lines(document: str) -> list[str]:
    """The lines of a document's shell blocks, continued lines joined, comments and prompts removed."""
    text = "\n".join(blocks(document, "bash", "sh", "shell", "console")).replace("\\\n", " ")
    lines = [line.strip().removeprefix("$ ") for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def python_calls() -> list[list[str]]:
    """Words of every call of our own programs: [target, *arguments], the target a module name or app.py."""
    calls = []
    for line in (line for document in DOCUMENTS.values() for line in shell_lines(document)):
        for command in re.split(r"&&|\||;", line):
            words = shlex.split(command, comments=True)
            places = [place for place, word in enumerate(words) if Path(word).name in ("python", "python3")]
            if words and Path(words[0]).name in ("accelerate", "torchrun") and "-m" in words:
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
    lines = shell_lines(README)
    assert lines.count(RUN_COMMAND) == 1
    assert lines.count(TEST_COMMAND) == 1


def test_every_module_that_is_run_exists() -> None:
    modules = {call[0] for call in python_calls() if call[0] != "app.py"}
    assert "jepa_app" in modules
    assert not [module for module in modules if find_spec(module) is None]


@each_document
def test_every_module_that_a_sentence_names_exists(name: str) -> None:
    named = re.findall(
        rf"`(?:python -m )?((?:{'|'.join(OUR_PACKAGES)})(?:\.[a-z]\w*)+)", without_blocks(DOCUMENTS[name])
    )
    assert not sorted({module for module in named if find_spec(module) is None})


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


def anchors(document: str) -> set[str]:
    """The anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)", without_blocks(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(name: str) -> list[tuple[Path, str]]:
    """Where the links and pictures of a document lead inside of the project: file and anchor, which may be empty."""
    targets = re.findall(r"\]\(([^)\s]+)\)|<img[^>]*\ssrc=\"([^\"]+)\"", DOCUMENTS[name])
    local = [target for target in (next(filter(None, pair)) for pair in targets) if "://" not in target]
    parts = [target.partition("#") for target in local]
    return [((ROOT / name).parent / path if path else ROOT / name, anchor) for path, _, anchor in parts]


@each_document
def test_links_and_pictures_lead_to_files(name: str) -> None:
    assert not [str(path) for path, _ in links(name) if not path.exists()]


@each_document
def test_anchors_lead_to_headings(name: str) -> None:
    found = {path: anchors(path.read_text(encoding="utf-8")) for path, anchor in links(name) if anchor}
    assert not [f"{path.name}#{anchor}" for path, anchor in links(name) if anchor and anchor not in found[path]]


def test_the_readme_leads_to_the_other_documents() -> None:
    linked = {path.resolve() for path, _ in links("README.md")}
    assert not [name for name in NAMES if name != "README.md" and (ROOT / name).resolve() not in linked]


@each_document
def test_named_files_exist(name: str) -> None:
    """Every path of ours that a document writes with its ending, in the folder map or in a sentence."""
    assert not sorted({path for path in re.findall(PATH, DOCUMENTS[name]) if not (ROOT / path).exists()})


@each_document
def test_what_is_said_to_be_in_a_file_is_there(name: str) -> None:
    """ "`guide` in `jepa_app/generation/flow.py`" leads a reader to a definition of that name."""
    said = re.findall(rf"`(\w+)` in\s`({PATH})`", DOCUMENTS[name])
    assert said or name != "README.md"
    missing = [
        f"{word} in {path}"
        for word, path in said
        if not re.search(rf"^(?:class |def )?{word}\b", (ROOT / path).read_text(encoding="utf-8"), flags=re.MULTILINE)
    ]
    assert not missing


def folder_map() -> set[str]:
    """The folders of the README's map, by indentation; a line may name several, and words follow after two spaces."""
    [text] = [block for block in blocks(README, "") if block.startswith("app.py ")]
    named: set[str] = set()
    above: dict[int, str] = {}
    for line in text.splitlines():
        indent = len(line) - len(line.lstrip())
        for word in re.split(r" {2,}", line.strip())[0].split():
            above[indent] = word if not indent else above[indent - 2] + word
            named.add(above[indent])
    return {name.removesuffix("/") for name in named if name.endswith("/")}


def test_the_folder_map_names_every_folder() -> None:
    """Every folder of the product is in the README's map, so that a reader finds where an idea lives, and no other."""
    modules = [path for package in ("jepa_app", "training") for path in (ROOT / package).rglob("*.py")]
    folders = {path.parent.relative_to(ROOT).as_posix() for path in modules}
    assert folder_map() == folders | {"tests", "weights"}
