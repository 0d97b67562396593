"""JEPA-T (arXiv 2510.00974): D-JEPA with token-level text fusion, for free text and class names alike.

The text enters three times: as a prefix of the context encoder, by cross-attention after the predictor, and added to
the condition before the losses. All three lie inside `start` and `predict`, which training and sampling share; each can
be switched off, and the cross-attention can be applied before the predictor too.
Letters in shapes: B batch, M asked positions, T text tokens, W text width, C token channels, D width.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from jepa_app.config import JepaTConfig
from jepa_app.models.blocks import CrossAttention, initialise
from jepa_app.models.context import Context, KnownT, Prompt, Turn
from jepa_app.models.d_jepa import DJepa
from jepa_app.models.denoiser import Denoiser
from jepa_app.models.text import TextFeatures, drop_text, null_features


class JepaT(nn.Module):
    """The text-to-image network."""

    def __init__(self, config: JepaTConfig) -> None:
        super().__init__()
        self.config = config
        self.null_text = nn.Parameter(torch.empty(config.condition_width))
        self.fusion = CrossAttention(config.width, config.condition_width, config.fusion_heads)
        self.injection = nn.Linear(config.condition_width, config.width)
        self.init_weights()
        self.d_jepa = DJepa(config)

    def init_weights(self) -> None:
        """Initialise the fusion: null text normal (std 0.02), layers as in `blocks.initialise`, injection at zero."""
        initialise(self)
        nn.init.normal_(self.null_text, std=0.02)
        nn.init.zeros_(self.injection.weight)

    @property
    def denoiser(self) -> Denoiser:
        """The network (x (M, C), time (M,), condition (M, D)) -> (M, C) that `flow` drives."""
        return self.d_jepa.denoiser

    @property
    def asks_all_masked(self) -> bool:
        """Whether `predict` must be asked for all masked positions at once (bidirectional backbone)."""
        return self.d_jepa.backbone.asks_all_masked

    def null_features(self, batch_size: int) -> TextFeatures:
        """Return the learned null text: one token per picture, (B, 1, W)."""
        return null_features(self.null_text, batch_size)

    def drop_text(self, text: TextFeatures, drop: Tensor) -> TextFeatures:
        """Replace the text of some pictures with the null text.

        Args:
            text: features (B, T, W).
            drop: (B,) bool.
        """
        return drop_text(text, drop, self.null_text)

    def start(self, text: TextFeatures) -> Context:
        """Begin a batch of pictures: encode the prefix, and keep what the fusion reads from the text."""
        return self.start_with(prefix=text, read=text, joined=text)

    def start_with(self, *, prefix: TextFeatures, read: TextFeatures, joined: TextFeatures) -> Context:
        """Begin as `start` does, with separate texts (B, T, W) for prefix, cross-attention and losses."""
        injected = self.injection(joined.pooled())[:, None]  # (B, 1, D)
        return replace(
            self.d_jepa.start(self.prefix_of(prefix)),
            prompt=Prompt(self.fusion.keep(read.tokens), read.mask[:, None], injected),
        )

    def prefix_of(self, text: TextFeatures) -> TextFeatures:
        """Return what the context encoder reads before a picture: the text, or the null text without `text_prefix`."""
        return text if self.config.text_prefix else self.null_features(len(text))

    def extend(self, turn: Turn[KnownT], tokens: Tensor, positions: Tensor) -> KnownT:
        """Take in revealed tokens (B, L, C) at positions (B, L); with slots they are packed, (1, P, C)."""
        return self.d_jepa.extend(turn, tokens, positions)

    def predict(self, turn: Turn[Any], positions: Tensor) -> Tensor:
        """Return the conditions (B, M, D), fused with the text, at positions (B, M)."""
        return self.fuse(turn, self.unfused(turn, positions))

    def unfused(self, turn: Turn[Any], positions: Tensor) -> Tensor:
        """Return the predictor's output (B, M, D) at positions (B, M), before `fuse`."""
        queries = self.d_jepa.queries(positions)
        if self.config.fuse_before_predictor:
            assert turn.prompt is not None
            queries = self._read(turn.prompt, queries)
        return self.d_jepa.predict(turn, queries, positions)

    def fuse(self, turn: Turn[Any], condition: Tensor) -> Tensor:
        """Fuse the predictor's conditions (B, M, D) with the text: (B, M, D)."""
        prompt = turn.prompt
        assert prompt is not None
        if self.config.fuse_after_predictor:
            condition = self._read(prompt, condition)
        if self.config.fuse_before_loss:
            condition = condition + prompt.injected
        return condition

    def _read(self, prompt: Prompt, x: Tensor) -> Tensor:
        read: Tensor = self.fusion(x, prompt.keys, prompt.mask)
        return read
