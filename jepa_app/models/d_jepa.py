"""D-JEPA (arXiv 2410.03755): context encoder, predictor, prediction head and denoiser over continuous image tokens.

paper word -> code: f_theta `context_encoder`; g_phi (gamma) `predictor`; z_i the condition that `predict` returns.
Letters in shapes: B batch, N image tokens, L tokens now revealed, V visible tokens, M asked positions, R prefix tokens
(buffer and prompt), C token channels, D width, W prompt width.

Training and sampling call the same three methods: `start` with a prompt, `extend` with revealed tokens, `predict` for
positions. Training reveals and asks for everything in one call each, with the blocks of a whole schedule; sampling
makes one call per step. The cached backbone gives the same numbers either way, since a token's features depend on
earlier blocks only.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from jepa_app.config import DJepaConfig
from jepa_app.masking import NEVER, PREFIX_BLOCK, visible
from jepa_app.models.attention import Visibility
from jepa_app.models.blocks import Block, GridPositions, KeptKeys, QueryBlock, initialise
from jepa_app.models.context import Context, ContextTurn, KnownT, Turn
from jepa_app.models.denoiser import Denoiser
from jepa_app.models.text import TextFeatures


class ContextEncoder(nn.Module):
    """Transformer over the prefix and the revealed tokens; an EMA copy of it is the target encoder."""

    def __init__(self, config: DJepaConfig) -> None:
        super().__init__()
        self.buffer = nn.Parameter(torch.empty(config.num_buffer_tokens, config.width))
        self.prompt_norm = nn.LayerNorm(config.condition_width)
        self.prompt_in = nn.Linear(config.condition_width, config.width)
        self.token_in = nn.Linear(config.channels, config.width)
        self.position = nn.Parameter(torch.empty(config.num_places, config.width))
        self.rotary = GridPositions(config.grid, config.width // config.num_heads, config.plan)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(config.width, eps=1e-6)

    def embed_prefix(self, prompt: TextFeatures) -> tuple[Tensor, Tensor, Tensor]:
        """Return embedded prefix tokens (B, R, D), their blocks and positions (B, R)."""
        batch = len(prompt)
        buffer = self.buffer.expand(batch, -1, -1)
        x = torch.cat([buffer, self.prompt_in(self.prompt_norm(prompt.tokens))], dim=1)  # (B, R, D)
        blocks = torch.full(x.shape[:2], PREFIX_BLOCK, device=x.device)
        blocks[:, self.buffer.shape[0] :].masked_fill_(~prompt.mask, NEVER)
        return x, blocks, torch.full_like(blocks, -1)

    def embed_tokens(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Return embedded image tokens (B, L, D) from (B, L, C) at positions (B, L)."""
        return self.token_in(tokens.to(self.token_in.weight.dtype)) + self.position[positions]

    def forward(
        self, x: Tensor, positions: Tensor, kept: Sequence[KeptKeys] = (), mask: Visibility = None
    ) -> tuple[Tensor, tuple[KeptKeys, ...]]:
        """Encode embedded tokens x (B, L, D), which may also attend to kept ones.

        Returns:
            Features (B, L, D) after the final norm, and the keys and values of every layer.
        """
        rotary = self.rotary(positions)
        layers = []
        for index, block in enumerate(self.blocks):
            x, keys = block(x, rotary, kept[index] if kept else None, mask)
            layers.append(keys)
        return self.norm(x), tuple(layers)

    def whole(self, prompt: TextFeatures, tokens: Tensor) -> Tensor:
        """Return the features (B, N, D) of whole pictures (B, N, C), where every token sees all others: the targets."""
        positions = torch.arange(tokens.shape[1], device=tokens.device).expand(len(tokens), -1)
        prefix, blocks, places = self.embed_prefix(prompt)
        x = torch.cat([prefix, self.embed_tokens(tokens, positions)], dim=1)
        blocks = torch.cat([blocks, torch.zeros_like(positions)], dim=1)
        mask = visible(blocks.clamp(min=0), blocks, same_block=True)
        features, _ = self(x, torch.cat([places, positions], dim=1), mask=mask)
        return features[:, -tokens.shape[1] :]


