"""The Match tab in a real Chromium: a ranking explained by mouse and keyboard, and tables of many pictures."""

import csv
import io
import math
import zipfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page

from jepa_app.matching.features import CAPTIONS_AT_ONCE
from jepa_app.studio.studio import Studio
from jepa_app.ui import texts, texts_zh
from tests.browser.test_language import english_left
from tests.support.browser import OpenPage, sideways_scroll
from tests.support.studio_server import PATIENCE, Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]

EXAMPLE_SIDE = 256
CAPTIONS = ["red apple", "<b>blue</b> car, noto style", "heart"]
COLOURS = ["red", "green", "blue", "white", "black"]
EVERYWHERE = pytest.mark.parametrize(
    ("width", "dark"), [(1280, False), (1280, True), (390, False), (390, True)],
    ids=["desktop light", "desktop dark", "phone light", "phone dark"],
)  # fmt: skip
# Contrast of a text with what is painted behind it, by the rules of WCAG 2.
CONTRAST = """(selector) => {
  const node = document.querySelector(selector);
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const parse = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data; return [r, g, b, a / 255]; };
  const layers = [];
  for (let at = node; at; at = at.parentElement) layers.unshift(parse(getComputedStyle(at).backgroundColor));
  const behind = layers.reduce(([r, g, b], [R, G, B, a]) => [r + (R - r) * a, g + (G - g) * a, b + (B - b) * a], [255, 255, 255]);
  const light = (rgb) => { const [r, g, b] = rgb.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const [high, low] = [light(parse(getComputedStyle(node).color)), light(behind)].sort((one, other) => other - one);
  return (high + 0.05) / (low + 0.05);
}"""  # noqa: E501


def png(colour: str) -> bytes:
    buffer = io.BytesIO()
    picture = Image.effect_noise((60, 50), 60).convert("RGB")
    picture.paste(colour, (0, 0, 30, 50))
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def open_match(open_studio: OpenPage, tab: str = "", **options: Any) -> Page:
    page = open_studio(**options)
    page.click("#tabs button[role=tab]:has-text('Match')")
    if tab:
        page.click(f"#match-kinds button[role=tab]:has-text('{tab}')")
        page.wait_for_selector("#many-run")
    return page


def rank(page: Page, tmp_path: Path, captions: list[str] = CAPTIONS) -> None:
    picture = tmp_path / "picture.png"
    picture.write_bytes(png("red"))
    page.set_input_files("#match-picture input[type=file]", picture)
    page.wait_for_selector("#match-picture img")
    page.fill("#captions textarea", "\n".join(captions))
    page.click("#rank")
    page.wait_for_selector(f".match:nth-child({len(captions)})")
    page.wait_for_selector(".why[data-state=ready]")


def test_an_example_is_ranked_at_once(open_studio: OpenPage) -> None:
    page = open_match(open_studio, calm=True)
    for name, lines in texts.MATCH_EXAMPLES.items():
        page.click(f"#match-examples button:has-text('{name.replace('-', ' ')}')")
        page.wait_for_function(
            "told => [...document.querySelectorAll('.match-caption')].map(it => it.textContent).sort().join() === told",
            arg=",".join(sorted(lines)),
        )
        assert page.input_value("#captions textarea") == "\n".join(lines)
        assert page.evaluate("document.querySelector('#match-picture img').naturalWidth") == EXAMPLE_SIDE
        page.wait_for_selector(".why[data-state=ready]")


def heats(page: Page) -> list[float]:
    return page.evaluate(
        "[...document.querySelectorAll('.why-patch')].map((one) => +one.style.getPropertyValue('--heat'))"
    )


def pressed(page: Page, selector: str) -> list[str]:
    return page.locator(f"{selector}[aria-pressed=true]").all_inner_texts()


