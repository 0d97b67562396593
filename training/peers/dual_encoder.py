"""Two encoders side by side, as CLIP and SigLIP have them: what TI-JEPA is measured against.

They have TI-JEPA's own picture encoder, summary head and text head over the same frozen text features. What differs is
the objective, and that a pair is scored by one inner product.
Letters in shapes: M pictures, L captions, N patches, T text tokens, W text width, D width, K features, S picture side.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from jepa_app.checkpoint import load_network, resolve_weights
from jepa_app.config import TIJepaConfig
from jepa_app.matching.combining import combined, match_probability
from jepa_app.matching.energies import over_least
from jepa_app.matching.features import Encode, encode_foils
from jepa_app.matching.foils import DIFFERENCES
from jepa_app.matching.scoring import Scores
from jepa_app.models.blocks import initialise
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.ti_jepa import ImageEncoder, ImageToText, TextHead
from jepa_app.models.tokenizers.tokenizer import check_pixels

PICTURES_AT_ONCE = 64
CAPTIONS_AT_ONCE = 128
MOST_SCALE = math.log(100)  # CLIP's limit


@dataclass(frozen=True, kw_only=True)
class PeerConfig(TIJepaConfig):
    """TI-JEPA's sizes, and which loss trained the peer: "softmax" (CLIP) or "sigmoid" (SigLIP).

    `text_components` is the number of features of both sides; the settings of TI-JEPA's predictor from text are not
    used. The one base term of a pair's energy is minus the cosine; with `foils` it is compared with that of the
    caption's foils, as TI-JEPA's terms are.
    """

    loss: Literal["softmax", "sigmoid"] = "softmax"

    def __post_init__(self) -> None:
        super().__post_init__()
        allowed = ("softmax", "sigmoid")
        self._require(self.loss in allowed, f"loss is {self.loss!r}; allowed: {allowed}")

    @property
    def num_terms(self) -> int:
        """Base terms of the energy of a pair."""
        return 1

    @property
    def terms_against_foils(self) -> int:
        """Terms against the foils of one difference."""
        return 1


class DualEncoder(nn.Module):
    """Pictures and captions as unit vectors; `scale` is the logarithm of the factor on their inner products."""

    def __init__(self, config: PeerConfig) -> None:
        super().__init__()
        self.config = config
        self.image_encoder = ImageEncoder(config)
        self.image_head = ImageToText(config)
        self.text_head = TextHead(config)
        self.text_features = nn.Linear(config.width, config.text_components)
        self.scale = nn.Parameter(torch.zeros(()))
        self.bias = nn.Parameter(torch.zeros(()))
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the network.

        | parameter | value |
        | layers | see `blocks.initialise`; the picture's last layer is normal, std 0.02 |
        | positions, queries | normal, std 0.02 |
        | scale and bias | CLIP: log 14.3 and 0; SigLIP: log 10 and -10 |
        """
        initialise(self)
        for parameter in (self.image_encoder.position, self.image_head.queries, self.image_head.out.weight):
            nn.init.normal_(parameter, std=0.02)
        is_softmax = self.config.loss == "softmax"
        nn.init.constant_(self.scale, math.log(1 / 0.07) if is_softmax else math.log(10))
        nn.init.constant_(self.bias, 0.0 if is_softmax else -10.0)

    def pictures(self, pixels: Tensor) -> Tensor:
        """Return unit vectors (M, K) of pictures (M, 3, S, S)."""
        everything = torch.arange(self.config.num_patches, device=pixels.device)
        return normalize(self.image_head(self.image_encoder(pixels, everything), everything), dim=-1)

    def captions(self, text: TextFeatures) -> Tensor:
        """Return unit vectors (L, K) of captions with token features (L, T, W)."""
        return normalize(self.text_features(TextFeatures(self.text_head(text), text.mask).pooled()), dim=-1)

    def logits(self, pictures: Tensor, captions: Tensor) -> Tensor:
        """Return the logits (M, L) of all pairs of unit vectors (M, K) and (L, K)."""
        return self.scale.clamp(max=MOST_SCALE).exp() * pictures @ captions.T + self.bias


class PeerScorer:
    """A trained peer with its text encoder and calibration: the same interface as TI-JEPA's scorer."""

    def __init__(self, network: DualEncoder, text_encoder: TextEncoder) -> None:
        self.network = network.eval().requires_grad_(False)
        self.text_encoder = text_encoder

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str | None = None) -> "PeerScorer":
        """Load the part `peer` of a weights folder; without `device`, a GPU is used if there is one.

        Raises:
            ValueError: the weights are missing, broken or of another kind.
        """
        part = resolve_weights(folder, parts=("peer",)) / "peer"
        chosen = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        network = load_network(part, PeerConfig, DualEncoder)
        return cls(network.to(chosen), TextEncoder.load(device=chosen))

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures to score."""
        return self.network.config.image_size

    def score(self, pixels: Tensor, captions: Sequence[str]) -> Scores:
        """Score every picture (M, 3, S, S) in [-1, 1] with every caption.

        Raises:
            ValueError: pictures of another size or not finite, an over-long caption.
        """
        check_pixels(pixels, self.image_size)
        config = self.network.config
        energy = combined(config, self.terms(pixels, captions))
        return Scores(energy, match_probability(config, energy))

    @torch.no_grad()
    def terms(self, pixels: Tensor, captions: Sequence[str], encode: Encode | None = None) -> Tensor:
        """Return the terms (M, L, 1 or 4) of the energy, on the CPU: minus the cosine, and this against the foils.

        `encode` gives the features of captions; by default it is the text encoder.
        """
        encode, network = encode or self.text_encoder.encode, self.network
        pictures = torch.cat(
            [network.pictures(part.to(network.scale.device, torch.float32)) for part in pixels.split(PICTURES_AT_ONCE)]
        )
        energy = -(pictures @ self._vectors(captions, encode).T).cpu()
        if not network.config.foils:
            return energy[..., None]
        against = energy.new_zeros(*energy.shape, len(DIFFERENCES))
        made = encode_foils(captions, encode)
        if made is not None:
            vectors = network.captions(made.text.to(network.scale.device, torch.float32))[made.rows]
            against = over_least(energy, -(pictures @ vectors.T).cpu(), made.owners.cpu(), made.differences.cpu())
        return torch.cat([energy[..., None], against], dim=-1)

    def _vectors(self, captions: Sequence[str], encode: Encode) -> Tensor:
        device = self.network.scale.device
        parts = (captions[at : at + CAPTIONS_AT_ONCE] for at in range(0, len(captions), CAPTIONS_AT_ONCE))
        return torch.cat([self.network.captions(encode(part).to(device, torch.float32)) for part in parts])
