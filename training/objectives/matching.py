"""What objectives on pairs of a picture and its caption share: inputs, shifts and scales of pictures, and figures.

Letters in shapes: B batch, S picture side, T text tokens, W text width, D features.
"""

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample

from jepa_app.masking import draw
from jepa_app.models.text import TextFeatures
from training.data.batches import Batch
from training.objectives.calibration import Anchors
from training.objectives.objective import Objective
from training.objectives.text_cache import TextCache
from training.optimisation.ema import NetworkT


class MatchObjective(Objective[NetworkT]):
    """A network to train on pairs; `anchors` are the pictures that its weights are finally calibrated on."""

    def __init__(self, network: NetworkT, text: TextCache, anchors: Anchors, *, ema_decay: float) -> None:
        super().__init__(network, ema_decay)
        self.text = text
        self.anchors = anchors

    def move_to(self, device: torch.device) -> None:
        """Encode captions on the device to train on."""
        self.text.move_to(device)

    def inputs(self, batch: Batch) -> tuple[Tensor, TextFeatures]:
        """Return a batch's pictures (B, 3, S, S) and the features (B, T, W) of its captions, where the network is."""
        text = self.text.features(batch.captions).to(self.device, torch.float32)
        return batch.pixels.to(self.device), text


def collapse_figures(name: str, features: Tensor) -> dict[str, float]:
    """Return the standard deviation and the effective rank of features (B, D); both fall when features collapse."""
    return {f"{name}_std": float(features.std(dim=0).mean()), f"{name}_rank": effective_rank(features)}


def jitter(pixels: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Shift and scale pictures (B, 3, S, S) by up to `amount` of their side; what enters repeats the border."""
    if amount == 0:
        return pixels
    draws = 2 * draw(torch.rand, (len(pixels), 3), generator).to(pixels.device) - 1
    scale = torch.exp(amount * draws[:, 0])
    matrix = pixels.new_zeros(len(pixels), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = 2 * amount * draws[:, 1:]  # the sampling grid is 2 wide
    grid = affine_grid(matrix, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def first_of(energy: Tensor, count: int) -> float:
    """Return how often pair (i, i) of energies (B, B) beats the next count - 1 columns of row i; ties count as losses.

    The pictures must be in random order for the others to be random captions.
    """
    size = len(energy)
    rows = torch.arange(size, device=energy.device)
    columns = (rows[:, None] + torch.arange(1, min(count, size), device=energy.device)) % size  # (B, count - 1)
    return float((energy.diagonal() < energy.gather(1, columns).amin(dim=1)).float().mean())


def effective_rank(features: Tensor) -> float:
    """Return the exponential of the entropy of the normalised singular values of features (B, D) about their mean.

    Source: Roy and Vetterli, "The effective rank", EUSIPCO 2007; 1 when all features lie on one line.
    """
    values = torch.linalg.svdvals(features - features.mean(dim=0))
    shares = values / values.sum().clamp(min=1e-12)
    return float(torch.exp(-(shares * shares.clamp(min=1e-12).log()).sum()))
