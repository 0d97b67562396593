"""Pictures to continuous tokens and back: linear patches (raw or principal components) and VAE latents.

Letters in shapes: B batch, N tokens, C channels, S picture side, L side that the linear part sees (S / reduction),
P patch values, G grid = tokens along a side.
Pixels are in [-1, 1]. The scale of the tokens lives here and nowhere else: their mean square is about 1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, pixel_shuffle, pixel_unshuffle

from jepa_app.config import TokenizerConfig


def check_pixels(pixels: Tensor, image_size: int) -> None:
    """Refuse pictures of another shape or with values that are no numbers.

    Raises:
        ValueError: pixels are not (B, 3, S, S) or not finite.
    """
    if pixels.ndim != 4 or pixels.shape[1:] != (3, image_size, image_size):
        raise ValueError(f"pictures have shape {tuple(pixels.shape)}; allowed: (B, 3, {image_size}, {image_size})")
    if not torch.isfinite(pixels).all():
        raise ValueError("pictures hold values that are not finite; allowed: pixels in [-1, 1]")


class LinearTokenizer(nn.Module):
    """Square patches, as they are or projected on principal components, each channel scaled.

    With a reduction the patches are those of the reduced picture, and decoding enlarges what they give.

    Channels are divided by the square root of their standard deviation: the leading components keep more weight in
    the loss than the trailing ones, without drowning them.
    """

    mean: Tensor
    basis: Tensor
    scale: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("mean", torch.zeros(config.patch_values))
        self.register_buffer("basis", torch.eye(config.channels, config.patch_values))  # orthonormal rows  (C, P)
        self.register_buffer("scale", torch.ones(config.channels))
        self.refiner = Refiner(config) if config.refiner_width else None

    def encode(self, pixels: Tensor) -> Tensor:
        """Turn pictures (B, 3, S, S) into tokens (B, N, C).

        Raises:
            ValueError: the pictures have another shape or hold values that are not finite.
        """
        check_pixels(pixels, self.config.image_size)
        return (self._patches(pixels) - self.mean) @ self.basis.T / self.scale

    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, C) into pictures (B, 3, S, S) in [-1, 1]."""
        return self.render(tokens).clamp(-1, 1)

    def render(self, tokens: Tensor) -> Tensor:
        """Decode tokens (B, N, C) without cutting to [-1, 1]: (B, 3, S, S), as training needs it."""
        pixels = self._linear(tokens)
        return self._enlarged(pixels) if self.refiner is None else self._enlarged(pixels) + self.refiner(pixels)

    def preview(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, C) of unfinished pictures into pictures (B, 3, S, S): without the refiner.

        It takes a fifth of the time, and the refiner would make up joins to patches that are not there yet.
        """
        return self._enlarged(self._linear(tokens)).clamp(-1, 1)

    def _linear(self, tokens: Tensor) -> Tensor:
        patches = (tokens * self.scale) @ self.basis + self.mean  # (B, N, P)
        grid = patches.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))  # (B, P, G, G)
        return pixel_shuffle(grid, self.config.patch_size // self.config.reduction)  # (B, 3, L, L)

    def _enlarged(self, pixels: Tensor) -> Tensor:
        factor = self.config.reduction  # 1 leaves every pixel as it is
        return pixels if factor == 1 else interpolate(pixels, scale_factor=factor, mode="bicubic")  # (B, 3, S, S)

    def _patches(self, pixels: Tensor) -> Tensor:
        if self.config.reduction > 1:
            side = self.config.image_size // self.config.reduction
            pixels = interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)  # (B, 3, L, L)
        patch = self.config.patch_size // self.config.reduction
        return pixel_unshuffle(pixels, patch).flatten(2).transpose(1, 2)  # (B, N, P)

    def take_components(self, other: "Tokenizer") -> None:
        """Take mean, components and scale of another tokenizer over, so that both mean the same by a token.

        Raises:
            ValueError: the other one is a VAE, or its patches or channels are of another size.
        """
        if not isinstance(other, LinearTokenizer) or other.basis.shape != self.basis.shape:
            got = tuple(other.basis.shape) if isinstance(other, LinearTokenizer) else "a VAE"
            raise ValueError(f"components to take over are {got}; allowed: {tuple(self.basis.shape)}")
        for name in ("mean", "basis", "scale"):
            getattr(self, name).copy_(getattr(other, name))

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measure mean, components and scale over batches of pictures (B, 3, S, S).

        Raises:
            ValueError: there are no pictures.
        """
        count, total = 0, torch.zeros(self.config.patch_values, dtype=torch.float64)
        square = torch.zeros(self.config.patch_values, self.config.patch_values, dtype=torch.float64)
        for pixels in batches:
            check_pixels(pixels, self.config.image_size)
            patches = self._patches(pixels).flatten(0, 1).double()
            count, total, square = count + len(patches), total + patches.sum(dim=0), square + patches.T @ patches
        if count == 0:
            raise ValueError("there are no pictures to fit the tokenizer on; allowed: at least one")
        mean = total / count
        covariance = square / count - torch.outer(mean, mean)
        if self.config.kind == "pca":
            basis = torch.linalg.eigh(covariance).eigenvectors.flip(1).T[: self.config.channels]
        else:
            basis = torch.eye(self.config.patch_values, dtype=torch.float64)
        deviation = (basis @ covariance @ basis.T).diagonal().clamp(min=1e-12).sqrt()
        scale = deviation.sqrt()
        scale = scale * (deviation / scale).square().mean().sqrt()  # mean square of the tokens becomes 1
        for buffer, value in ((self.mean, mean), (self.basis, basis), (self.scale, scale)):
            buffer.copy_(value)


