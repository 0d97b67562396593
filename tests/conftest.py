"""Tiny real networks with random weights, shared by the tests."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import torch

from jepa_app.checkpoint import save_network, write_manifest
from jepa_app.compute import keep_numbers_from_threads
from jepa_app.config import JepaTConfig, TIJepaConfig, TokenizerConfig
from jepa_app.models.jepa_t import JepaT
from jepa_app.models.text import TextEncoder
from jepa_app.models.ti_jepa import TIJepa
from jepa_app.models.tokenizers.tokenizer import make_tokenizer

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

    from jepa_app.studio.studio import Studio
    from tests.support.browser import OpenPage
    from tests.support.studio_server import Gate

keep_numbers_from_threads()  # before the first product, as the program does
TINY_TOKENIZER = TokenizerConfig(image_size=32, patch_size=8, channels=12)
TINY_DECODING = TokenizerConfig(
    image_size=32,
    patch_size=8,
    channels=12,
    decoder_width=16,
    decoder_depth=1,
    decoder_features=8,
    decoder_layers=1,
    decoded_size=64,
)
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


def write_tiny_weights(
    folder: Path,
    tokenizer_config: TokenizerConfig = TINY_TOKENIZER,
    jepa_t_config: JepaTConfig = TINY_JEPA_T,
    pictures: torch.Tensor | None = None,
) -> Path:
    """Write random tiny networks in the layout of the bundled weights, the tokenizer fitted to `pictures` or noise."""
    torch.manual_seed(0)
    tokenizer = make_tokenizer(tokenizer_config)
    tokenizer.fit([torch.rand(64, 3, 32, 32) * 2 - 1 if pictures is None else pictures])
    for part, network, config in (
        ("tokenizer", tokenizer, tokenizer_config),
        ("jepa-t", awake(JepaT(jepa_t_config)), jepa_t_config),
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


@pytest.fixture(scope="session", autouse=True)
def uploads_of_their_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the files of the servers under test out of the folder that all of Gradio's servers share."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", str(tmp_path_factory.mktemp("gradio")))
        yield


@pytest.fixture(scope="session")
def tiny_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights folder with random tiny networks."""
    return write_tiny_weights(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="session")
def steady_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Tiny networks whose layers all have 32 columns or more, which a CPU rounds the same alone and in company."""
    folder = tmp_path_factory.mktemp("steady")
    return write_tiny_weights(folder, replace(TINY_TOKENIZER, channels=48), replace(TINY_JEPA_T, channels=48))


@pytest.fixture(scope="session")
def text_encoder() -> TextEncoder:
    """The real text encoder from its package."""
    return TextEncoder.load()


# A studio of the tiny networks and a browser on it; imported late, because most tests need neither.


@pytest.fixture(scope="module")
def studio(tiny_weights: Path) -> "Studio":
    """The tiny networks, loaded."""
    from tests.support.studio_server import loaded

    return loaded(tiny_weights)


@pytest.fixture(scope="module")
def server(studio: "Studio") -> Iterator["tuple[str, Gate]"]:
    """The page, served: its address and the gate of its generations."""
    from tests.support.studio_server import served

    with served(studio) as address_and_gate:
        yield address_and_gate


@pytest.fixture
def gate(server: "tuple[str, Gate]") -> "Gate":
    """The gate of the served studio."""
    return server[1]


@pytest.fixture(scope="module")
def browser(server: "tuple[str, Gate]") -> Iterator["Browser"]:  # after the server, which needs a thread without a loop
    """A running Chromium."""
    from tests.support.browser import chromium, find_chromium

    path = find_chromium()
    if path is None and os.environ.get("CI_REQUIRE_BROWSER") == "1":
        pytest.fail("CI_REQUIRE_BROWSER is 1, but no Chromium is installed")
    if path is None:
        pytest.skip("no Chromium is installed (Debian: apt-get install chromium)")
    with chromium(path) as running:
        yield running


@pytest.fixture
def open_studio(browser: "Browser", server: "tuple[str, Gate]") -> Iterator["OpenPage"]:
    """Opens pages; afterwards none may have logged an error or asked another host for anything.

    What a broken connection makes Gradio itself log can be forgiven, by parts of the messages.
    """
    from tests.support.browser import open_page

    pages: list[Page] = []
    errors: list[str] = []
    strangers: list[str] = []
    address = server[0]

    forgiven: list[str] = []

    def open_watched(path: str = "", forgive: tuple[str, ...] = (), **options: Any) -> "Page":
        forgiven.extend(forgive)
        pages.append(open_page(browser, address + path, watch=watch, **options))
        return pages[-1]

    def watch(page: "Page") -> None:
        page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: strangers.append(request.url) if is_strange(request.url) else None)

    def is_strange(url: str) -> bool:
        return not url.startswith((address, "data:", "blob:"))

    yield open_watched
    for page in pages:
        page.context.close()
    assert not [error for error in errors if not any(part in error for part in forgiven)]
    assert not strangers
