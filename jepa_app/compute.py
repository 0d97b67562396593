"""How this machine computes fastest: the type of the weights, their layout and the number of threads, as measured here.

Letters in shapes: M rows, D width.
"""

import ctypes
import os
import time
from collections.abc import Callable

import torch
from torch import nn


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time that a piece of work took, after one call that does not count."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Tell whether the device has matrix units for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return the type to sample in: half precision on CUDA, float32 on a CPU.

    A CPU that multiplies bfloat16 is no faster in it with the few rows of one picture (measured: 0.26 s against 0.23 s
    in float32), and its sums are rounded so coarsely that a picture made beside others would not stay the same.
    """
    if device.type == "cuda":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16
    return torch.float32


def lay_out_for_few_rows(network: nn.Module) -> None:
    """Store the weights of widening layers by columns, which a CPU multiplies faster with few rows.

    A step asks for a handful of tokens. The layers compute the same sums; measured on 4 to 32 rows of widths 256 and
    384, they take a half to four fifths of the time. Layers that narrow are as fast as they are.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.out_features >= layer.in_features:
            layer.weight.data = layer.weight.data.t().contiguous().t()


def keep_freed_memory() -> None:
    """Let glibc keep what is freed instead of giving it back and asking for it again at every step.

    A training step frees and takes hundreds of large tensors; without the page faults it is a tenth faster on a CPU.
    Elsewhere than on Linux with glibc nothing happens.
    """
    trim_threshold, mmap_threshold = -1, -3  # of mallopt, from malloc.h
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 1 << 30)
        library.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        return


def choose_threads(work: Callable[[], object], most: int | None = None) -> int:
    """Return how many threads to do a piece of work with, of 1, 2, 4, … up to `most` (None: the cores allowed).

    The fewest that take less than 1.3 times the least: the other cores have frames to pack. The number is left set.
    """
    most = most or len(os.sched_getaffinity(0))
    candidates = sorted({most, *(1 << power for power in range(most.bit_length()) if 1 << power <= most)})
    seconds = {}
    for threads in candidates:
        torch.set_num_threads(threads)
        seconds[threads] = seconds_of(work, repeats=3)
    enough = next(threads for threads in candidates if seconds[threads] <= 1.3 * min(seconds.values()))
    torch.set_num_threads(enough)
    return enough
