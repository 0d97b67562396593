"""What the peers of TI-JEPA are trained on: every picture against every caption of its batch.

paper word -> code: InfoNCE (CLIP, arXiv 2103.00020) `softmax`; the pairwise sigmoid loss (SigLIP, arXiv 2303.15343)
`sigmoid`. Letters in shapes: B batch.
"""

import copy
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid

from jepa_app.checkpoint import save_network
from training.data.batches import Batch
from training.objectives.calibration import Anchors, fitted
from training.objectives.matching import MatchObjective, collapse_figures, first_of, jitter
from training.objectives.text_cache import TextCache
from training.optimisation.processes import rows_of_all
from training.peers.dual_encoder import DualEncoder, PeerScorer


class PeerObjective(MatchObjective[DualEncoder]):
    """The contrastive loss that the network's config names; `shift` is the largest shift and change of scale."""

    def __init__(
        self, network: DualEncoder, text: TextCache, anchors: Anchors, *, ema_decay: float, shift: float
    ) -> None:
        super().__init__(network, text, anchors, ema_decay=ema_decay)
        self.shift = shift

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss", a scalar."""
        pixels, text = self.inputs(batch)
        pixels = jitter(pixels, self.shift, generator)
        pictures, captions = rows_of_all(self.network.pictures(pixels)), rows_of_all(self.network.captions(text))
        logits = self.network.logits(pictures, captions)  # (B, B) of the batch that all processes share
        return {"loss": (softmax_loss if self.network.config.loss == "softmax" else sigmoid_loss)(logits)}

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's ranking of captions, and signs of collapse as for TI-JEPA."""
        if len(batch.captions) < 2:
            return {}
        network = self.ema.network
        pixels, text = self.inputs(batch)
        order = torch.randperm(len(text), generator=generator, device=generator.device).to(pixels.device)
        pictures = network.pictures(pixels)
        energy = -pictures @ network.captions(text).T
        return {"first_of_10": first_of(energy[order][:, order], 10)} | collapse_figures("image", pictures)

    @torch.no_grad()
    def finished(self) -> PeerScorer:
        """Return the averaged network as a scorer, in half precision and calibrated if pictures are held out."""
        scorer = PeerScorer(copy.deepcopy(self.ema.network).half().float(), self.text.encoder)
        terms = partial(scorer.terms, encode=self.text.features)
        scorer.network.config = fitted(scorer.network.config, terms, self.anchors)
        return scorer

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to score with, to the part `peer`."""
        network = self.finished().network
        save_network(folder / "peer", network.half(), network.config)


def softmax_loss(logits: Tensor) -> Tensor:
    """Return the mean cross entropy of pictures over captions and captions over pictures, from logits (B, B)."""
    right = torch.arange(len(logits), device=logits.device)
    return (cross_entropy(logits, right) + cross_entropy(logits.T, right)) / 2


def sigmoid_loss(logits: Tensor) -> Tensor:
    """Return the sum over captions of every pair's own log loss, averaged over pictures, from logits (B, B)."""
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    return -logsigmoid(signs * logits).sum(dim=1).mean()
