"""A diffusion transformer over all tokens of a picture at once: what JEPA-T is measured against.

Source: DiT (arXiv 2212.09748) with text by cross-attention, as in PixArt-alpha (arXiv 2310.00426); the network is
diffusers' `PixArtTransformer2DModel`, since its `DiTTransformer2DModel` knows classes only. Tokens, text features and
flow are JEPA-T's own.
Letters in shapes: B pictures, N image tokens, C token channels, T text tokens, S picture side in pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import torch
from torch import Tensor, nn

from jepa_app.checkpoint import check_fit, load_network, resolve_weights
from jepa_app.config import TEXT_WIDTH
from jepa_app.config_base import Config
from jepa_app.generation.flow import FlowMatching, guide
from jepa_app.generation.results import JepaTOutput, check_prompts
from jepa_app.generation.settings import GuidanceSchedule, SamplingSettings
from jepa_app.models.text import TextEncoder, TextFeatures, drop_text, join_features, null_features
from jepa_app.models.tokenizers.tokenizer import Tokenizer
from jepa_app.pixels import to_pil
from training.objectives.tokenizer import load_tokenizer


@dataclass(frozen=True, kw_only=True)
class DitConfig(Config):
    """Sizes of the transformer; by default it has about as many parameters as JEPA-T with its defaults."""

    num_tokens: int = 64
    channels: int = 48
    condition_width: int = TEXT_WIDTH
    width: int = 256
    num_heads: int = 4
    depth: int = 11

    def __post_init__(self) -> None:
        self._require_positive("num_tokens", "channels", "condition_width", "width", "num_heads", "depth")
        self._require(self.grid**2 == self.num_tokens, f"num_tokens is {self.num_tokens}, which is not a square")
        self._require(
            self.width % (2 * self.num_heads) == 0,
            f"width {self.width} must be a multiple of 2 x num_heads ({self.num_heads})",
        )

    @property
    def num_places(self) -> int:
        """Tokens of one picture: there is no plan."""
        return self.num_tokens

    @property
    def grid(self) -> int:
        """Tokens along one side of the picture."""
        return math.isqrt(self.num_tokens)


class Dit(nn.Module):
    """The transformer, and the learned null text that guidance moves away from."""

    def __init__(self, config: DitConfig) -> None:
        super().__init__()
        from diffusers import PixArtTransformer2DModel  # lazy: takes seconds to import, and only this network needs it

        self.config = config
        self.null_text = nn.Parameter(torch.empty(config.condition_width))
        self.transformer = PixArtTransformer2DModel(
            num_attention_heads=config.num_heads,
            attention_head_dim=config.width // config.num_heads,
            in_channels=config.channels,
            out_channels=config.channels,
            num_layers=config.depth,
            cross_attention_dim=config.width,
            sample_size=config.grid,
            patch_size=1,
            caption_channels=config.condition_width,
            use_additional_conditions=False,
        )
        self.init_weights()

    def init_weights(self) -> None:
        """Initialise the network as DiT's and PixArt's papers do.

        | layer | weight | bias |
        | Linear, patch embedding | Xavier uniform | 0 |
        | time and text embeddings, modulation | normal, std 0.02 | 0 |
        | end of cross-attention, output | 0 | 0 |
        | null text | normal, std 0.02 | |
        """
        nn.init.normal_(self.null_text, std=0.02)
        nn.init.xavier_uniform_(self.transformer.pos_embed.proj.weight.flatten(1))
        nn.init.zeros_(self.transformer.pos_embed.proj.bias)
        for name, layer in self.transformer.named_modules():
            if not isinstance(layer, nn.Linear):
                continue
            nn.init.zeros_(layer.bias)
            if name == "proj_out" or name.endswith("attn2.to_out.0"):
                nn.init.zeros_(layer.weight)
            elif name.startswith(("adaln_single", "caption_projection")):
                nn.init.normal_(layer.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(layer.weight)

    def forward(self, x: Tensor, time: Tensor, text: TextFeatures) -> Tensor:
        """Predict clean tokens (B, N, C) from noisy ones x (B, N, C) at times (B,) in [0, 1] under text (B, T, W)."""
        grid = self.config.grid
        (out,) = self.transformer(
            x.mT.unflatten(2, (grid, grid)),  # (B, C, grid, grid)
            encoder_hidden_states=text.tokens,
            encoder_attention_mask=text.mask,
            timestep=1000 * time,
            return_dict=False,
        )
        tokens: Tensor = out.flatten(2).mT
        return tokens

    def drop_text(self, text: TextFeatures, drop: Tensor) -> TextFeatures:
        """Replace the text (B, T, W) of the pictures where drop (B,) bool is True with the null text."""
        return drop_text(text, drop, self.null_text)

    def null_features(self, batch_size: int) -> TextFeatures:
        """Return the learned null text: one token per picture, (B, 1, W)."""
        return null_features(self.null_text, batch_size)


class DitPipeline:
    """Text to image with the transformer: as much of JEPA-T's pipeline as the evaluation needs."""

    def __init__(self, tokenizer: Tokenizer, network: Dit, text_encoder: TextEncoder) -> None:
        self.image_tokenizer = tokenizer.eval().requires_grad_(False)
        self.network = network.eval().requires_grad_(False)
        self.text_encoder = text_encoder
        self.flow = FlowMatching()

    @classmethod
    def from_pretrained(cls, source: Path | str, device: torch.device | str | None = None) -> Self:
        """Load the parts `tokenizer` and `dit` of a weights folder, strictly.

        Raises:
            ValueError: the weights are missing, broken or of another kind.
        """
        folder, device = resolve_weights(source, parts=("tokenizer", "dit")), torch.device(device or "cpu")
        tokenizer = load_tokenizer(folder / "tokenizer")
        network = load_network(folder / "dit", DitConfig, Dit)
        check_fit(folder, tokenizer.config, network.config)
        return cls(tokenizer.to(device), network.to(device), TextEncoder.load())

    @property
    def device(self) -> torch.device:
        """Where the network computes."""
        return self.network.null_text.device

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures."""
        return self.image_tokenizer.config.image_size

    @torch.no_grad()
    def __call__(
        self,
        prompt: Sequence[str],
        *,
        num_inference_steps: int = 16,
        guidance_scale: float = SamplingSettings.guidance,
        temperature: float = SamplingSettings.temperature,
        guidance_schedule: GuidanceSchedule = "constant",
        denoising_steps: int = 1,
        generator: Sequence[torch.Generator],
        output_type: Literal["pil", "pt"] = "pil",
    ) -> JepaTOutput:
        """Sample one picture per prompt in `num_inference_steps` evaluations, each with and without the prompt.

        `denoising_steps` is not used, since no token is denoised separately.

        Raises:
            ValueError: a prompt is empty or too long, a number is out of range, or generators do not match prompts.
        """
        SamplingSettings(
            steps=num_inference_steps,
            guidance=guidance_scale,
            temperature=temperature,
            guidance_schedule=guidance_schedule,
            denoising_steps=denoising_steps,
        )
        if guidance_schedule != "constant":
            raise ValueError(f"guidance_schedule is {guidance_schedule!r}; allowed: constant; all tokens come at once")
        if num_inference_steps < 1:
            raise ValueError(f"num_inference_steps is {num_inference_steps}; allowed: 1 or more")
        check_prompts(prompt)
        if len(generator) != len(prompt):
            raise ValueError(f"got {len(generator)} generators for {len(prompt)} pictures; pass one per picture")
        config = self.network.config
        values = config.num_tokens * config.channels
        noise = torch.stack([torch.randn(values, generator=one) for one in generator])  # (B, N * C)
        tokens = self._denoise(prompt, noise.to(self.device), num_inference_steps, guidance_scale, temperature)
        pixels = self.image_tokenizer.decode(tokens)
        return JepaTOutput(images=pixels if output_type == "pt" else to_pil(pixels))

    def _denoise(
        self, prompt: Sequence[str], noise: Tensor, num_steps: int, guidance_scale: float, temperature: float
    ) -> Tensor:
        config = self.network.config
        text = self.text_encoder.encode(prompt).to(noise.device, noise.dtype)
        both = join_features([text, self.network.null_features(len(text))]) if guidance_scale != 1 else text
        times, scale = self.flow.times(num_steps), noise.new_tensor(guidance_scale)

        def predict(x: Tensor, index: int) -> Tensor:
            x = x.repeat(len(both) // len(text), 1).view(-1, config.num_tokens, config.channels)
            out = self.network(x, x.new_full((len(x),), times[index]), both).flatten(1)
            return guide(out[len(text) :], out[: len(text)], scale) if len(out) > len(text) else out

        clean = self.flow.sample(predict, noise, num_steps=num_steps, temperature=temperature, draw=lambda: noise)
        return clean.view(-1, config.num_tokens, config.channels)
