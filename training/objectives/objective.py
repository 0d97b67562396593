"""What every objective is: a network to train, its moving average, and how a batch becomes a loss."""

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Generic

import torch
from PIL import Image
from torch import Tensor, nn

from training.data.batches import Batch
from training.optimisation.ema import Ema, NetworkT


class Objective(nn.Module, ABC, Generic[NetworkT]):
    """The network that is trained, and its moving average: the weights to use.

    Raises:
        ValueError: the decay is not in [0, 1).
    """

    network: NetworkT

    def __init__(self, network: NetworkT, ema_decay: float) -> None:
        super().__init__()
        self.network = network
        self.ema = Ema(network, ema_decay)

    @property
    def device(self) -> torch.device:
        """The device where the network computes."""
        return next(self.network.parameters()).device

    @abstractmethod
    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return the losses of a batch as scalars; "loss" is minimised.

        Processes that share a batch call this with their part of it: random numbers of pictures come from
        `jepa_app.masking.draw`, and the mean of each loss over the processes must be that of the whole batch.
        """

    def move_to(self, device: torch.device) -> None:
        """Move what is not part of the module, such as the text encoder, to the device to train on."""

    def after_step(self, step: int) -> None:
        """Let the moving average follow the network after step `step`, counted from 0."""
        self.ema.update(self.network, step)

    @abstractmethod
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return figures of the averaged network on unseen pictures."""

    def preview(self) -> Image.Image | None:
        """Return a grid of sample pictures, or None where there is nothing to show."""
        return None

    @abstractmethod
    def finished(self) -> Any:
        """Return the averaged network in the form it is used: in a pipeline, in a scorer, or as a tokenizer."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write the weights to use."""

    def save_unaveraged(self, folder: Path) -> None:
        """Write the network itself too, where it may be the better one to use; nothing by default."""
