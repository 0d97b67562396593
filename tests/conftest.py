"""Tiny real networks with random weights, shared by the tests."""

from pathlib import Path

import pytest
import torch

from jepa_app.checkpoint import save_network, write_manifest
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizer import make_tokenizer

TINY_TOKENIZER = TokenizerConfig(image_size=32, patch_size=8, channels=12)
TINY_JEPA_T = JepaTConfig(
    num_tokens=16,
    channels=12,
    width=32,
    num_heads=2,
    encoder_depth=2,
    predictor_depth=2,
    num_buffer_tokens=2,
    denoiser_width=32,
    denoiser_depth=1,
)
TINY_TI_JEPA = TIJepaConfig(image_size=32, width=32, num_heads=2, image_depth=1, text_depth=1, predictor_depth=1)


def write_tiny_weights(folder: Path) -> Path:
    """Write random tiny networks in the layout of the bundled weights."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(TINY_TOKENIZER)
    tokenizer.fit([torch.rand(64, 3, 32, 32) * 2 - 1])
    for part, network, config in (
        ("tokenizer", tokenizer, TINY_TOKENIZER),
        ("jepa-t", awake(JepaT(TINY_JEPA_T)), TINY_JEPA_T),
        ("ti-jepa", awake(TIJepa(TINY_TI_JEPA)), TINY_TI_JEPA),
    ):
        save_network(folder / part, network, config)
    write_manifest(folder)
    return folder


def awake(network: torch.nn.Module) -> torch.nn.Module:
    """Give every matrix of a fresh network random values: layers that start at zero would hide mistakes."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim > 1:
                parameter.normal_(std=0.1)
    return network


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with random tiny networks."""
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def text_encoder() -> TextEncoder:
    """The real text encoder from its package."""
    return TextEncoder.load()
