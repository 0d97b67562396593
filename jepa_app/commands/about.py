"""`example`: the run that the page shows first; `info`: what runs on this machine."""

import argparse
from dataclasses import replace
from typing import Any

from jepa_app.commands.options import SUITED, load_studio, report
from jepa_app.studio.requests import GenerateRequest


def add_example(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `example` and its options."""
    example = commands.add_parser("example", parents=[shared], help="choose the run that the page shows first")
    example.set_defaults(run=run_example)
    example.add_argument("prompt", help="what its picture should show; its run is kept beside the weights")
    example.add_argument("--seed", type=int, help="the seed of the run (default: random)")


def add_info(commands: Any, shared: argparse.ArgumentParser) -> None:
    """Add `info`."""
    info = commands.add_parser("info", parents=[shared], help="show weights, device, attention backend and versions")
    info.set_defaults(run=run_info)


def run_example(options: argparse.Namespace) -> None:
    """`example`: make a picture and keep its run beside the weights, for the page to show first."""
    request = GenerateRequest(prompt=options.prompt, seed=options.seed)
    studio = load_studio(options)
    suited = replace(request, **{name: getattr(studio.defaults, name) for name in SUITED})
    file = str(studio.write_example(suited))
    report(options, {"prompt": options.prompt, "file": file}, file)


def run_info(options: argparse.Namespace) -> None:
    """`info`: what runs on this machine."""
    facts = load_studio(options).info()
    report(options, facts, "\n".join(f"{name:<11} {_plain(value)}" for name, value in facts.items()))


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {version}" for name, version in value.items())
    return ", ".join(value) if isinstance(value, list) else str(value)
