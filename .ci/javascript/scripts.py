"""Print the scripts of the page as JSON, joined as the page joins them: [{"name", "text", "files": [[path, line]]}].

`line` is where a file begins in the text. The pieces are read off the calls of `fragment` in jepa_app/ui.
"""

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from jepa_app.ui.fragment import HERE, joined, scripts  # noqa: E402
from jepa_app.ui.language import SCRIPT  # noqa: E402


def fragments() -> Iterator[list[str]]:
    """The path and the further scripts of every call of `fragment`."""
    for path in sorted(HERE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "fragment":
                yield [ast.literal_eval(argument) for argument in node.args]


def told(files: list[Path]) -> dict[str, object]:
    """One joined script and the line on which each of its files begins."""
    text = joined(files)
    starts = [text.count("\n", 0, len(text) - len(joined(files[place:]))) + 1 for place in range(len(files))]
    names = [file.relative_to(ROOT).as_posix() for file in files]
    return {"name": names[-1], "text": text, "files": list(zip(names, starts, strict=True))}


pieces = [[SCRIPT], *(scripts(*names) for names in fragments())]
left_out = set(HERE.rglob("*.js")).difference(*pieces)
if left_out:
    sys.exit(f"no call of fragment() names {', '.join(sorted(map(str, left_out)))}")
print(json.dumps([told(files) for files in pieces]))
