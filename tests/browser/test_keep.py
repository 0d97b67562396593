"""What a visitor takes away, in a real Chromium: exports, and pictures that carry their settings."""

import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Page

from jepa_app.studio.export import animation_kinds, read_settings
from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from tests.support.browser import OpenPage, generate, reload, shown_picture, wait_for_match, wait_for_status
from tests.support.studio_server import Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
PROMPT = 'red "apple" 😀 кот'
REQUEST = GenerateRequest(prompt=PROMPT, steps=6, seed=7)


def export(page: Page, kind: str) -> tuple[str, bytes]:
    """Choose an entry of the Export menu; the name and the bytes of what it saved."""
    wait_for_match(page)
    page.click(".export summary")
    with page.expect_download() as download:
        page.click(f".export [data-kind={kind}]")
    assert page.get_attribute(".export", "open") is None
    return download.value.suggested_filename, Path(download.value.path()).read_bytes()


def made(open_studio: OpenPage) -> Page:
    page = open_studio()
    page.fill("#seed input", "7")
    generate(page, PROMPT, steps=6)
    return page


@pytest.mark.parametrize("kind", ["webp", "gif"])
def test_the_run_is_saved_as_an_animation(open_studio: OpenPage, kind: str) -> None:
    page = made(open_studio)
    name, data = export(page, kind)
    assert name == f"jepa-7.{kind}"
    with Image.open(io.BytesIO(data)) as animation:
        assert (animation.format, getattr(animation, "n_frames", 1)) == (kind.upper(), 6)
    wait_for_status(page, f"Saved as jepa-7.{kind}")


def test_videos_are_offered_where_ffmpeg_is(open_studio: OpenPage) -> None:
    page = made(open_studio)
    page.click(".export summary")
    assert page.is_visible(".export [data-kind=mp4]") == ("mp4" in animation_kinds())
    page.keyboard.press("Escape")
    assert page.is_hidden(".export [data-kind=webp]")
    if "mp4" in animation_kinds():
        name, data = export(page, "mp4")
        assert (name, data[4:8]) == ("jepa-7.mp4", b"ftyp")


def test_the_trace_tells_every_step(open_studio: OpenPage, studio: Studio) -> None:
    name, data = export(made(open_studio), "json")
    trace = json.loads(data)
    assert name == "jepa-7.json"
    assert (trace["prompt"], trace["seed"], trace["steps"], trace["negative_prompt"]) == (PROMPT, 7, 6, "")
    frames = list(studio.generating.frames(REQUEST))
    assert [step["index"] for step in trace["trace"]] == list(range(6))
    assert [step["revealed"] for step in trace["trace"]] == [list(frame.revealed) for frame in frames]
    seconds = [step["seconds"] for step in trace["trace"]]
    assert seconds == sorted(seconds)


def test_a_step_is_saved_with_its_settings_or_without(open_studio: OpenPage) -> None:
    page = made(open_studio)
    page.focus(".player")
    page.keyboard.press("Home")
    name, data = export(page, "png")
    assert name == "jepa-7-step-01.png"
    assert read_settings(data) == REQUEST
    assert Image.open(io.BytesIO(data)).tobytes() == shown_picture(page).tobytes()
    assert page.is_checked(".keep-settings input")
    page.uncheck(".keep-settings input")
    assert b"parameters" not in export(page, "png")[1]
    reload(page)  # the choice is kept
    page.wait_for_selector("#player .tiles i")
    assert not page.is_checked(".keep-settings input")


def test_download_saves_the_shown_picture(open_studio: OpenPage) -> None:
    page = made(open_studio)
    wait_for_match(page)
    with page.expect_download() as download:
        page.click(".download")
    assert download.value.suggested_filename == "jepa-7.png"
    assert read_settings(download.value.path(), "jepa-7.png") == REQUEST


def test_a_stopped_run_is_exported_as_far_as_it_came(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio()
    gate.hold(4)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "Step 4 of 16")
    page.click("#stop")
    page.wait_for_timeout(500)
    gate.released.set()  # a run ends at its next step, and the page is told then
    wait_for_status(page, "Stopped at step")
    name, data = export(page, "webp")
    frames = getattr(Image.open(io.BytesIO(data)), "n_frames", 1)
    assert frames in (4, 5)
    assert name.endswith(f"-step-0{frames}.webp")


def test_an_export_that_fails_says_so(open_studio: OpenPage) -> None:
    page = made(open_studio)
    page.route(re.compile("component_server"), lambda route: route.fulfill(json={"error": "<b>no</b> video"}))
    page.click(".export summary")
    page.click(".export [data-kind=gif]")
    wait_for_status(page, "<b>no</b> video")
