"""The house's floors, read off the imports of every file: a folder imports only folders of lower floors.

Files of one folder may import one another, but never in a circle. Files at the top of a package are rooms of their own.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Every room and its floor: folders, and the files that lie in no folder. "training" and "ui" never meet.
FLOORS = {
    "config_base": -1,
    **dict.fromkeys(("command_line", "config", "compute", "limits", "masking", "pixels", "styles"), 0),
    **dict.fromkeys(("checkpoint", "plan"), 1),
    "models": 2,
    "files": 3,
    "generation": 4,
    "matching": 4,
    **dict.fromkeys(("engines", "hub", "lesson"), 5),
    "studio": 6,
    **dict.fromkeys(("datasets", "ui"), 7),
    "commands": 8,
    **dict.fromkeys(("__main__", "serve"), 9),
}
FLOORS = {"jepa_app": -1} | {f"jepa_app.{name}": floor for name, floor in FLOORS.items()} | {"app": 10}
TRAINING_FLOORS = {
    **dict.fromkeys(("settings", "optimisation"), 11),
    "command_line": 12,
    "data": 12,
    "objectives": 13,
    "peers": 14,
    "recipe_kinds": 15,
    "loop": 15,
    "judging": 15,
    "recipes": 16,
    "drawings": 16,
    "studies": 17,
    **dict.fromkeys(("bundle", "calibrate", "compare", "corpus", "evaluate", "soup", "train"), 18),
}
FLOORS |= {"training": 11} | {f"training.{name}": floor for name, floor in TRAINING_FLOORS.items()}
COMMANDS = {name for name, floor in FLOORS.items() if floor in (9, 18)}
# The first never imports the second, whatever their floors.
STRANGERS = (
    ("training", "jepa_app.ui"),
    ("training", "jepa_app.studio"),
    ("jepa_app", "training"),
    ("app", "training"),
    ("app", "torch"),  # the page knows requests and results, no tensors
    ("jepa_app.ui", "torch"),
    ("app", "tests"),
    ("jepa_app", "tests"),
    ("training", "tests"),
)
OURS = ("app", "jepa_app", "training")
TOP_LEVEL = {"app.py", "requirements.txt", "README.md", "jepa_app", "weights", "training", "tests", "pyproject.toml"}
MOST_LINES, MOST_MODULES, MOST_README_LINES = 300, 12, 250
MOST_FUNCTION_LINES, MOST_LAYOUT_LINES = 60, 80
TEXTS = ("jepa_app.ui.texts", "jepa_app.ui.texts_zh")  # tables of words, as long as the page needs


def module_name(path: Path) -> str:
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def files() -> list[Path]:
    return [ROOT / "app.py", *sorted((ROOT / "jepa_app").rglob("*.py")), *sorted((ROOT / "training").rglob("*.py"))]


def imports(path: Path) -> Iterator[str]:
    """Every imported module, also inside functions; `from package import module` counts as the module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the full name instead of a relative import"
            assert node.module
            for alias in node.names:
                inner = ROOT.joinpath(*node.module.split("."), alias.name)
                is_module = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield f"{node.module}.{alias.name}" if is_module else node.module


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room_of(module: str) -> str:
    return max((name for name in FLOORS if within(module, name)), key=len)


GRAPH = {module_name(path): set(imports(path)) for path in files()}
ARROWS = [
    (module, name)
    for module, names in GRAPH.items()
    for name in names
    if name.split(".")[0] in OURS and room_of(module) != room_of(name)
]


def test_every_file_lies_in_a_room_of_the_table() -> None:
    packages = {"jepa_app", "training"}
    assert [module for module in GRAPH if room_of(module) in packages and module not in packages] == []
    assert sorted(set(FLOORS) - set(GRAPH)) == []


def test_imports_point_strictly_down() -> None:
    wrong = [
        f"{module} (floor {FLOORS[room_of(module)]}) imports {name} (floor {FLOORS[room_of(name)]})"
        for module, name in ARROWS
        if FLOORS[room_of(name)] >= FLOORS[room_of(module)]
    ]
    assert not wrong


def test_no_library_file_imports_a_command() -> None:
    libraries = [(module, name) for module, name in ARROWS if module != "app"]  # which is the door of jepa_app.serve
    assert [f"{module} imports {name}" for module, name in libraries if room_of(name) in COMMANDS] == []


def test_no_file_of_a_study_imports_another_command() -> None:
    """A study may share the skeleton and the libraries beside it, but no file that is run by itself."""
    run = {module_name(path) for path in files() if '__name__ == "__main__"' in path.read_text(encoding="utf-8")}
    assert [f"{module} imports {name}" for module, names in GRAPH.items() for name in names & run] == []


def test_strangers_do_not_import_each_other() -> None:
    met = [
        f"{module} imports {name}"
        for module, names in GRAPH.items()
        for name in names
        for one, other in STRANGERS
        if within(module, one) and within(name, other)
    ]
    assert not met


def test_files_do_not_import_in_circles() -> None:
    TopologicalSorter(GRAPH).prepare()  # raises CycleError, which names the circle


def test_folders_do_not_import_in_circles() -> None:
    """The folders inside of ui too, which are one room of the table."""
    folders: dict[str, set[str]] = {}
    for module, names in GRAPH.items():
        folder = module.rpartition(".")[0] or module
        inner = {name.rpartition(".")[0] for name in names if name in GRAPH}
        folders.setdefault(folder, set()).update(inner - {folder, "jepa_app", "training", ""})
    for package in ("jepa_app", "training", "jepa_app.ui"):  # their own files stand above and below the folders
        folders.pop(package, None)
    TopologicalSorter(folders).prepare()


def test_files_are_short() -> None:
    lengths = {module_name(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES and name not in TEXTS} == {}


def functions(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            yield f"{module_name(path)}.{node.name}", node.end_lineno - node.lineno + 1


def test_functions_are_short() -> None:
    def most(name: str) -> int:
        return MOST_LAYOUT_LINES if within(name, "jepa_app.ui") else MOST_FUNCTION_LINES

    long = {name: lines for path in files() for name, lines in functions(path) if lines > most(name)}
    assert long == {}


def test_folders_hold_few_modules() -> None:
    folders = {path.parent for path in files()[1:]}
    numbers = {
        str(folder.relative_to(ROOT)): len([one for one in folder.glob("*.py") if one.name != "__init__.py"])
        for folder in folders
    }
    assert {name: number for name, number in numbers.items() if number > MOST_MODULES} == {}


@pytest.mark.parametrize("package", ["jepa_app", "training"])
def test_every_folder_says_what_lives_there(package: str) -> None:
    folders = {path.parent for path in files()[1:] if path.is_relative_to(ROOT / package)}
    silent = [
        str(folder.relative_to(ROOT))
        for folder in folders
        if not (folder / "__init__.py").is_file()
        or not ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
    ]
    assert silent == []


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= MOST_README_LINES


def test_the_top_level_stays_short() -> None:
    shown = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name != "__pycache__"}
    made_by_commands = {"data", "out", "runs"}  # ignored by git
    assert shown - made_by_commands <= TOP_LEVEL | {"LICENSE"}
