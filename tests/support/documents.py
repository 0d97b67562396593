"""The project's Markdown files, whose commands, snippets, links and named paths the tests hold to what is there."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES = (
    "README.md",
    "jepa_app/README.md",
    "training/README.md",
    "training/RESULTS.md",
    "tests/benchmarks/RESULTS.md",
    "weights/README.md",
)
DOCUMENTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in NAMES}


def blocks(text: str, *languages: str) -> list[str]:
    """The contents of the fenced blocks of some languages, "" for blocks without one."""
    found = re.findall(r"^```(\w*)\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    return [content for language, content in found if language in languages]


def without_blocks(text: str) -> str:
    """The text between the fenced blocks."""
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
