"""The per-token denoiser: a residual MLP steered by time and condition (MAR, arXiv 2406.11838; D-JEPA).

Letters in shapes: M tokens, C token channels, D width of the condition, W width of the MLP.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

TIME_FEATURES = 256


def time_features(time: Tensor) -> Tensor:
    """Return sinusoidal features (M, 256) of times (M,) in [0, 1], with frequencies of a 1,000-step clock."""
    half = TIME_FEATURES // 2
    frequency = torch.exp(-math.log(10_000) / half * torch.arange(half, device=time.device, dtype=torch.float32))
    angle = 1000 * time.float()[:, None] * frequency
    return torch.cat([angle.cos(), angle.sin()], dim=1).to(time.dtype)


Steering = tuple[Tensor, ...]  # shift, scale and, for a residual layer, gate, (..., M, W) each


class ResidualLayer(nn.Module):
    """Normalise, shift and scale by the condition, apply two linear layers with SiLU, gate, and add."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 3 * width)

    def forward(self, x: Tensor, steering: Steering) -> Tensor:
        """Map tokens (M, W) under steering (M, W) to (M, W)."""
        shift, scale, gate = steering
        return torch.addcmul(x, gate, self.second(silu(self.first(torch.addcmul(shift, self.norm(x), scale)))))


class Denoiser(nn.Module):
    """MLP that denoises one token given its condition."""

    def __init__(self, *, channels: int, condition_width: int, width: int, depth: int) -> None:
        super().__init__()
        self.token_in = nn.Linear(channels, width)
        self.time_in = nn.Sequential(nn.Linear(TIME_FEATURES, width), nn.SiLU(), nn.Linear(width, width))
        self.condition_in = nn.Linear(condition_width, width)
        self.layers = nn.ModuleList(ResidualLayer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.Linear(width, 2 * width)
        self.token_out = nn.Linear(width, channels)
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the network.

        | layer | weight | bias |
        | Linear | Xavier uniform | 0 |
        | time_in | normal, std 0.02 | 0 |
        | modulation (all), token_out | 0 | 0 |
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)
        for layer in self.time_in:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, std=0.02)
        zeroed = [self.modulation, self.token_out]
        zeroed += [layer.modulation for layer in self.layers if isinstance(layer, ResidualLayer)]
        for layer in zeroed:
            nn.init.zeros_(layer.weight)

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """Predict for noisy tokens x (M, C) at times (M,) in [0, 1] under conditions (M, D): (M, C)."""
        return self.denoise(x, self.steer(self.embed_times(time) + self.condition_in(condition)))

    def embed_times(self, time: Tensor) -> Tensor:
        """Return the embedding (M, W) of times (M,) in [0, 1], the same for every token and condition."""
        return self.time_in(time_features(time).to(self.token_in.weight.dtype))

    def steer(self, embedded: Tensor) -> list[Steering]:
        """Turn sums of embedded times and conditions (..., M, W) into the steering of each layer and of the output.

        The steering does not depend on the tokens, so a sampler computes it for all its times at once.
        """
        active = silu(embedded)
        steering: list[Steering] = []
        for layer in self.layers:
            assert isinstance(layer, ResidualLayer)
            shift, scale, gate = layer.modulation(active).chunk(3, dim=-1)
            steering.append((shift, 1 + scale, gate))
        shift, scale = self.modulation(active).chunk(2, dim=-1)
        return [*steering, (shift, 1 + scale)]

    def denoise(self, x: Tensor, steering: Sequence[Steering]) -> Tensor:
        """Predict for noisy tokens x (M, C) under the steering of all layers: (M, C)."""
        x = self.token_in(x.to(self.token_in.weight.dtype))
        for layer, steered in zip(self.layers, steering[:-1], strict=True):
            x = layer(x, steered)
        shift, scale = steering[-1]
        return self.token_out(torch.addcmul(shift, self.norm(x), scale))
