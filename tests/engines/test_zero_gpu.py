"""The whole page on a ZeroGPU Space: only the steps run in forked calls, all else in the main process."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from playwright.sync_api import Browser, Page

from jepa_app.studio.requests import GenerateRequest
from tests.serving.test_running import running
from tests.support.browser import counter, generate, open_page, reload, shown_picture, wait_for_match, wait_for_status
from tests.support.studio_server import loaded
from tests.support.zero_gpu_host import Host, lending

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def space(steady_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Host, str]]:
    """The studio on a ZeroGPU Space: its host and its address."""
    folder = tmp_path_factory.mktemp("space")
    with lending() as (host, device):
        more = {"SPACES_ZERO_GPU": "true", "SPACES_ZERO_DEVICE_API_URL": device}
        with running(steady_weights, folder, start=("-m", "tests.support.zero_gpu_app"), **more) as (
            address,
            _,
        ):
            yield host, address


@pytest.fixture
def page(browser: Browser, space: tuple[Host, str]) -> Iterator[Page]:
    opened = open_page(browser, space[1])
    yield opened
    opened.context.close()


def test_a_program_gets_the_pictures_of_a_thread(space: tuple[Host, str], steady_weights: Path) -> None:
    host, address = space
    client = Client(address, verbose=False)
    deltas = list(client.submit(prompt="red apple", steps=8, seed=5, api_name="/generate"))
    frames = list(loaded(steady_weights).generating.frames(GenerateRequest(prompt="red apple", steps=8, seed=5)))
    last = deltas[-1]
    assert (last["i"], last["n"]) == (7, 8)
    assert tuple(last["born"]) == frames[-1].born
    start = {"job": last["job"], "step": 3}
    again = client.predict(start, "red apple", steps=8, api_name="/edit")
    assert again["frame"] == last["frame"]
    assert client.predict(start | {"redo": [0, 1]}, "rose", steps=4, seed=1, api_name="/edit")["frame"] != last["frame"]
    energies = [score["energy"] for score in client.predict(_file(client), "red apple\nblue car", api_name="/score")]
    assert energies == sorted(energies)
    assert client.predict(prompt="rose", seed=3, api_name="/learn")["lesson"]
    assert host.killed == []
    client.close()


def _file(client: Client) -> dict[str, str]:
    return handle_file(client.predict(prompt="red apple", steps=2, seed=1, api_name="/generate_image"))


def test_the_page_steers_comes_back_and_tells_the_match(page: Page) -> None:
    generate(page, "red apple", steps=6)
    wait_for_match(page)
    whole = np.asarray(shown_picture(page))
    page.wait_for_function("document.querySelector('.curve-line').getAttribute('d').split('L').length === 6")
    reload(page)
    wait_for_status(page, "Your last run")
    assert counter(page) == "6 / 6"
    assert np.array_equal(np.asarray(shown_picture(page)), whole)
    page.focus(".player")
    page.keyboard.press("Home")
    page.click(".go-on")
    wait_for_status(page, "Finished")
    assert counter(page) == "6 / 6"
    wait_for_match(page)  # its call belongs to this test
    assert np.array_equal(np.asarray(shown_picture(page)), whole)


def test_the_page_makes_several_at_once(page: Page, space: tuple[Host, str]) -> None:
    calls = len(space[0].calls)
    page.get_by_role("radio", name="4", exact=True).check(force=True)
    generate(page, "rose", steps=4)
    page.wait_for_function("document.querySelectorAll('.candidates button').length === 4")
    assert len(space[0].calls) == calls + 1
