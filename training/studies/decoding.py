"""What is a tokenizer's decoder worth? `python -m training.studies.decoding WEIGHTS --data DIR [--out DIR]`.

Real pictures of each side of the split go through the tokens and back. DIR holds pictures that are at least as large as
those that are decoded. How far the joins of tiles show is measured on pictures of the generator too, where WEIGHTS has
one. `--out` is a folder for a drawing: real pictures above what is decoded, on white and on black.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from jepa_app.checkpoint import resolve_weights
from jepa_app.command_line import telling_mistakes
from jepa_app.compute import seconds_of
from jepa_app.config import TokenizerConfig
from jepa_app.generation.pipeline import JepaTPipeline
from jepa_app.models.tokenizers.decoder import Layers
from jepa_app.models.tokenizers.resizing import resize_pixels
from jepa_app.models.tokenizers.tokenizer import LinearTokenizer
from jepa_app.pixels import picture_grid, to_pil
from training.command_line import Report, weights_parser
from training.data.batches import CaptionedPictures
from training.data.captions import CaptionOptions, canonical_caption
from training.data.selection import balanced_order
from training.judging.picture_figures import Indices, Sampling, generate
from training.judging.pixel_facts import blockiness
from training.judging.trials import sides_of
from training.objectives.decoding.objective import composite, opaque_iou
from training.objectives.tokenizer import load_tokenizer, signal_to_noise

NOISE = 0.4  # standard deviations of the noise on disturbed tokens
SHOWN = 12


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """Real pictures and what comes back of them: layers, and the pictures that the components alone give."""

    real: Layers
    drawn: Layers
    disturbed: Layers
    linear: Tensor


@telling_mistakes
def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; exit status: 0 for success, 2 for a user's mistake."""
    parser = weights_parser("studies.decoding", __doc__)
    parser.add_argument("--out", type=Path, help="folder for a drawing")
    parser.add_argument("--pictures", type=int, default=192, help="of each side of the split (default: 192)")
    options = parser.parse_args(arguments)
    resolved = resolve_weights(options.weights, parts=("tokenizer", "jepa-t"))
    tokenizer = load_tokenizer(resolved / "tokenizer")
    if not isinstance(tokenizer, LinearTokenizer):
        raise ValueError("the tokenizer is a VAE; allowed: one with components")
    side = max(tokenizer.config.decoded_side, 2 * tokenizer.config.image_size)
    data = CaptionedPictures.load(options.data, side, CaptionOptions())
    figures, shown = {"decoding_ms": _milliseconds(tokenizer)}, None
    sides = sides_of(data)
    for suffix, members in sides.items():
        chosen = balanced_order(data.rows, members, 0)[: options.pictures]
        decoded = _decoded(tokenizer, data, chosen.tolist())
        figures |= {f"{name}{suffix}": value for name, value in figures_of(tokenizer.config, decoded).items()}
        shown = shown or decoded
    if (resolved / "jepa-t").is_dir():
        chosen = balanced_order(data.rows, sides[""], 0)[: options.pictures]
        figures["blockiness_generated"] = blockiness(_generated(resolved, data, chosen), tokenizer.config.grid)
    if options.out and shown:
        options.out.mkdir(parents=True, exist_ok=True)
        _drawing(shown).save(options.out / "decoding.png", optimize=True)
    setting = {"weights": str(options.weights), "data": str(options.data), "pictures": options.pictures}
    rows = [f"| {name} | {value:.3f} |" for name, value in figures.items()]
    table = "\n".join(["| figure | |", "| --- | --- |", *rows])
    Report(document={"figures": figures, "setting": setting}, table=table).print(as_json=options.json)
    return 0


@torch.no_grad()
def _decoded(tokenizer: LinearTokenizer, data: CaptionedPictures, rows: list[int]) -> Decoded:
    batch = data.fixed(rows)
    assert batch.opacity is not None
    config = tokenizer.config
    tokens = tokenizer.encode(resize_pixels(batch.pixels, config.image_size))
    noise = NOISE * torch.randn(tokens.shape, generator=torch.Generator().manual_seed(0))

    def layers(tokens: Tensor) -> Layers:
        parts = [tokenizer.decode_layers(part, batch.pixels.shape[-1]) for part in tokens.split(32)]
        return Layers(*(torch.cat(layer) for layer in zip(*parts, strict=True)))

    return Decoded(
        real=Layers(batch.pixels, batch.opacity),
        drawn=layers(tokens),
        disturbed=layers(tokens + noise),
        linear=tokenizer.decode_linear(tokens),
    )


def _generated(weights: Path, data: CaptionedPictures, rows: Indices) -> Tensor:
    """Pictures (B, 3, S, S) of the generator for the captions of rows, the row as seed, at the size of the decoder."""
    pipeline = JepaTPipeline.from_pretrained(weights)
    captions = [canonical_caption(data.rows[row]) for row in rows.tolist()]
    how = Sampling.suiting(pipeline.network.config)
    return torch.cat(list(generate(pipeline, captions, rows, how, pipeline.decoded_side)))


def figures_of(config: TokenizerConfig, decoded: Decoded) -> dict[str, float]:
    """Signal-to-noise ratios in decibels at both sizes, how far the joins of tiles show, and the overlap (IoU).

    `psnr` is at the size that is encoded, `psnr_large` at that which is decoded.
    `_linear` stands for the components alone, enlarged by bicubic interpolation, `_noisy` for disturbed tokens.
    """
    large = decoded.real.colours.shape[-1]

    def small(pixels: Tensor) -> Tensor:
        return resize_pixels(pixels, config.image_size)

    def linear(side: int) -> Tensor:
        return resize_pixels(decoded.linear, side).clamp(-1, 1)

    real = decoded.real.colours
    figures = {
        "psnr": signal_to_noise(small(decoded.drawn.colours), small(real)),
        "psnr_linear": signal_to_noise(linear(config.image_size), small(real)),
        "psnr_noisy": signal_to_noise(small(decoded.disturbed.colours), small(real)),
        "psnr_large": signal_to_noise(decoded.drawn.colours, real),
        "psnr_large_linear": signal_to_noise(linear(large), real),
    }
    figures |= {
        "blockiness": blockiness(decoded.drawn.colours, config.grid),
        "blockiness_real": blockiness(real, config.grid),
    }
    if config.decoder_width:
        figures["opaque_iou"] = opaque_iou(decoded.drawn.opacity, decoded.real.opacity)
    return figures


def _milliseconds(tokenizer: LinearTokenizer) -> float:
    """The time to decode one picture on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    tokens = torch.randn(1, tokenizer.config.num_tokens, tokenizer.config.channels)
    with torch.no_grad():
        seconds = seconds_of(lambda: tokenizer.decode_layers(tokens), repeats=10)
    torch.set_num_threads(threads)
    return 1000 * seconds


def _drawing(decoded: Decoded) -> Image.Image:
    black = torch.full((1, 3, 1, 1), -1.0)
    rows = [decoded.real.colours, decoded.drawn.colours, decoded.disturbed.colours, composite(decoded.drawn, black)]
    return picture_grid([picture for row in rows for picture in to_pil(row[:SHOWN])], SHOWN)


if __name__ == "__main__":
    sys.exit(main())
