"""Screenshots and a recorded run of the studio: python -m tests.screenshots --out DIR [--weights DIR|ID].

DIR/run.webp shows the player at every step of one run, as a visitor sees it; README.md shows it, and
jepa_app/README.md one screenshot.
"""

import argparse
import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, Page

from jepa_app.studio.studio import DEFAULT_WEIGHTS, Studio
from tests.support.browser import chromium, find_chromium, generate, open_page, wait_for_match
from tests.support.studio_server import served

PROMPT, SEED, STEPS = "red apple, twemoji style", 1, 16
CAPTIONS = ("red apple, twemoji style", "green apple", "red heart", "tomato", "fire engine", "sleeping cat")
CURVE_IS_DRAWN = f"(document.querySelector('.curve-line').getAttribute('d') ?? '').split('L').length === {STEPS}"
STEP_MS, LAST_MS = 260, 2500  # of the recorded run
WIDTHS = {"desktop": 1280, "phone": 390}


def main() -> int:
    """Serve the studio, use it as a person would and keep what it looks like."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures")
    parser.add_argument("--weights", default=DEFAULT_WEIGHTS, help="weights folder or hub id (default: the bundled)")
    options = parser.parse_args()
    path = find_chromium()
    if path is None:
        print("error: no Chromium is installed (Debian: apt-get install chromium)", file=sys.stderr)
        return 2
    options.out.mkdir(parents=True, exist_ok=True)
    with served(Studio.load(options.weights)) as (address, _), chromium(path) as browser:
        record(browser, address, options.out / "run.webp")
        for name, width in WIDTHS.items():
            for dark in (False, True):
                take(browser, address, options.out / f"{name}-{'dark' if dark else 'light'}", width, dark)
    return 0


def record(browser: Browser, address: str, path: Path) -> None:
    """Save the player at every step of a finished run, its energy curve drawn, as an animation."""
    page = open_page(browser, address, calm=True)
    page.fill("#seed input", str(SEED))
    generate(page, PROMPT, STEPS)
    wait_for_match(page)
    page.wait_for_function(CURVE_IS_DRAWN)
    page.evaluate("document.querySelector('.about').remove()")  # what stays the same at every step
    page.focus(".player")
    page.keyboard.press("Home")
    page.evaluate("document.activeElement.blur()")
    pictures = []
    for step in range(1, STEPS + 1):
        page.evaluate(
            """step => {
              const timeline = document.querySelector('.timeline');
              timeline.value = step;
              timeline.dispatchEvent(new Event('input'));
            }""",
            step,
        )
        shown = page.locator(".player").screenshot()
        pictures.append(Image.open(io.BytesIO(shown)).convert("RGB"))
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=[STEP_MS] * (STEPS - 1) + [LAST_MS],
        loop=0,
        quality=85,
        method=4,
    )
    page.context.close()


def take(browser: Browser, address: str, stem: Path, width: int, dark: bool) -> None:
    """Save the empty page, a run half done, the finished picture and the ranked captions."""
    page = open_page(browser, address, width=width, dark=dark, calm=True)
    save(page, stem, "empty")
    page.fill("#seed input", str(SEED))
    generate(page, PROMPT, STEPS)
    wait_for_match(page)  # the curve of the example, which the page shows first, would not do
    page.wait_for_function(CURVE_IS_DRAWN)
    page.mouse.move(0, 0)
    save(page, stem, "finished")
    page.evaluate("document.querySelector('.timeline').focus()")
    for _ in range(STEPS // 2 - 2):
        page.keyboard.press("ArrowLeft")
    page.evaluate("document.activeElement.blur()")
    save(page, stem, "halfway")
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    page.fill("#captions textarea", "\n".join(CAPTIONS))
    page.click("#rank")
    page.wait_for_selector(f".match:nth-child({len(CAPTIONS)})")
    page.mouse.move(0, 0)
    save(page, stem, "match")
    page.context.close()


def save(page: Page, stem: Path, what: str) -> None:
    """Write the whole page as STEM-WHAT.png."""
    page.screenshot(path=stem.with_name(f"{stem.name}-{what}.png"), full_page=True)


if __name__ == "__main__":
    sys.exit(main())
