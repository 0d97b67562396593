"""Steering in a real Chromium: going on from a step, redoing a part, beginning with a picture, coming back to a run."""

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, Route

from jepa_app.studio.requests import GenerateRequest
from jepa_app.studio.studio import Studio
from jepa_app.ui.player.player import delta
from tests.support.browser import (
    OpenPage,
    counter,
    generate,
    press_generate,
    reload,
    shown_picture,
    sideways_scroll,
    wait_for_status,
    wait_for_value,
)
from tests.support.studio_server import PATIENCE, Gate

# "default": the server's own libraries warn in this process
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


def pixels(page: Page) -> np.ndarray:
    return np.asarray(shown_picture(page), int)


def mark(page: Page, *positions: int) -> None:
    """Dab on tiles of the board of 4 x 4."""
    stage = page.locator(".stage")
    box = stage.bounding_box()
    assert box is not None
    for position in positions:
        x, y = (box["width"] * (place + 0.5) / 4 for place in (position % 4, position // 4))
        stage.click(position={"x": x, "y": y})


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (390, True)])
def test_a_run_goes_on_from_a_step_with_other_words(open_studio: OpenPage, width: int, dark: bool) -> None:
    page = open_studio(width=width, dark=dark)
    page.fill("#seed input", "5")
    generate(page, "red apple", steps=6)
    whole = pixels(page)
    assert page.is_hidden(".go-on")  # nothing is left to be made
    page.focus(".player")
    press(page, "Home", "ArrowRight")
    begun = pixels(page)
    assert page.inner_text(".go-on") == "Continue from step 2"
    page.fill("#prompt textarea", "blue heart")
    page.click(".go-on")
    wait_for_status(page, "Finished")
    assert counter(page) == "6 / 6"
    assert page.inner_text(".prompt-shown") == "blue heart"
    assert not np.array_equal(pixels(page), whole)
    page.focus(".player")
    press(page, "Home", "ArrowRight")
    assert np.array_equal(pixels(page), begun)  # the steps before are still there, with their words
    assert page.inner_text(".prompt-shown") == "red apple"
    page.fill("#prompt textarea", "red apple")
    page.click(".go-on")
    wait_for_status(page, "Finished")
    assert abs(pixels(page) - whole).max() <= 2  # with the same words it becomes what it was
    assert sideways_scroll(page) <= 0


@pytest.mark.parametrize(("width", "dark"), [(1280, True), (390, False)])
def test_a_painted_part_is_redone(open_studio: OpenPage, width: int, dark: bool) -> None:
    page = open_studio(width=width, dark=dark)
    generate(page, "red apple", steps=4)
    before = pixels(page)
    page.click(".redo")
    assert page.is_disabled(".paint-go")
    mark(page, 0, 15, 15)  # the last one is wiped again
    assert page.locator(".tiles .marked").count() == 1
    assert page.locator(".tiles .ring").count() == 3
    assert page.inner_text(".paint-go") == "Redo 1 tokens"
    assert sideways_scroll(page) <= 0
    page.click(".paint-go")
    wait_for_status(page, "Finished")
    after = pixels(page)
    assert np.array_equal(before[16:], after[16:])
    assert np.array_equal(before[:, 16:], after[:, 16:])
    assert not np.array_equal(before[:16, :16], after[:16, :16])
    place, total = map(int, counter(page).split(" / "))
    assert place == total > 4
    page.focus(".player")
    press(page, "Home", "ArrowRight", "ArrowRight", "ArrowRight")
    assert np.array_equal(pixels(page), before)


def test_painting_by_keyboard_is_told(open_studio: OpenPage) -> None:
    page = open_studio(calm=True)
    generate(page, "red apple", steps=4)
    before = pixels(page)
    page.focus(".redo")
    press(page, "Enter")
    page.wait_for_function("document.querySelector('.announcer').textContent.includes('Arrow keys move')")
    press(page, "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", " ")
    page.wait_for_function("document.querySelector('.announcer').textContent === 'row 4, column 4, marked'")
    assert page.locator(".tiles .marked").count() == 1
    press(page, "Escape")
    assert page.is_hidden(".paint")
    assert page.locator(".tiles .marked").count() == 0
    page.focus(".redo")
    press(page, "Enter", "ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", " ", "Enter")
    wait_for_status(page, "Finished")
    after = pixels(page)
    assert np.array_equal(before[:16], after[:16])
    assert not np.array_equal(before[16:, 16:], after[16:, 16:])


def picture_file(colour: str) -> dict[str, object]:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 50), colour).save(buffer, "PNG")
    return {"name": f"{colour}.png", "mimeType": "image/png", "buffer": buffer.getvalue()}


