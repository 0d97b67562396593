"""How well pictures and captions match: the energy of a pair, and the probability derived from it.

Letters in shapes: M pictures, L captions, S picture side.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from jepa_app.checkpoint import load_network, resolve_weights
from jepa_app.config import TIJepaConfig
from jepa_app.matching.combining import Parts, combined, joined, match_probability, parts_of
from jepa_app.matching.energies import Energies, pair_energies
from jepa_app.matching.features import (
    CAPTIONS_AT_ONCE,
    PICTURES_AT_ONCE,
    CaptionFeatures,
    blocks,
    encode_captions,
    picture_features,
)
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import check_pixels
from jepa_app.pixels import to_pixels


@dataclass(frozen=True)
class Scores:
    """Energies (M, L), lower is better, and probabilities (M, L) in [0, 1] that picture and caption belong together."""

    energy: Tensor
    probability: Tensor


@dataclass(frozen=True)
class Standing:
    """Shares in [0, 1] of the bundled reference pairs that fit worse (have a higher energy), each (M, L)."""

    better_than_mismatched: Tensor
    better_than_matched: Tensor


class Scorer:
    """A trained TI-JEPA with its text encoder and calibration."""

    def __init__(self, network: TIJepa, text_encoder: TextEncoder) -> None:
        self.network = network.eval().requires_grad_(False)
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(
        cls, folder: Path | str, device: torch.device | str | None = None, revision: str | None = None
    ) -> "Scorer":
        """Load the part `ti-jepa` of a weights folder or hub id; `device` defaults to a GPU if there is one.

        `revision` is a branch, tag or commit of a hub id, of which only this part is downloaded.

        Raises:
            ValueError: the weights are missing, broken or of another kind.
        """
        part = resolve_weights(folder, revision, ("ti-jepa",)) / "ti-jepa"
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = load_network(part, TIJepaConfig, TIJepa)
        return cls(network.to(chosen), TextEncoder.load(device=chosen))

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures to score."""
        return self.network.config.image_size

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.null_text.device

    def score(self, pictures: Tensor | Sequence[Image.Image], captions: Sequence[str]) -> Scores:
        """Score every picture with every caption: energies (M, L), lower is better, and probabilities (M, L).

        Args:
            pictures: pixels (M, 3, S, S) in [-1, 1], or M PIL pictures of any size.
            captions: L captions.

        Raises:
            ValueError: there is no picture or no caption, a picture has the wrong size or is not finite, or a caption
                is too long.
        """
        energy = self.combine(self.energies(as_pixels(pictures, self.image_size), captions))
        return Scores(energy, self.probability(energy))

    def energies(self, pixels: Tensor, captions: Sequence[str]) -> Energies:
        """Return the terms of the energy (M, L); arguments and errors as in `score`."""
        if not len(pixels) or not captions:
            raise ValueError(f"got {len(pixels)} pictures and {len(captions)} captions; allowed: at least one of each")
        check_pixels(pixels, self.image_size)
        words = [self.caption_features(captions[block]) for block in blocks(len(captions), CAPTIONS_AT_ONCE)]
        rows = []
        for block in blocks(len(pixels), PICTURES_AT_ONCE):
            pictures = picture_features(self.network, pixels[block].to(self.device, torch.float32))
            terms = [pair_energies(self.network, pictures, part).stacked().cpu() for part in words]
            rows.append(torch.cat(terms, dim=1))  # (M', L, 3 to 12)
        return Energies.unstacked(torch.cat(rows))

    def caption_features(self, captions: Sequence[str]) -> CaptionFeatures:
        """Return what captions, and their foils if the weights use them, contribute to the energies of all pairs.

        Raises:
            ValueError: a caption has more word pieces than the encoder takes.
        """
        return encode_captions(self.network, captions, self.encode, partial(self.encode, cuts=True))

    def encode(self, captions: Sequence[str], *, cuts: bool = False) -> TextFeatures:
        """Return the token features (L, T, W) of captions where the network is; with `cuts`, over-long ones are cut.

        Raises:
            ValueError: a caption has more word pieces than the encoder takes.
        """
        return self.text_encoder.encode(captions, cuts=cuts).to(self.device, torch.float32)

    def combine(self, energies: Energies) -> Tensor:
        """Return the energy (M, L) that the terms combine to, on the CPU."""
        return self.combine_terms(energies.stacked())

    def combine_terms(self, terms: Tensor) -> Tensor:
        """Return the energies (...) of terms (..., 3 to 12), on the CPU."""
        return combined(self.network.config, terms)

    def parts(self, energies: Energies) -> Parts:
        """Return the parts (M, L) of the energy, on the CPU."""
        return parts_of(self.network.config, energies.stacked())

    def join(self, parts: Parts) -> Tensor:
        """Return the energies (...) with the given parts."""
        return joined(self.network.config, parts)

    def with_hidden(self, quick: Parts, hidden: Tensor) -> Tensor:
        """Return the energies (P,) of pairs from parts (P,) without the term `text_to_hidden` and this term (P,)."""
        weights = torch.tensor(self.network.config.energy_weights)
        return self.join(quick._replace(base=quick.base + weights[1] / weights.sum() * hidden.cpu()))

    def probability(self, energy: Tensor) -> Tensor:
        """Return the calibrated probability that pairs of this energy belong together.

        It is against a mix of wrong captions: half of them random, half of other things of the same group. A caption
        with foils must beat them too.
        """
        return match_probability(self.network.config, energy)

    def shares(self, energy: Tensor) -> Tensor:
        """Return how likely each caption is among those given (..., L), if exactly one of them is right; the sum is 1.

        It is the softmax of the calibrated log odds, so captions that are equally far off share equally.
        """
        return torch.softmax(-self.network.config.calibration_scale * energy, dim=-1)

    def standing(self, energy: Tensor) -> Standing | None:
        """Return where these energies stand among the references, or None if the weights contain none."""
        config = self.network.config
        if not config.matched_quantiles:
            return None
        return Standing(
            _share_above(config.mismatched_quantiles, energy), _share_above(config.matched_quantiles, energy)
        )


def as_pixels(pictures: Tensor | Sequence[Image.Image], side: int) -> Tensor:
    """Return pictures as pixels (M, 3, side, side) in [-1, 1], as `to_pixels` does; tensors are unchanged."""
    return pictures if isinstance(pictures, Tensor) else to_pixels(pictures, side)


def _share_above(quantiles: tuple[float, ...], energy: Tensor) -> Tensor:
    """Return the share in [0, 1] of a distribution, given by evenly spaced quantiles, that lies above each energy."""
    edges = torch.tensor(quantiles)
    place = torch.searchsorted(edges, energy.contiguous()).clamp(1, len(edges) - 1)
    low, high = edges[place - 1], edges[place]
    inside = ((energy - low) / (high - low).clamp(min=torch.finfo(edges.dtype).tiny)).clamp(0, 1)
    return 1 - (place - 1 + inside) / (len(edges) - 1)
