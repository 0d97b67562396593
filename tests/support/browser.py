"""A real Chromium for the tests of the page and for its screenshots."""

import io
import os
import shutil
from base64 import b64decode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from weakref import WeakKeyDictionary

from PIL import Image
from playwright.sync_api import Browser, Page, Request, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
OpenPage = Callable[..., Page]  # the fixture `open_studio`
PATIENCE_MS = 60_000  # for anything on a busy machine
open_streams: WeakKeyDictionary[Page, set[Request]] = WeakKeyDictionary()  # on which Gradio's answers come


def find_chromium() -> str | None:
    """The path of the installed Chromium (or of $CHROMIUM), None if there is none."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def chromium(path: str) -> Iterator[Browser]:
    """Run a headless Chromium."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


def open_page(
    browser: Browser,
    address: str,
    width: int = 1280,
    dark: bool = False,
    calm: bool = False,
    locale: str = "en-US",
    watch: Callable[[Page], None] = lambda _: None,
) -> Page:
    """Open the studio in a window of its own and wait until it can be used; `watch` sees the page before it loads."""
    height = 844 if width < 500 else 860
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if dark else "light",
        reduced_motion="reduce" if calm else "no-preference",
        accept_downloads=True,
        locale=locale,
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    watch(page)
    _watch_streams(page)
    page.goto(address)
    page.wait_for_selector("#player .tiles i")
    page.wait_for_selector("#seed input", state="attached")  # the settings, which may come after the player
    page.wait_for_function("document.fonts.status === 'loaded'")
    page.wait_for_load_state("networkidle")  # what the page asks for at first may still be on its way
    return page


def _watch_streams(page: Page) -> None:
    streams = open_streams[page] = set()

    def began(request: Request) -> None:
        if "/queue/data" in request.url:
            streams.add(request)

    def ended(request: Request) -> None:
        streams.discard(request)

    page.on("request", began)
    page.on("requestfinished", ended)
    page.on("requestfailed", ended)


def reload(page: Page) -> None:
    """Load the page again when no stream is open: Gradio would log that it was cut off."""
    for _ in range(PATIENCE_MS // 20):
        if not open_streams[page]:
            break
        page.wait_for_timeout(20)
    page.reload()


def generate(page: Page, prompt: str, steps: int = 4) -> None:
    """Type a prompt, press Generate and wait for the finished picture."""
    page.fill("#steps input[type=number]", str(steps))
    page.fill("#prompt textarea", prompt)
    press_generate(page)


def press_generate(page: Page) -> None:
    """Press Generate and wait for the finished picture; what the player said of the last one does not count."""
    page.evaluate("document.querySelector('.status').textContent = ''")
    page.click("#run")
    wait_for_status(page, "Finished")


def wait_for_match(page: Page) -> None:
    """Wait until the match of the shown picture is told: until then its line may still move the buttons below it."""
    page.wait_for_function("document.querySelector('.player .fit')?.textContent")


def wait_for_status(page: Page, start: str) -> None:
    """Wait until the player's status line begins with these words."""
    page.wait_for_function("start => document.querySelector('.status')?.textContent.startsWith(start)", arg=start)


def wait_for_value(page: Page, field: str, value: str) -> None:
    """Wait until the field is there and holds this value; `field` is its selector."""
    page.wait_for_function("([field, value]) => document.querySelector(field)?.value === value", arg=[field, value])


def counter(page: Page) -> str:
    """What the player says about its step: "3 / 16"."""
    return page.inner_text(".counter")


def shown_picture(page: Page) -> Image.Image:
    """The picture that the player shows."""
    source = page.get_attribute(".picture", "src") or ""
    return Image.open(io.BytesIO(b64decode(source.partition(",")[2])))


def sideways_scroll(page: Page) -> int:
    """By how many pixels the page is wider than the window."""
    return page.evaluate("document.documentElement.scrollWidth - innerWidth")
