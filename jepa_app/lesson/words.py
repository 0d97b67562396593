"""The words of a prompt as typed, and which of the text encoder's word pieces belong to which word."""

import bisect
import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from jepa_app.models.text import TextEncoder, spell_symbols


@dataclass(frozen=True, kw_only=True)
class Word:
    """A typed word, or one of the two special tokens that the text encoder puts around every prompt (without text)."""

    text: str
    kind: Literal["start", "word", "end"] = "word"


@dataclass(frozen=True, kw_only=True)
class TypedWords:
    """The words of one prompt in reading order, and for each text token the index of its word, (T,) long."""

    words: tuple[Word, ...]
    owners: Tensor

    def merge(self, shares: Tensor) -> Tensor:
        """Sum the values of pieces (..., T) over the words that they belong to: (..., number of words)."""
        merged = shares.new_zeros(*shares.shape[:-1], len(self.words))
        return merged.index_add_(-1, self.owners.to(shares.device), shares)


def typed_words(encoder: TextEncoder, prompt: str) -> TypedWords:
    """Split a prompt at its spaces and find the word of every text token.

    The encoder reads symbols by their names and splits words into pieces: "🍎," is read as "red apple ," and stays one
    word here. A word that gives the encoder no tokens, such as a lone variation selector, is left out.
    """
    typed = [(word, spelled) for word in prompt.split() if (spelled := spell_symbols(word))]
    begins = [0, *itertools.accumulate(len(spelled) + 1 for _, spelled in typed)]
    pieces = encoder.offsets(" ".join(spelled for _, spelled in typed))
    read = [bisect.bisect_right(begins, begin) - 1 for begin, _ in pieces]
    seen = sorted(set(read))
    owners = [0, *(1 + seen.index(number) for number in read), 1 + len(seen)]
    words = [Word(text="", kind="start"), *(Word(text=typed[number][0]) for number in seen), Word(text="", kind="end")]
    return TypedWords(words=tuple(words), owners=torch.tensor(owners))
