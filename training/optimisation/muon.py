"""Muon for weight matrices, next to torch's AdamW for everything else.

torch.optim.Muon orthogonalises in bfloat16 only, one matrix at a time, which is slow on a CPU without bfloat16 units.
This one stacks matrices of the same shape and uses a type that the machine multiplies fast.
"""

import functools
import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, overload

import torch
from torch import Tensor, nn

from jepa_app.compute import multiplies_bfloat16

HALF = (torch.float16, torch.bfloat16)
COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # quintic Newton-Schulz with the steepest slope at zero


def orthogonalise(matrices: Tensor, dtype: torch.dtype, steps: int = 5) -> Tensor:
    """Push the singular values of matrices (K, R, S) towards 1 by Newton-Schulz iterations.

    Source: Keller Jordan's Muon; the result has singular values between about 0.7 and 1.2.
    """
    x = matrices.to(dtype)
    tall = x.shape[1] > x.shape[2]
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    by_gram = dtype not in HALF and x.shape[2] >= 3 * x.shape[1]  # half precision would lose the small values
    x = (_iterate_gram if by_gram else _iterate)(x, steps)
    return (x.mT if tall else x).to(matrices.dtype)


def _iterate(x: Tensor, steps: int) -> Tensor:
    a, b, c = COEFFICIENTS
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x


def _iterate_gram(x: Tensor, steps: int) -> Tensor:
    """The same iterations on the square x x^T alone: wide matrices are multiplied only twice, not twice per step."""
    a, b, c = COEFFICIENTS
    gram = x @ x.mT  # (K, R, R)
    one = torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    whole = one.expand_as(gram)
    for step in range(steps):
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c) + a * one
        whole = factor @ whole if step else factor
        if step < steps - 1:
            gram = factor @ gram @ factor
    return whole @ x


class Muon(torch.optim.Optimizer):
    """Orthogonalised Nesterov momentum for matrices, with decoupled weight decay.

    Steps are scaled to the size of AdamW's (0.2 sqrt(max(rows, columns))), so both take the same learning rates.
    """

    def __init__(
        self, matrices: Iterable[nn.Parameter], *, lr: float, weight_decay: float = 0.02, momentum: float = 0.95
    ) -> None:
        super().__init__(list(matrices), {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Update all matrices that have a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._step_group([matrix for matrix in group["params"] if matrix.grad is not None], group)
        return loss

    def _step_group(self, matrices: list[nn.Parameter], group: dict[str, Any]) -> None:
        by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
        for matrix in matrices:
            by_shape[matrix.shape].append(matrix)
        for shape, same in by_shape.items():
            momenta = [self._momentum(matrix) for matrix in same]
            gradients = [matrix.grad for matrix in same if matrix.grad is not None]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            nesterov = torch._foreach_lerp(gradients, momenta, group["momentum"])
            update = orthogonalise(
                torch.stack(nesterov), torch.bfloat16 if multiplies_bfloat16(same[0].device) else torch.float32
            )
            torch._foreach_mul_(same, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(same, list(update.unbind()), alpha=-group["lr"] * 0.2 * math.sqrt(max(shape)))

    def _momentum(self, matrix: Tensor) -> Tensor:
        state = self.state[matrix]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(matrix)
        return state["momentum"]


def make_optimizers(
    network: nn.Module, *, matrix_lr: float, other_lr: float, weight_decay: float, muon: bool = True
) -> list[torch.optim.Optimizer]:
    """Give Muon the matrices inside the network (Linear weights), AdamW (betas 0.9, 0.95) all other parameters.

    With `muon` off, AdamW gets the matrices too, with the same learning rate and weight decay.

    Raises:
        ValueError: the network has no parameters.
    """
    linear = {id(layer.weight) for layer in network.modules() if isinstance(layer, nn.Linear)}
    parameters = [parameter for parameter in network.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if id(parameter) in linear]
    others = [parameter for parameter in parameters if id(parameter) not in linear]
    if not parameters:
        raise ValueError("the network has nothing to train; set schedule.steps=0 to fit its statistics only")
    adam = functools.partial(torch.optim.AdamW, betas=(0.9, 0.95), foreach=True)
    optimizers: list[torch.optim.Optimizer] = []
    if matrices:
        optimizers.append((Muon if muon else adam)(matrices, lr=matrix_lr, weight_decay=weight_decay))
    if others:
        optimizers.append(adam(others, lr=other_lr, weight_decay=0.0))
    return optimizers
