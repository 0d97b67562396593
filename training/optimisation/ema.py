"""Exponential moving average of a network: the target encoder of the loss and the weights that are published."""

import copy
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Ema(nn.Module, Generic[NetworkT]):
    """A frozen copy of a network that follows it: average = decay * average + (1 - decay) * network.

    The decay rises with the step from 0.1 to `decay`, so that the average forgets the random start quickly.

    Raises:
        ValueError: the decay is not in [0, 1).
    """

    network: NetworkT

    def __init__(self, network: NetworkT, decay: float = 0.999) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ValueError(f"ema_decay is {decay}; allowed: 0 to below 1")
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.decay = decay

    def decay_at(self, step: int) -> float:
        """Return the decay at a step, counted from 0."""
        return min(self.decay, (1 + step) / (10 + step))

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Move the average towards the network by one step.

        Raises:
            RuntimeError: the network has other parameters.
        """
        average: list[Tensor] = list(self.network.parameters())
        current = [parameter.detach() for parameter in network.parameters()]
        torch._foreach_lerp_(average, current, 1 - self.decay_at(step))

    def train(self, mode: bool = True) -> "Ema[NetworkT]":
        """Stay in evaluation mode whatever the argument."""
        del mode
        return super().train(False)
