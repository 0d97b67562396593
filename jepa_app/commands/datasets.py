"""What `score` and `generate` share for data sets: their options, and the run with its report."""

import argparse
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from jepa_app.checkpoint import resolve_weights, verify_manifest
from jepa_app.command_line import check_folder, check_weights_name
from jepa_app.commands.options import report, writing
from jepa_app.compute import checked_device

if TYPE_CHECKING:
    from jepa_app.datasets.tasks import Task

LOCAL = "local"
ONLY = ("ray", "workers", "image_column", "caption_column")  # the options that belong to --dataset
PACKAGES = {"pyarrow": "pyarrow", "ray": "'ray[serve,data]>=2.50,<3'"}
MOST_PROBLEMS = 5  # that are told on the one line


def add_dataset_options(parser: argparse.ArgumentParser, files: str, *, with_pictures: bool) -> None:
    """Add the options that belong to --dataset."""
    parser.add_argument("--dataset", nargs="+", metavar="FILES", help=f"{files}; --out is then a folder")
    if with_pictures:
        parser.add_argument("--image-column", help="column of the pictures (default: it is looked for)")
    parser.add_argument("--caption-column", help="column of the words (default: it is looked for)")
    parser.add_argument(
        "--ray", nargs="?", const=LOCAL, metavar="ADDRESS", help="use this Ray cluster, or one of this machine"
    )
    parser.add_argument("--workers", type=int, help="workers on the cluster (default: its GPUs or CPUs)")


def refuse_dataset_options(options: argparse.Namespace) -> None:
    """Refuse the options that belong to --dataset.

    Raises:
        ValueError: one of them is there.
    """
    for name in ONLY:
        if getattr(options, name, None) is not None:
            raise ValueError(f"--{name.replace('_', '-')} works only with --dataset")


def check_dataset_options(options: argparse.Namespace, others: dict[str, str]) -> None:
    """Check, before anything is loaded, that --dataset has what it needs and none of the `others`, named as typed.

    Raises:
        ValueError: an option is missing, wrong or does not go with --dataset, or a package is not installed.
    """
    for name, typed in others.items():
        if getattr(options, name):
            raise ValueError(f"--dataset takes the place of {typed}; give one of them")
    if options.out is None:
        raise ValueError("--out is missing; name the folder to write, for example --out scores/")
    if options.workers is not None and options.ray is None:
        raise ValueError("--workers works only with --ray")
    if options.workers is not None and options.workers < 1:
        raise ValueError(f"--workers is {options.workers}; allowed: 1 or more")
    for package, wanted_for in (("pyarrow", "--dataset"), ("ray", "--ray" if options.ray is not None else None)):
        if wanted_for is not None and find_spec(package) is None:
            raise ValueError(
                f"{wanted_for} needs {package}, which is not installed; install it with pip install {PACKAGES[package]}"
            )
    check_folder(options.out)
    check_weights_name(options.weights)
    if options.ray is None:
        checked_device(options.device)
    verify_manifest(resolve_weights(options.weights))


def weights_place(weights: object) -> str:
    """Return the full path of a weights folder, which workers in other folders find too, or the hub id and commit.

    A branch may move on while workers load it, or before a run is continued.
    """
    if Path(str(weights)).is_dir():
        return str(Path(str(weights)).resolve())
    commit = resolve_weights(str(weights)).name  # the hub's cache names its folders so
    return f"{str(weights).partition('@')[0]}@{commit}"


def run_dataset(options: argparse.Namespace, task: "Task") -> None:
    """Do a task with every row and report the totals.

    Raises:
        ValueError: as `run_task`, or some shards have no output.
    """
    from jepa_app.datasets.running import run_task

    with writing(options.out):
        totals = run_task(task, options.dataset, options.out, options.device, options.ray, options.workers)
    before = f"; {totals.shards_before} of {totals.shards} shards were there" if totals.shards_before else ""
    text = (
        f"{totals.rows} rows, {totals.errors} with an error, in {totals.seconds:.1f} s "
        f"({totals.rows_a_second:.1f} rows a second){before}; the files are in {options.out}"
    )
    report(options, {**asdict(totals), "out": str(options.out)}, text)
    if totals.problems:
        rest = len(totals.problems) - MOST_PROBLEMS
        told = "; ".join(totals.problems[:MOST_PROBLEMS]) + (f"; and {rest} more" if rest > 0 else "")
        raise ValueError(f"{len(totals.problems)} of {totals.shards} shards have no output: {told}")
