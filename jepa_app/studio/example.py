"""The run that the page shows first: finished once, kept beside the weights, and shown without computing it again."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from jepa_app.checkpoint import EXAMPLE_FILE
from jepa_app.generation.picture import TokenStep
from jepa_app.studio.export import weights_name
from jepa_app.studio.jobs import Job
from jepa_app.studio.requests import GenerateRequest

EXAMPLE = "example"  # the name of its job


def write_example(folder: Path, job: Job) -> None:
    """Keep a finished run beside the weights that made it."""
    assert job.request is not None
    last = job.kept[-1].step
    order = torch.full(last.known.shape, len(job.kept), dtype=torch.int16)
    for index, kept in reversed(list(enumerate(job.kept))):
        order[kept.step.known] = index
    told = {
        "request": json.dumps({name: value for name, value in asdict(job.request).items() if name != "edit"}),
        "seconds": json.dumps([round(kept.seconds, 3) for kept in job.kept]),
        "num_plan": str(last.num_plan),
        "weights": weights_name(folder),
    }
    tensors = {"tokens": last.tokens.float().contiguous(), "step": order}
    partial = folder / f".{EXAMPLE_FILE}.partial"
    save_file(tensors, partial, metadata=told)
    partial.chmod(0o644)
    partial.replace(folder / EXAMPLE_FILE)


def read_example(folder: Path) -> Job | None:
    """Return the run beside the weights as a job; None if there is none, or if other weights made it.

    Raises:
        ValueError: the file is broken.
    """
    path = folder / EXAMPLE_FILE
    if not path.is_file():
        return None
    try:
        with safe_open(path, "pt") as file:
            told, tokens, order = file.metadata(), file.get_tensor("tokens"), file.get_tensor("step")
        if _digits(told["weights"]) != _digits(weights_name(folder)):
            return None
        seconds, num_plan = json.loads(told["seconds"]), int(told["num_plan"])
        job = Job(name=EXAMPLE, request=GenerateRequest(**json.loads(told["request"])))
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise ValueError(f"{path} is broken ({error}); remove the file") from error
    for index, second in enumerate(seconds):
        known = order <= index
        revealed = (order == index).nonzero().flatten()
        job.add(TokenStep(index, len(seconds), tokens * known[:, None], known, revealed, num_plan), second)
    return job


def _digits(name: str) -> str:
    """Return what tells weights apart: their folder is called by its commit in the hub's cache."""
    return name.rpartition("@")[2]
