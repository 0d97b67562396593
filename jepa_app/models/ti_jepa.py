"""TI-JEPA (arXiv 2503.06380): text predicts image features, image predicts text features, and nothing is contrasted.

What differs from the published code, so that the prediction errors can be read as a match:
- each direction's target has seen one modality only: text-free image features of an averaged (EMA) encoder, and
  image-free sentence features in the space of the frozen text encoder, which cannot collapse;
- hidden patches are removed from the pixels, before the encoder, so visible features know nothing of them;
- targets are normalised over their own features alone, so neither padding nor other pictures change them.

paper word -> code: f_theta `image_encoder`; f-bar an averaged copy of it; g_phi `text_to_image` and `image_to_text`.
Letters in shapes: B batch, N patches, V visible patches, Q asked patches, T text tokens, W text width, D width,
K components of a sentence, S picture side.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm, pixel_unshuffle

from jepa_app.config import TIJepaConfig
from jepa_app.models.blocks import Block, GridPositions, KeyValue, QueryBlock, Rotary, initialise
from jepa_app.models.references import References
from jepa_app.models.text import MAX_TOKENS, TextFeatures, drop_text, null_features

PLACE_SCALE = 0.3  # of the text head's positions at first
Layers = tuple[KeyValue, ...]  # keys and values for each layer of a predictor


@dataclass(frozen=True)
class CaptionKeys:
    """What the text-to-image predictor reads from captions: keys and values of each layer, and their mask (B, T)."""

    layers: Layers
    mask: Tensor

    def rows(self, rows: Tensor) -> "CaptionKeys":
        """Return the captions at indices (R,)."""
        layers = tuple(KeyValue(kept.key[rows], kept.value[rows]) for kept in self.layers)
        return CaptionKeys(layers, self.mask[rows])


class ImageEncoder(nn.Module):
    """Transformer over the visible patches of pictures; text-free."""

    def __init__(self, config: TIJepaConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_in = nn.Linear(3 * config.patch_size**2, config.width)
        self.position = nn.Parameter(torch.empty(config.num_patches, config.width))
        self.rotary = GridPositions(config.grid, config.width // config.num_heads)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.image_depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, pixels: Tensor, visible: Tensor) -> Tensor:
        """Return features (B, V, D) of the patches of pixels (B, 3, S, S) at positions visible (V,) long.

        The other patches are dropped before the first layer.
        """
        patches = pixel_unshuffle(pixels, self.config.patch_size).flatten(2)[:, :, visible]  # (B, 3PP, V)
        x = self.patch_in(patches.transpose(1, 2)) + self.position[visible]  # (B, V, D)
        rotary = self.rotary(visible[None])
        for block in self.blocks:
            x, _ = block(x, rotary)
        return self.norm(x)


class TextHead(nn.Module):
    """Transformer over the frozen token features of captions; image-free.

    The features tell a word's place only faintly: with `text_positions` it is added, as sinusoids to begin with.
    """

    def __init__(self, config: TIJepaConfig) -> None:
        super().__init__()
        self.text_norm = nn.LayerNorm(config.text_width)
        self.text_in = nn.Linear(config.text_width, config.width)
        self.place = nn.Parameter(PLACE_SCALE * sinusoids(MAX_TOKENS, config.width)) if config.text_positions else None
        self.rotary = GridPositions(config.grid, config.width // config.num_heads)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.text_depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def forward(self, text: TextFeatures) -> Tensor:
        """Return features (B, T, D) of captions with token features (B, T, W)."""
        x = self.text_in(self.text_norm(text.tokens))
        if self.place is not None:
            x = x + self.place[: x.shape[1]]
        rotary = self.rotary(_no_place(x.shape[1], x.device))
        mask = text.mask[:, None, :].expand(-1, x.shape[1], -1)  # (B, T, T)
        for block in self.blocks:
            x, _ = block(x, rotary, mask=mask)
        return self.norm(x)


class TextToImage(nn.Module):
    """Predictor of patch features at asked positions from a caption and, where given, from visible patches.

    Queries attend to the caption's tokens, to visible patches and to one another; keys and values of a caption or of a
    picture are computed once for all pairs that they take part in.
    """

    def __init__(self, config: TIJepaConfig) -> None:
        super().__init__()
        width = config.predictor_width
        self.mask_token = nn.Parameter(torch.empty(width))
        self.position = nn.Parameter(torch.empty(config.num_patches, width))
        self.rotary = GridPositions(config.grid, width // config.num_heads)
        self.image_in = nn.Linear(config.width, width)
        self.text_in = nn.Linear(config.width, width)
        self.layers = nn.ModuleList(QueryBlock(width, config.num_heads) for _ in range(config.predictor_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(width, config.width)

    def keep_image(self, features: Tensor, visible: Tensor) -> Layers:
        """Return the keys and values of visible patches: features (B, V, D) at positions (V,)."""
        x, rotary = self.image_in(features), self.rotary(visible[None])
        return _keep(self.layers, x, rotary)

    def keep_text(self, features: Tensor, mask: Tensor) -> CaptionKeys:
        """Return the keys and values of captions: features (B, T, D) of the text head and their mask (B, T)."""
        x, rotary = self.text_in(features), self.rotary(_no_place(features.shape[1], features.device))
        return CaptionKeys(_keep(self.layers, x, rotary), mask)

    def forward(self, asked: Tensor, text: CaptionKeys, image: Layers | None) -> Tensor:
        """Predict features (B, Q, D) at positions asked (Q,) from captions, with or without visible patches."""
        batch, queries = len(text.mask), len(asked)
        known = text.mask if image is None else _prepend_true(text.mask, image[0].key.shape[1])
        mask = torch.cat([known, known.new_ones(batch, queries)], dim=1)  # (B, V + T + Q)
        mask = mask[:, None, :].expand(-1, queries, -1)
        x = (self.mask_token + self.position[asked]).expand(batch, -1, -1)  # (B, Q, D)
        rotary = self.rotary(asked[None])
        for index, layer in enumerate(self.layers):
            kept = text.layers[index] if image is None else image[index].append(text.layers[index])
            x, _ = layer(x, rotary, kept, mask)
        return self.out(self.norm(x))


class ImageToText(nn.Module):
    """Predictor of a caption's sentence feature from the visible patches alone."""

    def __init__(self, config: TIJepaConfig) -> None:
        super().__init__()
        width = config.predictor_width
        self.queries = nn.Parameter(torch.empty(config.num_summary_queries, width))
        self.rotary = GridPositions(config.grid, width // config.num_heads)
        self.image_in = nn.Linear(config.width, width)
        self.layers = nn.ModuleList(QueryBlock(width, config.num_heads) for _ in range(config.predictor_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.out = nn.Linear(config.num_summary_queries * width, config.text_components)

    def forward(self, features: Tensor, visible: Tensor) -> Tensor:
        """Predict sentence features (B, K) from patch features (B, V, D) at positions visible (V,)."""
        places, no_place = self.rotary(visible[None]), self.rotary(_no_place(len(self.queries), features.device))
        x = self.queries.expand(len(features), -1, -1)
        for layer, kept in zip(self.layers, _keep(self.layers, self.image_in(features), places), strict=True):
            x, _ = layer(x, no_place, kept)
        return self.out(self.norm(x).flatten(1))


class SentenceSpace(nn.Module):
    """Whitened principal components of the frozen encoder's sentence features: the targets of image -> text.

    Fitted once on training captions and then fixed. Their mean over captions is zero, so zero is the best prediction
    without a picture.
    """

    mean: Tensor
    basis: Tensor

    def __init__(self, text_width: int, components: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(text_width))
        self.register_buffer("basis", torch.eye(text_width, components))

    def forward(self, text: TextFeatures) -> Tensor:
        """Return the components (B, K) of captions with token features (B, T, W)."""
        return (text.pooled() - self.mean) @ self.basis

    @torch.no_grad()
    def fit(self, sentences: Tensor) -> None:
        """Measure mean and components of sentence features (M, W); the mean square of the result is 1.

        A third of the average variance is added to each component's before dividing, so that components with
        almost no variance are not blown up to the size of the others.

        Raises:
            ValueError: there are fewer than two sentences.
        """
        if len(sentences) < 2:
            raise ValueError(f"got {len(sentences)} captions to fit the sentence space to; allowed: 2 or more")
        mean = sentences.double().mean(dim=0)
        centred = sentences.double() - mean
        variance, directions = torch.linalg.eigh(centred.T @ centred / len(centred))
        basis = directions / (variance.clamp(min=0) + variance.mean() / 3).sqrt()
        basis = basis.flip(1)[:, : self.basis.shape[1]]  # (W, K), largest variance first
        self.mean.copy_(mean)
        self.basis.copy_(basis / (centred @ basis).square().mean().sqrt())


class TIJepa(nn.Module):
    """Encoders and predictors of both directions."""

    def __init__(self, config: TIJepaConfig) -> None:
        super().__init__()
        self.config = config
        self.null_text = nn.Parameter(torch.empty(config.text_width))
        self.image_encoder = ImageEncoder(config)
        self.text_head = TextHead(config)
        self.text_to_image = TextToImage(config)
        self.image_to_text = ImageToText(config)
        self.sentence_space = SentenceSpace(config.text_width, config.text_components)
        self.references = (
            References(config.num_references, config.num_patches, config.width, config.text_components)
            if config.num_references
            else None
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the network.

        | parameter | value |
        | layers, final predictor layers | see `blocks.initialise`; predictions start at zero, their targets' mean |
        | positions, queries, mask token, null text | normal, std 0.02 |
        """
        initialise(self)
        for parameter in (
            self.null_text,
            self.image_encoder.position,
            self.text_to_image.mask_token,
            self.text_to_image.position,
            self.image_to_text.queries,
        ):
            nn.init.normal_(parameter, std=0.02)

    def whole(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return all positions (N,) and the features (B, N, D) of whole pictures (B, 3, S, S)."""
        everything = torch.arange(self.config.num_patches, device=pixels.device)
        return everything, self.image_encoder(pixels, everything)

    def image_targets(self, features: Tensor) -> Tensor:
        """Layer-normalise the features of whole pictures (B, N, D): the targets of text -> image."""
        return layer_norm(features, (self.config.width,))

    def caption_keys(self, text: TextFeatures) -> CaptionKeys:
        """Return what the text-to-image predictor reads from captions with token features (B, T, W)."""
        return self.text_to_image.keep_text(self.text_head(text), text.mask)

    def null_features(self, batch_size: int) -> TextFeatures:
        """Return the learned null text: one token per picture, (B, 1, W)."""
        return null_features(self.null_text, batch_size)

    def drop_text(self, text: TextFeatures, drop: Tensor) -> TextFeatures:
        """Replace the captions (B, T, W) of the pictures where drop (B,) bool is True with the null text."""
        return drop_text(text, drop, self.null_text)


def sinusoids(length: int, width: int) -> Tensor:
    """Return sines and cosines (length, width) of places 0, 1, … (arXiv 1706.03762, section 3.5)."""
    frequency = torch.exp(-math.log(10_000) / width * torch.arange(0, width, 2))
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1)


def _keep(layers: Iterable[nn.Module], features: Tensor, rotary: Rotary) -> Layers:
    return tuple(layer.keep(features, rotary) for layer in layers if isinstance(layer, QueryBlock))


def _no_place(length: int, device: torch.device) -> Tensor:
    return torch.full((1, length), -1, device=device)  # rotary position of tokens that are not on the grid


def _prepend_true(mask: Tensor, length: int) -> Tensor:
    return torch.cat([mask.new_ones(len(mask), length), mask], dim=1)
