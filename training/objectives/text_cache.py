"""Text features of captions, each computed once: the text encoder stays out of the training step.

Letters in shapes: B captions, T text tokens, W text width, R rows of the table.
"""

from collections.abc import Sequence

import torch
from torch.nn.functional import pad

from jepa_app.matching.features import blocks
from jepa_app.models.text import MAX_TOKENS, TextEncoder, TextFeatures
from training.data.captions import Row

MOST_TOLD = 10
SURELY_SHORT = 12  # characters; a sign can be many word pieces, but never this many
_FEWEST_ROWS = 4096
_AT_ONCE = 8  # captions that are encoded together, always as many
_LENGTHS = 8  # they are padded to a multiple of this


def long_captions(rows: Sequence[Row], encoder: TextEncoder) -> list[str]:
    """Return warnings that name the pictures whose captions are longer than the text encoder takes, up to ten."""
    maybe = [row for row in rows if len(row.label) > SURELY_SHORT]
    if not maybe:
        return []
    long = [(row, pieces) for row in maybe if (pieces := encoder.num_pieces(row.label)) > MAX_TOKENS]
    told = [
        f"the caption of {row.file} has {pieces} word pieces and loses its end; {MAX_TOKENS} are read"
        for row, pieces in long[:MOST_TOLD]
    ]
    return told + ([f"so do {len(long) - MOST_TOLD} more"] if len(long) > MOST_TOLD else [])


class TextCache:
    """Remembers the features of new captions in half precision, in one table on the text encoder's device.

    A caption takes about 10 KB; one that is too long for the encoder loses its end. Composed scenes are endless,
    so the table is emptied when it holds `capacity` captions. Captions are encoded in blocks of one shape, which
    depends on their own length alone: the features are the same whatever else is encoded, so that a resumed training
    sees what it would have seen.
    """

    def __init__(self, encoder: TextEncoder, capacity: int = 150_000) -> None:
        self.encoder = encoder
        self.capacity = capacity
        self._table = torch.empty(0, 0)  # (R, W): the tokens of all captions end to end
        self._used = 0
        self._places: dict[str, tuple[int, int]] = {}  # first row and number of tokens of each caption

    def __len__(self) -> int:
        return len(self._places)

    def move_to(self, device: torch.device) -> None:
        """Encode and remember on a device from now on."""
        self.encoder.model.to(device)
        self._table = self._table.to(device)

    def features(self, captions: Sequence[str], multiple: int = 1) -> TextFeatures:
        """Return the features of captions, on the encoder's device: tokens (B, T, W) float32 and mask (B, T).

        T is the greatest length, rounded up to a multiple of `multiple`.
        """
        if len(self._places) > self.capacity:
            self._places.clear()
            self._used = 0
        new = sorted(set(captions) - self._places.keys())
        if new:
            self._add(new)
        starts, lengths = torch.tensor([self._places[caption] for caption in captions]).T.to(self._table.device)
        longest = max(self._places[caption][1] for caption in captions)
        place = torch.arange(-(-longest // multiple) * multiple, device=starts.device)  # (T,)
        mask = place < lengths[:, None]  # (B, T)
        rows = torch.where(mask, starts[:, None] + place, starts[:, None])
        return TextFeatures(self._table[rows].float() * mask[:, :, None], mask)

    def _add(self, captions: Sequence[str]) -> None:
        by_length: dict[int, list[str]] = {}
        for caption in captions:
            pieces = min(self.encoder.num_pieces(caption), MAX_TOKENS)
            by_length.setdefault(-(-pieces // _LENGTHS), []).append(caption)
        for alike in by_length.values():
            for block in blocks(len(alike), _AT_ONCE):
                self._add_block(alike[block])

    def _add_block(self, captions: Sequence[str]) -> None:
        whole = [*captions, *[captions[-1]] * (_AT_ONCE - len(captions))]
        encoded = self.encoder.encode(whole, cuts=True, multiple=_LENGTHS).rows(slice(len(captions)))
        lengths = encoded.mask.sum(dim=1).tolist()
        tokens = encoded.tokens[encoded.mask].half()  # (all tokens, W)
        missing = self._used + len(tokens) - len(self._table)
        if missing > 0:
            more = max(missing, len(self._table), _FEWEST_ROWS)
            self._table = pad(self._table if len(self._table) else tokens[:0], (0, 0, 0, more))
        self._table[self._used : self._used + len(tokens)] = tokens
        for caption, length in zip(captions, lengths, strict=True):
            self._places[caption] = self._used, length
            self._used += length
