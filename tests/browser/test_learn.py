"""The Learn tab in a real Chromium: a lesson is made, its step, tile and word are chosen, its equations are read."""

import pytest
from gradio_client import Client
from playwright.sync_api import Page

from tests.support.browser import OpenPage, sideways_scroll, wait_for_value
from tests.support.studio_server import Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
STOPS = ("tokens", "context", "prediction", "target", "denoising", "fusion", "guidance")


def open_learn(open_studio: OpenPage, **options: object) -> Page:
    page = open_studio(**options)
    page.click("#tabs button[role=tab]:has-text('Learn')")
    page.wait_for_selector("#learn-run")
    page.wait_for_function("document.querySelector('#learn-prompt textarea')?.value")  # else it comes later
    return page


def make_lesson(page: Page, prompt: str = "red <b>apple</b>, 🍎") -> None:
    page.fill("#learn-seed input", "3")
    page.fill("#learn-prompt textarea", prompt)
    page.wait_for_timeout(200)
    if page.input_value("#learn-prompt textarea") != prompt:  # on a busy machine the page's own value comes late
        page.fill("#learn-prompt textarea", prompt)
    page.click("#learn-run")
    page.wait_for_selector(".learn[data-state=ready]")


def chosen(page: Page) -> set[str | None]:
    """What the chosen tiles of all boards are called, without their values."""
    tiles = page.locator(".learn [role=radio][aria-checked=true]").all()
    assert len(tiles) == page.locator(".learn [role=radiogroup]").count() == 10
    return {(tile.get_attribute("aria-label") or "").partition(":")[0] for tile in tiles}


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_lesson_is_walked_through(open_studio: OpenPage, width: int, dark: bool) -> None:
    page = open_learn(open_studio, width=width, dark=dark, calm=True)
    assert page.locator(".outline li").count() == 7
    assert page.is_hidden(".walk")
    make_lesson(page)
    assert page.is_hidden(".opening")
    assert page.inner_text(".of-run") == '"red <b>apple</b>, 🍎", seed 3'
    assert page.inner_text(".learn .aloud") == "The walkthrough is ready: 16 steps, 16 tiles"

    page.focus(".step-slider")
    page.keyboard.press("Home")
    assert page.inner_text(".step-shown") == "Step 1 of 16"
    assert page.get_attribute(".step-slider", "aria-valuetext") == "step 1 of 16: 1 of 16 tiles known"
    assert page.locator("[data-board=before] .masked").count() == 16
    assert page.locator("[data-board=after] .masked").count() == 15
    first_guess = page.get_attribute("[data-board=now] img", "src")
    page.click(".learn .later")
    assert page.inner_text(".step-shown") == "Step 2 of 16"
    assert page.locator("[data-board=before] .masked").count() == 15
    assert page.locator("[data-board=before] .asked").count() == 1
    assert page.get_attribute("[data-board=now] img", "src") != first_guess

    page.locator("[data-board=before] button").nth(0).click()
    page.locator("[data-board=before] button").nth(0).focus()
    page.keyboard.press("ArrowLeft")  # there is nothing to the left
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    ((name,),) = [tuple(chosen(page))]
    assert name.startswith("row 2, column 2, drawn in step ")
    assert page.inner_text(".control-tile .tile-name") == "Row 2, column 2"
    page.click(".to-birth")
    assert page.inner_text(".step-shown") == f"Step {name.rpartition(' ')[2]} of 16"
    assert sideways_scroll(page) <= 0


