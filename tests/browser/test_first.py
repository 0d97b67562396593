"""What a visitor sees first, and a picture without its background, in a real Chromium."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from jepa_app.checkpoint import write_manifest
from jepa_app.generation.vocabulary import Vocabulary
from jepa_app.studio.export import read_settings
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.conftest import TINY_DECODING, TINY_JEPA_T, write_tiny_weights
from tests.support.browser import OpenPage, generate, reload, shown_picture, wait_for_match, wait_for_status

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
TOLD = "(text) => document.querySelector('.unknown-words')?.textContent === text"
EXAMPLE = GenerateRequest(prompt="red apple", steps=5, seed=2)


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Studio:
    """Tiny weights with a decoder and a plan, what they were trained on, and a run to show first."""
    planned = {"tokenizer_config": replace(TINY_DECODING, plan=(1,)), "jepa_t_config": replace(TINY_JEPA_T, plan=(1,))}
    folder = write_tiny_weights(tmp_path_factory.mktemp("first"), **planned)
    shown = {"noto": frozenset(["cat"]), "twemoji": frozenset(["apple"])}
    known = Vocabulary(words=frozenset(["apple", "red", "cat"]), things=shown, keywords={"kitty": ("cat",)})
    known.save(folder / "jepa-t")
    write_manifest(folder)
    Studio.load(folder).write_example(EXAMPLE)
    return Studio.load(folder)


def test_a_finished_run_plays_and_can_be_taken_up(open_studio: OpenPage, studio: Studio) -> None:
    page = open_studio()
    wait_for_status(page, "An example, made earlier")
    page.wait_for_function("document.querySelector('.counter')?.textContent === '5 / 5'")
    last = studio.generating.kept_frames("example")[-1]
    assert shown_picture(page).tobytes() == last.image.tobytes()
    assert page.text_content(".prompt-shown") == "red apple"
    assert page.input_value("#prompt textarea") == ""
    generate(page, "cat", steps=3)
    assert page.text_content(".prompt-shown") == "cat"
    reload(page)  # the visitor's own run comes back, not the example
    page.wait_for_function("document.querySelector('.prompt-shown')?.textContent === 'cat'")


def test_visitors_who_want_calm_see_the_finished_example(open_studio: OpenPage) -> None:
    page = open_studio(calm=True)
    wait_for_status(page, "An example, made earlier")
    assert page.text_content(".counter") == "5 / 5"
    assert page.get_attribute(".player", "data-playing") is None


def test_a_link_has_priority_over_the_example(open_studio: OpenPage) -> None:
    page = open_studio("?prompt=red%20cat")
    page.wait_for_function("document.querySelector('#prompt textarea')?.value === 'red cat'")
    assert page.get_attribute(".player", "data-state") == "empty"


def test_words_never_seen_are_named_under_the_prompt(open_studio: OpenPage) -> None:
    page = open_studio()
    page.fill("#prompt textarea", "red astronaut cats")
    page.wait_for_function(
        "document.querySelector('.unknown-words')?.textContent === 'Never seen in training: astronaut'"
    )
    page.fill("#prompt textarea", "red cats")
    page.wait_for_function("document.querySelector('.unknown-words')?.textContent === ''")
    page.fill("#prompt textarea", "cat, twemoji style")
    page.wait_for_function(TOLD, arg="Never seen in this style: cat. Its shape comes from other styles.")
    page.fill("#prompt textarea", "a kitty, noto style")
    page.wait_for_function(TOLD, arg="Read as: cat, noto style")


def test_the_background_can_be_left_out(open_studio: OpenPage) -> None:
    page = open_studio()
    page.fill("#seed input", "3")
    generate(page, "red cat", steps=3)
    wait_for_match(page)
    page.check(".see-through input")
    assert page.get_attribute(".stage .picture", "data-see-through") is not None

    def downloaded() -> Path:
        with page.expect_download() as download:
            page.click(".download")
        return Path(download.value.path())

    clear = downloaded()
    with Image.open(io.BytesIO(clear.read_bytes())) as picture:
        assert (picture.mode, picture.size) == ("RGBA", (64, 64))
    assert read_settings(clear, "clear.png").seed == 3
    page.keyboard.press("Home")
    page.uncheck(".see-through input")
    page.press(".player", "End")
    with Image.open(downloaded()) as picture:
        assert (picture.mode, picture.size) == ("RGB", (64, 64))
    page.check(".see-through input")
    reload(page)
    page.wait_for_function("document.querySelector('.see-through input')?.checked")
