"""app.py as a process: it starts anywhere, ends within seconds of a signal, and leaves no file."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from gradio_client import Client
from playwright.sync_api import Browser, Error

from tests.support.browser import open_page, wait_for_status, wait_for_value
from tests.support.studio_server import PATIENCE

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("default")]
ROOT = Path(__file__).parents[2]
STEPS = 16


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextmanager
def running(
    weights: Path,
    folder: Path,
    *words: str,
    port: int | None = None,
    start: tuple[str, ...] = ("app.py",),
    **more: str,
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Start the app with a temporary folder and surroundings; yield its address once it answers, and its process."""
    port = port or free_port()
    surroundings = os.environ | {"TMPDIR": str(folder)} | more
    surroundings.pop("GRADIO_TEMP_DIR", None)
    command = [sys.executable, *start, "--weights", str(weights), "--port", str(port), *words]
    pipe = subprocess.PIPE
    app = subprocess.Popen(command, cwd=ROOT, env=surroundings, stdout=pipe, stderr=pipe, text=True)
    host = "[::1]" if "::1" in words else "127.0.0.1"
    address = f"http://{host}:{port}/"
    try:
        until = time.monotonic() + PATIENCE
        while app.poll() is None and time.monotonic() < until:
            try:
                httpx.get(address, timeout=PATIENCE, trust_env=False)
            except httpx.TransportError:
                time.sleep(0.2)
            else:
                break
        assert app.poll() is None, app.communicate()
        yield address, app
    finally:
        app.terminate()  # so that it ends the processes that it has forked, which hold the pipes too
        try:
            app.communicate(timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            app.kill()
            app.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_of_runs_ends_it_within_seconds(
    number: signal.Signals, tiny_weights: Path, tmp_path: Path
) -> None:
    with running(tiny_weights, tmp_path) as (address, app):
        client = Client(address, verbose=False)
        client.predict(prompt="red apple", steps=1, api_name="/generate_image")
        assert list(tmp_path.rglob("*.png")) != []

        def ask() -> None:
            for _ in range(200):
                client.submit(prompt="red apple", steps=STEPS, best_of=16, api_name="/generate")

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        time.sleep(1)
        began = time.monotonic()
        app.send_signal(number)
        _, errors = app.communicate(timeout=PATIENCE)
        assert time.monotonic() - began < 5
        assert app.returncode == 0, errors
        client.close()
    assert not list(tmp_path.glob("jepa-studio-*"))
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_what_a_killed_process_leaves_is_removed_by_the_next(tiny_weights: Path, tmp_path: Path) -> None:
    with running(tiny_weights, tmp_path) as (address, app):
        Client(address, verbose=False).predict(prompt="red apple", steps=1, api_name="/generate_image")
        app.kill()
        app.communicate()
    [left] = tmp_path.glob("jepa-studio-*")
    with running(tiny_weights, tmp_path):
        [own] = tmp_path.glob("jepa-studio-*")
        assert own != left


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:1/", "socks5://127.0.0.1:1", "http://127.0.0.1:1"])
def test_it_starts_behind_any_proxy_without_a_home_on_ipv6(proxy: str, tiny_weights: Path, tmp_path: Path) -> None:
    more = {"ALL_PROXY": proxy, "http_proxy": proxy if proxy.startswith("http:") else "", "HOME": "/nonexistent"}
    with running(tiny_weights, tmp_path, "--host", "::1", **more) as (address, _):
        assert httpx.get(address, trust_env=False).status_code == 200
        assert httpx.get(address, trust_env=False, headers={"host": "evil.org"}).status_code == 403


def test_a_page_says_that_its_run_was_lost_with_the_server(
    tiny_weights: Path, tmp_path: Path, browser: Browser
) -> None:
    port = free_port()
    with running(tiny_weights, tmp_path, port=port) as (address, app):
        page = open_page(browser, address)
        page.fill("#prompt textarea", "red apple")
        page.fill("#guidance input[type=number]", "7")
        page.fill("#steps input[type=number]", "16")
        page.evaluate(  # as if the run were still on: the tiny network is done too soon to be caught at it
            """() => addEventListener('pagehide', () => {
              const kept = JSON.parse(sessionStorage.getItem('jepa-studio-run'));
              sessionStorage.setItem('jepa-studio-run', JSON.stringify({ ...kept, isOn: true }));
            })"""
        )
        page.click("#run")
        wait_for_status(page, "Finished")
        seed = page.inner_text(".seed")
        page.fill("#prompt textarea", "something that was typed since")
        app.kill()
        app.communicate()
    with running(tiny_weights, tmp_path, port=port):
        with suppress(Error):  # Gradio reloads it itself as soon as it hears of another server, and ends this reload
            page.reload()
        wait_for_status(page, "The server no longer has your run, or cannot be reached")
        wait_for_value(page, "#prompt textarea", "something that was typed since")
        wait_for_value(page, "#guidance input[type=number]", "7")
        page.click(".again")
        wait_for_status(page, "Finished")
        assert page.inner_text(".seed") == seed
        assert page.inner_text(".prompt-shown") == "red apple"
        assert page.locator(".again").is_hidden()
        page.context.close()