def test_words_and_tiles_find_each_other(open_studio: OpenPage) -> None:
    page = open_learn(open_studio)
    make_lesson(page)
    names = page.locator(".learn .word-text").all_inner_texts()
    assert names == ["start of prompt", "red", "<b>apple</b>,", "🍎", "end of prompt"]
    shares = [float(text.rstrip(" %")) for text in page.locator(".learn .word-share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=1)
    heat = "tiles => tiles.map(tile => tile.style.getPropertyValue('--heat'))"
    before = page.locator("[data-board=fusion] button").evaluate_all(heat)
    page.click(".learn .word:nth-child(4)")
    assert page.get_attribute(".learn .word:nth-child(4)", "aria-pressed") == "true"
    assert page.inner_text("[data-stop=fusion] figcaption").startswith("Tiles that read 🍎")
    assert page.locator("[data-board=fusion] button").evaluate_all(heat) != before
    value = page.get_attribute("[data-board=fusion] button[aria-checked=true]", "aria-label") or ""
    assert value.endswith(page.inner_text(".learn .word:nth-child(4) .word-share"))
    page.locator("[data-board=fusion] button[aria-checked=false]").first.click()
    after = [float(text.rstrip(" %")) for text in page.locator(".learn .word-share").all_inner_texts()]
    assert after != shares


def test_the_chosen_tile_is_followed_from_noise_to_clean(open_studio: OpenPage) -> None:
    page = open_learn(open_studio)
    make_lesson(page)
    assert page.locator(".states button").all_inner_texts() == [
        "noise", "t = 0.11", "t = 0.25", "t = 0.43", "t = 0.67", "clean",
    ]  # fmt: skip
    assert page.locator(".guesses canvas").count() == 5
    page.wait_for_function(
        "new Set([...document.querySelectorAll('.states canvas')].map(one => one.toDataURL())).size === 6"
    )
    noise = page.get_attribute("[data-board=denoising] img", "src")
    page.click(".states button:last-child")
    assert page.get_attribute("[data-board=denoising] img", "src") != noise
    assert page.inner_text("[data-stop=denoising] figcaption") == "All tiles at clean"


def test_every_stop_has_its_equation(open_studio: OpenPage) -> None:
    page = open_learn(open_studio, width=390, calm=True)
    make_lesson(page)
    for stop in STOPS:
        page.click(f".stops [data-to={stop}]")
        assert page.evaluate("document.activeElement.id") == f"learn-{stop}"
        chapter = page.locator(f"[data-stop={stop}]")
        box = page.locator(".learn .control").bounding_box()
        assert box
        heading = chapter.locator("h2").bounding_box()
        assert heading
        assert 0 <= box["y"] < box["y"] + box["height"] <= heading["y"]  # it stays in view and covers no heading
        assert chapter.locator("math:visible").count() == 0
        chapter.locator("summary").click()
        assert chapter.locator("math:visible").count() == 1
        assert chapter.locator("details p:visible").inner_text()
    assert sideways_scroll(page) <= 0


def test_all_boards_and_pictures_are_named(open_studio: OpenPage) -> None:
    page = open_learn(open_studio)
    make_lesson(page)
    unnamed = """() => [...document.querySelectorAll('.learn img, .learn button, .learn input, .learn [role]')]
      .filter(one => one.checkVisibility())
      .filter(one => !(one.alt || one.getAttribute('aria-label') || one.textContent.trim()) && one.role !== 'status')
      .map(one => one.outerHTML.slice(0, 120))"""
    assert page.evaluate(unnamed) == []


def test_a_mistake_leaves_the_walk_as_it_was(open_studio: OpenPage) -> None:
    page = open_learn(open_studio)
    page.fill("#learn-prompt textarea", " ")
    page.click("#learn-run")
    page.wait_for_selector("text=prompt is empty")
    page.wait_for_selector(".opening")
    make_lesson(page, "rose")
    page.fill("#learn-prompt textarea", "")
    page.click("#learn-run")
    page.wait_for_selector(".walk")
    assert page.inner_text(".of-run") == '"rose", seed 3'


def test_progress_is_shown_and_the_sample_button_changes_the_words(open_studio: OpenPage, gate: Gate) -> None:
    page = open_learn(open_studio)
    page.click("#learn-sample")
    wait_for_value(page, "#learn-prompt textarea", "grinning face, noto style")
    gate.hold(20)
    page.click("#learn-run")
    page.wait_for_function(
        "document.querySelector('.making-phase').textContent === 'Drawing it again without guidance'"
    )
    assert 0.2 < page.evaluate("document.querySelector('.making-bar').value") < 0.5
    assert (page.get_attribute(".making-picture", "src") or "").startswith("data:image/png")
    gate.released.set()
    page.wait_for_selector(".learn[data-state=ready]")


def test_a_program_gets_the_lesson(server: tuple[str, Gate]) -> None:
    client = Client(server[0], verbose=False)
    told = client.predict("red apple", 3, 4, api_name="/learn")
    lesson = told["lesson"]
    assert (lesson["prompt"], lesson["seed"], len(lesson["asked"]), len(lesson["tokens"])) == ("red apple", 3, 4, 16)
    assert {sum(row) for step in lesson["attention"] for row in step} <= {998, 999, 1000, 1001, 1002}
    client.close()
