"""Patches as tokens: projected onto principal components of the training patches.

Letters in shapes: B batch, N tokens, C channels, P patch values.
"""

import torch
from torch import Tensor, nn


class Components(nn.Module):
    """Patches projected onto orthonormal components, one per channel of a token, each channel scaled.

    Channels are divided by the square root of their standard deviation: the leading components keep more weight in
    the loss than the trailing ones, without drowning them out.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, channels: int, patch_values: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(patch_values))
        self.register_buffer("basis", torch.eye(channels, patch_values))  # orthonormal rows  (C, P)
        self.register_buffer("scale", torch.ones(channels))

    def project(self, patches: Tensor) -> Tensor:
        """Turn patches (B, N, P) into tokens (B, N, C)."""
        return (patches - self.mean) @ self.basis.T / self.scale

    def restore(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, C) into patches (B, N, P)."""
        return (tokens * self.scale) @ self.basis + self.mean

    def measure(self, moments: "Moments", *, principal: bool) -> None:
        """Set mean and scale, and with `principal` the components too, to those of the patches measured."""
        mean, covariance = moments.mean, moments.covariance
        if principal:
            basis = torch.linalg.eigh(covariance).eigenvectors.flip(1).T[: len(self.basis)]
        else:
            basis = torch.eye(*self.basis.shape, dtype=torch.float64)
        deviation = (basis @ covariance @ basis.T).diagonal().clamp(min=1e-12).sqrt()
        scale = deviation.sqrt()
        scale = scale * (deviation / scale).square().mean().sqrt()  # mean square of the tokens becomes 1
        for buffer, value in ((self.mean, mean), (self.basis, basis), (self.scale, scale)):
            buffer.copy_(value)


class Moments:
    """Mean (P,) and covariance (P, P) of patches, in double precision."""

    def __init__(self, patch_values: int) -> None:
        self.count = 0
        self._total = torch.zeros(patch_values, dtype=torch.float64)
        self._square = torch.zeros(patch_values, patch_values, dtype=torch.float64)

    def add(self, patches: Tensor) -> None:
        """Take in patches (B, N, P)."""
        flat = patches.flatten(0, 1).double()
        self.count += len(flat)
        self._total += flat.sum(dim=0)
        self._square += flat.T @ flat

    @property
    def mean(self) -> Tensor:
        """Mean of all patches."""
        return self._total / self.count

    @property
    def covariance(self) -> Tensor:
        """Covariance of all patches."""
        return self._square / self.count - torch.outer(self.mean, self.mean)
