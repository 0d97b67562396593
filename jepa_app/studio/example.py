"""The run that the page shows first: finished once, kept beside the weights, and shown without computing it again."""

import json
import math
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from jepa_app.checkpoint import EXAMPLE_FILE, load_config
from jepa_app.config import JepaTConfig
from jepa_app.config_base import parse_json
from jepa_app.generation.picture import TokenStep
from jepa_app.generation.settings import STEPS
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
        seconds = parse_json(told["seconds"])
        request = GenerateRequest(**parse_json(told["request"]))
        job = Job(name=EXAMPLE, request=request, style_seed=request.seed)
        num_plan = _checked(folder, tokens, order, seconds)
    except (SafetensorError, KeyError, TypeError, ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{path} is broken ({error}); remove the file") from error
    for index, second in enumerate(seconds):
        known = order <= index
        revealed = (order == index).nonzero().flatten()
        job.add(TokenStep(index, len(seconds), tokens * known[:, None], known, revealed, num_plan), second)
    return job


def _checked(folder: Path, tokens: Tensor, order: Tensor, seconds: object) -> int:
    """Refuse what no run of these weights can be; return how many of the tokens are the plan's."""
    config = load_config(folder / "jepa-t", JepaTConfig)
    if not (isinstance(seconds, list) and 0 < len(seconds) <= STEPS[1] and all(map(_is_time, seconds))):
        raise ValueError("its seconds are no list of times, one for each step")
    if tokens.shape != (config.num_places, config.channels) or not tokens.isfinite().all():
        raise ValueError(f"it has tokens {tuple(tokens.shape)}; these weights make {config.num_places}")
    if order.shape != tokens.shape[:1] or not 0 <= int(order.min()) <= int(order.max()) < len(seconds):
        raise ValueError("not every token has a step")
    return config.num_places - config.num_tokens


def _is_time(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _digits(name: str) -> str:
    """Return what tells weights apart: their folder is called by its commit in the hub's cache."""
    return name.rpartition("@")[2]
