"""The command line, `python -m jepa_app generate|score|example|info|push`; it runs the same code as the studio."""

import argparse
import sys

from jepa_app.command_line import OneLineParser, telling_mistakes, without_collecting

with without_collecting():
    from jepa_app.commands.about import add_example, add_info
    from jepa_app.commands.generate import add_generate
    from jepa_app.commands.options import shared_options
    from jepa_app.commands.push import add_push
    from jepa_app.commands.score import add_score


@telling_mistakes
def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status: 0 for success, 2 for a user's mistake (reported on one line)."""
    options = build_parser().parse_args(arguments)
    options.run(options)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    parser = OneLineParser(prog="python -m jepa_app", description="Pictures from words, and words for pictures.")
    commands = parser.add_subparsers(
        required=True, metavar="generate|score|example|info|push", parser_class=OneLineParser
    )
    shared = shared_options()
    for add in (add_generate, add_score, add_example, add_info):
        add(commands, shared)
    add_push(commands)  # which neither loads weights nor computes
    return parser


if __name__ == "__main__":
    sys.exit(main())
