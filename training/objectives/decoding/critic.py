"""The critic of the decoder: how real do patches of a picture look?

Letters in shapes: B batch, S side of the picture.
"""

import itertools

from torch import Tensor, nn
from torch.nn.functional import leaky_relu
from torch.nn.utils.parametrizations import spectral_norm


class Critic(nn.Module):
    """Patch discriminator with spectral normalisation (arXiv 1611.07004, 1802.05957)."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96)
        self.layers = nn.ModuleList(
            spectral_norm(nn.Conv2d(before, after, 4, stride=2, padding=1))
            for before, after in itertools.pairwise(widths)
        )
        self.out = spectral_norm(nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return how real each patch of pictures (B, 3, S, S) looks, and the features of every layer."""
        features = []
        for layer in self.layers:
            pixels = leaky_relu(layer(pixels), 0.2)
            features.append(pixels)
        return self.out(pixels), features
