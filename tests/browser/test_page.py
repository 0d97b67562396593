"""The page in a real Chromium: what a person sees and does, on desktop and phone, in light and dark."""

import time
from pathlib import Path

import pytest

from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.support.browser import (
    OpenPage,
    counter,
    generate,
    press_generate,
    shown_picture,
    sideways_scroll,
    wait_for_status,
    wait_for_value,
)
from tests.support.studio_server import PATIENCE, Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

# Contrast of an element's text against the nearest opaque background, by the formula of WCAG 2.2.
CONTRAST = """(selector) => {
  const channels = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = (c) => { c /= 255; return c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; };
  const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b);
  const element = document.querySelector(selector);
  let behind = element, background;
  do {
    background = channels(getComputedStyle(behind).backgroundColor);
    behind = behind.parentElement;
  } while (background.length === 4 && background[3] < 1 && behind);
  const pair = [luminance(channels(getComputedStyle(element).color)), luminance(background)].sort((a, b) => b - a);
  return (pair[0] + 0.05) / (pair[1] + 0.05);
}"""
TEXTS = (
    "h1", ".masthead p", "#run", "#styles label.selected span", "#styles label:not(.selected) span", "#examples button",
    ".status", ".tokens", ".counter", ".views [aria-pressed=true]",
    ".views [aria-pressed=false]", ".speed", ".prompt-shown", ".to-match", ".reuse", ".download", "#steps label span",
    ".keep-settings span", ".export summary", ".from-picture", ".copy-link", ".history-head h2", ".history-clear",
)  # fmt: skip
MATCH_TEXTS = (".match-caption", ".match-words", ".match-facts", "#match-help p", "#rank")


def test_a_prompt_becomes_frames_and_a_picture(open_studio: OpenPage, gate: Gate, studio: Studio) -> None:
    page = open_studio()
    assert page.title() == "JEPA studio"
    assert page.is_disabled("#stop")
    gate.hold(3)
    page.fill("#prompt textarea", "red apple, noto style")
    page.press("#prompt textarea", "Enter")
    wait_for_status(page, "Step 3 of 16")
    assert counter(page) == "3 / 16"
    assert page.is_enabled("#stop")
    assert 0 < page.locator(".tiles .unknown").count() < 16
    assert page.locator(".tiles .new").count() > 0
    assert page.get_attribute(".picture", "alt") == 'Picture of "red apple, noto style", step 3 of 16'
    gate.released.set()
    wait_for_status(page, "Finished")
    assert counter(page) == "16 / 16"
    assert page.locator(".tiles .unknown").count() == 0
    assert page.inner_text(".tokens").endswith("16 of 16 tokens known")
    page.wait_for_function("document.getElementById('stop').disabled")
    seed = int(page.inner_text(".seed"))
    made = studio.generate_image(GenerateRequest(prompt="red apple, noto style", seed=seed))
    assert shown_picture(page).tobytes() == made.tobytes()


def test_stop_keeps_the_picture_so_far(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio()
    gate.hold(5)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "Step 5 of 16")
    page.click("#stop")
    page.wait_for_timeout(500)
    gate.released.set()
    assert gate.ended.wait(PATIENCE)
    assert gate.frames <= 6
    wait_for_status(page, "Stopped at step")
    assert counter(page) in ("5 / 16", "6 / 16")
    assert shown_picture(page).size == (32, 32)
    stopped = counter(page)
    page.fill("#prompt textarea", "")
    page.click("#run")
    page.wait_for_selector("text=prompt is empty")
    page.wait_for_timeout(2500)
    assert counter(page) == stopped  # it was stopped for good: a later mistake does not bring it back
    generate(page, "blue car")  # and the next run starts
    assert page.inner_text(".prompt-shown") == "blue car"


def test_a_closed_tab_ends_its_run(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio()
    gate.hold(5)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "Step 5 of 16")
    page.close()
    time.sleep(2)  # the server notices while the model is at work on the next step
    gate.released.set()
    assert gate.ended.wait(PATIENCE)
    assert gate.frames <= 7


