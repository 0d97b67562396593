"""The JEPA-T pipeline, called like a diffusers pipeline: `from_pretrained`, `__call__` for pictures, and `stream`.

It does not inherit from DiffusionPipeline, which cannot yield and doubles the start-up time when imported.

Letters in shapes: B pictures, N image tokens, K tokens of one step, C token channels, S picture side in pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, Self

import torch
from PIL import Image
from torch import Tensor

from jepa_app.checkpoint import check_fit, load_network, resolve_weights, save_network, verify_manifest, write_manifest
from jepa_app.compute import choose_dtype, keep_numbers_from_company, keep_numbers_from_threads, lay_out_for_few_rows
from jepa_app.config import JepaTConfig, TokenizerConfig
from jepa_app.generation.flow import make_denoising
from jepa_app.generation.results import (
    JepaTOutput,
    SampleStep,
    check_prompts,
    check_size,
    one_each,
    refuse_overflow,
)
from jepa_app.generation.sampler import sample
from jepa_app.generation.settings import GuidanceSchedule, SamplingSettings
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.models.attention import choose_backend
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder, TextFeatures
from jepa_app.models.tokenizers.decoder import Layers
from jepa_app.models.tokenizers.resizing import tile_by_tile
from jepa_app.models.tokenizers.tokenizer import Tokenizer, make_tokenizer
from jepa_app.pixels import to_pil

UNKNOWN_GREY = 0.0  # pixel value, in [-1, 1], of patches not yet predicted


class JepaTPipeline:
    """Text-to-image generation with JEPA-T: tokenizer, network, frozen text encoder, and what the network has seen."""

    def __init__(
        self, tokenizer: Tokenizer, network: JepaT, text_encoder: TextEncoder, vocabulary: Vocabulary | None = None
    ) -> None:
        self.image_tokenizer = tokenizer.eval().requires_grad_(False)
        self.network = network.eval().requires_grad_(False)
        self.text_encoder = text_encoder
        self.vocabulary = vocabulary or Vocabulary()
        self.denoising = make_denoising(network.config.denoising)

    @classmethod
    def from_pretrained(
        cls,
        source: Path | str = "weights",
        device: torch.device | str | None = None,
        text_encoder: str | None = None,
        dtype: torch.dtype | None = None,
        revision: str | None = None,
    ) -> Self:
        """Load the weights from a folder (with tokenizer/, jepa-t/ and manifest.json) or a hub id, strictly.

        `revision` is a branch, tag or commit of a hub id.
        `dtype` is the network's dtype; None chooses the fastest one on the device. The tokenizer stays in float32.

        Raises:
            ValueError: weights are missing, broken, swapped or do not fit together.
        """
        keep_numbers_from_threads()
        folder = resolve_weights(source, revision)
        verify_manifest(folder)
        tokenizer = load_network(folder / "tokenizer", TokenizerConfig, make_tokenizer)
        network = load_network(folder / "jepa-t", JepaTConfig, JepaT)
        check_fit(folder, tokenizer.config, network.config)
        device = torch.device(device or "cpu")
        network.to(dtype or choose_dtype(device))
        if device.type == "cpu":
            lay_out_for_few_rows(network)
            keep_numbers_from_company(network)
        encoder = TextEncoder.load(text_encoder, device)
        return cls(tokenizer, network, encoder, Vocabulary.load(folder / "jepa-t", encoder)).to(device)

    def save_pretrained(self, save_directory: Path | str) -> None:
        """Write tokenizer, network and manifest in the layout that `from_pretrained` reads."""
        folder = Path(save_directory)
        save_network(folder / "tokenizer", self.image_tokenizer, self.image_tokenizer.config)
        save_network(folder / "jepa-t", self.network, self.network.config)
        self.vocabulary.save(folder / "jepa-t")
        write_manifest(folder)

    def to(self, device: torch.device | str) -> Self:
        """Move all networks to a device."""
        self.image_tokenizer.to(device)
        self.network.to(device)
        self.text_encoder.model.to(device)
        return self

    @property
    def device(self) -> torch.device:
        """Device of the network."""
        return self.network.null_text.device

    @property
    def dtype(self) -> torch.dtype:
        """Dtype of the network's weights."""
        return self.network.null_text.dtype

    @property
    def defaults(self) -> SamplingSettings:
        """The sampling settings that suit the weights."""
        return SamplingSettings.suiting(self.network.config)

    @property
    def attention_backend(self) -> str:
        """The attention kernels in use: "sdpa" or "xformers"."""
        return choose_backend(self.device, self.dtype)

    @property
    def image_size(self) -> int:
        """Side in pixels of the pictures that are encoded, and of pictures in the making."""
        return self.image_tokenizer.config.image_size

    @property
    def decoded_side(self) -> int:
        """Side in pixels of the largest finished picture."""
        return self.image_tokenizer.config.decoded_side

    @property
    def knows_opacity(self) -> bool:
        """Whether the decoder tells a picture from the white behind it."""
        return self.image_tokenizer.config.decoder_width > 0

    @property
    def grid(self) -> int:
        """Tokens along one side of a picture."""
        return self.image_tokenizer.config.grid

    def encode_prompts(self, prompts: Sequence[str], *, by_keywords: bool = True) -> TextFeatures:
        """Return the features of prompts, read by `Vocabulary.caption_of`, (B, T, W) on the network's device.

        Negative prompts are not read `by_keywords`: they often name a quality, and "ugly" does not mean a swan there.

        Raises:
            ValueError: a prompt is empty or too long.
        """
        check_prompts(prompts)
        read = [self.vocabulary.caption_of(one, by_keywords=by_keywords) for one in prompts]
        return self.text_encoder.encode(read).to(self.device, self.dtype)

    def thing_alone(self, prompt: str) -> str | None:
        """Return the thing of a prompt if it was never shown in the prompt's style and these weights mix it in."""
        config = self.network.config
        return self.vocabulary.thing_new_to_style(prompt) if config.plan and any(config.sampling_thing_shares) else None

    def thing_features(self, prompt: str) -> TextFeatures | None:
        """Return the features (1, T, W) of `thing_alone`."""
        thing = self.thing_alone(prompt)
        return None if thing is None else self.encode_prompts([thing])

    def stream(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        temperature: float | None = None,
        guidance_schedule: GuidanceSchedule = SamplingSettings.guidance_schedule,
        denoising_steps: int = SamplingSettings.denoising_steps,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
    ) -> Iterator[SampleStep]:
        """Sample pictures and yield after every step.

        Args:
            prompt: one prompt, or one per picture.
            num_inference_steps, guidance_scale, temperature: None means what suits the weights (`defaults`).
            negative_prompt: text to move away from; None or "" means the learned null text.
            generator: one CPU generator per picture; None means fresh, randomly seeded ones.

        Raises:
            ValueError: a prompt is empty or too long, a number is out of range, or generators do not match prompts.
        """
        asked_for = [prompt] if isinstance(prompt, str) else list(prompt)
        check_prompts(asked_for)
        generators = one_each(generator, len(asked_for))
        seeds = [one.initial_seed() for one in generators]
        prompts = [self.vocabulary.in_a_style(one, seed) for one, seed in zip(asked_for, seeds, strict=True)]
        asked: dict[str, Any] = {"steps": num_inference_steps, "guidance": guidance_scale, "temperature": temperature}
        asked = {name: value for name, value in asked.items() if value is not None}
        asked |= {"guidance_schedule": guidance_schedule, "denoising_steps": denoising_steps}
        settings = replace(self.defaults, **asked)
        text = self.encode_prompts(prompts)
        away = negative_prompt if negative_prompt and negative_prompt.strip() else None
        negative = None if away is None else self.encode_prompts([away], by_keywords=False)
        things = [self.thing_features(one) for one in prompts]
        for steps in sample(self.network, self.denoising, text, negative, settings, generators, things):
            tokens, known, revealed = (
                torch.stack([getattr(step, name) for step in steps]) for name in ("tokens", "known", "revealed")
            )
            index, total = steps[0].index, steps[0].total
            yield SampleStep(index, total, tokens, known, revealed, self.decode(tokens, known))

    @torch.no_grad()
    def encode(self, pixels: Tensor) -> Tensor:
        """Encode pictures (B, 3, S, S) in [-1, 1] to the tokens (B, T, C) that the network takes."""
        tokens: Tensor = self.image_tokenizer.encode(pixels.to(self.device))
        return tokens[:, : self.network.config.num_places]

    @torch.no_grad()
    def decode(self, tokens: Tensor, known: Tensor) -> Tensor:
        """Decode tokens (B, T, C), of which `known` (B, T) are there, to pictures (B, 3, S, S) in [-1, 1].

        Where a tile is not known the plan shows through, or mid grey where there is no plan yet.
        """
        tokens, known = tokens.to(self.device).float(), known.to(self.device)  # steps may come from another one
        tokenizer, side = self.image_tokenizer, self.grid
        tiles = known[:, : side * side]
        if bool(tiles.all()):
            return tokenizer.decode(tokens)
        pixels = tokenizer.preview(tokens * known[:, :, None])
        return tile_by_tile(tiles.view(-1, 1, side, side), pixels, tokenizer.sketch(tokens, known, UNKNOWN_GREY))

    @torch.no_grad()
    def layers(self, tokens: Tensor, size: int | None = None) -> Layers:
        """Decode the tokens (B, T, C) of finished pictures to colours on white and opacity, `size` pixels wide.

        None means the largest size, `decoded_side`.

        Raises:
            ValueError: the size is not allowed, or the numbers overflowed.
        """
        check_size(size, self.decoded_side)
        layers = self.image_tokenizer.decode_layers(tokens.to(self.device).float(), size)
        refuse_overflow(layers.colours)
        return layers

    def pictures(self, tokens: Tensor, known: Tensor) -> list[Image.Image]:
        """Return pictures as PIL images: finished ones at their largest size, others as `decode` makes them.

        Raises:
            ValueError: the numbers overflowed.
        """
        if bool(known[:, : self.grid**2].all()):
            return to_pil(self.layers(tokens).colours)
        refuse_overflow(tokens)
        return to_pil(self.decode(tokens, known))

    def __call__(
        self,
        prompt: str | Sequence[str],
        *,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        negative_prompt: str | None = None,
        num_images_per_prompt: int = 1,
        temperature: float | None = None,
        guidance_schedule: GuidanceSchedule = SamplingSettings.guidance_schedule,
        denoising_steps: int = SamplingSettings.denoising_steps,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        size: int | None = None,
        output_type: Literal["pil", "np", "pt"] = "pil",
        callback_on_step_end: Callable[["JepaTPipeline", int, int, dict], dict] | None = None,
    ) -> JepaTOutput:
        """Sample pictures, called as in diffusers; `callback_on_step_end` receives (pipeline, step, total, tensors).

        Pictures are `size` pixels wide; None means the largest size, `decoded_side`.

        Raises:
            ValueError: as `stream`, an unknown output type, or a size that is not allowed.
        """
        check_size(size, self.decoded_side)
        if output_type not in ("pil", "np", "pt"):
            raise ValueError(f"output_type is {output_type!r}; allowed: pil, np, pt")
        prompts = [prompt] if isinstance(prompt, str) else list(prompt)
        last = None
        for step in self.stream(
            [one for one in prompts for _ in range(num_images_per_prompt)],
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            negative_prompt=negative_prompt,
            temperature=temperature,
            guidance_schedule=guidance_schedule,
            denoising_steps=denoising_steps,
            generator=generator,
        ):
            last = step
            if callback_on_step_end is not None:
                callback_on_step_end(self, step.index, step.total, {"tokens": step.tokens, "known": step.known})
        assert last is not None
        pixels = self.layers(last.tokens, size).colours
        if output_type == "pt":
            return JepaTOutput(images=pixels)
        if output_type == "np":
            return JepaTOutput(images=((pixels + 1) / 2).permute(0, 2, 3, 1).cpu().numpy())
        return JepaTOutput(images=to_pil(pixels))
