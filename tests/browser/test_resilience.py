"""The page under everyday trouble, in a real Chromium: two tabs, back and forward, a slow link."""

import pytest
from playwright.sync_api import Page

from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.support.browser import OpenPage, counter, generate, shown_picture, wait_for_status, wait_for_value
from tests.support.studio_server import PATIENCE, Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

STATUSES = """() => {
  window.told = [];
  const status = document.querySelector('.status');
  new MutationObserver(() => told.push(status.textContent)).observe(status, { childList: true });
}"""


def is_the_picture_of(page: Page, studio: Studio, prompt: str, steps: int) -> bool:
    """Whether the page shows this prompt, and the picture that the studio makes of it with the shown seed."""
    request = GenerateRequest(prompt=prompt, steps=steps, seed=int(page.inner_text(".seed")))
    made = studio.generate_image(request)
    return page.inner_text(".prompt-shown") == prompt and shown_picture(page).tobytes() == made.tobytes()


def test_two_tabs_at_once_get_their_own_pictures(open_studio: OpenPage, gate: Gate, studio: Studio) -> None:
    pages = {"red apple": open_studio(), "blue car": open_studio()}
    gate.hold(3)
    for prompt, page in pages.items():
        page.fill("#prompt textarea", prompt)
        page.click("#run")
        wait_for_status(page, "Step 3 of 16")  # and here it is held, so both are under way together
    gate.released.set()
    for prompt, page in pages.items():
        wait_for_status(page, "Finished")
        assert counter(page) == "16 / 16"
        assert page.locator(".tiles .unknown").count() == 0
        assert is_the_picture_of(page, studio, prompt, 16)


def test_a_stopped_tab_leaves_the_other_alone(open_studio: OpenPage, gate: Gate, studio: Studio) -> None:
    stopped, other = open_studio(), open_studio()
    gate.hold(3)
    for page in (stopped, other):
        page.fill("#prompt textarea", "red apple")
        page.click("#run")
        wait_for_status(page, "Step 3 of 16")
    stopped.click("#stop")
    stopped.wait_for_timeout(500)
    gate.released.set()
    wait_for_status(stopped, "Stopped at step")
    wait_for_status(other, "Finished")
    assert is_the_picture_of(other, studio, "red apple", 16)
    assert gate.ended.wait(PATIENCE)


def test_back_and_forward_keep_the_page_working(open_studio: OpenPage, studio: Studio) -> None:
    page = open_studio()
    generate(page, "red apple")
    page.click(".copy-link")
    page.wait_for_function("document.querySelector('.recall-note').textContent !== ''")
    address = page.url
    assert "prompt=red+apple" in address
    page.goto("about:blank")
    page.go_back()
    page.wait_for_selector("#player .tiles i")
    assert page.url == address
    wait_for_value(page, "#prompt textarea", "red apple")
    assert page.locator(".kept").count() == 1
    generate(page, "blue car")
    assert is_the_picture_of(page, studio, "blue car", 4)
    page.go_forward()
    page.go_back()
    page.wait_for_selector("#player .tiles i")
    assert page.locator(".kept").count() == 2


def test_a_slow_link_still_streams_to_the_end(open_studio: OpenPage, studio: Studio) -> None:
    page = open_studio()
    page.context.new_cdp_session(page).send(
        "Network.emulateNetworkConditions",
        {"offline": False, "latency": 400, "downloadThroughput": 12_000, "uploadThroughput": 6_000},  # bytes a second
    )
    page.evaluate(STATUSES)
    generate(page, "red apple", steps=16)
    assert is_the_picture_of(page, studio, "red apple", 16)
    steps = [text for text in page.evaluate("told") if text.startswith("Step ")]
    assert len(steps) > 3  # it came bit by bit
    page.focus(".player")
    for place in (1, 2, 3):
        page.keyboard.press("Home" if place == 1 else "ArrowRight")
        assert counter(page) == f"{place} / 16"
