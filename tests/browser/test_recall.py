"""Settings that come back, in a real Chromium: from a picture, a link and the history."""

import io
from base64 import b64encode
from pathlib import Path
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from PIL import Image
from playwright.sync_api import Page

from jepa_app.studio.export import png_settings, run_settings
from jepa_app.studio.requests import GenerateRequest
from tests.support.browser import (
    OpenPage,
    counter,
    generate,
    reload,
    shown_picture,
    sideways_scroll,
    wait_for_match,
    wait_for_status,
    wait_for_value,
)
from tests.support.studio_server import Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
REQUEST = GenerateRequest(
    prompt='red "apple" 😀 <b>', negative_prompt="blue", steps=7, guidance=2.5, temperature=0.8, seed=11
)
FIELDS = {
    "prompt": "#prompt textarea",
    "steps": "#steps input[type=number]",
    "guidance": "#guidance input[type=number]",
    "temperature": "#heat input[type=number]",
    "seed": "#seed input",
}


def settings_in(page: Page) -> dict[str, str]:
    return {name: page.input_value(field) for name, field in FIELDS.items()}


def wait_for_note(page: Page, start: str) -> None:
    page.wait_for_function("start => document.querySelector('.recall-note')?.textContent.startsWith(start)", arg=start)


def picture_file(path: Path, request: GenerateRequest = REQUEST) -> Path:
    Image.new("RGB", (8, 8), "red").save(path, pnginfo=png_settings(run_settings(request, 11, "someone/weights")))
    return path


def check_filled(page: Page) -> None:
    wait_for_value(page, FIELDS["seed"], "11")
    assert settings_in(page) == {
        "prompt": REQUEST.prompt, "steps": "7", "guidance": "2.5", "temperature": "0.8", "seed": "11",
    }  # fmt: skip
    page.wait_for_selector("#negative-prompt textarea")  # its accordion opens
    assert page.input_value("#negative-prompt textarea") == "blue"


