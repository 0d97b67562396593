"""How this machine computes fastest: the type of the weights, their layout and the number of threads, as measured here.

Letters in shapes: M rows, D width.
"""

import os
import time
from collections.abc import Callable

import torch
from torch import nn

MATRIX = 512  # side of the matrices whose product is timed


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time that a piece of work took, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def matrix_rate(dtype: torch.dtype, size: int = MATRIX) -> float:
    """Return the operations a second (multiplications and additions) of square matrix products on the CPU."""
    left, right = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: left @ right, repeats=3)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has matrix units for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return the type to sample in: half precision on CUDA, bfloat16 on a CPU that multiplies faster in it."""
    if device.type == "cuda":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16
    if not multiplies_bfloat16(device):
        return torch.float32
    return torch.bfloat16 if matrix_rate(torch.bfloat16) > 1.2 * matrix_rate(torch.float32) else torch.float32


def lay_out_for_few_rows(network: nn.Module) -> None:
    """Store the weights of widening layers by columns, which a CPU multiplies faster with few rows.

    A step asks for a handful of tokens. The layers compute the same sums; measured on 4 to 32 rows of widths 256 and
    384, they take a half to four fifths of the time. Layers that narrow are as fast as they are.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.out_features >= layer.in_features:
            layer.weight.data = layer.weight.data.t().contiguous().t()


def choose_threads(work: Callable[[], object], most: int | None = None) -> int:
    """Return how many threads do a piece of work fastest, of 1, 2, 4, … up to `most` (None: the cores allowed).

    The number is left set for the calling thread.
    """
    most = most or len(os.sched_getaffinity(0))
    candidates = sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})
    seconds = {}
    for threads in candidates:
        torch.set_num_threads(threads)
        seconds[threads] = seconds_of(work, repeats=2)
    fastest = min(seconds, key=lambda threads: seconds[threads])
    torch.set_num_threads(fastest)
    return fastest
