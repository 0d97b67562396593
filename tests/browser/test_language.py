"""The page in Chinese in a real Chromium: no English is left but names and what the models read."""

import re

import pytest
from playwright.sync_api import Page

from jepa_app.styles import STYLES
from jepa_app.ui import texts, texts_zh
from tests.support.browser import OpenPage, generate, sideways_scroll, wait_for_status

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

LATIN = re.compile(r"[A-Za-z]{2,}")
# What stays as it is: names, formats, what users and models say in English.
NAMES = {"JEPA", "TI", "studio", "token", "WebP", "GIF", "MP", "JSON", "PNG", "CSV", "API", "MCP", "Esc"}
PROMPTS = (
    "red apple",
    "green apple",
    "tomato",
    "blue, square",
    "noto style",
    *texts.EXAMPLES,
    *(name.replace("-", " ") for name in texts.MATCH_EXAMPLES),
    *texts.VALUES.values(),
    *(style.words for style in STYLES.values()),
)
# Gradio's own parts that have no words in its translations
OURS = "#header, #tabs .tab-container, #tabs > [role=tabpanel], #tabs .tabitem"
SEEN = """(selector) => [...document.querySelectorAll(selector)].flatMap((part) => [
  part.innerText,
  ...[...part.querySelectorAll('[placeholder]')].map((node) => (node.checkVisibility() ? node.placeholder : '')),
  ...[...part.querySelectorAll('[data-label], .play, .timeline, .picture, .kept, .grid-table img')].flatMap(
    (node) => ['aria-label', 'aria-valuetext', 'alt'].map((name) => node.getAttribute(name) ?? '')),
]).join('\\n')"""


def english_left(page: Page) -> list[str]:
    """The English words that can be seen or heard."""
    said = page.evaluate(SEEN, OURS)
    for prompt in sorted(PROMPTS, key=len, reverse=True):
        said = said.replace(prompt, " ")
    return sorted(set(LATIN.findall(said)) - NAMES)


def open_tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()


@pytest.mark.parametrize("width", [1280, 390], ids=["desktop", "phone"])
def test_a_chinese_browser_sees_chinese(open_studio: OpenPage, width: int) -> None:
    page = open_studio(locale="zh-CN", width=width)
    assert page.get_attribute("html", "lang") == "zh-CN"
    assert page.inner_text("#run") == texts_zh.RUN
    assert page.get_attribute("#prompt textarea", "placeholder") == texts_zh.PROMPT_PLACEHOLDER
    page.click("#negative button")
    assert english_left(page) == []
    page.fill("#steps input[type=number]", "4")
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "完成")
    page.click(".export summary")
    assert page.get_attribute(".picture", "alt") == "“red apple”的图片，第 4 步，共 4 步"
    assert page.locator("#tabs [role=tab]:visible").first.inner_text() == texts_zh.GENERATE_TAB
    assert english_left(page) == []
    assert sideways_scroll(page) <= 0
    page.keyboard.press("Escape")
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    assert english_left(page) == []
    page.click("#rank")
    page.wait_for_selector(".match")
    assert page.inner_text(".match-words") in texts_zh.RANKING.values()
    assert re.fullmatch(r"概率 [<>]?\d+% · 能量 -?\d+\.\d{4}", page.inner_text(".match-facts"))
    page.wait_for_selector(".why[data-state=ready]")
    assert set(english_left(page)) == {"red", "apple"}  # the words of the caption, one by one
    assert sideways_scroll(page) <= 0


def test_the_compare_tab_is_chinese(open_studio: OpenPage) -> None:
    page = open_studio(locale="zh-CN")
    open_tab(page, texts_zh.COMPARE_TAB)
    page.wait_for_selector("#make-grid")
    assert page.inner_text("#make-grid") == texts_zh.COMPARE_RUN
    assert page.input_value("#x-axis input") == "提示词"
    assert english_left(page) == []
    page.click("#x-axis input")
    assert [text.strip(" ✓\n") for text in page.locator("[role=option]").all_inner_texts()] == [*texts_zh.AXES.values()]
    page.keyboard.press("Escape")
    page.fill("#x-values textarea", "red apple")
    page.fill("#y-values textarea", "1, 3")
    page.click("#make-grid")
    page.wait_for_function("document.querySelector('.grid-status').textContent === '2 张图片已完成'")
    words = page.locator(".grid-table img").first.get_attribute("alt")
    assert words == "“red apple”的图片，提示词 red apple，引导强度 1，第 16 步，共 16 步"
    assert english_left(page) == []


@pytest.mark.parametrize("locale", ["zh", "zh-TW", "zh-HK", "zh-Hans-CN"])
def test_every_chinese_browser_is_served(open_studio: OpenPage, locale: str) -> None:
    page = open_studio(locale=locale)
    assert page.inner_text("#run") == texts_zh.RUN
    assert page.inner_text(".invitation-title") == texts_zh.PLAYER["invitation_title"]
    tabs = page.locator("#tabs [role=tab]:visible").all_inner_texts()
    assert tabs == [texts_zh.GENERATE_TAB, texts_zh.COMPARE_TAB, texts_zh.MATCH_TAB, texts_zh.LEARN_TAB]
    page.wait_for_timeout(500)  # Gradio names the language it chose when that has been loaded
    assert page.get_attribute("html", "lang") == "zh-CN"


@pytest.mark.parametrize("locale", ["en-GB", "de-DE"])
def test_every_other_browser_sees_english(open_studio: OpenPage, locale: str) -> None:
    page = open_studio(locale=locale)
    generate(page, "red apple")
    assert page.inner_text("#run") == texts.RUN
    page.wait_for_timeout(500)
    assert page.get_attribute("html", "lang") == "en"
    assert not re.search("[\u4e00-\u9fff]", page.inner_text("body"))
