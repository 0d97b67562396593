"""What all command lines share: a user's mistake is reported on one line on standard error, with exit status 2."""

import argparse
import functools
import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn, ParamSpec

LAST_PORT = 65535
PROXIES = ("NO_PROXY", "no_proxy")
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
    """Report a command's ValueErrors, and files that cannot be used, on one line; else it returns the exit status."""

    @functools.wraps(command)
    def told(*args: Arguments.args, **kwargs: Arguments.kwargs) -> int:
        try:
            return command(*args, **kwargs)
        except ValueError as mistake:
            return tell(mistake)
        except OSError as refused:
            if refused.filename is None:
                raise
            return tell(refused)

    return told


@contextmanager
def without_collecting() -> Iterator[None]:
    """Do not look for garbage while packages are imported and networks loaded: nearly all that is made then stays.

    It takes a sixth off the time until the studio answers.
    """
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


@contextmanager
def past_proxies() -> Iterator[None]:
    """Let requests to this machine pass by any proxy: the server asks itself whether it has started."""
    before = {name: os.environ.get(name) for name in PROXIES}
    os.environ.update(dict.fromkeys(PROXIES, "*"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def bracketed(host: str | None) -> str | None:
    """Return a host as it stands in an address: one of IPv6 in brackets."""
    return f"[{host}]" if host and ":" in host and not host.startswith("[") else host


def check_folder(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to, before the work is begun whose results it is for.

    Raises:
        ValueError: the message says why.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        is_writable = os.access(folder, os.W_OK)
        with suppress(OSError):  # somebody else uses it already
            for path in missing:
                path.rmdir()
    except OSError as refused:
        raise ValueError(f"cannot write {folder}: {refused.strerror or refused}") from refused
    if not is_writable:
        raise ValueError(f"cannot write {folder}: it belongs to somebody else")


def check_weights_name(weights: object) -> None:
    """Refuse an empty name of weights, which would be the current folder.

    Raises:
        ValueError: it is empty.
    """
    if not str(weights).strip():
        raise ValueError("--weights is empty; name a weights folder or hub id, or leave it out")


def check_address(host: str | None, port: int | None) -> None:
    """Refuse an address that cannot be listened on, before the work of loading is begun.

    Raises:
        ValueError: the port is out of range or taken, or the host is not an address of this machine.
    """
    if port is not None and not 1 <= port <= LAST_PORT:
        raise ValueError(f"--port is {port}; allowed: 1 to {LAST_PORT}")
    try:
        found = socket.getaddrinfo(
            (host or "").strip("[]") or "127.0.0.1", port or 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as unknown:
        raise ValueError(f"--host is {host!r}, which is not an address of this machine ({unknown})") from unknown
    family, kind, protocol, _, address = found[0]
    with socket.socket(family, kind, protocol) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(address)
        except OSError as refused:
            wanted = f"--host {host or '127.0.0.1'}" + (f" --port {port}" if port else "")
            raise ValueError(f"{wanted} cannot be listened on: {refused.strerror}") from refused
