"""The page for everybody, in a real Chromium: axe-core's rules, the keyboard alone, announcements, sizes of targets."""

import io
from collections.abc import Callable, Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image, ImageChops
from playwright.sync_api import Page

from tests.support.browser import OpenPage, counter, generate, sideways_scroll, wait_for_status

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

GRAVE = ("serious", "critical")
SMALLEST = 24  # css pixels (WCAG 2.2, 2.5.8)
everywhere = pytest.mark.parametrize(
    ("width", "dark"),
    [(1280, False), (1280, True), (390, False), (390, True)],
    ids=["desktop-light", "desktop-dark", "phone-light", "phone-dark"],
)

# What can be pressed, typed into or moved, with the size of what answers for it: a label belongs to its input.
TARGETS = """() => [...document.querySelectorAll(
  'button, a[href], input, select, textarea, summary, [role=tab], [role=option], [tabindex="0"]')]
  .filter((node) => node.checkVisibility({ visibilityProperty: true }) && !node.closest('[aria-hidden=true]'))
  .map((node) => {
    const { width, height } = (node.closest('label') ?? node).getBoundingClientRect();
    return { name: node.getAttribute('aria-label') || node.innerText || node.outerHTML.slice(0, 99), width, height };
  })"""
FOCUSED = """() => {
  const node = document.activeElement;
  if (node === document.body) return null;
  (node.closest('label') ?? node).scrollIntoView({ block: 'center' });
  const { x, y, width, height } = (node.closest('label') ?? node).getBoundingClientRect();
  const name = node.getAttribute('aria-label') || node.innerText || node.placeholder || node.value;
  return { id: node.id, name, clip: { x: x - 8, y: y - 8, width: width + 16, height: height + 16 } };
}"""


