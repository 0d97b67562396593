"""The code that weights carry: the modules that their pipelines import, copied as they are.

A copy is byte for byte a file of this package. What a module needs is read off its imports.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE_FOLDER = Path(__file__).parent.parent
OPENED = ("jepa_app.generation.pipeline", "jepa_app.matching.transformers_face")
"""The modules that the openings import."""


def needed_files() -> dict[str, Path]:
    """Return the files that the opened modules need: name, from the package's folder on -> file."""
    waiting, found = list(OPENED), dict[str, Path]()
    while waiting:
        file = _file_of(waiting.pop())
        assert file is not None
        name = file.relative_to(PACKAGE_FOLDER.parent).as_posix()
        if name not in found:
            found[name] = file
            waiting += _imported(file)
    packages = {parent / "__init__.py" for file in found.values() for parent in _packages_of(file)}
    tables = {table for file in packages for table in file.parent.glob("*.json")}
    found |= {file.relative_to(PACKAGE_FOLDER.parent).as_posix(): file for file in packages | tables}
    return dict(sorted(found.items()))


def _packages_of(file: Path) -> Iterator[Path]:
    return (parent for parent in file.parents if parent.is_relative_to(PACKAGE_FOLDER))


def _imported(file: Path) -> Iterator[str]:
    """Name the modules of this package that a file imports, also inside functions; `import x.y` is not written here."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == PACKAGE_FOLDER.name:
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (name for name in (node.module, *inner) if _file_of(name) is not None)


def _file_of(module: str) -> Path | None:
    place = PACKAGE_FOLDER.parent.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.is_file()), None)
