"""Pictures to continuous tokens and back: linear patches (raw or principal components) and VAE latents.

Letters in shapes: B batch, N tokens of a picture, T including those of its plan, C channels, S picture side, L side
that the linear part sees (S / reduction), P patch values, G grid = tokens along a side.
Pixels are in [-1, 1]. The scale of the tokens lives here and nowhere else: their mean square is about 1.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pixel_shuffle, pixel_unshuffle

from jepa_app.config import PLAN_PATCH, TokenizerConfig
from jepa_app.models.tokenizers.components import Components, Moments
from jepa_app.models.tokenizers.decoder import Decoder, Layers
from jepa_app.models.tokenizers.resizing import resize_pixels, resize_smoothly, tile_by_tile


def check_pixels(pixels: Tensor, image_size: int) -> None:
    """Refuse pictures of another shape or with values that are not finite.

    Raises:
        ValueError: pixels are not (B, 3, S, S) or not finite.
    """
    if pixels.ndim != 4 or pixels.shape[1:] != (3, image_size, image_size):
        raise ValueError(f"pictures have shape {tuple(pixels.shape)}; allowed: (B, 3, {image_size}, {image_size})")
    if not torch.isfinite(pixels).all():
        raise ValueError("pictures hold values that are not finite; allowed: pixels in [-1, 1]")


class LinearTokenizer(Components):
    """Square patches, as they are or projected onto principal components.

    With a reduction the patches are those of the reduced picture, and decoding enlarges the result. A plan's tokens
    follow those of the picture: they are patches of the picture reduced to a few pixels, with their own components.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__(config.channels, config.patch_values)
        self.config = config
        self.levels = nn.ModuleList(Components(config.channels, 3 * PLAN_PATCH**2) for _ in config.plan)
        self.refiner = Refiner(config) if config.refiner_width else None
        self.decoder = Decoder(config) if config.decoder_width else None

    def encode(self, pixels: Tensor) -> Tensor:
        """Turn pictures (B, 3, S, S) into tokens (B, T, C): N of the picture, then those of its plan.

        Raises:
            ValueError: the pictures have another shape or hold values that are not finite.
        """
        check_pixels(pixels, self.config.image_size)
        parts = [self.project(self._patches(pixels))]
        for side, level in zip(self.config.plan, self._levels(), strict=True):
            parts.append(level.project(_plan_patches(pixels, side)))
        return torch.cat(parts, dim=1)

    def decode(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N or T, C) into pictures (B, 3, S, S) in [-1, 1]; those of the plan are not needed."""
        return self.render(tokens).clamp(-1, 1)

    def decode_layers(self, tokens: Tensor, side: int | None = None) -> Layers:
        """Turn tokens (B, N or T, C) into pictures on white and their opacity, `side` pixels wide.

        Without a `side` it is the decoder's own, `decoded_side`. Without a decoder everything is opaque.
        """
        side = side or self.config.decoded_side
        if self.decoder is None:
            colours = resize_pixels(self.render(tokens), side)
            return Layers(colours.clamp(-1, 1), torch.ones_like(colours[:, :1]))
        layers = self._layers(tokens).resized(side)
        return Layers(layers.colours.clamp(-1, 1), layers.opacity)

    def render(self, tokens: Tensor) -> Tensor:
        """Decode tokens (B, N or T, C) without clipping to [-1, 1]: (B, 3, S, S), as training needs it."""
        if self.decoder is not None:
            return resize_pixels(self._layers(tokens).colours, self.config.image_size)
        pixels = self.decode_linear(tokens)
        return self._enlarged(pixels) if self.refiner is None else self._enlarged(pixels) + self.refiner(pixels)

    def preview(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N or T, C) of unfinished pictures into pictures (B, 3, S, S): without the refiner.

        It takes a fifth of the time, and the refiner would invent seams with patches that are not there yet.
        """
        return self._enlarged(self.decode_linear(tokens)).clamp(-1, 1)

    def sketch(self, tokens: Tensor, known: Tensor, empty: float) -> Tensor:
        """Turn the plans' known tokens, those of (B, T, C) with known (B, T) True, into soft pictures (B, 3, S, S).

        Where no level has a known token the picture has the value `empty`.
        """
        size = self.config.image_size
        canvas = tokens.new_full((len(tokens), 3, PLAN_PATCH, PLAN_PATCH), empty)
        start = self.config.num_tokens
        levels = zip(self.config.plan, self._levels(), strict=True) if tokens.shape[1] > start else ()
        for side, level in levels:
            part = slice(start, start + side * side)
            start = part.stop
            if start < tokens.shape[1] and bool(known[:, start:].all()):
                continue  # the finer levels hide it
            patches = level.restore(tokens[:, part]).transpose(1, 2).unflatten(2, (side, side))
            pixels = pixel_shuffle(patches, PLAN_PATCH)  # (B, 3, 8 side, 8 side)
            shown = known[:, part].view(-1, 1, side, side)
            whole = bool(shown.all())
            canvas = pixels if whole else tile_by_tile(shown, pixels, resize_smoothly(canvas, pixels.shape[-1]))
        return resize_smoothly(canvas, size).clamp(-1, 1)

    def _layers(self, tokens: Tensor) -> Layers:
        assert self.decoder is not None
        layers: Layers = self.decoder(tokens[:, : self.config.num_tokens], self.decode_linear(tokens))
        return layers

    def _levels(self) -> list[Components]:
        return [level for level in self.levels if isinstance(level, Components)]

    def decode_linear(self, tokens: Tensor) -> Tensor:
        """Turn tokens (B, N or T, C) into the pictures (B, 3, L, L) that their components make up."""
        patches = self.restore(tokens[:, : self.config.num_tokens])  # (B, N, P)
        grid = patches.transpose(1, 2).unflatten(2, (self.config.grid, self.config.grid))  # (B, P, G, G)
        return pixel_shuffle(grid, self.config.patch_size // self.config.reduction)  # (B, 3, L, L)

    def _enlarged(self, pixels: Tensor) -> Tensor:
        return resize_pixels(pixels, self.config.image_size)  # (B, 3, S, S)

    def _patches(self, pixels: Tensor) -> Tensor:
        pixels = resize_smoothly(pixels, self.config.image_size // self.config.reduction)  # (B, 3, L, L)
        patch = self.config.patch_size // self.config.reduction
        return pixel_unshuffle(pixels, patch).flatten(2).transpose(1, 2)  # (B, N, P)

    def take_over(self, other: "Tokenizer") -> bool:
        """Take over mean, components and scale of another tokenizer, so that tokens mean the same in both.

        Its plan is taken over if it is the same, its refiner and decoder if they have the same shape. Returns
        whether there is a plan that still has to be fitted.

        Raises:
            ValueError: the other one is a VAE, or its patches or channels have another size.
        """
        if not isinstance(other, LinearTokenizer) or other.basis.shape != self.basis.shape:
            got = tuple(other.basis.shape) if isinstance(other, LinearTokenizer) else "a VAE"
            raise ValueError(f"components to take over are {got}; allowed: {tuple(self.basis.shape)}")
        pairs: list[tuple[Components, Components]] = [(self, other)]
        is_same_plan = self.config.plan == other.config.plan
        if is_same_plan:
            pairs += zip(self._levels(), other._levels(), strict=True)
        for mine, theirs in pairs:
            for name in ("mean", "basis", "scale"):
                getattr(mine, name).copy_(getattr(theirs, name))
        for own, known in ((self.refiner, other.refiner), (self.decoder, other.decoder)):
            if own is not None and known is not None:
                state, now = known.state_dict(), own.state_dict()
                if {name: value.shape for name, value in state.items()} == {n: v.shape for n, v in now.items()}:
                    own.load_state_dict(state)
        return not is_same_plan

    @torch.no_grad()
    def fit(self, batches: Iterable[Tensor], *, plan_only: bool = False) -> None:
        """Measure mean, components and scale over pictures (B, 3, S, S), with `plan_only` only those of the plan.

        Raises:
            ValueError: there are no pictures.
        """
        moments = Moments(self.config.patch_values)
        plans = [Moments(3 * PLAN_PATCH**2) for _ in self.config.plan]
        for pixels in batches:
            check_pixels(pixels, self.config.image_size)
            moments.add(self._patches(pixels))
            for side, level in zip(self.config.plan, plans, strict=True):
                level.add(_plan_patches(pixels, side))
        if moments.count == 0:
            raise ValueError("there are no pictures to fit the tokenizer to; allowed: at least one")
        if not plan_only:
            self.measure(moments, principal=self.config.kind == "pca")
        for components, level in zip(self._levels(), plans, strict=True):
            components.measure(level, principal=True)


def _plan_patches(pixels: Tensor, side: int) -> Tensor:
    """Patches (B, side * side, P) of pictures (B, 3, S, S) reduced to a level of the plan."""
    return pixel_unshuffle(resize_smoothly(pixels, PLAN_PATCH * side), PLAN_PATCH).flatten(2).transpose(1, 2)


class Refiner(nn.Module):
    """Small convolutional decoder beside the linear one: it corrects pixels, seeing their neighbours.

    It works at a quarter of the linear part's resolution (2 x 2 pixels folded into channels) and adds nothing at first.
    """

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        width, patch = config.refiner_width, config.patch_size // config.reduction
        self.unfolding = 2 * config.reduction
        self.phase = nn.Parameter(torch.zeros(1, width, patch // 2, patch // 2))  # the pixel's place in its patch
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
    """Latents of a diffusers AutoencoderKL, one token per latent pixel, each channel centred and scaled."""

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
        """Turn tokens (B, N, C) of unfinished pictures into pictures (B, 3, S, S), as `decode` does."""
        return self.decode(tokens)

    def decode_layers(self, tokens: Tensor, side: int | None = None) -> Layers:
        """Turn tokens (B, N, C) into pictures of `side` pixels (by default their own), opaque everywhere."""
        colours = resize_pixels(self.decode(tokens), side or self.config.image_size)
        return Layers(colours.clamp(-1, 1), torch.ones_like(colours[:, :1]))

    def sketch(self, tokens: Tensor, known: Tensor, empty: float) -> Tensor:
        """Return pictures (B, 3, S, S) of the value `empty`: there is no plan to show."""
        del known
        size = self.config.image_size
        return tokens.new_full((len(tokens), 3, size, size), empty)

    def render(self, tokens: Tensor) -> Tensor:
        """Decode tokens (B, N, C) without clipping to [-1, 1]: (B, 3, S, S), as training needs it."""
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
            raise ValueError("there are no pictures to fit the tokenizer to; allowed: at least one")
        std, mean = torch.std_mean(torch.cat(latents), dim=0)
        self.mean.copy_(mean)
        self.scale.copy_(std.clamp(min=1e-6))


Tokenizer = LinearTokenizer | VaeTokenizer


def make_tokenizer(config: TokenizerConfig) -> Tokenizer:
    """Build the tokenizer that the config names."""
    return VaeTokenizer(config) if config.kind == "vae" else LinearTokenizer(config)
