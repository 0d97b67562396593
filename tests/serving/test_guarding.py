"""Who may call a served studio: other hosts and other origins are refused."""

import httpx
import pytest

from jepa_app.ui.serving.guarding import Allowed
from tests.support.studio_server import Gate

pytestmark = pytest.mark.filterwarnings("default")
CALL = "gradio_api/call/v2/generate_image"


@pytest.mark.parametrize(
    ("host", "is_taken"),
    [
        ("127.0.0.1:7860", True),
        ("localhost", True),
        ("[::1]:7860", True),
        ("192.168.1.20:7860", True),
        ("studio.localhost:80", True),
        ("studio.example.org", True),
        ("evil.example.org:7860", False),
        ("localhost.evil.org", False),
        ("", False),
        ("user-space.hf.space", False),
        ("a.gradio.live", False),
    ],
)
def test_hosts(host: str, is_taken: bool) -> None:
    allowed = Allowed.of("127.0.0.1", ["https://studio.example.org"], shared=False)
    assert allowed.takes_host(host) == is_taken


def test_a_space_and_a_share_have_names_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPACE_ID", "user/space")
    space = Allowed.of(None, [], shared=False)
    assert space.takes_host("user-space.hf.space")
    assert space.takes_origin("https://huggingface.co", "user-space.hf.space")
    assert space.takes_origin("https://user-space.hf.space", "user-space.hf.space")
    for origin in ("https://evil.org", "https://evilhuggingface.co", "https://evil.hf.space", "http://[", "null", ""):
        assert not space.takes_origin(origin, "user-space.hf.space")
    assert not space.takes_host("[::1")
    assert not space.takes_origin("http://localhost", "[::1")
    assert Allowed.of(None, [], shared=True).takes_host("abc.gradio.live")


@pytest.mark.parametrize("origin", ["example.org", "ftp://example.org", "https://", "https://example.org/page"])
def test_what_is_no_origin_is_refused(origin: str) -> None:
    with pytest.raises(ValueError, match="allowed: an origin such as"):
        Allowed.of(None, [origin], shared=False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"origin": "{own}"}, 200),
        ({"origin": "https://evil.org"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://localhost:1"}, 200),  # a page of this machine
        ({"origin": "http://localhost.evil.org"}, 403),
        ({"host": "evil.org"}, 403),
        ({"host": "evil.org", "origin": "http://evil.org"}, 403),
    ],
)
def test_a_served_studio_refuses_strangers(server: tuple[str, Gate], headers: dict[str, str], status: int) -> None:
    address = server[0].rstrip("/")
    sent = {name: value.replace("{own}", address) for name, value in headers.items()}
    body = '{"prompt": "red apple", "steps": 1}'
    for kind in ("application/json", "text/plain"):
        answer = httpx.post(f"{address}/{CALL}", content=body, headers=sent | {"content-type": kind})
        assert (answer.status_code == 403) == (status == 403)
        if status == 403:
            assert "--allow-origin" in answer.text
            assert "access-control-allow-origin" not in answer.headers
    asked = sent | {"access-control-request-method": "POST"}
    preflight = httpx.options(f"{address}/{CALL}", headers=asked)
    assert (preflight.status_code == 403) == (status == 403)
    assert httpx.get(address, headers=sent, follow_redirects=True).status_code == status
