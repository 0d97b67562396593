"""How this machine computes fastest: the dtype and layout of the weights, and the number of threads, as measured.

Letters in shapes: M rows, D width.
"""

import ctypes
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

FEWEST_ROWS = 4  # of a product
SECONDS_TO_START = 60.0  # threads
Part = TypeVar("Part")
Result = TypeVar("Result")
ALLOWED_DEVICES = "allowed: auto, cpu, cuda or cuda:N"


def seconds_of(work: Callable[[], object], repeats: int) -> float:
    """Return the shortest time that a piece of work took, after one warm-up call."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return min(times)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Return whether the device has matrix units for bfloat16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))


def choose_dtype(device: torch.device) -> torch.dtype:
    """Return the dtype for sampling: half precision on CUDA, float32 on a CPU.

    Even a CPU with bfloat16 units gains nothing from it with the few rows of one picture (measured: 0.26 s, against
    0.23 s in float32). Its sums are also rounded so coarsely that a picture would change when made alongside others.
    """
    if device.type == "cuda":
        return torch.bfloat16 if multiplies_bfloat16(device) else torch.float16
    return torch.float32


def keep_numbers_from_threads() -> None:
    """Make sums on a CPU the same whatever the number of threads; call it before the first product.

    MKL otherwise splits sums by the number of threads, and a seed would draw another picture where another number was
    measured to be fastest. It holds for 1, 2, 4, … threads. A picture takes a tenth to a fifth longer (measured).
    """
    os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")


def lay_out_for_few_rows(network: nn.Module) -> None:
    """Store the weights of widening layers by columns, which a CPU multiplies faster when there are few rows.

    A step asks for a handful of tokens. The layers compute the same sums. Measured on 4 to 32 rows of widths 256 and
    384, they take between a half and four fifths of the time. Narrowing layers would gain nothing.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Linear) and layer.out_features >= layer.in_features:
            layer.weight.data = layer.weight.data.t().contiguous().t()


class SteadyLinear(nn.Linear):
    """A linear layer that rounds each row the same on a CPU, however many rows there are."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., D) to (..., D')."""
        rows = x.numel() // self.in_features
        if not rows or rows >= FEWEST_ROWS:
            return super().forward(x)
        padded = pad(x.reshape(rows, self.in_features), (0, 0, 0, FEWEST_ROWS - rows))
        return super().forward(padded)[:rows].reshape(*x.shape[:-1], self.out_features)


def keep_numbers_from_company(network: nn.Module) -> None:
    """Make a picture the same bytes alone and among others on a CPU: its rows then share products with theirs.

    The kernels for one to three rows round otherwise than those for more, which agree for layers of 32 columns and more
    (measured; MKL promises it only for equal shapes). With `keep_numbers_from_threads` and the padded attention of
    `models.attention`, nothing of a picture depends on what else is made.
    """
    for layer in network.modules():
        if type(layer) is nn.Linear:
            layer.__class__ = SteadyLinear


def keep_freed_memory() -> None:
    """Let glibc keep freed memory instead of returning it to the system and requesting it again at every step.

    A training step frees and allocates hundreds of large tensors; without the page faults it is a tenth faster on a
    CPU. On anything but Linux with glibc, this does nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # parameters of mallopt, from malloc.h
    try:
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(mmap_threshold, 1 << 30)
        library.mallopt(trim_threshold, (1 << 31) - 1)
    except (OSError, AttributeError):
        return


def share_memory_pools() -> None:
    """Let all threads allocate from two pools of glibc: by default each of many threads keeps one of its own.

    Call it before threads start. On anything but Linux with glibc, this does nothing.
    """
    max_arenas = -8  # a parameter of mallopt, from malloc.h
    try:
        ctypes.CDLL("libc.so.6").mallopt(max_arenas, 2)
    except (OSError, AttributeError):
        return


def checked_device(name: str) -> torch.device:
    """Return the device of a name: auto (a GPU if there is one), cpu, cuda or cuda:N.

    Raises:
        ValueError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as unknown:
        raise ValueError(f"device is {name!r}; {ALLOWED_DEVICES}") from unknown
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; {ALLOWED_DEVICES}")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device is {name!r}, but {torch.cuda.device_count()} CUDA devices are available; use --device cpu"
        )
    return device


def choose_threads(work: Callable[[], object], most: int | None = None) -> int:
    """Return how many threads to use for a piece of work, out of 1, 2, 4, … up to `most` (None: the allowed cores).

    Other numbers cut tensors where vector instructions do not fit, and the last digits change there. The chosen number
    is the fewest that take less than 1.3 times the shortest time; the other cores are left free to encode frames. It
    stays set.
    """
    most = most or allowed_cores()
    candidates = [1 << power for power in range(most.bit_length())]
    seconds = {}
    for threads in candidates:
        torch.set_num_threads(threads)
        seconds[threads] = seconds_of(work, repeats=2)
    enough = next(threads for threads in candidates if seconds[threads] <= 1.3 * min(seconds.values()))
    torch.set_num_threads(enough)
    return enough


def allowed_cores() -> int:
    """Return how many cores this process may use: those that the system gives it, or fewer by `OMP_NUM_THREADS`."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0))
    return min(cores, int(wanted)) if wanted.isdigit() and int(wanted) else cores


def on_all_cores(work: Callable[[Part], Result], parts: Sequence[Part], device: torch.device) -> list[Result]:
    """Work on parts that do not depend on one another, on a CPU one on each core, and return the results in order.

    Torch's own threads wait for one another after every small product, for very long if others use a core too; threads
    that have a whole part each do not. How the parts are shared out does not reach the numbers.
    """
    workers = min(allowed_cores(), len(parts)) if device.type == "cpu" else 1
    if workers <= 1:
        return [work(part) for part in parts]
    before, all_there = torch.get_num_threads(), threading.Barrier(workers + 1, timeout=SECONDS_TO_START)

    def begin() -> None:
        torch.get_num_threads()  # a thread's first use of torch sets the number that others set last: let it be now
        torch.set_num_threads(1)
        all_there.wait()

    with ThreadPoolExecutor(workers, initializer=begin) as pool:
        results = pool.map(work, parts)
        all_there.wait()
        torch.set_num_threads(before)  # threads of others that start now inherit what was set last, by whichever thread
        return list(results)
