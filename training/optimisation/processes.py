"""What several processes that train together share: batches, figures, mistakes, and the moment to stop.

They are started by a launcher (`accelerate launch`, torchrun); without one there is a single process, and everything
here does nothing.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object, parse_flag_from_env
from torch import Tensor, distributed, nn

LONGEST_WAIT = timedelta(hours=1)  # of the others, while the main process validates, calibrates or saves


class JointMistake(ValueError):
    """A mistake that all processes know of, so that only the main process has to tell it."""


def join_processes() -> PartialState:
    """Join the processes that the launcher started, and return this one's place among them."""
    # accelerate joins no processes on CPUs unless it is told that CPUs are meant
    on_cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=on_cpu, timeout=LONGEST_WAIT)


def leave_processes() -> None:
    """Part from the other processes once all have come here: a launcher ends the others as soon as one ends badly."""
    state = PartialState()
    if state.num_processes > 1:
        state.wait_for_everyone()
        state.destroy_process_group()


@contextmanager
def together() -> Iterator[None]:
    """Let all processes meet at the end of the block; a mistake of one ends the block in all of them.

    Raises:
        JointMistake: there are several processes and one of them has made a mistake; the first is told.
    """
    if PartialState().num_processes == 1:
        yield
        return
    mistake = ""
    try:
        yield
    except ValueError as made:
        mistake = str(made)
    except OSError as refused:
        if refused.filename is None:
            raise
        mistake = str(refused)
    if told := [text for text in gather_object([mistake]) if text]:
        raise JointMistake(told[0])


def own_part(batch_size: int) -> slice:
    """Return the places of a batch that this process has: equal parts, in the order of the processes.

    Raises:
        ValueError: the batch cannot be divided among the processes.
    """
    state = PartialState()
    size, rest = divmod(batch_size, state.num_processes)
    if rest:
        raise ValueError(
            f"schedule.batch_size is {batch_size}; allowed with {state.num_processes} processes: a multiple of "
            f"{state.num_processes}, as they share each batch"
        )
    return slice(state.process_index * size, (state.process_index + 1) * size)


@torch.no_grad()
def same_everywhere(module: nn.Module) -> None:
    """Give a module the parameters and buffers that it has in the main process."""
    if PartialState().num_processes > 1:
        for tensor in (*module.parameters(), *module.buffers()):
            whole = tensor.detach().contiguous()
            distributed.broadcast(whole, src=0)
            tensor.copy_(whole)


@torch.no_grad()
def average_gradients(module: nn.Module) -> None:
    """Replace the gradients of a module by their means over the processes, which all have them for the same parameters.

    The whole is sent at once after the backward pass: the networks are small, and torch's DistributedDataParallel would
    search the graph at every step for the parameters that a step does not train.
    """
    processes = PartialState().num_processes
    gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
    if processes > 1 and gradients:
        total = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.all_reduce(total)
        parts = (total / processes).split([gradient.numel() for gradient in gradients])
        torch._foreach_copy_(gradients, [part.view_as(own) for part, own in zip(parts, gradients, strict=True)])


def numbers_of_all(numbers: Sequence[float]) -> list[list[float]]:
    """Return the numbers of every process, the main one's first."""
    state = PartialState()
    if state.num_processes == 1:
        return [list(numbers)]
    own = torch.tensor(numbers, dtype=torch.float64, device=state.device)
    everyone = [torch.empty_like(own) for _ in range(state.num_processes)]
    distributed.all_gather(everyone, own)
    return torch.stack(everyone).tolist()


def mean_figures(figures: Mapping[str, float]) -> dict[str, float]:
    """Return the means over the processes of figures that have the same names in all of them."""
    columns = zip(*numbers_of_all(list(figures.values())), strict=True)
    return {name: sum(column) / len(column) for name, column in zip(figures, columns, strict=True)}


def rows_of_all(rows: Tensor) -> Tensor:
    """Return the rows (B, D) of all processes, in their order; gradients find their way back to the process.

    If every process computes the same loss of all rows, the mean of its gradients over the processes is the gradient.
    """
    state = PartialState()
    return rows if state.num_processes == 1 else _RowsOfAll.apply(rows, state.num_processes, state.process_index)


class _RowsOfAll(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, rows: Tensor, processes: int, place: int) -> Tensor:
        context.place, context.count = place, len(rows)
        everyone = [torch.empty_like(rows) for _ in range(processes)]
        distributed.all_gather(everyone, rows.contiguous())
        return torch.cat(everyone)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].clone()
        distributed.all_reduce(total)
        return total[context.place * context.count :][: context.count], None, None
