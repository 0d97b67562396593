"""What objectives on a tokenizer's tokens share: the frozen tokenizer, text features, null texts and previews.

Letters in shapes: B batch, P image tokens including those of the plan, C token channels, T text tokens, W text width.
"""

import torch
from PIL import Image
from torch import Tensor

from jepa_app.masking import draw
from jepa_app.models.text import TextFeatures, drop_text
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from jepa_app.pixels import picture_grid
from training.data.batches import Batch
from training.objectives.objective import Objective
from training.objectives.text_cache import TextCache
from training.optimisation.ema import NetworkT

PREVIEW_PROMPTS = (
    "red apple, twemoji style",
    "grinning face, noto style",
    "red heart, fluent style",
    "cat face, openmoji style",
    "house, noto style",
    "sun, fluent 3d style",
    "joyful cat",
    "green apple, noto style",
    "pizza, twemoji style",
    "rose, openmoji style",
    "blue heart, twemoji style",
    "police car, noto style",
)


class ImageTokenObjective(Objective[NetworkT]):
    """A network to train on the tokens that a frozen tokenizer makes of pictures, with the text of their captions.

    `num_places` of the tokens are used: those of the plan, which come last, only if the network makes a plan. Text is
    padded to a multiple of `text_lengths` tokens.
    """

    text_lengths = 1

    def __init__(
        self, network: NetworkT, tokenizer: Tokenizer, text: TextCache, *, num_places: int, ema_decay: float
    ) -> None:
        super().__init__(network, ema_decay)
        self.tokenizer = tokenizer.eval().requires_grad_(False)
        self.num_places = num_places
        self.text = text

    def move_to(self, device: torch.device) -> None:
        """Encode captions on the device to train on."""
        self.text.move_to(device)

    @torch.no_grad()
    def inputs(self, batch: Batch) -> tuple[Tensor, TextFeatures]:
        """Return the tokens (B, P, C) of a batch and the features (B, T, W) of its captions, where the network is."""
        text = self.text.features(batch.captions, self.text_lengths).to(self.device, torch.float32)
        return self.tokenizer.encode(batch.pixels.to(self.device))[:, : self.num_places], text

    def preview(self) -> Image.Image | None:
        """Sample one picture per prompt of `PREVIEW_PROMPTS` from the averaged network, in rows of six."""
        generators = [torch.Generator().manual_seed(index) for index in range(len(PREVIEW_PROMPTS))]
        return picture_grid(self.finished()(PREVIEW_PROMPTS, generator=generators).images, columns=6)


def drop_texts(text: TextFeatures, null_text: Tensor, share: float, generator: torch.Generator) -> TextFeatures:
    """Replace texts (B, T, W), each with probability `share`, with the null text (W,)."""
    drop = draw(torch.rand, (len(text),), generator) < share
    return drop_text(text, drop.to(text.tokens.device), null_text)
