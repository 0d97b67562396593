"""Room for the keys and values of many pictures, each at its own step: what sampling uses instead of a context.

Letters in shapes: R prefix tokens (buffer and prompt), T text tokens, D width, H heads, E = D / H; packed: P tokens of
all slots end to end, S slot length.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from jepa_app.config import JepaTConfig
from jepa_app.masking import NEVER
from jepa_app.models.attention import Packing, rounded_up
from jepa_app.models.blocks import KeptKeys, KeyValue
from jepa_app.models.context import Context, Prompt


@dataclass(frozen=True)
class Prefix:
    """What one picture's context holds, computed once (per prompt at least) and copied into any number of slots.

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
    """Keys and values of one layer in slots (slots, S, H, E); appending writes after what is there."""

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

    It is written in place, so it works only without gradients.

    Args:
        num_slots: rows to make room for at first; more are added when needed.
        prompt_length: the most text tokens a prompt may have.
    """

    def __init__(
        self, config: JepaTConfig, *, num_slots: int, prompt_length: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        self.length = rounded_up(config.num_buffer_tokens + prompt_length + config.num_places)
        words = rounded_up(prompt_length)
        heads = (config.num_heads, config.width // config.num_heads)
        fusion = config.fusion_heads
        empty = torch.empty(0, device=device, dtype=dtype)
        self._context = empty.new_zeros(
            2, config.encoder_depth + config.predictor_depth, num_slots, self.length, *heads
        )
        self._prompt = empty.new_zeros(2, num_slots, words, fusion, config.width // fusion)
        self._injected = empty.new_zeros(num_slots, config.width)
        self._encoder_depth = config.encoder_depth
        self._lengths: list[int] = []
        self._prompt_lengths: list[int] = []

    @property
    def used(self) -> int:
        """Slots that are taken."""
        return len(self._lengths)

    def add(self, prefix: Prefix) -> int:
        """Begin a picture in the next free slot and return its number."""
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

    def kept(self, slot: int) -> Prefix:
        """Return what a slot holds, as a start from which others can begin; later changes do not reach it."""
        length, words = self._lengths[slot], self._prompt_lengths[slot]
        key, value = (half[:, slot, :length].clone() for half in self._context)  # (layers, length, H, E)
        depth = self._encoder_depth
        prompt, injected = self._prompt[:, slot, :words].clone(), self._injected[slot].clone()
        return Prefix(
            KeyValue(key[:depth], value[:depth]), KeyValue(key[depth:], value[depth:]), KeyValue(*prompt), injected
        )

    def remove(self, slot: int) -> int:
        """Free a slot; the last one moves into it. Return the slot that moved (the freed one if it was the last)."""
        last = self.used - 1
        length, words = self._lengths.pop(), self._prompt_lengths.pop()
        if slot != last:
            self._context[:, :, slot, :length] = self._context[:, :, last, :length]
            self._prompt[:, slot, :words] = self._prompt[:, last, :words]
            self._injected[slot] = self._injected[last]
            self._lengths[slot], self._prompt_lengths[slot] = length, words
        return last

    def turn(self, counts: Sequence[int]) -> "SlotTurn":
        """Return the slots for one call on this many packed tokens for each slot in use, 1 or more each."""
        total = [length + count for length, count in zip(self._lengths, counts, strict=True)]
        packing = Packing.of(counts, total, self._context)
        starts = torch.tensor(
            [slot * self.length + length for slot, length in enumerate(self._lengths)], device=self._context.device
        )
        places = starts[packing.rows] + packing.places
        layers = [SlotKeys(key, value, places) for key, value in zip(*self._context, strict=True)]
        return SlotTurn(self, counts, packing, layers[: self._encoder_depth], layers[self._encoder_depth :])

    def prompts(self, counts: Sequence[int]) -> Prompt:
        """Return what the text fusion reads for this many packed tokens of each slot in use."""
        keys, values = self._prompt
        packing = Packing.of(counts, self._prompt_lengths, keys)
        return Prompt(KeyValue(keys, values), packing, self._injected[packing.rows][None])

    def lengthen(self, counts: Sequence[int]) -> None:
        """Count the tokens that were written after those of each slot in use."""
        self._lengths = [length + count for length, count in zip(self._lengths, counts, strict=True)]

    def _make_room(self, num_slots: int) -> None:
        def larger(tensor: Tensor, dim: int) -> Tensor:
            shape = list(tensor.shape)
            shape[dim] = num_slots
            grown = tensor.new_zeros(shape)
            grown.narrow(dim, 0, tensor.shape[dim]).copy_(tensor)
            return grown

        self._context, self._prompt = larger(self._context, 2), larger(self._prompt, 1)
        self._injected = larger(self._injected, 0)


@dataclass(frozen=True)
class SlotTurn:
    """Slots for one call of `extend` or `predict` on packed tokens (1, P, ...), some number for each slot."""

    slots: Slots
    counts: Sequence[int]
    packing: Packing
    encoder: Sequence[SlotKeys]
    predictor: Sequence[SlotKeys]

    @property
    def prompt(self) -> Prompt:
        """What the text fusion reads."""
        return self.slots.prompts(self.counts)

    def encoding_mask(self) -> Packing:
        """Everything in the token's slot: all of it was revealed earlier or now."""
        return self.packing

    asking_mask = encoding_mask

    def grow(self, encoder: Sequence[KeptKeys], predictor: Sequence[KeyValue], positions: Tensor) -> Slots:
        """Keep the new tokens: the encoder's keys are in their places, the predictor's are written there."""
        del encoder, positions
        for old, new in zip(self.predictor, predictor, strict=True):
            old.append(new)
        self.slots.lengthen(self.counts)
        return self.slots