def test_scrubbing_needs_no_traffic(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    page.wait_for_function("(document.querySelector('.curve-line').getAttribute('d') ?? '').split('L').length === 6")
    final = page.get_attribute(".picture", "src")
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.focus(".timeline")
    page.keyboard.press("Home")
    assert counter(page) == "1 / 6"
    assert page.locator(".tiles .unknown").count() > 0
    page.keyboard.press("ArrowRight")
    assert counter(page) == "2 / 6"
    assert page.get_attribute(".timeline", "aria-valuetext") == "step 2 of 6"
    page.click(".play")  # plays on from here
    page.wait_for_function("document.querySelector('.counter').textContent === '6 / 6'")
    assert page.get_attribute(".picture", "src") == final
    page.focus(".play")
    page.keyboard.press("ArrowLeft")
    assert counter(page) == "5 / 6"
    with page.expect_download() as download:
        page.click(".download")
    assert download.value.suggested_filename.endswith(".png")
    assert not [url for url in requests if not url.startswith("data:")]


def test_the_stream_of_a_run_is_two_requests(open_studio: OpenPage) -> None:
    page = open_studio()
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    generate(page, "red apple", steps=16)
    assert len([url for url in requests if "/queue/" in url]) <= 3  # join, data, and at most one for the stream's end
    assert not [url for url in requests if "/file=" in url]


def test_chips_and_examples_write_the_prompt(open_studio: OpenPage) -> None:
    page = open_studio()
    prompt = page.locator("#prompt textarea")
    prompt.fill("sunflower")
    for style, written in (("blob", "sunflower, blob style"), ("fluent 3d", "sunflower, fluent 3d style")):
        page.get_by_role("radio", name=style, exact=True).check(force=True)
        wait_for_value(page, "#prompt textarea", written)
    page.get_by_role("radio", name="any").check(force=True)
    wait_for_value(page, "#prompt textarea", "sunflower")
    page.locator("#examples button").first.click()
    wait_for_value(page, "#styles input:checked", "twemoji")
    assert prompt.input_value() == "red apple, twemoji style"


def test_the_seed_can_be_put_back_and_rolled_again(open_studio: OpenPage) -> None:
    page = open_studio()
    wait_for_value(page, "#seed input", "")  # emptied on load
    generate(page, "red apple")
    seed, first = page.inner_text(".seed"), shown_picture(page).tobytes()
    page.click(".reuse")
    wait_for_value(page, "#seed input", seed)
    press_generate(page)
    assert page.inner_text(".seed") == seed
    assert shown_picture(page).tobytes() == first
    page.click("#dice")
    wait_for_value(page, "#seed input", "")
    generate(page, "red apple")
    assert page.inner_text(".seed") != seed


def test_a_mistake_is_told_and_inputs_are_kept(open_studio: OpenPage) -> None:
    page = open_studio()
    page.fill("#seed input", "1.5")
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    page.get_by_text("seed is 1.5; allowed: a whole number from 0 to 2147483647").wait_for()
    page.wait_for_function("document.getElementById('stop').disabled")
    assert page.input_value("#prompt textarea") == "red apple"
    assert page.input_value("#seed input") == "1.5"
    assert page.inner_text(".status") == ""
    page.fill("#seed input", "")
    generate(page, "red apple")


def test_a_bad_upload_is_told_and_captions_are_kept(open_studio: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "notes.png").write_text("no picture")
    page = open_studio()
    page.get_by_role("tab", name="Match").click()
    page.fill("#captions textarea", "red apple\nblue car")
    page.set_input_files("#match-picture input[type=file]", tmp_path / "notes.png")
    page.get_by_text("notes.png is not a readable picture").first.wait_for()
    page.click("#rank")
    page.get_by_text("notes.png is not a readable picture").nth(1).wait_for()
    assert page.input_value("#captions textarea") == "red apple\nblue car"
    assert page.locator(".match").count() == 0


def test_a_made_picture_goes_to_match_and_is_ranked(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple")
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    wait_for_value(page, "#captions textarea", "red apple")
    evil = "<img src=x onerror=alert(1)>"
    page.fill("#captions textarea", f"red apple\n{evil}\nblue car")
    page.click("#rank")
    page.wait_for_selector(".match:nth-child(3)")
    assert sorted(page.locator(".match-caption").all_inner_texts()) == sorted(["red apple", evil, "blue car"])
    assert page.locator("#ranking img").count() == 0
    facts = page.locator(".match-facts").all_inner_texts()
    energies = [float(text.rpartition(" ")[2]) for text in facts]
    assert energies == sorted(energies)


def test_a_prompt_is_never_markup(open_studio: OpenPage) -> None:
    page = open_studio()
    evil = '"><img src=x onerror=alert(1)>'
    generate(page, evil, steps=1)
    assert page.inner_text(".prompt-shown") == evil
    assert page.locator("#player img").count() == 1


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_it_reads_well_everywhere(open_studio: OpenPage, width: int, dark: bool) -> None:
    page = open_studio(width=width, dark=dark, calm=True)
    assert sideways_scroll(page) <= 0
    generate(page, "red apple " * 20 + "x" * 120)
    assert sideways_scroll(page) <= 0
    assert (page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(14, 20, 18)") == dark
    pale = {text: page.evaluate(CONTRAST, text) for text in TEXTS}
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    page.click("#rank")
    page.wait_for_selector(".match")
    assert sideways_scroll(page) <= 0
    pale |= {text: page.evaluate(CONTRAST, text) for text in MATCH_TEXTS}
    assert {text: ratio for text, ratio in pale.items() if ratio < 4.5} == {}
    assert page.evaluate("getComputedStyle(document.querySelector('.play')).transitionDuration") == "0s"


def test_the_mode_button_switches_and_remembers(open_studio: OpenPage) -> None:
    page = open_studio()
    page.click(".mode")
    assert page.evaluate("document.body.classList.contains('dark')")
    page.reload()
    page.wait_for_function("document.body.classList.contains('dark')")
