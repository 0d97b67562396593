"""The decoder of tokens that sees the whole picture: crisp edges, no seams between tokens, and what is opaque.

Letters in shapes: B batch, N tokens of a picture, C token channels, G grid = tokens along a side, D width, F features,
L side that the linear decoding has, S side of the decoded picture.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pixel_shuffle

from jepa_app.config import TokenizerConfig
from jepa_app.models.blocks import Block, GridPositions, initialise
from jepa_app.models.tokenizers.resizing import resize_pixels

CELLS = 4  # features along a side of a token, before the last doubling
NUM_HEADS = 4


class Layers(NamedTuple):
    """A picture in layers: colours on white (B, 3, S, S), about [-1, 1], and opacity (B, 1, S, S) in [0, 1]."""

    colours: Tensor
    opacity: Tensor

    def resized(self, side: int) -> "Layers":
        """Return the picture at another size: the mean of whole squares when reduced, bicubic when enlarged."""
        return Layers(resize_pixels(self.colours, side), resize_pixels(self.opacity, side).clamp(0, 1))


class Decoder(nn.Module):
    """Transformer layers over the tokens, then convolutions at a growing size, beside the linear decoding.

    At first it adds nothing to the linear decoding, and everything is half opaque.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, features = config.decoder_width, config.decoder_features
        self.config = config
        self.token_in = nn.Linear(config.channels, width)
        self.position = nn.Parameter(torch.empty(config.num_tokens, width))
        self.rotary = GridPositions(config.grid, width // NUM_HEADS)
        self.blocks = nn.ModuleList(Block(width, NUM_HEADS) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.unfold = nn.Linear(width, features * CELLS**2)
        self.linear_in = nn.Conv2d(3, features, 3, padding=1)
        self.near = nn.ModuleList(nn.Conv2d(features, features, 3, padding=1) for _ in range(config.decoder_layers))
        half = features // 2
        self.doubled = nn.Conv2d(features, 4 * half, 3, padding=1)
        self.fine = nn.ModuleList(nn.Conv2d(half, half, 3, padding=1) for _ in range(2))
        self.enlarging = config.decoded_side // (2 * CELLS * config.grid)
        self.pixels_out = nn.Conv2d(half, 4 * self.enlarging**2, 3, padding=1)
        initialise(self)
        nn.init.normal_(self.position, std=0.02)
        nn.init.zeros_(self.pixels_out.weight)
        nn.init.zeros_(self.pixels_out.bias)  # type: ignore[arg-type]

    def forward(self, tokens: Tensor, linear: Tensor) -> Layers:
        """Decode tokens (B, N, C), whose linear decoding is (B, 3, L, L), to a picture of side `decoded_side`."""
        x = self.token_in(tokens) + self.position
        rotary = self.rotary(torch.arange(tokens.shape[1], device=tokens.device)[None])
        for block in self.blocks:
            x, _ = block(x, rotary)
        x = self.unfold(self.norm(x)).transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))
        x = pixel_shuffle(x, CELLS)  # (B, F, 4 G, 4 G)
        x = x + self.linear_in(resize_pixels(linear, x.shape[-1]))
        for layer in self.near:
            x = x + layer(gelu(x, approximate="tanh"))
        x = pixel_shuffle(self.doubled(gelu(x, approximate="tanh")), 2)  # (B, F/2, 8 G, 8 G)
        for layer in self.fine:
            x = x + layer(gelu(x, approximate="tanh"))
        added = pixel_shuffle(self.pixels_out(gelu(x, approximate="tanh")), self.enlarging)  # (B, 4, S, S)
        colours = resize_pixels(linear, self.config.decoded_side) + added[:, :3]
        return Layers(colours, torch.sigmoid(added[:, 3:]))
