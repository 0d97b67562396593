"""A small corpus of drawn polygons and tiny networks whose tokenizer loses nothing, for tests of what is measured."""

import json
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from jepa_app.checkpoint import save_network, write_manifest
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import make_tokenizer
from training.data.split import is_heldout_concept

SIZE = 32
STYLES = {"noto": "white", "twemoji": "black", "openmoji": None, "blob": "grey"}  # the outline of each


def draw(number: int, outline: str | None) -> Image.Image:
    """A polygon whose corners and colour follow the number, on a transparent ground."""
    picture = Image.new("RGBA", (4 * SIZE, 4 * SIZE))
    hue = f"hsl({number * 47 % 360}, 80%, 50%)"
    box = (2 * SIZE, 2 * SIZE, 1.8 * SIZE)
    ImageDraw.Draw(picture).regular_polygon(box, 3 + number % 5, number * 13, hue, outline, 6)
    return picture.resize((SIZE, SIZE), Image.Resampling.LANCZOS)


def write_corpus(folder: Path) -> Path:
    """40 concepts in four styles, 12 of them on the held-out side."""
    hexcodes = [f"{number:X}" for number in range(0x1F300, 0x1F700)]
    heldout = [code for code in hexcodes if is_heldout_concept(code)][:12]
    concepts = heldout + [code for code in hexcodes if not is_heldout_concept(code)][:28]
    lines = []
    for number, hexcode in enumerate(concepts):
        for style, outline in STYLES.items():
            (folder / style).mkdir(exist_ok=True)
            name = f"{style}/{hexcode}.png"
            draw(number, outline).save(folder / name)
            label = f"{('red', 'blue')[number % 2]} thing {number}"
            row = {"file": name, "style": style, "label": label, "group": f"group {number % 2}", "hexcode": hexcode}
            lines.append(json.dumps(row | {"tags": [], "subgroup": "things"}))
    (folder / "captions.jsonl").write_text("\n".join(lines), encoding="utf-8")
    return folder


def write_exact_weights(folder: Path) -> Path:
    """Random weights of the smallest networks that fit together, on raw patches."""
    torch.manual_seed(0)
    tokenizer = TokenizerConfig(kind="patch", image_size=SIZE, patch_size=8, channels=192)
    network = JepaTConfig(
        num_tokens=16, channels=192, width=32, num_heads=2, encoder_depth=1, predictor_depth=1, denoiser_width=32,
        denoiser_depth=1, num_buffer_tokens=2, fusion_heads=2,
    )  # fmt: skip
    matcher = TIJepaConfig(image_size=SIZE, width=32, num_heads=2, image_depth=1, text_depth=1, predictor_depth=1)
    save_network(folder / "tokenizer", make_tokenizer(tokenizer), tokenizer)
    save_network(folder / "jepa-t", JepaT(network), network)
    save_network(folder / "ti-jepa", TIJepa(matcher), matcher)
    write_manifest(folder)
    return folder
