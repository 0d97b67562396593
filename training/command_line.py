"""What the measuring commands share: their arguments, and where figures are written."""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from jepa_app.command_line import OneLineParser, check_folder, telling_mistakes
from jepa_app.compute import checked_device
from jepa_app.files.whole_files import write_whole
from training.settings import replace_settings

SettingsT = TypeVar("SettingsT")


@dataclass(frozen=True, kw_only=True)
class Report:
    """A command's result: `document`, with "figures" and their "setting", and the same as Markdown for people."""

    document: dict[str, Any]
    table: str

    def print(self, *, as_json: bool) -> None:
        """Print the document, or the Markdown."""
        print(self.text if as_json else self.table)

    @property
    def text(self) -> str:
        """The document as JSON."""
        return json.dumps(self.document, indent=2)


def weights_parser(module: str, description: str | None) -> OneLineParser:
    """The arguments of every command that measures weights on pictures."""
    parser = OneLineParser(prog=f"python -m training.{module}", description=description)
    parser.add_argument("weights", help="weights folder, hub id or ID@REVISION")
    parser.add_argument("--data", type=Path, required=True, help="folder of captioned pictures")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    return parser


def measuring_parser(module: str, description: str | None, defaults: Any, *, needs_out: bool) -> OneLineParser:
    """The arguments of a measuring command with settings; `defaults` are the settings that --set changes."""
    parser = weights_parser(module, description)
    parser.add_argument(
        "--out", type=Path, required=needs_out, help="folder for figures.json and for pictures of what was measured"
    )
    parser.add_argument("--device", help="cpu or cuda (default: a GPU if there is one)")
    names = ", ".join(f"{name}={json.dumps(value)}" for name, value in asdict(defaults).items())
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help=f"change what is measured (default: {names})"
    )
    return parser


@telling_mistakes
def run(
    parser: OneLineParser,
    defaults: SettingsT,
    measure: Callable[[argparse.Namespace, SettingsT], Report],
    arguments: Sequence[str] | None,
    suit: Callable[[SettingsT, str], SettingsT],
) -> int:
    """Measure, print and write figures.json; exit status: 0 for success, 2 for a user's mistake.

    `suit` adapts the defaults to the weights.
    """
    options = parser.parse_args(arguments)
    replace_settings(defaults, options.set)  # mistakes in them are reported before the weights are looked for
    if options.device:
        checked_device(options.device)
    if options.out:
        check_folder(options.out)
    report = measure(options, replace_settings(suit(defaults, options.weights), options.set))
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        write_whole(options.out / "figures.json", report.text + "\n")
    report.print(as_json=options.json)
    return 0
