"""Attention kernels on packed and padded batches: which is fastest where.

    python -m tests.benchmarks.attention [--json] [--rounds 20]

Rows of a sampler's step: a few queries each, a slot of kept keys each. On CUDA in bfloat16: xformers on the packed
rows, SDPA on padded ones, and torch.nn.attention.varlen on keys gathered end to end; on a CPU: SDPA on padded rows
against one call a row. "door" is what the attention door chooses.
"""

import statistics
import sys
from argparse import Namespace
from typing import Any

import torch
from torch import Tensor

from jepa_app.models.attention import Packing, attend, padded_sdpa, row_by_row_sdpa, xformers_installed
from tests.benchmarks.measure import Work, in_turn, report

HEADS, WIDTH, SLOT = 4, 64, 96
STEPS = {  # rows -> queries of each: alike, and as different as users at different steps
    "2_rows": (4, 4),
    "16_rows_alike": (4,) * 16,
    "16_rows_staggered": (1, 1, 2, 3, 4, 5, 6, 6, 1, 2, 2, 4, 5, 6, 3, 6),
    "16_rows_mixed": (1, 1, 2, 3, 4, 5, 6, 6, 1, 2, 12, 4, 5, 6, 25, 6),
    "64_rows_mixed": (1, 1, 2, 3, 4, 5, 6, 6, 1, 2, 12, 4, 5, 6, 25, 6) * 4,
}


def kernels(lengths: tuple[int, ...], device: torch.device, dtype: torch.dtype) -> dict[str, Work]:
    """The same attention by each kernel."""
    rows, generator = len(lengths), torch.Generator().manual_seed(0)
    key_lengths = torch.randint(20, SLOT + 1, (rows,), generator=generator).tolist()
    query = torch.randn(1, sum(lengths), HEADS, WIDTH, generator=generator).to(device, dtype)
    key, value = (torch.randn(rows, SLOT, HEADS, WIDTH, generator=generator).to(device, dtype) for _ in range(2))
    packing = Packing.of(lengths, key_lengths, query)
    works: dict[str, Work] = {
        "door": lambda: attend(query, key, value, packing),
        "padded": lambda: padded_sdpa(query, key, value, packing),
    }
    if device.type == "cuda":
        if xformers_installed():
            works["xformers"] = lambda: attend(query, key, value, packing, backend="xformers")
        works["varlen"] = varlen(query, key, value, lengths, key_lengths)
    else:
        works["row_by_row"] = lambda: row_by_row_sdpa(query, key, value, packing)
    return {name: synchronised(work, device) for name, work in works.items()}


def varlen(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], key_lengths: list[int]) -> Work:
    """PyTorch's packed attention, which wants keys end to end: they are gathered at each call, as a sampler would."""
    from torch.nn.attention.varlen import varlen_attn

    def starts(counts: tuple[int, ...] | list[int]) -> Tensor:
        return torch.tensor([0, *counts], device=query.device).cumsum(0).to(torch.int32)

    used = torch.arange(SLOT, device=query.device) < torch.tensor(key_lengths, device=query.device)[:, None]
    begins = (starts(lengths), starts(key_lengths), max(lengths), max(key_lengths))
    return lambda: varlen_attn(query[0], key[used], value[used], *begins)


def synchronised(work: Work, device: torch.device, calls: int = 20) -> Work:
    """Call a kernel some times, as the layers of a network do, and wait for the device."""

    def run() -> None:
        for _ in range(calls):
            work()
        if device.type == "cuda":
            torch.cuda.synchronize()

    return run


def measure(options: Namespace) -> tuple[dict[str, Any], dict[str, object]]:
    """Microseconds of a call of each kernel on each batch."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    figures: dict[str, Any] = {}
    for name, lengths in STEPS.items():
        for kernel, taken in in_turn(kernels(lengths, device, dtype), options.rounds).items():
            figures[f"us_{name}_{kernel}"] = 1e6 * statistics.median(taken) / 20
    return figures, {"dtype": str(dtype)}


def main() -> int:
    """Measure and print."""
    return report("attention", measure, "--rounds=20")


if __name__ == "__main__":
    sys.exit(main())