def test_a_picture_from_outside_is_begun_with(open_studio: OpenPage) -> None:
    page = open_studio(width=390)
    page.fill("#prompt textarea", "red apple")
    page.set_input_files(".begin-with input", picture_file("green"))
    page.wait_for_selector(".paint:not([hidden])")
    assert page.get_attribute(".picture", "alt") == "The starting picture"
    begun = pixels(page)
    mark(page, 15)
    page.click(".paint-go")
    wait_for_status(page, "Finished")
    after = pixels(page)
    assert np.array_equal(begun[:16], after[:16])
    assert not np.array_equal(begun[16:, 16:], after[16:, 16:])
    assert page.inner_text(".prompt-shown") == "red apple"
    page.set_input_files(".begin-with input", picture_file("blue"))
    page.wait_for_selector(".paint:not([hidden])")
    page.click(".paint-room")
    page.wait_for_function("document.querySelectorAll('.tiles .marked').length === 12")
    inside = pixels(page)[8:24, 8:24]
    page.click(".paint-go")
    wait_for_status(page, "Finished")
    assert np.array_equal(pixels(page)[8:24, 8:24], inside)
    page.set_input_files(".begin-with input", {"name": "no.png", "mimeType": "image/png", "buffer": b"no picture"})
    refused = "no.png is not a readable picture"
    page.wait_for_function(f"document.querySelector('.recall-note').textContent.includes('{refused}')")


