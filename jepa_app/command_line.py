"""What all command lines share: a user's mistake is reported on one line on standard error, with exit status 2."""

import argparse
import functools
import sys
from collections.abc import Callable
from typing import NoReturn, ParamSpec

MISTAKE = 2  # exit status for a user's mistake; 1 is for any other failure

Arguments = ParamSpec("Arguments")


class OneLineParser(argparse.ArgumentParser):
    """An argument parser that prints errors on one line, without the usage text."""

    def error(self, message: str) -> NoReturn:
        """Print the mistake on one line and exit with status 2."""
        self.exit(MISTAKE, f"error: {message}; see {self.prog} --help\n")


def tell(mistake: Exception) -> int:
    """Print a mistake on one line on standard error and return its exit status."""
    print("error:", " ".join(str(mistake).split()), file=sys.stderr)
    return MISTAKE


def telling_mistakes(command: Callable[Arguments, int]) -> Callable[Arguments, int]:
    """Report a command's ValueErrors on one line; in every other case the command returns the exit status."""

    @functools.wraps(command)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except ValueError as mistake:
            return tell(mistake)

    return told
