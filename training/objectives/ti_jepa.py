"""What TI-JEPA is trained on: prediction errors in both directions, with averaged targets and without negatives.

paper word -> code: f-bar the image encoder of the moving average, tau `ema_decay`.
Letters in shapes: B batch, N patches, V visible patches, Q asked patches, T text tokens, D width, S picture side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor, nn
from torch.nn.functional import affine_grid, grid_sample, mse_loss

from jepa_app.checkpoint import save_network
from jepa_app.masking import multi_block_mask
from jepa_app.matching.energies import picture_features
from jepa_app.models.text import TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from training.data.batches import Batch
from training.objectives.calibration import Anchors, finish, grouped_energies
from training.objectives.ema import Ema
from training.objectives.text_cache import TextCache


@dataclass(frozen=True, kw_only=True)
class TIJepaLoss:
    """Weights and shares of the TI-JEPA objective.

    `text_to_image_weight` and `image_to_text_weight` are the weights of the two directions, `text_drop` the probability
    of the null text. `whole_share` of a batch is seen whole, the rest through a mask. `asked` patches are asked for
    from the caption alone, `asked_hidden` from caption and visible patches. `jitter` is the largest shift and change
    of scale of a picture as a share of its side. Without `averaged_targets` the encoder that is trained makes its own
    targets, without gradient.

    Raises:
        ValueError: a share outside [0, 1], no patch asked for, or a weight below 0.
    """

    text_to_image_weight: float = 1.0
    image_to_text_weight: float = 2.0
    text_drop: float = 0.15
    whole_share: float = 0.4
    asked: int = 32
    asked_hidden: int = 16
    jitter: float = 0.12
    averaged_targets: bool = True

    def __post_init__(self) -> None:
        for name in ("text_drop", "whole_share", "jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"loss.{name} is {getattr(self, name)}; allowed: 0 to 1")
        lowest = {"asked": 1, "asked_hidden": 1, "text_to_image_weight": 0, "image_to_text_weight": 0}
        for name, least in lowest.items():
            if not least <= getattr(self, name) < math.inf:
                raise ValueError(f"loss.{name} is {getattr(self, name)}; allowed: {least} or more")


class TIJepaObjective(nn.Module):
    """Network, its moving average and everything needed to turn a batch into a loss.

    `anchors` are the pictures that saved weights are compared with and calibrated on.
    """

    def __init__(
        self, network: TIJepa, text: TextCache, anchors: Anchors, *, ema_decay: float, loss: TIJepaLoss
    ) -> None:
        super().__init__()
        self.network = network
        self.ema = Ema(network, ema_decay)
        self.text = text
        self.anchors = anchors
        self.settings = loss

    def fit_sentences(self, captions: Sequence[str]) -> None:
        """Fix the space of sentence features that pictures predict, by the captions to train on."""
        sentences = self.text.features(captions).pooled()
        for network in (self.network, self.ema.network):
            network.sentence_space.fit(sentences)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss" and its parts as scalars.

        Some pictures of the batch are seen whole, the others through one multi-block mask:
        - text_to_image: random patches of all pictures from the caption alone;
        - text_to_hidden: hidden patches from the caption and the visible patches;
        - image_to_text: the caption's sentence feature from the visible patches;
        - whole_to_text: the same from whole pictures.
        Each is the mean squared error to its target. The first two count half each, the last two by their pictures.
        """
        settings, network = self.settings, self.network
        text = self._text(batch)
        pixels = jitter(batch.pixels.to(text.tokens.device), settings.jitter, generator)
        with torch.no_grad():
            teacher = self.ema.network if settings.averaged_targets else network
            targets = network.image_targets(teacher.whole(pixels)[1])  # (B, N, D)
            sentences = network.sentence_space(text)  # (B, K)
        drop = torch.rand(len(pixels), generator=generator, device=generator.device) < settings.text_drop
        keys = network.caption_keys(network.drop_text(text, drop.to(pixels.device)))
        visible, hidden, asked = self._draw_places(pixels.device, generator)
        errors = {"text_to_image": mse_loss(network.text_to_image(asked, keys, None), targets[:, asked])}
        count = min(round(settings.whole_share * len(pixels)), len(pixels))  # of the pictures that are seen whole
        to_text, to_image = pixels.new_zeros(()), [errors["text_to_image"]]
        if count:
            everything, features = network.whole(pixels[:count])
            errors["whole_to_text"] = mse_loss(network.image_to_text(features, everything), sentences[:count])
            to_text = to_text + count / len(pixels) * errors["whole_to_text"]
        if count < len(pixels):
            seen = network.image_encoder(pixels[count:], visible)
            image = network.text_to_image.keep_image(seen, visible)
            predicted = network.text_to_image(hidden, keys.from_row(count), image)
            errors["text_to_hidden"] = mse_loss(predicted, targets[count:, hidden])
            to_image.append(errors["text_to_hidden"])
            errors["image_to_text"] = mse_loss(network.image_to_text(seen, visible), sentences[count:])
            to_text = to_text + (1 - count / len(pixels)) * errors["image_to_text"]
        loss = settings.text_to_image_weight * torch.stack(to_image).mean() + settings.image_to_text_weight * to_text
        return {"loss": loss} | {name: error.detach() for name, error in errors.items()}

    def _text(self, batch: Batch) -> TextFeatures:
        return self.text.features(batch.captions).to(self.network.null_text.device, torch.float32)

    def _draw_places(self, device: torch.device, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw visible positions (V,), hidden ones to ask for and any positions to ask for, each (Q,) of its own Q."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        host = torch.Generator().manual_seed(seed)  # masks are drawn on the CPU wherever the network is
        mask = multi_block_mask(self.network.config.grid, host)
        order = torch.randperm(len(mask), generator=host)
        hidden, asked = order[mask[order]][: self.settings.asked_hidden], order[: self.settings.asked]
        return (~mask).nonzero().flatten().to(device), hidden.to(device), asked.to(device)

    def after_step(self, step: int) -> None:
        """Let the moving average follow the network after step `step`, counted from 0."""
        self.ema.update(self.network, step)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's energies, its ranking of captions, and signs of collapse.

        - `gain_*`: mean energy terms of the right pairs, below zero when text and picture help each other;
        - `first_of_10_*`: how often the right caption beats 9 others of the batch, by each term alone;
        - `*_std`, `*_rank`: standard deviation and effective rank of image features and predicted sentences over the
          batch; both fall, towards 0 and 1, when features collapse.
        """
        if len(batch.captions) < 2:
            return {}  # one pair has no other to be compared with
        network = self.ema.network
        text, pixels = self._text(batch), batch.pixels.to(network.null_text.device)
        order = torch.randperm(len(text), generator=generator, device=generator.device).to(pixels.device)
        energies = grouped_energies(network, pixels, text, order)
        figures = {}
        for term, name in enumerate(("text_to_image", "text_to_hidden", "image_to_text")):
            energy = energies[..., term]
            figures[f"gain_{name}"] = float(energy.diagonal(dim1=1, dim2=2).mean())
            figures[f"first_of_10_{name}"] = mean(first_of(group, 10) for group in energy)
        pictures = picture_features(network, pixels)
        for name, values in (("image", pictures.targets.mean(dim=1)), ("sentence", pictures.sentences[-1])):
            figures[f"{name}_std"] = float(values.std(dim=0).mean())
            figures[f"{name}_rank"] = effective_rank(values)
        return figures

    def preview(self) -> None:
        """Return None: energies have no picture to show."""

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to score with, calibrated if there are held-out pictures.

        It is written in half precision: half the size, and energies that differ by less than a thousandth.
        """
        network = finish(self.ema.network, self.text, self.anchors)
        save_network(folder, network.half(), network.config)


def jitter(pixels: Tensor, amount: float, generator: torch.Generator) -> Tensor:
    """Shift and scale pictures (B, 3, S, S) by up to `amount` of their side; what comes in repeats the border."""
    if amount == 0:
        return pixels
    draws = 2 * torch.rand(len(pixels), 3, generator=generator, device=generator.device).to(pixels.device) - 1
    scale = torch.exp(amount * draws[:, 0])
    matrix = pixels.new_zeros(len(pixels), 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = scale
    matrix[:, :, 2] = 2 * amount * draws[:, 1:]  # the grid is two wide
    grid = affine_grid(matrix, list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, padding_mode="border", align_corners=False)


def first_of(energy: Tensor, count: int) -> float:
    """Return how often pair (i, i) of energies (B, B) beats the next count - 1 columns of row i; ties are lost.

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
