"""How the page is served: limits of what one visitor may send, files of its own, a log that stays short."""

import asyncio
import io
import json
import os
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gradio as gr
import httpx
import pytest
from PIL import Image
from starlette.types import Message, Scope

from jepa_app.command_line import past_proxies
from jepa_app.studio.studio import Studio
from jepa_app.ui.page import build_page, serving_options
from jepa_app.ui.serving import limiting
from jepa_app.ui.serving.connections import Idle
from jepa_app.ui.serving.limiting import Limits, Uploads
from jepa_app.ui.serving.own_folder import own_folder
from jepa_app.ui.serving.running import Shortened, launch
from jepa_app.ui.serving.tidying import remove_old
from tests.support.studio_server import PATIENCE, Gate

pytestmark = pytest.mark.filterwarnings("default")  # the server's own libraries warn in this process


def asked(limits: Limits, *parts: bytes, path: str = "/x", length: int | None = None, address: str = "a") -> str:
    """Send a request to the middleware and return "status text" of its answer."""
    answers: list[Message] = []
    bodies = list(parts)

    async def receive() -> Message:
        part = bodies.pop(0) if bodies else b""
        return {"type": "http.request", "body": part, "more_body": bool(bodies)}

    async def send(message: Message) -> None:
        answers.append(message)

    headers = [] if length is None else [(b"content-length", str(length).encode())]
    scope: Scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "client": (address, 1)}
    asyncio.run(limits(scope, receive, send))
    return f"{answers[0]['status']} {b''.join(each.get('body', b'') for each in answers[1:]).decode()}"


async def echo(_: Scope, receive: Any, send: Any) -> None:
    """An app that reads all and answers with the number of bytes."""
    number, message = 0, {"more_body": True}
    while message.get("more_body"):
        message = await receive()
        number += len(message.get("body", b""))
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps([number]).encode()})


def test_a_request_has_a_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MAX_REQUEST", 1000)
    limits = Limits(echo)
    assert asked(limits, b"x" * 600, b"x" * 300) == "200 [900]"
    assert asked(limits, length=1001).startswith("413 the request is larger")
    assert asked(limits, b"x" * 600, b"x" * 600).startswith(
        "413 the request is larger"
    )  # it did not say how long it is


def test_an_address_has_so_many_requests_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MAX_AT_ONCE", 2)
    inner: list[str] = []

    async def nested(scope: Scope, receive: Any, send: Any) -> None:
        if len(inner) < 3:
            inner.append("")
            place = len(inner) - 1
            answers: list[Message] = []

            async def keep(message: Message) -> None:
                answers.append(message)

            await limits(scope, receive, keep)
            inner[place] = f"{answers[0]['status']}"
        await echo(scope, receive, send)

    limits = Limits(nested)
    assert asked(limits, b"x").startswith("200")
    assert "429" in inner
    assert asked(limits, b"x").startswith("200")  # all of them are over


def test_uploads_have_a_number_and_a_size_for_each_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MAX_FILES", 3)
    monkeypatch.setattr(limiting, "MAX_KEPT", 100)
    monkeypatch.setattr(limiting, "MAX_KEPT_IN_ALL", 150)
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    paths = [tmp_path / name / "file" for name in "abc"]
    for path in paths:
        path.parent.mkdir()
        path.write_bytes(b"x" * 30)
    uploads = Uploads()
    uploads.add("me", [str(path) for path in paths[:2]])
    assert uploads.refusal("me", 40) is None
    assert "of files are yours already" in str(uploads.refusal("me", 41))
    assert uploads.refusal("you", 90) is None
    assert "no room for more files" in str(uploads.refusal("you", 91))
    cut_off = tmp_path / "part"
    cut_off.write_bytes(b"x" * 20)
    assert uploads.refusal("you", 70) is None
    assert "no room for more files" in str(uploads.refusal("you", 71))
    cut_off.unlink()
    uploads.add("me", [str(paths[2])])
    assert "3 of your files are kept already" in str(uploads.refusal("me", 1))
    paths[0].unlink()
    assert uploads.refusal("me", 1) is None