class Refiner(nn.Module):
    """Small convolutional decoder beside the linear one: what it adds to pixels, seeing their neighbours.

    It works at a quarter of the linear part's resolution (2 x 2 pixels folded into channels) and adds nothing at first.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, patch = config.refiner_width, config.patch_size // config.reduction
        self.unfolding = 2 * config.reduction
        self.phase = nn.Parameter(torch.zeros(1, width, patch // 2, patch // 2))  # where in its patch a pixel is
        self.inside = nn.Conv2d(12, width, 3, padding=1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(config.refiner_depth))
        self.outside = nn.Conv2d(width, 3 * self.unfolding**2, 3, padding=1)
        nn.init.zeros_(self.outside.weight)
        nn.init.zeros_(self.outside.bias)  # type: ignore[arg-type]

    def forward(self, pixels: Tensor) -> Tensor:
        """Map what the linear part decodes (B, 3, L, L) to what is added to its enlargement (B, 3, S, S)."""
        folded = pixel_unshuffle(pixels, 2)  # (B, 12, L/2, L/2)
        repeats = folded.shape[-1] // self.phase.shape[-1]
        x = self.inside(folded) + self.phase.tile(1, 1, repeats, repeats)
        for layer in self.layers:
            x = x + layer(gelu(x, approximate="tanh"))
        return pixel_shuffle(self.outside(x), self.unfolding)


class VaeTokenizer(nn.Module):
    """Latents of a diffusers AutoencoderKL, one token a latent pixel, each channel centred and scaled."""

    mean: Tensor
    scale: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        from diffusers import AutoencoderKL  # lazy: seconds to import, and only this kind needs it

        self.config = config
        blocks = len(config.vae_channels)
        self.vae = AutoencoderKL(
            latent_channels=config.channels,
            block_out_channels=config.vae_channels,
            down_block_types=("DownEncoderBlock2D",) * blocks,
            up_block_types=("UpDecoderBlock2D",) * blocks,
            layers_per_block=1,
            norm_num_groups=16,
            sample_size=config.image_size,
        )
        self.register_buffer("mean", torch.zeros(config.channels))
        self.register_buffer("scale", torch.ones(config.channels))

    def encode(self, pixels: Tensor) -> Tensor:
        """Turn pictures (B, 3, S, S) into tokens (B, N, C): the mode of the posterior.

        Raises:
            ValueError: the pictures have another shape or hold values that are not finite.
        """
        check_pixels(pixels, self.config.image_size)
        latents = self.vae.encode(pixels).latent_dist.mode()  # (B, C, G, G)
        return (latents.flatten(2).transpose(1, 2) - self.mean) / self.scale

    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, C) into pictures (B, 3, S, S) in [-1, 1]."""
        return self.render(tokens).clamp(-1, 1)

    def preview(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N, C) of unfinished pictures into pictures (B, 3, S, S): as `decode`."""
        return self.decode(tokens)

    def render(self, tokens: Tensor) -> Tensor:
        """Decode tokens (B, N, C) without cutting to [-1, 1]: (B, 3, S, S), as training needs it."""
        latents = (tokens * self.scale + self.mean).transpose(1, 2)
        return self.vae.decode(latents.unflatten(2, (self.config.grid, self.config.grid))).sample

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor]) -> None:
        """Measure mean and scale of each latent channel over batches of pictures (B, 3, S, S).

        Raises:
            ValueError: there are no pictures.
        """
        self.mean.zero_()
        self.scale.fill_(1)
        latents = [self.encode(pixels).flatten(0, 1) for pixels in batches]
        if not latents:
            raise ValueError("there are no pictures to fit the tokenizer on; allowed: at least one")
        std, mean = torch.std_mean(torch.cat(latents), dim=0)
        self.mean.copy_(mean)
        self.scale.copy_(std.clamp(min=1e-6))


Tokenizer = LinearTokenizer | VaeTokenizer


def make_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """Build the tokenizer that the config names."""
    return VaeTokenizer(config) if config.kind == "vae" else LinearTokenizer(config)