class PositionQueries(nn.Module):
    """The predictor's queries: the mask token plus the embedding of the asked position."""

    def __init__(self, config: DJepaConfig) -> None:
        super().__init__()
        self.mask_token = nn.Parameter(torch.empty(config.width))
        self.position = nn.Parameter(torch.empty(config.num_places, config.width))
        self.rotary = GridPositions(config.grid, config.width // config.num_heads, config.plan)

    def forward(self, positions: Tensor) -> Tensor:
        """Return queries (B, M, D) for positions (B, M)."""
        return self.mask_token + self.position[positions]


class CachedBackbone(nn.Module):
    """Block-causal context in generation order and position queries: a token is encoded once and kept."""

    asks_all_masked = False  # a query's answer does not depend on queries of later steps

    def __init__(self, config: DJepaConfig) -> None:
        super().__init__()
        self.context_encoder = ContextEncoder(config)
        self.queries = PositionQueries(config)
        self.predictor = nn.ModuleList(
            QueryBlock(config.width, config.num_heads) for _ in range(config.predictor_depth)
        )
        self.predictor_norm = nn.LayerNorm(config.width, eps=1e-6)

    def start(self, prompt: TextFeatures) -> Context:
        """Encode the prefix of buffer and prompt tokens."""
        x, blocks, positions = self.context_encoder.embed_prefix(prompt)
        empty = Context(blocks[:, :0], positions[:, :0])
        mask = visible(blocks.clamp(max=0), blocks, same_block=True)
        return self._encode(empty.at(blocks), x, positions, mask)

    def extend(self, turn: Turn[KnownT], tokens: Tensor, positions: Tensor) -> KnownT:
        """Encode revealed tokens (B, L, C) at positions (B, L) and keep them."""
        x = self.context_encoder.embed_tokens(tokens, positions)
        return self._encode(turn, x, positions, turn.encoding_mask())

    def _encode(self, turn: Turn[KnownT], x: Tensor, positions: Tensor, mask: Visibility) -> KnownT:
        features, encoder = self.context_encoder(x, positions, turn.encoder, mask)
        rotary = self.queries.rotary(positions)
        kept = [layer.keep(features, rotary) for layer in self.predictor if isinstance(layer, QueryBlock)]
        return turn.grow(encoder, kept, positions)

    def predict(self, turn: Turn[Any], queries: Tensor, positions: Tensor) -> Tensor:
        """Predict features (B, M, D) from queries (B, M, D) for positions (B, M).

        A query sees the context of earlier steps and the other queries of its own step.
        """
        mask, x = turn.asking_mask(), queries
        rotary = self.queries.rotary(positions)
        for layer, kept in zip(self.predictor, turn.predictor, strict=True):
            x, _ = layer(x, rotary, kept, mask)
        return self.predictor_norm(x)


class BidirectionalBackbone(nn.Module):
    """The published form: the visible tokens are encoded again at every step, and mask tokens see one another."""

    def __init__(self, config: DJepaConfig) -> None:
        super().__init__()
        # trained with all masked positions present, it must be asked for all of them when sampling; trained with
        # random subsets ("bidirectional_subset"), it is asked only for those of one step
        self.asks_all_masked = config.backbone == "bidirectional"
        self.context_encoder = ContextEncoder(config)
        self.queries = PositionQueries(config)
        self.predictor_in = nn.Linear(config.width, config.width)
        self.predictor = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.predictor_depth))
        self.predictor_norm = nn.LayerNorm(config.width, eps=1e-6)

    def start(self, prompt: TextFeatures) -> Context:
        """Embed the prefix of buffer and prompt tokens."""
        x, blocks, positions = self.context_encoder.embed_prefix(prompt)
        return Context(blocks, positions, tokens=x)

    def extend(self, turn: Turn[KnownT], tokens: Tensor, positions: Tensor) -> KnownT:
        """Add revealed tokens (B, L, C) at positions (B, L); their steps serve only to tell them from padding."""
        embedded = self.context_encoder.embed_tokens(tokens, positions)
        grown = turn.grow((), (), positions)
        assert isinstance(grown, Context)  # slots hold keys and values, which this backbone does not keep
        assert grown.tokens is not None
        return replace(grown, tokens=torch.cat([grown.tokens, embedded], dim=1))

    def predict(self, turn: Turn[Any], queries: Tensor, positions: Tensor) -> Tensor:
        """Predict features (B, M, D) from queries (B, M, D) for positions (B, M).

        As published, these are all masked positions, whichever step reveals them.
        """
        assert isinstance(turn, ContextTurn)  # slots hold keys and values, which this backbone does not keep
        context = turn.context
        assert context.tokens is not None
        known = (context.blocks < NEVER)[:, None, :]  # (B, 1, R + V)
        features, _ = self.context_encoder(
            context.tokens, context.positions, mask=known.expand(-1, known.shape[-1], -1)
        )
        x = torch.cat([self.predictor_in(features), queries], dim=1)
        everywhere = torch.cat([known, (turn.blocks < NEVER)[:, None, :]], dim=2)
        mask = everywhere.expand(-1, x.shape[1], -1)
        rotary = self.queries.rotary(torch.cat([context.positions, positions], dim=1))
        for layer in self.predictor:
            x, _ = layer(x, rotary, mask=mask)
        return self.predictor_norm(x[:, -positions.shape[1] :])


