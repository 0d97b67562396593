"""The house's floors, read off the imports of every file: a file imports no file of a higher floor.

Files of one floor may import one another, but never in a circle.
"""

import ast
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parent.parent

# The table of floors; a module not named here is on the floor of the longest name that it starts with.
FLOORS = {
    "jepa_app": 0,
    "jepa_app.config": 0,
    "jepa_app.masking": 0,
    "jepa_app.compute": 0,
    "jepa_app.styles": 0,
    "jepa_app.limits": 0,
    "jepa_app.files": 1,
    "jepa_app.pixels": 0,
    "jepa_app.generation": 3,
    "jepa_app.matching": 3,
    "jepa_app.lesson": 4,
    "jepa_app.studio": 5,
    "jepa_app.models": 1,
    "jepa_app.models.d_jepa": 2,
    "jepa_app.models.jepa_t": 2,
    "jepa_app.models.ti_jepa": 2,
    "jepa_app.checkpoint": 3,
    "jepa_app.ui": 6,
    "jepa_app.__main__": 7,
    "app": 7,
    "training": 4,
    "training.loop": 5,
    "training.train": 6,
    "training.evaluate": 6,
    "training.compare": 6,
    "training.comparisons": 6,
    "training.tables": 4,
    "training.corpus": 6,
    "training.bundle": 6,
    "training.calibrate": 6,
    "training.probe": 6,
    "training.scenes": 6,
    "training.gallery": 6,
    "training.nearest": 6,
    "training.classes": 6,
    "training.sweep": 6,
}
# The first never imports the second, whatever their floors.
STRANGERS = (
    ("training", "jepa_app.ui"),
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


def floor_of(module: str) -> int:
    return FLOORS[max((name for name in FLOORS if within(module, name)), key=len)]


GRAPH = {module_name(path): set(imports(path)) for path in files()}


def test_imports_point_down() -> None:
    above = [
        f"{module} (floor {floor_of(module)}) imports {name} (floor {floor_of(name)})"
        for module, names in GRAPH.items()
        for name in names
        if name.split(".")[0] in OURS and floor_of(name) > floor_of(module)
    ]
    assert not above


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


def test_the_table_names_only_what_exists() -> None:
    assert sorted(set(FLOORS) - set(GRAPH)) == []


def test_the_top_level_stays_short() -> None:
    shown = {path.name for path in ROOT.iterdir() if not path.name.startswith(".") and path.name != "__pycache__"}
    made_by_commands = {"data", "out", "runs"}  # ignored by git
    assert shown - made_by_commands <= TOP_LEVEL | {"LICENSE"}
