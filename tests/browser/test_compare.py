"""The Compare tab in a real Chromium: a grid is made, stopped, read and taken along."""

import csv
import io
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from jepa_app.ui.compare import tab
from tests.support.browser import OpenPage, sideways_scroll
from tests.support.studio_server import PATIENCE, Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def open_compare(open_studio: OpenPage, **options: object) -> Page:
    page = open_studio(**options)
    page.click("#tabs button[role=tab]:has-text('Compare')")
    page.wait_for_selector("#make-grid")
    return page


def make_grid(page: Page, columns: str, rows: str) -> None:
    page.fill("#x-values textarea", columns)
    page.fill("#y-values textarea", rows)
    page.click("#make-grid")
    page.wait_for_function("document.querySelector('.grid-status').textContent.endsWith('are finished')")


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_grid_is_made_labelled_and_taken_along(open_studio: OpenPage, tmp_path: Path, width: int, dark: bool) -> None:
    page = open_compare(open_studio, width=width, dark=dark)
    make_grid(page, "red apple\n<b>blue</b> heart", "1, 4")
    assert page.locator(".grid-table th[scope=col]").all_inner_texts() == ["red apple", "<b>blue</b> heart"]
    assert page.locator(".grid-table th[scope=row]").all_inner_texts() == ["1", "4"]
    pictures = page.locator(".grid-table img")
    assert pictures.count() == 4
    words = [picture.get_attribute("alt") for picture in pictures.all()]
    assert words[1] == 'Picture of "<b>blue</b> heart", prompt <b>blue</b> heart, guidance 1, step 16 of 16'
    assert len({picture.get_attribute("src") for picture in pictures.all()}) == 4
    assert sideways_scroll(page) <= 0
    with page.expect_download() as table:
        page.click(".grid-csv")
    rows = list(csv.DictReader(io.StringIO(Path(table.value.path()).read_text())))
    assert [(row["row"], row["column"]) for row in rows] == [
        ("1", "red apple"), ("1", "<b>blue</b> heart"), ("4", "red apple"), ("4", "<b>blue</b> heart"),
    ]  # fmt: skip
    assert {row["seed"] for row in rows} == {"7"}
    with page.expect_download() as picture:
        page.click(".grid-picture")
    with Image.open(picture.value.path()) as made:
        assert made.size == (150 + 2 * 170, 64 + 2 * 170)


def test_a_wrong_axis_is_told_and_the_next_grid_works(open_studio: OpenPage) -> None:
    page = open_compare(open_studio)
    page.fill("#y-values textarea", "lots")
    page.click("#make-grid")
    page.wait_for_selector("text=guidance is 'lots'; allowed: a number")
    make_grid(page, "rose", "2")
    assert page.locator(".grid-table img").count() == 1


def test_formulas_do_not_reach_a_spreadsheet(open_studio: OpenPage) -> None:
    page = open_compare(open_studio)
    make_grid(page, "=1+1", "2")
    with page.expect_download() as table:
        page.click(".grid-csv")
    (row,) = csv.DictReader(io.StringIO(Path(table.value.path()).read_text()))
    assert (row["prompt"], row["column"]) == ("'=1+1", "'=1+1")


def test_a_stopped_grid_says_so_and_can_be_taken_along(
    open_studio: OpenPage, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tab, "SECONDS_BETWEEN", 0)
    page = open_compare(open_studio)
    page.fill("#x-values textarea", "red apple\nblue heart")
    page.fill("#y-values textarea", "1, 4")
    gate.hold(6)
    page.click("#make-grid")
    assert gate.held.wait(PATIENCE)
    page.wait_for_selector(".grid-table img")
    assert page.inner_text(".grid-status") == "Making 4 pictures"
    page.click("#stop-grid")
    page.wait_for_function("document.querySelector('.grid-status').textContent.startsWith('Stopped with ')")
    gate.released.set()
    assert gate.ended.wait(PATIENCE)
    page.wait_for_timeout(300)  # what was on its way has come
    assert page.inner_text(".grid-status").startswith("Stopped with ")
    assert page.is_visible(".grid-csv")
    make_grid(page, "rose", "2")
    assert page.inner_text(".grid-status") == "1 pictures are finished"
