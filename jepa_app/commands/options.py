"""What the commands share: their common options, the studio they run, and how results are written and reported."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jepa_app.command_line import OneLineParser, check_weights_name, without_collecting
from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio

SUITED = ("steps", "guidance", "temperature")  # by default, what suits the weights


def shared_options() -> argparse.ArgumentParser:
    """The options of every command: weights, device and the form of the report."""
    shared = OneLineParser(add_help=False)
    shared.add_argument(
        "--weights",
        default=DEFAULT_WEIGHTS,
        help="weights folder, hub id or ID@REVISION (default: the bundled weights)",
    )
    shared.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N (default: auto)")
    shared.add_argument("--json", action="store_true", help="print a single JSON document")
    return shared


def load_studio(options: argparse.Namespace) -> Studio:
    """Load the weights that the options name, on their device."""
    check_weights_name(options.weights)
    with without_collecting():
        return Studio.load(options.weights, options.device)


def report(options: argparse.Namespace, document: Any, text: str) -> None:
    """Print the result: a single document with --json, plain text otherwise."""
    print(json.dumps(document, indent=1) if options.json else text)


def check_target(path: Path, endings: tuple[str, ...]) -> None:
    """Refuse a file that cannot be written, before any work is done."""
    if path.suffix.lower() not in endings:
        raise ValueError(f"{path} must end in {' or '.join(endings)}")
    if not path.parent.is_dir():
        raise ValueError(f"the folder {path.parent} does not exist; create it first")


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Tell a user's mistake where a file cannot be written."""
    try:
        yield
    except OSError as failure:
        raise ValueError(f"cannot write {path}: {failure.strerror or failure}") from failure
