"""The corpus of captioned emoji: `python -m training.corpus build --out DIR [--size 128]`, or `select` for a part."""

import sys
from collections.abc import Sequence
from pathlib import Path

from jepa_app.command_line import OneLineParser, telling_mistakes
from training.drawings.build import build
from training.drawings.sources import SOURCES, StyleSource
from training.drawings.subset import select


def _sources_of(styles: str | None) -> list[StyleSource]:
    by_style = {source.style: source for source in SOURCES}
    asked = styles.split(",") if styles else list(by_style)
    unknown = [style for style in asked if style not in by_style]
    if unknown:
        raise ValueError(f"unknown style {', '.join(unknown)}; allowed: {', '.join(by_style)}")
    return [source for source in SOURCES if source.style in asked]


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; exit status: 0 for success, 2 for a user's mistake."""
    parser = OneLineParser(prog="python -m training.corpus", description="The corpus of captioned pictures.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("build", help="download the packages, render the pictures, write the captions")
    command.add_argument("--out", type=Path, required=True, help="folder of the corpus, new or of a stopped build")
    command.add_argument("--size", type=int, default=128, help="side of the pictures in pixels (default: 128)")
    command.add_argument("--styles", help="comma-separated styles (default: all eleven)")
    command = commands.add_parser("select", help="put a part of a corpus into a folder of its own, for quick trials")
    command.add_argument("--data", type=Path, required=True, help="the corpus")
    command.add_argument("--out", type=Path, required=True, help="new folder for the part")
    command.add_argument("--styles", default="", help="comma-separated styles (default: all)")
    command.add_argument(
        "--groups", default="", help="comma-separated groups or subgroups, as food-drink or hands (default: all)"
    )
    command.add_argument(
        "--no-variants",
        action="store_true",
        help="leave out labels that add gender, hair, direction or family members to others",
    )
    options = parser.parse_args(arguments)
    if options.command == "build":
        count = build(options.out, options.size, _sources_of(options.styles))
    else:
        styles, groups = (text.split(",") if text else () for text in (options.styles, options.groups))
        count = select(options.data, options.out, styles=styles, groups=groups, variants=not options.no_variants)
    print(f"{count} captioned pictures in {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