@EVERYWHERE
def test_a_ranking_is_explained_both_ways(open_studio: OpenPage, tmp_path: Path, width: int, dark: bool) -> None:
    page = open_match(open_studio, width=width, dark=dark, calm=True)
    rank(page, tmp_path)
    best = page.locator(".match-caption").first.inner_text()
    assert page.inner_text(".why-caption") == best
    assert page.locator(".match-choose[aria-pressed=true]").count() == 1
    whole, said = heats(page), page.inner_text(".why-said")
    assert len(whole) == 16
    assert page.evaluate("document.querySelector('.why-picture').naturalWidth") == 50

    page.locator(".match-choose", has_text="<b>blue</b>").click()  # another row
    page.wait_for_function("document.querySelector('.why-caption').textContent.startsWith('<b>')")
    assert page.locator(".why-word").all_inner_texts() == ["<b>blue</b>", "car", "noto", "style"]

    page.locator(".why-word", has_text="noto").click()  # a word shows its parts
    assert pressed(page, ".why-chips button") == ["noto"]
    assert heats(page) != whole
    assert page.inner_text(".why-said").startswith("“noto”")
    assert "Without this word, the match would be" in page.inner_text(".why-said")

    page.locator(".why-patch").nth(6).click()  # a part orders the words
    assert pressed(page, ".why-chips button") == []
    assert page.inner_text(".why-said").startswith("Row 2, column 3: ")
    assert page.inner_text(".why-list-title") == "What each word does at row 2, column 3"
    assert sorted(page.locator(".why-item-word").all_inner_texts()) == ["<b>blue</b>", "car", "noto", "style"]
    given = page.locator(".why-item-text").all_inner_texts()
    assert given == sorted(given, key=lambda text: "adds" in text)

    page.locator(".why-patch").nth(6).click()  # once more: the whole caption
    assert pressed(page, ".why-chips button") == ["Whole caption"]
    assert page.inner_text(".why-said") != said
    assert "lower is better" in page.inner_text(".why-legend")
    assert sideways_scroll(page) <= 0
    texts = (".match-facts", ".why-said", ".why-legend", ".why-item-text", ".why-caption", ".why-word", ".match-choose")
    assert {text: ratio for text in texts if (ratio := page.evaluate(CONTRAST, text)) < 4.5} == {}
    assert page.locator("#ranking b, #why b").count() == 0