def test_an_address_sends_only_so_much_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limiting, "MAX_COMING", 1000)
    inner: list[str] = []

    async def nested(scope: Scope, receive: Any, send: Any) -> None:
        if not inner:
            answers: list[Message] = []

            async def keep(message: Message) -> None:
                answers.append(message)

            inner.append("")
            await limits(scope, receive, keep)
            inner[0] = str(answers[0]["status"])
        await echo(scope, receive, send)

    limits = Limits(nested)
    assert asked(limits, b"x" * 600, length=600).startswith("200")
    assert inner == ["429"]
    assert asked(limits, b"x" * 600, length=600).startswith("200")


def test_nobody_borrows_another_address(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[bytes]] = []

    async def app(scope: Scope, receive: Any, send: Any) -> None:
        seen.append([value for name, value in scope["headers"] if name == b"x-forwarded-for"])
        await echo(scope, receive, send)

    asked(Limits(app), b"x", address="10.0.0.1")
    assert seen == [[b"10.0.0.1"]]


def test_a_process_has_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    left = tmp_path / "jepa-studio-left"  # as a process leaves it that is killed
    left.mkdir()
    (left / ".in-use").touch()
    (left / "upload.png").touch()
    with own_folder() as folder:
        assert not left.exists()
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o077 == 0  # nobody else reads it
        (folder / "upload.png").touch()
        with own_folder() as other:  # another start leaves what is in use
            assert folder.exists()
            assert other != folder
    assert list(tmp_path.iterdir()) == []
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)


def test_without_a_place_for_files_the_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="no folder for uploads can be made"), own_folder():
        pass


def test_a_line_of_the_log_is_cut() -> None:
    held = io.StringIO()
    log = Shortened(held, most=20)
    log.write("short\n")
    assert log.write("x" * 26_000_000) == 26_000_000
    assert len(held.getvalue()) < 100
    assert "25,999,980 characters left out" in held.getvalue()
    log.flush()


@pytest.mark.parametrize("proxy", ["socks://127.0.0.1:1/", "http://127.0.0.1:1"])
def test_the_own_server_is_reached_past_any_proxy(
    proxy: str, server: tuple[str, Gate], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ALL_PROXY", "http_proxy"):
        monkeypatch.setenv(name, proxy)
    with past_proxies():
        assert httpx.get(server[0]).status_code == 200
    with pytest.raises((ValueError, httpx.HTTPError)):
        httpx.get(server[0])


def test_connections_that_ask_for_nothing_are_closed() -> None:
    closed: list[str] = []

    class One:  # as uvicorn's
        def __init__(self, name: str, cycle: object) -> None:
            self.cycle, self.transport = cycle, SimpleNamespace(close=lambda: closed.append(name))

    busy, done = SimpleNamespace(response_complete=False), SimpleNamespace(response_complete=True)
    connections: Any = {One("silent", None), One("busy", busy), One("done", done)}
    idle = Idle(seconds=0.05)
    idle.close_idle(connections)
    assert closed == []
    time.sleep(0.1)
    idle.close_idle(connections)
    assert sorted(closed) == ["done", "silent"]


@pytest.mark.slow
def test_a_served_studio_drops_a_silent_connection(server: tuple[str, Gate], monkeypatch: pytest.MonkeyPatch) -> None:
    host, port = server[0].removeprefix("http://").strip("/").split(":")
    with socket.create_connection((host, int(port))) as silent:
        silent.settimeout(PATIENCE)
        silent.sendall(b"GET / HTTP/1.1\r\nX-Slow: ")  # headers without an end
        began = time.monotonic()
        assert silent.recv(100) == b""
        assert time.monotonic() - began < 50


@pytest.mark.parametrize(
    ("path", "asked", "told"),
    [
        ("gradio_api/call/v2/generate", {}, "prompt"),
        ("gradio_api/component_server", {"session_hash": "x", "component_id": 10**6, "fn_name": "a", "data": 1}, "fit"),
        ("gradio_api/run/score", {"data": ["", ""]}, "does not accept direct"),
    ],
)
def test_what_does_not_fit_is_told(server: tuple[str, Gate], path: str, asked: object, told: str) -> None:
    answer = httpx.post(server[0] + path, json=asked)
    assert 400 <= answer.status_code < 500
    assert told in answer.text


def test_a_page_that_answers_late_is_served(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gradio.networking.url_ok", lambda _: False)  # as if the page did not answer in time
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]

    async def launched() -> gr.Blocks:  # inside a loop, as in `served`
        page = build_page(studio)
        launch(page, {"server_port": port, "quiet": True} | serving_options())
        return page

    page = asyncio.run(launched())
    try:
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    finally:
        page.close(verbose=False)


def test_a_port_that_is_taken_is_not_tried_for_long(studio: Studio) -> None:
    async def launched(port: int) -> None:
        launch(build_page(studio), {"server_port": port, "quiet": True} | serving_options())

    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="empty port"):
        asyncio.run(launched(taken.getsockname()[1]))