def test_a_chosen_picture_fills_the_settings(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_studio()
    page.set_input_files(".from-picture input", picture_file(tmp_path / "apple.png"))
    wait_for_note(page, "The settings from apple.png are filled in")
    check_filled(page)
    assert page.inner_text(".status") == ""  # nothing runs by itself


def test_a_dropped_picture_fills_the_settings(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_studio()
    data = b64encode(picture_file(tmp_path / "apple.png").read_bytes()).decode()
    page.evaluate(
        """(data) => {
          const bytes = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
          const carried = new DataTransfer();
          carried.items.add(new File([bytes], 'apple.png', { type: 'image/png' }));
          const drop = new DragEvent('drop', { dataTransfer: carried, bubbles: true });
          document.querySelector('.from-picture').dispatchEvent(drop);
        }""",
        data,
    )
    wait_for_note(page, "The settings from apple.png are filled in")
    check_filled(page)


def test_pictures_without_settings_change_nothing(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_studio()
    page.fill(FIELDS["prompt"], "mine")
    before = settings_in(page)
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (tmp_path / "<b>notes.png").write_text("no picture")
    (tmp_path / "cut.png").write_bytes(picture_file(tmp_path / "whole.png").read_bytes()[:-30])
    picture_file(tmp_path / "long.png", GenerateRequest(prompt="apple", steps=17))
    for name, told in (
        ("plain.png", "plain.png contains no settings"),
        ("<b>notes.png", "<b>notes.png is not a readable picture"),
        ("cut.png", "cut.png is damaged"),
        ("long.png", "long.png was made in 17 steps; this model allows at most 16"),
    ):
        page.set_input_files(".from-picture input", tmp_path / name)
        wait_for_note(page, told)
        assert settings_in(page) == before


def test_a_saved_picture_makes_itself_again(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_studio()
    page.fill(FIELDS["guidance"], "1.5")
    generate(page, REQUEST.prompt, steps=5)
    seed, first = page.inner_text(".seed"), shown_picture(page).tobytes()
    wait_for_match(page)
    with page.expect_download() as download:
        page.click(".download")
    download.value.save_as(tmp_path / "mine.png")
    again = open_studio()
    again.set_input_files(".from-picture input", tmp_path / "mine.png")
    wait_for_value(again, FIELDS["seed"], seed)
    again.click("#run")
    wait_for_status(again, "Finished")
    assert shown_picture(again).tobytes() == first


def test_a_link_fills_the_settings_and_runs_nothing(open_studio: OpenPage) -> None:
    query = {
        "prompt": REQUEST.prompt, "negative_prompt": "blue", "steps": 7,
        "guidance": 2.5, "temperature": 0.8, "seed": 11,
    }  # fmt: skip
    page = open_studio(f"?{urlencode(query)}")
    wait_for_note(page, "The settings from the link are filled in")
    check_filled(page)
    assert page.inner_text(".status") == ""


def test_a_wrong_link_is_ignored_with_a_notice(open_studio: OpenPage) -> None:
    page = open_studio("?prompt=apple&steps=many&guidance=99&seed=-1&temperature=NaN&colour=red&__theme=light")
    wait_for_note(page, "These settings in the link were ignored: steps, guidance, seed, temperature, colour")
    wait_for_value(page, FIELDS["prompt"], "apple")
    assert settings_in(page) == {"prompt": "apple", "steps": "16", "guidance": "3", "temperature": "0.8", "seed": ""}


def test_other_addresses_are_left_alone(open_studio: OpenPage) -> None:
    page = open_studio("?utm_source=elsewhere")
    page.wait_for_timeout(500)
    assert page.text_content(".recall-note") == ""


def test_the_link_of_a_run_leads_back_to_it(open_studio: OpenPage) -> None:
    page = open_studio()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    generate(page, REQUEST.prompt, steps=5)
    seed, first = page.inner_text(".seed"), shown_picture(page).tobytes()
    page.click(".copy-link")
    wait_for_note(page, "A link with these settings has been copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == page.url
    asked = parse_qs(urlsplit(link).query)
    assert asked == {
        "prompt": [REQUEST.prompt], "steps": ["5"], "guidance": ["3"], "temperature": ["0.8"], "seed": [seed],
    }  # fmt: skip
    again = open_studio(f"?{urlsplit(link).query}")
    wait_for_value(again, FIELDS["seed"], seed)
    again.click("#run")
    wait_for_status(again, "Finished")
    assert shown_picture(again).tobytes() == first


def test_a_reload_after_a_copied_link_brings_back_the_run_and_not_the_link(open_studio: OpenPage) -> None:
    page = open_studio()
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    generate(page, "red apple", steps=5)
    page.click(".copy-link")
    wait_for_note(page, "A link with these settings has been copied")
    generate(page, "blue car", steps=5)
    last = shown_picture(page).tobytes()
    reload(page)
    wait_for_status(page, "Your last run")
    wait_for_value(page, FIELDS["prompt"], "blue car")
    assert shown_picture(page).tobytes() == last
    page.goto(page.url)  # opened anew, the link has priority again
    wait_for_value(page, FIELDS["prompt"], "red apple")
    seed = page.input_value(FIELDS["seed"])
    reload(page)  # nothing was typed, so the link's settings stay whole
    wait_for_status(page, "Your last run")
    wait_for_value(page, FIELDS["seed"], seed)
    wait_for_value(page, FIELDS["prompt"], "red apple")


def test_without_a_clipboard_the_address_holds_the_link(open_studio: OpenPage) -> None:
    page = open_studio()
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject(new Error('no')); }")
    page.fill(FIELDS["prompt"], "red apple")
    page.click(".copy-link")
    wait_for_note(page, "The page's address now contains these settings")
    asked = parse_qs(urlsplit(page.url).query)
    assert asked["prompt"] == ["red apple"]
    assert "seed" not in asked  # none was set, and nothing was made with these settings


def test_the_history_shows_a_run_again(open_studio: OpenPage) -> None:
    page = open_studio()
    assert page.is_hidden(".history")
    page.fill(FIELDS["guidance"], "1.5")
    generate(page, REQUEST.prompt, steps=5)
    seed, first = page.inner_text(".seed"), shown_picture(page).tobytes()
    page.fill(FIELDS["guidance"], "4")
    generate(page, "blue car", steps=3)
    assert page.locator(".kept").count() == 2
    reload(page)
    page.wait_for_selector(".kept:nth-child(2)")
    page.click(".kept:nth-child(2)")
    wait_for_value(page, FIELDS["seed"], seed)
    assert settings_in(page) == {
        "prompt": REQUEST.prompt, "steps": "5", "guidance": "1.5", "temperature": "0.8", "seed": seed,
    }  # fmt: skip
    assert shown_picture(page).tobytes() == first
    assert page.inner_text(".prompt-shown") == REQUEST.prompt
    assert counter(page) == "5 / 5"
    page.click(".views [data-view=order]")
    assert page.locator(".tiles .heat").count() == 16
    page.click(".to-match")  # and it is a picture like any other
    page.wait_for_selector("#match-picture img")
    page.get_by_role("tab", name="Generate").click()
    generate(page, "green tree", steps=2)
    assert counter(page) == "2 / 2"
    page.click(".history-clear")
    assert page.is_hidden(".history")
    reload(page)
    page.wait_for_selector("#player .tiles i")
    assert page.is_hidden(".history")


def test_the_history_keeps_twelve_and_survives_bad_memory(open_studio: OpenPage) -> None:
    page = open_studio()
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(buffer, "PNG")
    page.evaluate(
        """(frame) => {
          const settings = { prompt: 'old', negative_prompt: '', steps: 1, guidance: 3, temperature: 1, seed: 1 };
          const item = { job: 'kept-x', i: 0, n: 1, prompt: 'old', seed: 1, settings, grid: 1, seconds: 1, born: [0],
                         revealed: [], type: 'image/png', frame };
          localStorage.setItem('jepa-studio-history', JSON.stringify([null, 5, { frame: 1 }, ...Array(20).fill(item)]));
        }""",
        b64encode(buffer.getvalue()).decode(),
    )
    page.reload()
    page.wait_for_selector(".kept")
    assert page.locator(".kept").count() == 12
    page.evaluate("localStorage.setItem('jepa-studio-history', '{broken')")
    page.reload()
    page.wait_for_selector("#player .tiles i")
    assert page.is_hidden(".history")
    page.evaluate("""() => {
      Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };
      Storage.prototype.getItem = () => { throw new DOMException('off', 'SecurityError'); };
    }""")
    generate(page, "red apple", steps=2)
    generate(page, "blue car", steps=2)
    assert page.locator(".kept").count() == 2  # for this visit


def test_the_history_waits_while_a_run_is_on(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio()
    generate(page, "red apple", steps=4)
    gate.hold(2)
    page.fill(FIELDS["prompt"], "blue car")
    page.click("#run")
    wait_for_status(page, "Step 2 of 4")
    page.click(".kept")
    page.wait_for_timeout(300)
    assert page.input_value(FIELDS["prompt"]) == "blue car"
    gate.released.set()
    wait_for_status(page, "Finished")
    assert page.inner_text(".prompt-shown") == "blue car"


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_what_comes_back_fits(open_studio: OpenPage, width: int) -> None:
    page = open_studio(width=width)
    for _ in range(12):
        generate(page, "red apple", steps=1)
        page.wait_for_function("!document.querySelector('.history').hasAttribute('data-busy')")
    page.wait_for_selector(".kept:nth-child(5)")
    page.set_input_files(".from-picture input", {"name": "x" * 200 + ".png", "mimeType": "image/png", "buffer": b"no"})
    wait_for_note(page, "xxx")
    assert sideways_scroll(page) <= 0