def test_the_map_is_read_and_moved_through_by_keyboard(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_match(open_studio)
    rank(page, tmp_path, ["red apple"])
    patches = page.locator(".why-patch")
    assert page.locator(".why-patch[tabindex='0']").count() == 1  # one stop for all of them
    patches.first.focus()
    for key in ("ArrowRight", "ArrowDown", "ArrowDown", "ArrowUp", "ArrowLeft", "ArrowLeft", "End"):
        page.keyboard.press(key)
    focused = "[...document.querySelectorAll('.why-patch')].indexOf(document.activeElement)"
    assert page.evaluate(focused) == 7
    page.keyboard.press("Enter")
    assert patches.nth(7).get_attribute("aria-pressed") == "true"
    label = patches.nth(7).get_attribute("aria-label") or ""
    assert label.startswith("Row 2, column 4: ")
    assert "% less error with the caption, mostly because of “" in label or "% more error with the caption" in label
    page.keyboard.press("Escape")
    assert pressed(page, ".why-chips button") == ["Whole caption"]
    page.locator(".why-word", has_text="apple").focus()
    page.keyboard.press("Space")
    assert pressed(page, ".why-chips button") == ["apple"]
    assert page.get_attribute(".why-said", "aria-live") == "polite"
    page.locator(".match-choose").focus()
    page.keyboard.press("Enter")
    assert pressed(page, ".why-chips button") == ["Whole caption"]


def test_an_explanation_says_what_the_studio_says(open_studio: OpenPage, studio: Studio, tmp_path: Path) -> None:
    page = open_match(open_studio)
    rank(page, tmp_path, ["red apple"])
    with Image.open(tmp_path / "picture.png") as picture:
        told = studio.matching.explain(picture, "red apple")
    order = sorted(range(2), key=lambda word: -told.gains[word])
    assert page.locator(".why-item-word").all_inner_texts() == [told.words[word] for word in order]
    for word, text in zip(order, page.locator(".why-item-text").all_inner_texts(), strict=True):
        assert (
            f"energy {abs(told.gains[word]):.4f} {'higher: worse' if told.gains[word] >= 0 else 'lower: better'}"
            in text
        )
    deepest = max(map(abs, told.patches))
    expected = [(abs(share) / deepest) ** 0.6 for share in told.patches]
    assert heats(page) == pytest.approx(expected, abs=2e-3)


def test_percentiles_stand_beside_the_probability(
    open_studio: OpenPage, studio: Studio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dataclasses import replace

    page = open_match(open_studio)
    rank(page, tmp_path)
    assert page.locator(".match-standing").count() == 0  # these weights hold no references
    network = studio.matching._scorer.network
    spread = tuple(-4.0 + 0.08 * step for step in range(101))
    monkeypatch.setattr(
        network, "config", replace(network.config, matched_quantiles=spread, mismatched_quantiles=spread)
    )
    page.click("#rank")
    page.wait_for_selector(".match:nth-child(3) .match-standing")
    for text in page.locator(".match-standing").all_inner_texts():
        assert text.startswith("Better than ")
        assert "% of wrong pairs" in text


def test_a_picture_that_is_forgotten_is_told(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_match(open_studio)
    rank(page, tmp_path)
    page.evaluate("document.dispatchEvent(new CustomEvent('jepa:why', { detail: { picture: 'gone', caption: 'x' } }))")
    page.wait_for_selector(".why[data-state=failed]")
    assert "rank its captions again" in page.inner_text(".why-said")
    page.locator(".match-choose").nth(1).click()
    page.wait_for_selector(".why[data-state=ready]")


def bundle(folder: Path, colours: list[str] = COLOURS) -> Path:
    """An archive of pictures with bad files in its middle and a table."""
    with zipfile.ZipFile(folder / "set.zip", "w") as archive:
        for number, colour in enumerate(colours):
            archive.writestr(f"set/{colour}.png", png(colour))
            if number == 1:
                archive.writestr("set/notes.png", "no picture")
                archive.writestr("../up.png", png(colour))
                archive.writestr("set/<img src=x onerror=alert(1)>.zip", "PK")
        rows = [f'{colour}.png,"a {colour} thing, big"' for colour in colours]
        archive.writestr("set/pairs.csv", "\n".join(["picture,caption", *rows, "none.png,x"]))
    return folder / "set.zip"


def score_many(page: Page, files: list[Path], captions: str = "") -> None:
    if page.locator("#many-files .file-preview").count():
        page.click("#many-files button[aria-label='Clear'], #many-files button[title='Clear']")
        page.wait_for_selector("#many-files .file-preview", state="detached")
    page.set_input_files("#many-files input[type=file]", files)
    page.wait_for_function(
        "count => document.querySelectorAll('#many-files .file-preview tr').length === count", arg=len(files)
    )
    page.fill("#many-captions textarea", captions)
    page.click("#many-run")


def finished(page: Page) -> None:
    page.wait_for_selector(".many[data-state=done]")


def names(page: Page) -> list[str]:
    return page.locator(".many-name span").all_inner_texts()


@EVERYWHERE
def test_many_pairs_fill_a_table_and_bad_files_are_named(
    open_studio: OpenPage, studio: Studio, tmp_path: Path, width: int, dark: bool
) -> None:
    page = open_match(open_studio, "Many", width=width, dark=dark, calm=True)
    score_many(page, [bundle(tmp_path)], "=red+1\n<i>sea</i>")
    finished(page)
    captions = ["=red+1", "<i>sea</i>", *(f"a {colour} thing, big" for colour in COLOURS)]
    assert page.locator(".many-by").all_inner_texts() == captions
    assert names(page) == [f"{colour}.png" for colour in COLOURS]
    assert page.locator("td.many-right").count() == 5
    assert page.inner_text(".many-problems summary") == "4 left out; the rest is scored"
    page.click(".many-problems summary")
    told = page.inner_text(".many-problems ul")
    for words in (
        "set/notes.png: is not a readable picture",
        "../up.png: has a path that points outside",
        "<img src=x onerror=alert(1)>.zip: is an archive inside",
        "row 7: the picture 'none.png'",
    ):
        assert words in told
    assert page.locator(".many-problems img").count() == 0
    assert "The right caption comes first for" in page.inner_text(".many-figures")
    assert "The right picture comes first for" in page.inner_text(".many-figures")
    assert sideways_scroll(page) <= 0
    texts = (".many-note", ".many-status", ".many-by", ".many-name span", ".many-best", ".many-csv")
    assert {text: ratio for text in texts if (ratio := page.evaluate(CONTRAST, text)) < 4.5} == {}

    with page.expect_download() as download:
        page.click(".many-csv")
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["caption"] for row in rows[:2]] == ["'=red+1", "<i>sea</i>"]  # no formula for a spreadsheet
    assert len(rows) == 5 * 7
    pictures = [Image.open(io.BytesIO(png(colour))) for colour in COLOURS]
    energy, probability = studio.matching.energies(pictures, captions)
    # noise differs from picture to picture, so the table is compared through its own file below
    assert len(energy) == len(probability) == 5
    for row in rows:
        assert 0 <= float(row["probability"]) <= 1

    again = tmp_path / "again.csv"  # the table that came out goes in again, with the same pictures
    again.write_bytes(Path(download.value.path()).read_bytes())
    score_many(page, [bundle(tmp_path), again])
    page.wait_for_function("document.querySelectorAll('td.many-right').length === 35")
    assert sorted(page.locator(".many-by").all_inner_texts()) == sorted(captions)


def test_the_table_is_ordered_by_what_is_asked(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_match(open_studio, "Many")
    score_many(page, [bundle(tmp_path)])
    finished(page)

    def column(number: int) -> list[int]:
        return [int(text) for text in page.locator(f".many-table td:nth-child({number + 2})").all_inner_texts()]

    page.locator(".many-by").nth(3).click()
    assert column(3) == sorted(column(3), reverse=True)
    assert page.locator("th[aria-sort]").inner_text() == "a white thing, big"
    page.select_option(".many-sort", "best")
    best = [int(text) for text in page.locator("td.many-best").all_inner_texts()]
    assert best == sorted(best, reverse=True)
    page.select_option(".many-sort", "doubtful")
    right = [int(text) for text in page.locator("td.many-right").all_inner_texts()]
    assert right == sorted(right)
    page.select_option(".many-sort", "given")
    assert names(page) == [f"{colour}.png" for colour in COLOURS]


def test_rows_stream_in_and_a_stopped_table_is_kept(open_studio: OpenPage, gate: Gate, tmp_path: Path) -> None:
    page = open_match(open_studio, "Many")
    gate.hold(math.ceil(605 / CAPTIONS_AT_ONCE) + 1 + 2)  # captions are encoded and pictures compared first
    captions = "\n".join(f"caption {number}" for number in range(600))  # more than one row costs
    score_many(page, [bundle(tmp_path)], captions)
    assert gate.held.wait(PATIENCE)
    page.wait_for_function("document.querySelectorAll('.many-name').length >= 1")
    scored = int(page.inner_text(".many-status").removesuffix(" of 5 pictures scored"))
    assert 1 <= page.locator(".many-name").count() <= scored <= 2  # rows are drawn in batches
    assert page.evaluate("document.querySelector('.many-bar').value") == pytest.approx(scored / 5)
    page.click("#many-stop")
    page.wait_for_selector(".many[data-state=stopped]")
    gate.released.set()
    assert gate.ended.wait(PATIENCE)
    assert page.inner_text(".many-status") == f"Stopped: {scored} of 5 pictures scored; these results are kept"
    assert page.locator(".many-table td").count() == scored * 50  # the table shows a window of the 605 captions
    with page.expect_download() as download:
        page.click(".many-csv")
    assert len(Path(download.value.path()).read_text(encoding="utf-8").splitlines()) == 1 + scored * 605
    page.fill("#many-captions textarea", "sea")
    page.click("#many-run")  # and the next one works
    finished(page)
    assert page.locator(".many-name").count() == 5


def test_a_large_table_is_looked_at_quickly_first(
    open_studio: OpenPage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jepa_app.ui.match import many as many_tab

    monkeypatch.setattr(many_tab, "QUICK_FROM", 20)
    monkeypatch.setattr(many_tab, "QUICK_BEST", 2)
    page = open_match(open_studio, "Many")
    score_many(page, [bundle(tmp_path)])
    finished(page)
    assert "a quick look chose the 2 best captions of each picture" in page.inner_text(".many-figures")
    skipped = page.locator("td.many-skipped").count()
    assert 0 < skipped <= 5 * 3  # each picture's best two captions are scored, and each caption's best two pictures
    with page.expect_download() as download:
        page.click(".many-csv")
    with Path(download.value.path()).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert sum(row["energy"] == "" for row in rows) == skipped
    page.click("#many-quick input")
    page.click("#many-run")
    page.wait_for_function(
        "document.querySelectorAll('.many-name').length === 5 && !document.querySelector('.many-skipped')"
    )


def test_nothing_to_score_is_told(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_match(open_studio, "Many")
    page.click("#many-run")
    page.get_by_text("no picture to score").first.wait_for()
    score_many(page, [bundle(tmp_path)])
    finished(page)


def test_both_inner_tabs_are_chinese(open_studio: OpenPage, tmp_path: Path) -> None:
    page = open_studio(locale="zh-CN", width=390)
    page.get_by_role("tab", name=texts_zh.MATCH_TAB).click()
    rank(page, tmp_path, ["red apple", "green apple"])
    assert set(english_left(page)) <= {"red", "green", "apple"}  # the words of the captions
    page.locator(".why-word").first.click()
    page.locator(".why-patch").first.click()
    assert page.inner_text(".why-said").startswith("第 1 行第 1 列：")
    page.get_by_role("tab", name=texts_zh.MATCH_MANY_TAB).click()
    page.wait_for_selector("#many-run")
    score_many(page, [bundle(tmp_path)])
    finished(page)
    assert page.inner_text(".many-problems summary") == "4 项未采用，其余照常打分"
    assert "正确描述排在首位" in page.inner_text(".many-figures")
    assert sideways_scroll(page) <= 0