Backbone = CachedBackbone | BidirectionalBackbone


class DJepa(nn.Module):
    """Backbone, prediction head and denoiser."""

    def __init__(self, config: DJepaConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone: Backbone = (
            CachedBackbone(config) if config.backbone == "cached" else BidirectionalBackbone(config)
        )
        self.prediction_head = nn.Sequential(
            nn.Linear(config.width, 4 * config.width),
            nn.LayerNorm(4 * config.width, eps=1e-6),
            nn.GELU(approximate="tanh"),
            nn.Linear(4 * config.width, config.width),
        )
        self.init_weights()
        self.denoiser = Denoiser(
            channels=config.channels,
            condition_width=config.width,
            width=config.denoiser_width,
            depth=config.denoiser_depth,
        )

    def init_weights(self) -> None:
        """Initialise everything but the denoiser, which initialises itself.

        | parameter | value |
        | layers | see `blocks.initialise` |
        | buffer, mask token, positions | normal, std 0.02 |
        """
        initialise(self)
        encoder, queries = self.backbone.context_encoder, self.backbone.queries
        for parameter in (encoder.buffer, encoder.position, queries.mask_token, queries.position):
            nn.init.normal_(parameter, std=0.02)

    def start(self, prompt: TextFeatures) -> Context:
        """Begin a batch of pictures from prompt features (B, T, W)."""
        return self.backbone.start(prompt)

    def extend(self, turn: Turn[KnownT], tokens: Tensor, positions: Tensor) -> KnownT:
        """Take in revealed tokens (B, L, C) at positions (B, L); with slots they are packed, (1, P, C)."""
        return self.backbone.extend(turn, tokens, positions)

    def queries(self, positions: Tensor) -> Tensor:
        """Return the predictor's queries (B, M, D) for positions (B, M)."""
        queries: Tensor = self.backbone.queries(positions)
        return queries

    def predict(self, turn: Turn[Any], queries: Tensor, positions: Tensor) -> Tensor:
        """Return the conditions (B, M, D) for the denoiser, from queries (B, M, D) for positions (B, M)."""
        return self.backbone.predict(turn, queries, positions)
