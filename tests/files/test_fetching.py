"""Pictures from the network, over a real server that for these tests counts as public."""

import contextlib
import io
import ipaddress
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from PIL import Image

from jepa_app.files import fetching
from jepa_app.files.fetching import fetch, is_public


def picture() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(buffer, "PNG")
    return buffer.getvalue()


class Answers(BaseHTTPRequestHandler):
    """What the addresses of the server answer."""

    def do_GET(self) -> None:
        place = self.path.strip("/")
        leads = {
            "moved": "/picture",
            "round": "/round",
            "inside": "http://10.0.0.1/picture",
            "disk": "file:///etc/hosts",
        }
        if place in leads:
            self.send_response(302)
            self.send_header("Location", leads[place])
            self.end_headers()
        elif place == "host":
            self.answer((self.headers["Host"] or "").encode())
        elif place == "picture":
            self.answer(picture())
        elif place == "packed":
            self.send_response(200)
            self.send_header("Content-Encoding", "br")
            self.end_headers()
            self.wfile.write(b"x" * 100)
        elif place == "drip":
            with contextlib.suppress(OSError):  # the other side has left
                for letter in b"HTTP/1.1 200 OK\r\nServer: " + b"x" * 200:
                    self.wfile.write(bytes([letter]))
                    time.sleep(0.05)
        elif place == "soon":
            with contextlib.suppress(OSError):
                for _ in range(200):
                    self.wfile.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    time.sleep(0.05)
        else:
            self.send_error(404, "Not Found")

    def answer(self, body: bytes) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(fetching, "is_public", lambda number: ipaddress.ip_address(number).is_loopback)
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://localhost:{server.server_port}"
        server.shutdown()


def test_a_picture_comes_directly_and_from_where_it_has_moved(site: str) -> None:
    assert fetch(f"{site}/picture") == picture()
    assert fetch(f"{site}/moved") == picture()


def test_the_server_is_asked_by_its_name(site: str) -> None:
    assert fetch(f"{site}/host").decode() == site.removeprefix("http://")


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("none", "responds with 404 Not Found; check the address"),
        ("round", "redirects too many times; at most 5 redirects are followed"),
        ("inside", "10.0.0.1 is not a public address"),
        ("disk", "file:/etc/hosts is not the address of a picture"),
    ],
)
def test_other_answers_are_told(site: str, place: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        fetch(f"{site}/{place}")


def test_too_much_and_too_slow_are_refused(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0)
    with pytest.raises(ValueError, match="takes longer than 0 s"):
        fetch(f"{site}/picture")
    monkeypatch.setattr(fetching, "SECONDS", 30.0)
    monkeypatch.setattr(fetching, "MAX_BYTES", 20)
    with pytest.raises(ValueError, match="is larger than"):
        fetch(f"{site}/picture")


def test_a_port_where_nobody_listens_is_told(site: str) -> None:
    with pytest.raises(ValueError, match="cannot be read"):
        fetch("http://127.0.0.1:1/picture")


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "192.168.0.1", "0"])
def test_this_machine_and_its_neighbours_are_not_asked(host: str) -> None:
    with pytest.raises(ValueError, match="is not a public address"):
        fetch(f"http://{host}/picture.png")


@pytest.mark.parametrize("address", ["ftp://example.org/a.png", "http://", "https://", "http://a b/"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"is not the address of a picture|cannot be read"):
        fetch(address)


def test_which_numbers_are_public() -> None:
    assert is_public("93.184.216.34")
    assert is_public("2606:4700::1111")
    assert not any(map(is_public, ("127.0.0.1", "::1", "::ffff:127.0.0.1", "100.64.0.1", "fe80::1", "fd00::1")))
    disguised = ("64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "2002:7f00:1::", "::7f00:1", "fec0::1")
    assert not any(map(is_public, (*disguised, "ff02::1", "224.0.0.1", "239.1.1.1")))


def test_a_packed_body_is_not_unpacked(site: str) -> None:
    with pytest.raises(ValueError, match="packed by br"):
        fetch(f"{site}/packed")


@pytest.mark.parametrize("place", ["drip", "soon"])
def test_headers_that_drip_in_have_the_same_deadline(site: str, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "SECONDS", 0.2)
    began = time.monotonic()
    with pytest.raises(ValueError, match="takes longer"):
        fetch(f"{site}/{place}")
    while fetching._READING and time.monotonic() - began < 3:
        time.sleep(0.01)
    assert not fetching._READING  # the thread has ended too, not only the wait for it
    assert time.monotonic() - began < 3


def test_only_so_many_addresses_are_read_at_once(site: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "_READING", Counter({"one": fetching.IN_FLIGHT // 2, "other": 1}))
    with pytest.raises(ValueError, match="too many addresses are being read"):
        fetch(f"{site}/picture", "one")
    assert fetch(f"{site}/picture", "third")
    fetching._READING["other"] = fetching.IN_FLIGHT // 2
    with pytest.raises(ValueError, match="too many addresses are being read"):
        fetch(f"{site}/picture")
    fetching._READING.clear()
    assert fetch(f"{site}/picture") == picture()
