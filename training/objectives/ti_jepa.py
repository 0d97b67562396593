"""What TI-JEPA is trained on: prediction errors in both directions, with averaged targets and without negatives.

paper word -> code: f-bar the image encoder of the moving average, tau `ema_decay`.
Letters in shapes: B batch, N patches, V visible patches, Q asked patches, T text tokens, D width, S picture side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor
from torch.nn.functional import mse_loss

from jepa_app.checkpoint import save_network
from jepa_app.masking import SharedGenerator, multi_block_mask
from jepa_app.matching.features import CAPTIONS_AT_ONCE, blocks, picture_features
from jepa_app.matching.scoring import Scorer
from jepa_app.models.ti_jepa import TIJepa
from training.data.batches import Batch
from training.objectives.calibration import Anchors, finish, grouped_terms, terms_of
from training.objectives.image_tokens import drop_texts
from training.objectives.matching import MatchObjective, collapse_figures, first_of, jitter
from training.objectives.text_cache import TextCache
from training.settings import require_at_least, require_shares


@dataclass(frozen=True, kw_only=True)
class TIJepaLoss:
    """Weights and shares of the TI-JEPA objective.

    `text_to_image_weight` and `image_to_text_weight` are the weights of the two directions, `text_drop` the probability
    of the null text. A share `whole_share` of the batch is seen whole, the rest through a mask. `asked`
    patches are predicted from the caption alone, `asked_hidden` from caption and visible patches. `jitter` is the
    largest shift and change of scale of a picture as a share of its side. Without `averaged_targets` the trained
    encoder makes its own targets, without gradient.

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
        require_shares(self, ["text_drop", "whole_share", "jitter"], "loss.")
        least = {"asked": 1, "asked_hidden": 1, "text_to_image_weight": 0, "image_to_text_weight": 0}
        require_at_least(self, least, "loss.")


