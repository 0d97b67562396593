"""Where the conditions of the next tokens come from: the part of sampling that knows the backbone.

A picture follows one text or several: its prompt, with guidance the null text too, and with a mixture a second prompt.
Letters in shapes: N image tokens, K tokens of a picture's step, D width; packed: P tokens of all slots.
"""

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from jepa_app.generation.picture import Picture
from jepa_app.models.context import Context
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.slots import Prefix, Slots
from jepa_app.models.text import MAX_TOKENS, TextFeatures

Start = Prefix | Context  # an encoded prompt, from which any number of pictures begin


class Conditions(Protocol):
    """Encodes prompts and pictures, and returns the conditions of the asked tokens."""

    def start(self, text: TextFeatures, picture: Picture | None = None) -> list[Start]:
        """Encode prompts, from which any number of pictures can begin, with the tokens that a picture begins with."""

    def add(self, picture: Picture, starts: Sequence[Start]) -> None:
        """Begin a picture from the texts that it follows."""

    def remove(self, picture: Picture) -> None:
        """Forget a picture."""

    def predict(self, pictures: Sequence[Picture]) -> list[Sequence[Tensor]]:
        """Conditions (K, D) of each picture's asked tokens under each of the texts that it follows, in their order."""

    def extend(self, pictures: Sequence[Picture]) -> None:
        """Take in the tokens that the last step revealed."""


def begin(network: JepaT, text: TextFeatures, picture: Picture | None, number: int) -> Context:
    """Start from prompts (B, T, W), and take in the first `number` tokens of a picture's order, block by block."""
    context = network.start(text)
    if picture is None or not number:
        return context
    positions, copies = picture.order[:number], len(text)
    tokens = picture.tokens[positions].to(network.null_text.dtype)
    turn = context.at(picture.begun[:number].expand(copies, -1))
    return network.extend(turn, tokens.expand(copies, -1, -1), positions.expand(copies, -1))


class PackedConditions:
    """Cached backbone: all pictures' tokens in one forward pass; each picture has a slot for each of its texts."""

    def __init__(self, network: JepaT, *, num_slots: int = 4, prompt_length: int = MAX_TOKENS) -> None:
        self._network = network
        self._prompt_length = prompt_length
        self._slots = self._make_slots(num_slots)
        self._owners: list[Picture] = []  # one per slot

    def _make_slots(self, number: int) -> Slots:
        null = self._network.null_text
        return Slots(
            self._network.config,
            num_slots=number,
            prompt_length=self._prompt_length,
            device=null.device,
            dtype=null.dtype,
        )

    def start(self, text: TextFeatures, picture: Picture | None = None) -> list[Start]:
        """Encode prompts into prefixes, followed by the tokens that a picture begins with.

        Those of the picture's own steps are taken in step by step, so that a run that goes on after a step has the same
        numbers as one that was never interrupted.
        """
        context = begin(self._network, text, picture, 0 if picture is None else picture.num_shown)
        prefixes = [Prefix.of(context, row) for row in range(len(text))]
        return [*(self._caught_up(prefixes, picture) if picture is not None and picture.index else prefixes)]

    def _caught_up(self, prefixes: Sequence[Prefix], picture: Picture) -> list[Prefix]:
        slots = self._make_slots(len(prefixes))
        for prefix in prefixes:
            slots.add(prefix)
        copies = len(prefixes)
        steps = picture.order[picture.num_shown : picture.done].split(picture.counts[: picture.index])
        for positions in steps:
            tokens = picture.tokens[positions].to(self._network.null_text.dtype)
            turn = slots.turn([len(positions)] * copies)
            self._network.extend(turn, tokens.repeat(copies, 1)[None], positions.repeat(copies)[None])
        return [slots.kept(slot) for slot in range(copies)]

    def add(self, picture: Picture, starts: Sequence[Start]) -> None:
        """Begin a picture from the prefixes of its texts."""
        for prefix in starts:
            assert isinstance(prefix, Prefix)
            picture.slots.append(self._slots.add(prefix))
            self._owners.append(picture)

    def remove(self, picture: Picture) -> None:
        """Give the picture's slots back; others move into the gaps."""
        for slot in sorted(picture.slots, reverse=True):
            moved = self._slots.remove(slot)
            owner = self._owners.pop()
            if moved != slot:
                self._owners[slot] = owner
                owner.slots[owner.slots.index(moved)] = slot
        picture.slots.clear()

    def predict(self, pictures: Sequence[Picture]) -> list[Sequence[Tensor]]:
        """Conditions (K, D) of each picture's asked tokens under each of its texts, in their order."""
        counts = [len(owner.asked) for owner in self._owners]
        positions = torch.cat([owner.asked for owner in self._owners])[None]
        condition = self._network.predict(self._slots.turn(counts), positions)[0]  # (P, D)
        parts = condition.split(counts)
        return [[parts[slot] for slot in picture.slots] for picture in pictures]

    def extend(self, pictures: Sequence[Picture]) -> None:
        """Encode the tokens of the last step, of all pictures together, and keep their keys and values."""
        del pictures  # the slots know which picture they belong to
        revealed = [owner.order[owner.done - owner.counts[owner.index - 1] : owner.done] for owner in self._owners]
        tokens = torch.cat([owner.tokens[part] for owner, part in zip(self._owners, revealed, strict=True)])
        turn = self._slots.turn([len(part) for part in revealed])
        self._network.extend(turn, tokens[None].to(self._network.null_text.dtype), torch.cat(revealed)[None])


class SeparateConditions:
    """Bidirectional backbone: each picture's context grows separately and is encoded again at every step."""

    def __init__(self, network: JepaT) -> None:
        self._network = network
        self._contexts: dict[Picture, list[Context]] = {}

    def start(self, text: TextFeatures, picture: Picture | None = None) -> list[Start]:
        """Embed prompts one by one, so that none is padded to the length of another."""
        lengths = text.mask.sum(dim=1).tolist()
        rows = [TextFeatures(text.tokens[row, None, :n], text.mask[row, None, :n]) for row, n in enumerate(lengths)]
        return [begin(self._network, row, picture, 0 if picture is None else picture.done) for row in rows]

    def add(self, picture: Picture, starts: Sequence[Start]) -> None:
        """Begin a picture from the contexts of its texts."""
        self._contexts[picture] = [context for context in starts if isinstance(context, Context)]

    def remove(self, picture: Picture) -> None:
        """Forget a picture."""
        del self._contexts[picture]

    def predict(self, pictures: Sequence[Picture]) -> list[Sequence[Tensor]]:
        """Conditions (K, D) of each picture's asked tokens under each of its texts, in their order."""
        return [[self._condition(picture, context) for context in self._contexts[picture]] for picture in pictures]

    def _condition(self, picture: Picture, context: Context) -> Tensor:
        asked = picture.order[None, picture.done :] if self._network.asks_all_masked else picture.asked[None]
        now = torch.full_like(asked, picture.index)
        return self._network.predict(context.at(now), asked)[0, : len(picture.asked)]

    def extend(self, pictures: Sequence[Picture]) -> None:
        """Add the tokens of the last step to each context."""
        for picture in pictures:
            revealed = picture.order[None, picture.done - picture.counts[picture.index - 1] : picture.done]
            tokens = picture.tokens[revealed].to(self._network.null_text.dtype)
            now = torch.full_like(revealed, picture.index - 1)
            contexts = self._contexts[picture]
            self._contexts[picture] = [self._network.extend(one.at(now), tokens, revealed) for one in contexts]
