"""What a network knows of the pictures it works on: a context that grows as a whole, or one slot a picture.

Training, and whoever wants a new value at each step, uses `Context`: growing gives another one and leaves the first as
it is. Sampling uses `Slots`: room for the keys and values of many pictures, each at its own step, written in place.
Both offer a backbone the same things, so that one forward pass serves both.
Letters in shapes: B batch, N image tokens, V revealed tokens, L tokens now revealed, M asked positions, R prefix tokens
(buffer and prompt), T text tokens, D width, H heads, E = D / H; packed: P tokens end to end, S slot length.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from jepa_app.config import DJepaConfig
from jepa_app.masking import NEVER, visible
from jepa_app.models.attention import Packing, Visibility
from jepa_app.models.blocks import KeptKeys, KeyValue


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
        positions: (B, R + V) long, place on the grid; -1 for the prefix.
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

    def encoding_mask(self, blocks: Tensor | None) -> Tensor:
        """Keys of earlier steps and of the token's own step: (B, L, R + V + L)."""
        assert blocks is not None
        return visible(blocks, torch.cat([self.blocks, blocks], dim=1), same_block=True)

    def asking_mask(self, blocks: Tensor | None) -> Tensor:
        """Context of earlier steps and the other queries of the same step: (B, M, R + V + M)."""
        assert blocks is not None
        earlier = visible(blocks, self.blocks, same_block=False)
        return torch.cat([earlier, blocks[:, :, None] == blocks[:, None, :]], dim=2)

    def grow(
        self, encoder: Sequence[KeptKeys], predictor: Sequence[KeyValue], positions: Tensor, blocks: Tensor | None
    ) -> "Context":
        """Return the context with new tokens at positions (B, L), revealed by steps `blocks` (B, L)."""
        assert blocks is not None
        kept: Sequence[KeptKeys] = predictor
        if self.predictor:
            kept = [old.append(new) for old, new in zip(self.predictor, predictor, strict=True)]
        return replace(
            self,
            blocks=torch.cat([self.blocks, blocks], dim=1),
            positions=torch.cat([self.positions, positions], dim=1),
            encoder=tuple(encoder),
            predictor=tuple(kept),
        )


@dataclass(frozen=True)
class Prefix:
    """The begin of one picture's context, computed once per prompt and copied into any number of slots.

    Attributes:
        encoder, predictor: keys and values of all layers, (layers, R, H, E) each.
        prompt: keys and values (T, H, E) for the text fusion.
        injected: (D,) text to add to conditions.
    """

    encoder: KeyValue
    predictor: KeyValue
    prompt: KeyValue
    injected: Tensor

    @classmethod
    def of(cls, context: Context, row: int) -> "Prefix":
        """Take one row of a started context, without its padding."""
        assert context.prompt is not None
        real = context.blocks[row] < NEVER

        def layers(kept: Sequence[KeptKeys]) -> KeyValue:
            return KeyValue(
                torch.stack([layer.key[row][real] for layer in kept]),
                torch.stack([layer.value[row][real] for layer in kept]),
            )

        keys, mask, injected = context.prompt
        assert isinstance(mask, Tensor)
        words = mask[row, 0]
        return cls(
            layers(context.encoder),
            layers(context.predictor),
            KeyValue(keys.key[row][words], keys.value[row][words]),
            injected[row, 0],
        )


class SlotKeys(NamedTuple):
    """Keys and values of one layer in slots (slots, S, H, E); appending writes behind what is there."""

    key: Tensor
    value: Tensor
    places: Tensor

    def append(self, later: KeyValue) -> "SlotKeys":
        """Write packed keys and values (1, P, H, E) at their places, counted over all slots."""
        self.key.flatten(0, 1).index_copy_(0, self.places, later.key[0])
        self.value.flatten(0, 1).index_copy_(0, self.places, later.value[0])
        return self


