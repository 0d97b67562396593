"""The player in a real Chromium: its views, its speed, its keys and what it says to a screen reader."""

import pytest
from playwright.sync_api import Page

from tests.support.browser import OpenPage, counter, generate, sideways_scroll, wait_for_status
from tests.support.studio_server import Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def pressed_view(page: Page) -> str:
    return page.inner_text(".views button[aria-pressed=true]")


def test_picture_hides_the_tiles_and_unmasking_shows_them(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    page.focus(".player")
    page.keyboard.press("Home")
    assert pressed_view(page) == "Unmasking"
    assert page.locator(".tiles .unknown").count() > 0
    assert page.locator(".tiles .new").count() > 0
    page.click(".views [data-view=picture]")
    assert pressed_view(page) == "Picture"
    assert page.locator(".tiles .unknown, .tiles .new, .tiles .heat").count() == 0


def test_order_tells_the_step_of_every_patch(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    assert page.is_hidden(".legend")
    page.click(".views [data-view=order]")
    assert page.is_visible(".legend")
    assert page.inner_text(".legend").split() == ["first", "last"]
    steps = [int(step) for step in page.locator(".tiles i").evaluate_all("tiles => tiles.map(t => t.dataset.step)")]
    assert (len(steps), set(steps)) == (16, set(range(1, 7)))
    colours = page.locator(".tiles i").evaluate_all("tiles => tiles.map(t => getComputedStyle(t).backgroundColor)")
    assert len(set(zip(steps, colours, strict=True))) == len(set(colours)) == 6  # one colour a step
    page.focus(".player")
    page.keyboard.press("Home")
    later = page.locator(".tiles .later").count()
    assert later == sum(step > 1 for step in steps)  # still to come, and told apart


def test_order_of_a_run_under_way_leaves_the_unknown_open(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio()
    page.click(".views [data-view=order]")  # before there is anything to show
    gate.hold(3)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "Step 3 of 16")
    assert page.locator(".tiles .heat").count() + page.locator(".tiles .unknown").count() == 16
    assert page.locator(".tiles .unknown").count() > 0
    gate.released.set()
    wait_for_status(page, "Finished")
    assert page.locator(".tiles .heat").count() == 16


def test_the_keys_of_the_player(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    page.focus(".player")
    for key, place in (("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 6)):
        page.keyboard.press(key)
        assert counter(page) == f"{place} / 6"
    for view in ("Order", "Preview", "Picture", "Unmasking"):
        page.keyboard.press("m")
        assert pressed_view(page) == view
    page.select_option(".speed", "0.5")
    page.focus(".player")
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    assert page.get_attribute(".play", "aria-label") == "Pause"
    page.wait_for_function("document.querySelector('.counter').textContent === '2 / 6'")
    page.keyboard.press(" ")
    assert page.get_attribute(".play", "aria-label") == "Play the steps"
    at = counter(page)
    page.wait_for_timeout(600)
    assert counter(page) == at
    page.focus(".play")  # on a button the space bar presses the button, once
    page.keyboard.press(" ")
    assert page.get_attribute(".play", "aria-label") == "Pause"
    page.focus(".speed")  # and a list keeps its own keys
    page.keyboard.press("m")
    assert pressed_view(page) == "Unmasking"


def test_the_speed_is_a_factor(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=16)
    assert page.locator(".speed option").all_inner_texts() == ["0.5×", "1×", "2×", "4×"]
    taken = {}
    for speed in ("0.5", "4"):
        page.select_option(".speed", speed)
        taken[speed] = page.evaluate("""() => new Promise((resolve) => {
          const start = performance.now();
          const player = document.querySelector('.player');
          document.querySelector('.play').click();
          new MutationObserver((_, observer) => {
            if (player.dataset.playing) return;
            observer.disconnect();
            resolve(performance.now() - start);
          }).observe(player, { attributes: true });
        })""")
    assert taken["0.5"] > 2 * taken["4"]
    assert taken["0.5"] > 15 * 200


def test_a_screen_reader_hears_scrubbing_and_the_end_only(open_studio: OpenPage) -> None:
    page = open_studio()
    page.evaluate("""() => {
      window.heard = [];
      const announcer = document.querySelector('.announcer');
      new MutationObserver(() => heard.push(announcer.textContent)).observe(announcer, { childList: true });
    }""")
    generate(page, "red apple", steps=8)
    page.wait_for_function("heard.length > 0")
    assert [text.split(" in ")[0] for text in page.evaluate("heard")] == ["Finished"]
    page.focus(".player")
    for _ in range(4):
        page.keyboard.press("ArrowLeft")
    page.wait_for_function("heard.length > 1")
    assert page.evaluate("heard.length") == 2  # the step rested on, not those passed
    assert page.evaluate("heard[1]").startswith("step 4 of 8, ")
    assert page.get_attribute(".announcer", "aria-live") == "polite"
    assert page.locator("#player [aria-live]").count() == 1


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_the_player_fits(open_studio: OpenPage, width: int) -> None:
    page = open_studio(width=width)
    generate(page, "red apple", steps=4)
    for view in ("picture", "unmasking", "order"):
        page.click(f".views [data-view={view}]")
        assert sideways_scroll(page) <= 0
        box = page.locator(".player").bounding_box()
        speed = page.locator(".speed").bounding_box()
        assert box
        assert speed
        assert speed["x"] + speed["width"] <= box["x"] + box["width"]