class TIJepaObjective(MatchObjective[TIJepa]):
    """TI-JEPA's prediction errors; pairs are compared with the references among the anchors."""

    def __init__(
        self, network: TIJepa, text: TextCache, anchors: Anchors, *, ema_decay: float, loss: TIJepaLoss
    ) -> None:
        super().__init__(network, text, anchors, ema_decay=ema_decay)
        self.settings = loss

    def fit_sentences(self, captions: Sequence[str]) -> None:
        """Fix the space of sentence features that pictures predict, from the training captions."""
        parts = blocks(len(captions), CAPTIONS_AT_ONCE)
        sentences = torch.cat([self.text.features(captions[part]).pooled() for part in parts])
        for network in (self.network, self.ema.network):
            network.sentence_space.fit(sentences)

    def forward(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        """Return "loss" and its parts as scalars.

        Some pictures of the batch are seen whole, the others through one multi-block mask:
        - text_to_image: random patches of all pictures, from the caption alone;
        - text_to_hidden: hidden patches, from the caption and the visible patches;
        - image_to_text: the caption's sentence feature, from the visible patches;
        - whole_to_text: the same, from whole pictures.
        Each is the mean squared error to its target. The first two count half each, the last two by their pictures.
        Some of several processes see one picture more whole than the others; the mean over all is the error.
        """
        settings, network = self.settings, self.network
        pixels, text = self.inputs(batch)
        pixels = jitter(pixels, settings.jitter, generator)
        with torch.no_grad():
            teacher = self.ema.network if settings.averaged_targets else network
            targets = network.image_targets(teacher.whole(pixels)[1])  # (B, N, D)
            sentences = network.sentence_space(text)  # (B, K)
        keys = network.caption_keys(drop_texts(text, network.null_text, settings.text_drop, generator))
        visible, hidden, asked = self._draw_places(pixels.device, generator)
        errors = {"text_to_image": mse_loss(network.text_to_image(asked, keys, None), targets[:, asked])}
        is_whole, share = places_seen_whole(len(pixels), settings.whole_share, generator)
        to_text, to_image = pixels.new_zeros(()), [errors["text_to_image"]]
        if share > 0:
            rows = is_whole.nonzero().flatten().to(pixels.device)
            everything, features = network.whole(pixels[rows])
            predicted = network.image_to_text(features, everything)
            errors["whole_to_text"] = _mean_error(predicted, sentences[rows], share * len(pixels))
            to_text = to_text + share * errors["whole_to_text"]
        if share < 1:
            rows = (~is_whole).nonzero().flatten().to(pixels.device)
            usual = (1 - share) * len(pixels)
            seen = network.image_encoder(pixels[rows], visible)
            image = network.text_to_image.keep_image(seen, visible)
            predicted = network.text_to_image(hidden, keys.rows(rows), image)
            errors["text_to_hidden"] = _mean_error(predicted, targets[rows][:, hidden], usual)
            to_image.append(errors["text_to_hidden"])
            errors["image_to_text"] = _mean_error(network.image_to_text(seen, visible), sentences[rows], usual)
            to_text = to_text + (1 - share) * errors["image_to_text"]
        loss = settings.text_to_image_weight * torch.stack(to_image).mean() + settings.image_to_text_weight * to_text
        return {"loss": loss} | {name: error.detach() for name, error in errors.items()}

    def _draw_places(self, device: torch.device, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw visible positions (V,), hidden ones to predict and any to predict, each (Q,) with its own Q."""
        seed = int(torch.randint(1 << 62, (), generator=generator, device=generator.device))
        host = torch.Generator().manual_seed(seed)  # masks are drawn on the CPU, whatever the network's device
        mask = multi_block_mask(self.network.config.grid, host)
        order = torch.randperm(len(mask), generator=host)
        hidden, asked = order[mask[order]][: self.settings.asked_hidden], order[: self.settings.asked]
        return (~mask).nonzero().flatten().to(device), hidden.to(device), asked.to(device)

    @torch.no_grad()
    def validate(self, batch: Batch, generator: torch.Generator) -> dict[str, float]:
        """Return the averaged network's energies, its ranking of captions, and signs of collapse.

        - `gain_*`: mean energy terms of the right pairs, below zero when text and picture help each other;
        - `first_of_10_*`: how often the right caption beats 9 others of the batch, by each term alone;
        - `*_std`, `*_rank`: standard deviation and effective rank of image features and predicted sentences over the
          batch; both fall, towards 0 and 1, when features collapse.
        """
        if len(batch.captions) < 2:
            return {}  # a single pair has no other to be compared with
        network = self.ema.network
        pixels = batch.pixels.to(self.device)
        order = torch.randperm(len(pixels), generator=generator, device=generator.device).cpu()
        energies = grouped_terms(terms_of(network, self.text), pixels, batch.captions, order)
        figures = {}
        for term, name in enumerate(("text_to_image", "text_to_hidden", "image_to_text")):
            energy = energies[..., term]
            figures[f"gain_{name}"] = float(energy.diagonal(dim1=1, dim2=2).mean())
            figures[f"first_of_10_{name}"] = mean(first_of(group, 10) for group in energy)
        pictures = picture_features(network, pixels)
        for name, values in (("image", pictures.targets.mean(dim=1)), ("sentence", pictures.sentences[-1])):
            figures |= collapse_figures(name, values)
        return figures

    def finished(self) -> Scorer:
        """Return the averaged network as a scorer, calibrated if there are held-out pictures."""
        return Scorer(finish(self.ema.network, self.text, self.anchors), self.text.encoder)

    def save(self, folder: Path) -> None:
        """Write the averaged network, the one to score with, calibrated if there are held-out pictures.

        It is written in half precision: half the size, and energies that differ by less than a thousandth.
        """
        network = self.finished().network
        save_network(folder, network.half(), network.config)


def places_seen_whole(batch_size: int, share: float, generator: torch.Generator) -> tuple[Tensor, float]:
    """Return which pictures (B,) of this process are seen whole, bool on the CPU, and their share of the whole batch.

    They are spread evenly, so that every process has as many as the others, or one more.
    """
    places = generator.places if isinstance(generator, SharedGenerator) else 1
    place = generator.place if isinstance(generator, SharedGenerator) else 0
    total = places * batch_size
    count = round(share * total)
    steps = torch.arange(total + 1) * count // total
    return (steps[1:] > steps[:-1])[place * batch_size :][:batch_size], count / total


def _mean_error(predicted: Tensor, target: Tensor, rows: float) -> Tensor:
    """The mean squared error of rows (R, …), of which a process has `rows` on average."""
    return mse_loss(predicted, target, reduction="sum") / (rows * target.shape[1:].numel())