class Slots:
    """Room for the contexts of many pictures: the first `used` slots are taken, without gaps.

    It is written in place, so it works without gradients only.

    Args:
        num_slots: rows to make room for; it grows by itself.
        prompt_length: the most text tokens of a prompt.
    """

    def __init__(
        self, config: DJepaConfig, *, num_slots: int, prompt_length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.length = config.num_buffer_tokens + prompt_length + config.num_tokens
        heads = (config.num_heads, config.width // config.num_heads)
        fusion = getattr(config, "fusion_heads", config.num_heads)
        empty = torch.empty(0, device=device, dtype=dtype)
        self._context = empty.new_zeros(
            2, config.encoder_depth + config.predictor_depth, num_slots, self.length, *heads
        )
        self._prompt = empty.new_zeros(2, num_slots, prompt_length, fusion, config.width // fusion)
        self._injected = empty.new_zeros(num_slots, config.width)
        self._encoder_depth = config.encoder_depth
        self._lengths: list[int] = []
        self._prompt_lengths: list[int] = []

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return len(self._lengths)

    def add(self, prefix: Prefix) -> int:
        """Begin a picture in the next free slot and return which it is."""
        slot, rows = self.used, self._injected.shape[0]
        if slot == rows:
            self._make_room(2 * rows)
        length, words = prefix.encoder.key.shape[1], prefix.prompt.key.shape[0]
        for half in (0, 1):  # keys, values
            self._context[half, : self._encoder_depth, slot, :length] = prefix.encoder[half]
            self._context[half, self._encoder_depth :, slot, :length] = prefix.predictor[half]
            self._prompt[half, slot, :words] = prefix.prompt[half]
        self._injected[slot] = prefix.injected
        self._lengths.append(length)
        self._prompt_lengths.append(words)
        return slot

    def remove(self, slot: int) -> int:
        """Give a slot back; the last one moves there. Return the slot that moved (the same if it was the last)."""
        last = self.used - 1
        length, words = self._lengths.pop(), self._prompt_lengths.pop()
        if slot != last:
            self._context[:, :, slot, :length] = self._context[:, :, last, :length]
            self._prompt[:, slot, :words] = self._prompt[:, last, :words]
            self._injected[slot] = self._injected[last]
            self._lengths[slot], self._prompt_lengths[slot] = length, words
        return last

    def turn(self, counts: Sequence[int]) -> "Turn":
        """Return the context for so many packed tokens of each slot in use, each 1 or more."""
        return Turn(self, counts)

    def _make_room(self, num_slots: int) -> None:
        def larger(tensor: Tensor, dim: int) -> Tensor:
            shape = list(tensor.shape)
            shape[dim] = num_slots
            grown = tensor.new_zeros(shape)
            grown.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
            return grown

        self._context, self._prompt = larger(self._context, 2), larger(self._prompt, 1)
        self._injected = larger(self._injected, 0)


class Turn:
    """The slots as a context for one call of `predict` or `extend` on packed tokens (1, P, ...)."""

    def __init__(self, slots: Slots, counts: Sequence[int]) -> None:
        self._slots, self._counts = slots, counts
        lengths, device = slots._lengths, slots._context.device
        total = [length + count for length, count in zip(lengths, counts, strict=True)]
        self._packing = Packing.of(counts, total, slots._context)
        starts = torch.tensor([slot * slots.length + length for slot, length in enumerate(lengths)], device=device)
        places = starts[self._packing.rows] + self._packing.places
        layers = [SlotKeys(key, value, places) for key, value in zip(*slots._context, strict=True)]
        self.encoder, self.predictor = layers[: slots._encoder_depth], layers[slots._encoder_depth :]

    @property
    def prompt(self) -> Prompt:
        """What the text fusion reads."""
        keys, values = self._slots._prompt
        packing = Packing.of(self._counts, self._slots._prompt_lengths, keys)
        return Prompt(KeyValue(keys, values), packing, self._slots._injected[packing.rows][None])

    def encoding_mask(self, blocks: Tensor | None = None) -> Packing:
        """Everything in the token's slot: what is there was revealed earlier or now."""
        del blocks
        return self._packing

    asking_mask = encoding_mask

    def grow(
        self,
        encoder: Sequence[KeptKeys],
        predictor: Sequence[KeyValue],
        positions: Tensor,
        blocks: Tensor | None = None,
    ) -> "Turn":
        """Keep the new tokens: the encoder's keys are in their places, the predictor's are written there."""
        del encoder, positions, blocks
        for old, new in zip(self.predictor, predictor, strict=True):
            old.append(new)
        self._slots._lengths = [length + n for length, n in zip(self._slots._lengths, self._counts, strict=True)]
        return self
