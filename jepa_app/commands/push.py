"""`push`: weights to a repository of the Hugging Face hub."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jepa_app.commands.options import report
from jepa_app.hub.card import read_figures
from jepa_app.hub.upload import Pushed, push


def add_push(commands: Any) -> None:
    """Add the command and its options."""
    parser = commands.add_parser("push", help="push a weights folder to the Hugging Face hub")
    parser.set_defaults(run=run_push)
    parser.add_argument("weights", type=Path, help="weights folder; a README.md in it becomes the model card")
    parser.add_argument("repository", metavar="owner/name", help="repository, which is made if it is missing")
    parser.add_argument("--private", action="store_true", help="make the repository private")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to push to (default: main)")
    parser.add_argument("--figures", type=Path, help="the figures.json of training.evaluate, for the model card")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be pushed, without the network")
    parser.add_argument("--out", type=Path, help="new folder that keeps what is pushed")
    parser.add_argument("--json", action="store_true", help="print a single JSON document")


def run_push(options: argparse.Namespace) -> None:
    """`push`: show or upload the folder with weights, code and card."""
    if not options.weights.is_dir():
        raise ValueError(f"{options.weights} is no folder; give a weights folder")
    pushed = push(
        options.weights,
        options.repository,
        None if options.figures is None else read_figures(options.figures),
        private=options.private,
        revision=options.revision,
        dry_run=options.dry_run,
        out=options.out,
    )
    report(options, asdict(pushed), _told(pushed))


def _told(pushed: Pushed) -> str:
    total = f"{sum(pushed.files.values()) / 1e6:.1f} MB in {len(pushed.files)} files"
    if pushed.url is not None:
        return f"{total}: {pushed.url}"
    sizes = [f"{size:11,}  {name}" for name, size in pushed.files.items()]
    return "\n".join([*sizes, f"{total}; nothing was pushed", "", pushed.card])