def called(address: str, name: str, values: dict[str, Any]) -> str:
    """Call an endpoint by its address and return the data of its last event."""
    event = httpx.post(f"{address}gradio_api/call/v2/{name}", json=values).json()["event_id"]
    lines = httpx.get(f"{address}gradio_api/call/{name}/{event}", timeout=PATIENCE).text.splitlines()
    return next(line for line in reversed(lines) if line.startswith("data: "))


def test_a_hundred_thousand_files_are_refused_in_a_sentence(
    server: tuple[str, Gate], capfd: pytest.CaptureFixture[str]
) -> None:
    answer = called(server[0], "score_many", {"files": list(range(100_000)), "captions": "red"})
    assert "at most 2,000 are taken" in answer
    assert len(answer) < 300
    printed = capfd.readouterr()
    assert len(printed.out + printed.err) < 2000


@pytest.mark.parametrize(
    ("files", "told"),
    [
        ([{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], "was not uploaded here"),
        ([{"path": "/etc/passwd"}], "described wrongly"),
        ("text", ""),
        ([5], ""),
        ([{"path": "x" * 5000, "meta": {"_type": "gradio.FileData"}}], "was not uploaded here"),
    ],
)
def test_files_that_are_none_are_refused(server: tuple[str, Gate], files: object, told: str) -> None:
    answer = json.loads(called(server[0], "score_many", {"files": files, "captions": "red"}).removeprefix("data: "))
    assert told in answer["error"]
    assert str(Path.cwd()) not in answer["error"]


def test_a_million_captions_are_refused_at_once(server: tuple[str, Gate]) -> None:
    began = time.monotonic()
    answer = called(server[0], "score_many", {"files": [], "captions": "red\n" * 1_000_000})
    assert "4,000,000 characters; at most" in answer
    assert time.monotonic() - began < 10


def test_an_upload_is_kept_from_its_last_use_on(server: tuple[str, Gate]) -> None:
    held = io.BytesIO()
    Image.new("RGB", (9, 9), "red").save(held, "PNG")
    [path] = httpx.post(f"{server[0]}gradio_api/upload", files={"files": ("red.png", held.getvalue())}).json()
    os.utime(path, (0, 0))
    given = {"path": path, "meta": {"_type": "gradio.FileData"}}
    assert "probability" in called(server[0], "score", {"picture": given, "captions": "red"})
    assert time.time() - Path(path).stat().st_mtime < PATIENCE
    remove_old(Path(path).parent.parent, 3600, 3600)
    assert Path(path).is_file()  # somebody else may have uploaded the same picture


def test_steps_are_counted_before_they_are_looked_at(server: tuple[str, Gate]) -> None:
    components = httpx.get(f"{server[0]}config").json()["components"]
    [player] = [part["id"] for part in components if part["props"].get("elem_id") == "player"]
    body = {
        "session_hash": "x",
        "component_id": player,
        "fn_name": "energies",
        "data": {"job": "a", "steps": [0] * 1000},
    }
    answer = httpx.post(f"{server[0]}gradio_api/component_server", json=body).json()
    assert answer == {"error": "steps has 1,000 numbers; at most 256 are allowed"}
