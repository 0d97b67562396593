"""Text features of captions, each computed once: the text encoder stays out of the training step."""

from collections.abc import Sequence

import torch

from jepa_app.models.text import TextEncoder, TextFeatures


class TextCache:
    """Remembers the features of the last `capacity` new captions in half precision, without their padding.

    A caption takes about 10 KB; composed scenes are endless, so the oldest are forgotten.
    """

    def __init__(self, encoder: TextEncoder, capacity: int = 150_000) -> None:
        self.encoder = encoder
        self.capacity = capacity
        self._features: dict[str, torch.Tensor] = {}

    def __len__(self) -> int:
        return len(self._features)

    def features(self, captions: Sequence[str]) -> TextFeatures:
        """Return the features of captions: tokens (B, T, 384) float32 and mask (B, T)."""
        new = sorted(set(captions) - self._features.keys())
        if new:
            encoded = self.encoder.encode(new)
            for caption, tokens, mask in zip(new, encoded.tokens, encoded.mask, strict=True):
                self._features[caption] = tokens[mask].half().cpu()
        tokens = [self._features[caption] for caption in captions]
        while len(self._features) > self.capacity:
            self._features.pop(next(iter(self._features)))
        mask = torch.nn.utils.rnn.pad_sequence([torch.ones(len(item), dtype=torch.bool) for item in tokens], True)
        return TextFeatures(torch.nn.utils.rnn.pad_sequence(tokens, True).float(), mask)
