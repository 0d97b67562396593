"""What a network knows of the pictures it works on, as a context that grows for all of them together.

`Context` is for training, and for code that needs a new value at each step: growing returns a new one and leaves the
old one as it is. Sampling uses the slots of `slots.py`, which are written in place. A backbone call works on a turn: a
context with the steps that reveal the call's tokens, or slots with the number of tokens for each. Both turns have
the same interface, so that one forward pass serves both.
Letters in shapes: B batch, V revealed tokens, L tokens of a call, R prefix tokens (buffer and prompt), T text tokens,
D width, H heads, E = D / H.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from jepa_app.masking import visible
from jepa_app.models.attention import Visibility
from jepa_app.models.blocks import KeptKeys, KeyValue

KnownT = TypeVar("KnownT", covariant=True)


class Prompt(NamedTuple):
    """What the text fusion reads: keys and values (B, T, H, E), their visibility, and text (B, 1, D) to add."""

    keys: KeptKeys
    mask: Visibility
    injected: Tensor


@dataclass(frozen=True)
class Context:
    """What is known so far: the prompt, the revealed tokens and whatever the backbone keeps of them.

    Attributes:
        blocks: (B, R + V) long, the step that revealed each token; `PREFIX_BLOCK` for the prefix, `NEVER` for padding.
        positions: (B, R + V) long, position on the grid; -1 for the prefix.
        encoder, predictor: kept keys and values of each layer (cached backbone).
        tokens: (B, R + V, D) embedded tokens before the encoder (bidirectional backbone).
        prompt: what the text fusion reads (JEPA-T).
    """

    blocks: Tensor
    positions: Tensor
    encoder: tuple[KeptKeys, ...] = ()
    predictor: tuple[KeptKeys, ...] = ()
    tokens: Tensor | None = None
    prompt: Prompt | None = None

    def at(self, blocks: Tensor) -> "ContextTurn":
        """Return the context for one call of `extend` or `predict`, for tokens that steps `blocks` (B, L) reveal."""
        return ContextTurn(self, blocks)


@dataclass(frozen=True)
class ContextTurn:
    """A context for one call of `extend` or `predict`, for tokens that steps `blocks` (B, L) reveal."""

    context: Context
    blocks: Tensor

    @property
    def encoder(self) -> Sequence[KeptKeys]:
        """Kept keys and values of each layer of the encoder."""
        return self.context.encoder

    @property
    def predictor(self) -> Sequence[KeptKeys]:
        """Kept keys and values of each layer of the predictor."""
        return self.context.predictor

    @property
    def prompt(self) -> Prompt | None:
        """What the text fusion reads."""
        return self.context.prompt

    def encoding_mask(self) -> Tensor:
        """Keys of earlier steps and of the token's own step: (B, L, R + V + L)."""
        return visible(self.blocks, torch.cat([self.context.blocks, self.blocks], dim=1), same_block=True)

    def asking_mask(self) -> Tensor:
        """Context of earlier steps and the other queries of the same step: (B, L, R + V + L)."""
        earlier = visible(self.blocks, self.context.blocks, same_block=False)
        return torch.cat([earlier, self.blocks[:, :, None] == self.blocks[:, None, :]], dim=2)

    def grow(self, encoder: Sequence[KeptKeys], predictor: Sequence[KeyValue], positions: Tensor) -> Context:
        """Return the context with the call's tokens added, at positions (B, L)."""
        kept: Sequence[KeptKeys] = predictor
        if self.predictor:
            kept = [old.append(new) for old, new in zip(self.predictor, predictor, strict=True)]
        return replace(
            self.context,
            blocks=torch.cat([self.context.blocks, self.blocks], dim=1),
            positions=torch.cat([self.context.positions, positions], dim=1),
            encoder=tuple(encoder),
            predictor=tuple(kept),
        )


class Turn(Protocol[KnownT]):
    """What a backbone works on in one call of `extend` or `predict`: a context, or slots."""

    @property
    def encoder(self) -> Sequence[KeptKeys]:
        """Kept keys and values of each layer of the encoder."""

    @property
    def predictor(self) -> Sequence[KeptKeys]:
        """Kept keys and values of each layer of the predictor."""

    @property
    def prompt(self) -> Prompt | None:
        """What the text fusion reads."""

    def encoding_mask(self) -> Visibility:
        """Which keys the call's tokens may attend to when they are encoded."""

    def asking_mask(self) -> Visibility:
        """Which keys queries for the call's tokens may attend to."""

    def grow(self, encoder: Sequence[KeptKeys], predictor: Sequence[KeyValue], positions: Tensor) -> KnownT:
        """Keep the call's tokens, at positions (B, L), with their keys and values of every layer."""
