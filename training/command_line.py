"""What the measuring commands share: their arguments, how mistakes are told, and where figures go."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from training.settings import replace_settings

SettingsT = TypeVar("SettingsT")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser whose errors are one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake in one line and leave with status 2."""
        self.exit(2, f"error: {message}; see {self.prog} --help\n")


@dataclass(frozen=True, kw_only=True)
class Report:
    """What a command found: `document`, with "figures" and their "setting", and the same as Markdown for people."""

    document: dict[str, Any]
    table: str


def measuring_parser(module: str, description: str | None, defaults: Any, *, needs_out: bool) -> OneLineParser:
    """The arguments of every measuring command; `defaults` are the settings that --set changes."""
    parser = OneLineParser(prog=f"python -m training.{module}", description=description)
    parser.add_argument("weights", help="weights folder or hub id")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument(
        "--out", type=Path, required=needs_out, help="folder for figures.json and for pictures of what was measured"
    )
    parser.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    names = ", ".join(f"{name}={json.dumps(value)}" for name, value in asdict(defaults).items())
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=f"change what is measured (default: {names})"
    )
    return parser


def run(
    parser: OneLineParser,
    defaults: SettingsT,
    measure: Callable[[argparse.Namespace, SettingsT], Report],
    arguments: Sequence[str] | None,
) -> int:
    """Measure, print and write figures.json; exit status 0 done, 2 a user's mistake, told in one line."""
    options = parser.parse_args(arguments)
    try:
        report = measure(options, replace_settings(defaults, options.set))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    document = json.dumps(report.document, indent=2)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "figures.json").write_text(document + "\n", encoding="utf-8")
    print(document if options.json else report.table)
    return 0
