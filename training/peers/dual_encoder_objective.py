"""What the peers of TI-JEPA are trained on: every picture against every caption of its batch.

paper word -> code: InfoNCE (CLIP, arXiv 2103.00020) `softmax`; the pairwise sigmoid loss (SigLIP, arXiv 2303.15343)
`sigmoid`. Letters in shapes: B batch.
"""

import copy
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, logsigmoid

from jepa_app.checkpoint import save_network
from jepa_app.models.text import TextFeatures
from training.data.batches import Batch
from training.objectives.calibration import Anchors, fit_logistic
from training.objectives.ema import Ema
from training.objectives.text_cache import TextCache
from training.objectives.ti_jepa import effective_rank, first_of, jitter
from training.peers.dual_encoder import DualEncoder


class PeerObjective(nn.Module):
    """Network, its moving average and the contrastive loss that its config names.

    `anchors` hold the pictures that saved weights are calibrated on; `shift` is the largest shift and change of scale.
    """

    def __init__(
        self, network: DualEncoder, text: TextCache, anchors: Anchors, *, ema_decay: float, shift: float
    ) -> None:
        super().__init__()
        self.network = network
        self.ema = Ema(network, ema_decay)
        self.text = text
        self.anchors = anchors
        self.shift = shift

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss", a scalar."""
        text = self._text(batch)
        pixels = jitter(batch.pixels.to(text.tokens.device), self.shift, generator)
        logits = self.network.logits(self.network.pictures(pixels), self.network.captions(text))  # (B, B)
        return {"loss": (softmax_loss if self.network.config.loss == "softmax" else sigmoid_loss)(logits)}

    def _text(self, batch: Batch) -> TextFeatures:
        return self.text.features(batch.captions).to(self.network.scale.device, torch.float32)

    def after_step(self, step: int) -> None:
        """Let the moving average follow the network after step `step`, counted from 0."""
        self.ema.update(self.network, step)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's ranking of captions, and signs of collapse as for TI-JEPA."""
        if len(batch.captions) < 2:
            return {}
        network = self.ema.network
        order = torch.randperm(len(batch.captions), generator=generator, device=generator.device)
        pictures = network.pictures(batch.pixels.to(network.scale.device))
        energy = -pictures @ network.captions(self._text(batch)).T
        shuffled = order.to(energy.device)
        figures = {"first_of_10": first_of(energy[shuffled][:, shuffled], 10)}
        return figures | {"image_rank": effective_rank(pictures), "image_std": float(pictures.std(dim=0).mean())}

    def preview(self) -> None:
        """Return None: inner products have no picture to show."""

    @torch.no_grad()
    def finished(self) -> DualEncoder:
        """Return a copy of the averaged network, rounded to half precision, calibrated if pictures are held out."""
        network = copy.deepcopy(self.ema.network).half().float()
        heldout = self.anchors.heldout
        if len(heldout.captions) > 1:
            pictures = network.pictures(heldout.pixels.to(network.scale.device))
            energy = -(pictures @ network.captions(self._text(heldout)).T).cpu()
            right = torch.eye(len(energy), dtype=torch.bool)
            (scale,), offset = fit_logistic(energy[right][:, None], energy[~right][:, None])
            network.config = replace(network.config, calibration_scale=scale, calibration_offset=offset)
        return network

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to score with, to the part `peer`."""
        network = self.finished()
        save_network(folder / "peer", network.half(), network.config)


def softmax_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of pictures over captions and captions over pictures, logits (B, B)."""
    right = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def sigmoid_loss(logits: Tensor) -> Tensor:
    """Return the sum over captions of every pair's own log loss, averaged over pictures, logits (B, B)."""
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -logsigmoid(signs * logits).sum(dim=1).mean()