def findings(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical: rule, place and reason, one line each."""
    return [
        f"{rule['impact']} {rule['id']} {node['target']}: {node['failureSummary']}"
        for rule in Axe().run(page).response["violations"]
        if rule["impact"] in GRAVE
        for node in rule["nodes"]
    ]


def states(page: Page) -> Iterator[str]:
    """Bring the page into each of its states, one after the other; yields their names."""
    names = page.locator("#tabs [role=tab]").all_inner_texts()
    for name in reversed(names):
        page.get_by_role("tab", name=name).click()
        page.wait_for_timeout(300)
        yield f"{name}, empty"
    page.click("#negative button")
    generate(page, "red apple")
    yield "Generate, finished"
    page.click(".redo")
    yield "Generate, painting"
    page.click(".paint-leave")
    page.click(".export summary")
    page.click(".views [data-view=order]", force=True)
    yield "Generate, order"
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    page.fill("#captions textarea", "red apple\nblue car\ncat")
    page.click("#rank")
    page.wait_for_selector(".match:nth-child(3)")
    yield "Match, ranked"
    page.get_by_role("tab", name="Compare").click()
    page.fill("#x-values textarea", "red apple\nblue heart")
    page.fill("#y-values textarea", "1, 4")
    page.click("#compare-inputs .label-wrap")
    page.click("#make-grid")
    page.wait_for_selector(".grid-actions:not([hidden])")
    yield "Compare, finished"
    page.locator("#tabs [role=tab]:visible").last.click()
    page.click("#learn-run")
    page.wait_for_selector(".learn[data-state=ready]")
    yield "Learn, told"


def in_every_state(page: Page, look: Callable[[Page], object]) -> dict[str, object]:
    """What `look` finds in each state of the page, without the states where it finds nothing."""
    seen = {state: look(page) for state in states(page)}
    assert len(seen) == 10
    return {state: found for state, found in seen.items() if found}


@everywhere
def test_axe_finds_nothing_grave(open_studio: OpenPage, width: int, dark: bool) -> None:
    page = open_studio(width=width, dark=dark, calm=True)
    assert in_every_state(page, findings) == {}


def test_axe_finds_what_is_wrong(open_studio: OpenPage) -> None:
    page = open_studio(calm=True)
    wrong = "<button></button><p style='color: #ddd; background: #fff'>pale</p>"
    page.evaluate("(wrong) => document.querySelector('#header').insertAdjacentHTML('beforeend', wrong)", wrong)
    page.wait_for_function("document.querySelector('#header p:last-child').checkVisibility()")
    page.wait_for_timeout(300)  # as in the states: what still moves has no colours that axe-core would judge
    assert [line.split()[1] for line in findings(page)] == ["button-name", "color-contrast"]


def small_targets(page: Page) -> list[str]:
    """Targets below the smallest size, and how far the page can be moved sideways."""
    targets = page.evaluate(TARGETS)
    assert len(targets) > 8
    small = [target for target in targets if min(target["width"], target["height"]) < SMALLEST]
    told = [f"{target['name']}: {target['width']:.0f} x {target['height']:.0f}" for target in small]
    return told + ["the page scrolls sideways"] * (sideways_scroll(page) > 0)


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_targets_are_large_enough_on_a_phone(open_studio: OpenPage, locale: str) -> None:
    page = open_studio(width=390, calm=True, locale=locale)
    if locale == "en-US":
        assert in_every_state(page, small_targets) == {}
    else:
        assert small_targets(page) == []


def tab_to(page: Page, selector: str, most: int = 60) -> int:
    """Press Tab until the element has the focus; returns how often."""
    for presses in range(1, most + 1):
        page.keyboard.press("Tab")
        if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
            return presses
    raise AssertionError(f"{selector} is not reached by {most} presses of Tab")


def test_the_keyboard_alone_makes_and_scrubs_a_picture(open_studio: OpenPage) -> None:
    page = open_studio()
    page.wait_for_function("document.activeElement.matches('#prompt textarea')")  # nothing to press before typing
    page.keyboard.type("red apple")
    assert tab_to(page, "#run") == 1
    page.keyboard.press("Enter")
    wait_for_status(page, "Finished")
    tab_to(page, ".player")
    assert counter(page) == "16 / 16"
    for key, place in (("Home", 1), ("ArrowRight", 2), ("End", 16), ("ArrowLeft", 15)):
        page.keyboard.press(key)
        assert counter(page) == f"{place} / 16"
    page.keyboard.press("Home")
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('.counter').textContent === '16 / 16'")
    assert tab_to(page, ".timeline") <= 2
    page.keyboard.press("ArrowLeft")
    assert counter(page) == "15 / 16"
    tab_to(page, ".to-match")
    page.keyboard.press("Enter")
    page.wait_for_selector("#match-picture img")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_the_focus_can_be_seen_at_every_stop(open_studio: OpenPage, dark: bool) -> None:
    page = open_studio(dark=dark, calm=True)
    generate(page, "red apple")
    page.click("#negative button")
    page.focus("#header .mode")
    page.keyboard.press("Tab")  # from here on the focus moves by keys, which is when it has to show
    page.keyboard.press("Shift+Tab")
    unseen, stops = [], 0
    while (at := page.evaluate(FOCUSED)) is not None:
        clip = {side: max(length, 0) for side, length in at["clip"].items()}
        with_focus = page.screenshot(clip=clip)
        page.evaluate("window.stop = document.activeElement; stop.blur()")
        changed = difference(with_focus, page.screenshot(clip=clip))
        page.evaluate("stop.focus({ preventScroll: true })")
        stops += 1
        unseen += [at["name"]] * (changed < 100)
        page.keyboard.press("Tab")
        if stops > 70:
            break
    assert unseen == []
    assert 30 < stops <= 70


def difference(one: bytes, other: bytes) -> int:
    """In how many pixels two screenshots clearly differ."""
    pair = [Image.open(io.BytesIO(taken)).convert("RGB") for taken in (one, other)]
    return sum(ImageChops.difference(*pair).convert("L").histogram()[24:])


def test_what_happens_is_announced_politely(open_studio: OpenPage) -> None:
    page = open_studio()
    page.get_by_role("tab", name="Compare").click()
    page.wait_for_selector("#make-grid")
    page.fill("#x-values textarea", "red apple")
    page.fill("#y-values textarea", "2")
    page.click("#make-grid")
    page.wait_for_selector(".grid-actions:not([hidden])")
    assert page.get_by_role("status").filter(has_text="1 pictures are finished").get_attribute("aria-live") == "polite"
    page.get_by_role("tab", name="Generate").click()
    assert page.locator("#player .announcer").get_attribute("aria-live") == "polite"
    assert page.locator("#recall [role=status]").get_attribute("aria-live") == "polite"
    page.get_by_role("tab", name="Match").click()
    assert page.locator("#ranking [aria-live=polite]").count() == 1
    assert page.locator("[aria-live=assertive]").count() == 0