def test_the_prediction_of_a_step_is_shown(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    page.focus(".player")
    press(page, "Home")
    so_far = page.get_attribute(".picture", "src")
    page.click(".views [data-view=predicted]")
    page.wait_for_function("before => document.querySelector('.picture').src !== before", arg=so_far)
    assert page.locator(".tiles .guess").count() == page.locator(".tiles i").count() - 1
    assert page.locator(".tiles .unknown").count() == 0
    page.click(".views [data-view=picture]")
    assert page.get_attribute(".picture", "src") == so_far


def test_the_energy_of_every_step_is_drawn_and_told(open_studio: OpenPage) -> None:
    page = open_studio()
    generate(page, "red apple", steps=6)
    page.wait_for_function("(document.querySelector('.curve-line').getAttribute('d') ?? '').split('L').length === 6")
    told = page.inner_text(".fit")
    assert told.startswith("Match with the prompt: ")
    assert "lower is better" in told
    page.focus(".player")
    press(page, "Home")
    assert page.inner_text(".fit") != told
    with page.expect_download() as download:
        page.click(".export summary")
        page.click(".export [data-kind=json]")
    trace = json.loads(Path(download.value.path()).read_text(encoding="utf-8"))
    assert all(isinstance(step["energy"], float) for step in trace["trace"])


@pytest.mark.parametrize("width", [1280, 390])
def test_the_best_of_several_is_shown_with_the_others(open_studio: OpenPage, width: int) -> None:
    page = open_studio(width=width)
    page.fill("#seed input", "90")
    page.get_by_role("radio", name="4", exact=True).check(force=True)
    generate(page, "red apple", steps=4)
    assert page.locator(".candidates button").count() == 4
    pressed = ".candidates [aria-pressed=true]"
    best = page.locator(".candidates button").first
    assert best.get_attribute("aria-pressed") == "true"
    assert (best.get_attribute("aria-label") or "").startswith(f"Show candidate 1: seed {page.inner_text('.seed')}, ")
    first = pixels(page)
    page.locator(".candidates button").nth(2).click()
    page.wait_for_function("document.querySelectorAll('.candidates button')[2].getAttribute('aria-pressed') === 'true'")
    assert page.locator(pressed).count() == 1
    assert not np.array_equal(pixels(page), first)
    page.focus(".player")
    press(page, "Home")
    assert counter(page) == "1 / 4"  # the whole run of it is there
    assert sideways_scroll(page) <= 0
    page.get_by_role("radio", name="just one").check(force=True)
    generate(page, "blue car", steps=4)
    assert page.is_hidden(".candidates")


def test_a_candidate_that_is_no_longer_kept_is_told(open_studio: OpenPage, studio: Studio) -> None:
    studio.generating._jobs._jobs.clear()  # of a full store a visitor with four runs would lose one
    page = open_studio()
    page.get_by_role("radio", name="4", exact=True).check(force=True)
    generate(page, "red apple", steps=4)
    shown = page.inner_text(".seed")
    kept = dict(studio.generating._jobs._jobs)
    studio.generating._jobs._jobs.clear()
    try:
        page.locator(".candidates button").nth(2).click()
        page.wait_for_function("document.querySelector('.status')?.textContent.includes('is no longer kept')")
    finally:
        studio.generating._jobs._jobs.update(kept)
    assert page.inner_text(".seed") == shown
    page.locator(".candidates button").nth(2).click()
    page.wait_for_function("document.querySelectorAll('.candidates button')[2].getAttribute('aria-pressed') === 'true'")


def test_what_is_taken_from_the_player_is_the_step_that_it_shows(open_studio: OpenPage) -> None:
    page = open_studio()
    page.fill("#seed input", "77")
    generate(page, "red apple", steps=4)
    page.focus(".player")
    press(page, "Home")
    at_first = pixels(page)
    page.fill("#prompt textarea", "blue car")
    page.click("#dice")
    page.click(".go-on")
    wait_for_status(page, "Finished")
    at_last = pixels(page)
    page.focus(".player")
    press(page, "Home")
    assert page.inner_text(".prompt-shown") == "red apple"
    page.click(".reuse")
    wait_for_value(page, "#seed input", page.inner_text(".seed"))
    page.click(".to-match")
    page.wait_for_selector("#match-picture img")
    wait_for_value(page, "#captions textarea", "red apple")
    address = page.get_attribute("#match-picture img", "src")
    sent = np.asarray(Image.open(io.BytesIO(page.request.get(str(address)).body())).convert("RGB"), int)
    assert np.abs(sent - at_first).mean() < np.abs(sent - at_last).mean() / 4


def test_a_reloaded_page_comes_back_to_its_run(open_studio: OpenPage) -> None:
    page = open_studio()
    page.fill("#seed input", "77")
    generate(page, "red apple", steps=6)
    final = pixels(page)
    reload(page)
    wait_for_status(page, "Your last run")
    assert counter(page) == "6 / 6"
    assert np.array_equal(pixels(page), final)
    wait_for_value(page, "#prompt textarea", "red apple")
    assert page.input_value("#seed input") == ""  # the next picture is to be another one
    page.focus(".player")
    press(page, "Home")
    assert counter(page) == "1 / 6"


def test_a_page_reloaded_in_the_middle_goes_on(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio(forgive=("AbortError", "Connection errored out"))  # of the page that is left
    page.fill("#seed input", "78")
    generate(page, "red apple", steps=16)
    whole = pixels(page)
    page.fill("#heat input[type=number]", "0.9")
    gate.hold(5)
    page.click("#run")
    wait_for_status(page, "Step 5 of 16")
    page.reload()
    gate.released.set()
    assert gate.ended.wait(PATIENCE)
    page.wait_for_function("document.querySelector('.counter')?.textContent === '16 / 16'")
    assert not np.array_equal(pixels(page), whole)
    other = open_studio()  # a tab of its own knows nothing of it
    assert other.get_attribute(".player", "data-state") == "empty"


def test_lost_steps_are_fetched_again(open_studio: OpenPage, studio: Studio) -> None:
    frames = list(studio.generating.frames(GenerateRequest(prompt="red apple", steps=8, seed=79)))
    page = open_studio()
    held: list[Route] = []

    def hold(route: Route) -> None:  # the lost steps arrive after the energy of the last one
        held.append(route) if '"missing"' in (route.request.post_data or "") else route.continue_()

    page.route(re.compile("component_server"), hold)
    with page.expect_response(lambda response: '"energies"' in (response.request.post_data or "")):
        page.evaluate(
            "delta => document.dispatchEvent(new CustomEvent('jepa:begin', { detail: { delta, around: [] } }))",
            delta("weights", frames[-1]),  # as if all before it had been lost on the way
        )
    page.wait_for_timeout(200)  # the page works on the answer
    [missing] = held
    missing.continue_()
    page.wait_for_function("(document.querySelector('.curve-line').getAttribute('d') ?? '').split('L').length === 8")
    page.click(".paint-leave")
    page.focus(".player")
    for index, key in enumerate(("Home", "ArrowRight", "ArrowRight")):
        page.keyboard.press(key)
        assert np.array_equal(pixels(page), np.asarray(frames[index].image))


def test_those_who_wait_hear_how_many_are_ahead(
    open_studio: OpenPage, studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_studio()
    engine = studio._engine
    with monkeypatch.context() as patch:
        patch.setattr(engine, "max_active", 0)  # nobody is let in
        others = [studio.generating.submit(GenerateRequest(prompt="rose", steps=2, seed=80), client) for client in "ab"]
        page.fill("#prompt textarea", "red apple")
        page.click("#run")
        wait_for_status(page, "Waiting: 2 ahead of you")
    wait_for_status(page, "Finished")
    for _, run in others:
        assert len(list(run)) == 2


def test_a_full_line_is_told_kindly(open_studio: OpenPage, studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    page = open_studio()
    monkeypatch.setattr(studio._engine.waiting, "capacity", 0)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    page.wait_for_selector("text=pictures are waiting already; try again in a moment")
    monkeypatch.undo()
    generate(page, "red apple")


def test_the_same_request_comes_from_memory(open_studio: OpenPage, studio: Studio) -> None:
    page = open_studio("?prompt=red+apple&steps=6&seed=81")
    wait_for_value(page, "#seed input", "81")
    press_generate(page)
    first = pixels(page)
    steps: list[object] = []
    handle = studio._pipeline.network.denoiser.condition_in.register_forward_pre_hook(lambda *_: steps.append(1))
    press_generate(page)
    handle.remove()
    assert not steps
    assert np.array_equal(pixels(page), first)


def test_a_broken_connection_is_mended(open_studio: OpenPage, gate: Gate) -> None:
    page = open_studio(forgive=("ERR_INTERNET_DISCONNECTED", "Connection errored out"))
    gate.hold(5)
    page.fill("#prompt textarea", "red apple")
    page.click("#run")
    wait_for_status(page, "Step 5 of 16")
    page.context.set_offline(True)
    page.wait_for_timeout(300)
    gate.released.set()
    page.context.set_offline(False)
    page.wait_for_function("document.querySelector('.counter').textContent === '16 / 16'")
