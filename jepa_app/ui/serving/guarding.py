"""Who may call the studio: under which host names, and from pages of which origins.

Without this, any page that a visitor opens could use a private studio on the visitor's machine: by a post from another
origin, or under a name of its own that it lets point to the visitor's machine (DNS rebinding).
"""

import asyncio
import ipaddress
import json
import logging
import os
import socket
from collections.abc import AsyncIterator, Callable, Iterable, MutableMapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from jepa_app.ui.serving.connections import Idle
from jepa_app.ui.serving.limiting import Limits

Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]
MISFIT = "The request does not fit this address; /?view=api shows what can be asked."
MAX_REASON = 200  # characters
log = logging.getLogger(__name__)
HUB = "huggingface.co"  # whose pages show Spaces
SPACES = (".hf.space", HUB)
SHARED = (".gradio.live",)


@dataclass(frozen=True)
class Allowed:
    """Host names and origins ("https://example.org") under which the studio may be called.

    Names that begin with a point stand for all names that end with them. Addresses of numbers are always allowed, since
    nobody can make a number point elsewhere.
    """

    names: frozenset[str]
    origins: frozenset[str] = frozenset()

    @classmethod
    def of(cls, host: str | None, origins: Iterable[str], *, shared: bool) -> "Allowed":
        """What a studio that listens on `host` allows; on a Space that includes the Space's own names.

        Raises:
            ValueError: an origin is not like https://example.org.
        """
        named = list(origins)
        for origin in named:
            parts = urlsplit(origin)
            if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/"):
                raise ValueError(f"--allow-origin is {origin!r}; allowed: an origin such as https://example.org")
        own = socket.gethostname().lower()
        names = {"localhost", ".localhost", own, f"{own}.local", *((host.lower(),) if host else ())}
        names |= {str(urlsplit(origin).hostname) for origin in named}
        names |= set(SPACES) if os.environ.get("SPACE_ID") else set()
        names |= set(SHARED) if shared else set()
        return cls(frozenset(names), frozenset(origin.rstrip("/").lower() for origin in named))

    def takes_host(self, host: str) -> bool:
        """Whether the studio may be called under this host, "name" or "name:port"."""
        name = (_hostname(f"//{host}") or "").lower() if host else ""
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return name in self.names or any(name.endswith(end) for end in self.names if end.startswith("."))
        return True

    def takes_origin(self, origin: str, host: str) -> bool:
        """Whether a page of this origin may call the studio under this host.

        Its own pages may, those named, and on the machine itself pages that are served there too.
        """
        name = _hostname(origin)
        if name is None:
            return False
        if _is_this_machine(name) and _is_this_machine(_hostname(f"//{host}")):
            return True
        if urlsplit(origin).netloc.lower() == host.lower():
            return True
        return origin.lower() in self.origins or (name.lower() == HUB and HUB in self.names)


def _hostname(address: str) -> str | None:
    """The host's name in an address; None if there is none, or if what stands there is no address."""
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _is_this_machine(name: str | None) -> bool:
    try:
        return ipaddress.ip_address(name or "").is_loopback
    except ValueError:
        return name == "localhost"


class Guard:
    """ASGI middleware that refuses other hosts and other origins before anything else sees the request."""

    def __init__(self, app: ASGIApp, allowed: Allowed) -> None:
        self._app = app
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal; one that the server cannot make sense of is told so."""
        refusal = self._refusal(scope) if scope["type"] in ("http", "websocket") else None
        if refusal is not None:
            await PlainTextResponse(refusal, status_code=403)(scope, receive, send)
            return
        has_begun, reason, is_stream = False, "", False

        async def watched(message: Message) -> None:
            nonlocal has_begun, is_stream
            if _is_without_reason(message):
                return
            if message["type"] == "http.response.start":
                has_begun, is_stream = True, _kind_of(message).startswith("text/event-stream")
            if has_begun or message["type"] != "http.response.body":
                await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as failure:  # noqa: BLE001  # the outermost layer
            is_misfit = isinstance(failure, TypeError | ValueError | KeyError)
            log.log(logging.INFO if is_misfit else logging.WARNING, "%.200s failed: %.500r", scope.get("path"), failure)
            reason = f" ({str(failure)[:MAX_REASON]})" if is_misfit else ""
            if is_stream:
                event = f"event: error\ndata: {json.dumps({'error': MISFIT})}\n\n".encode()
                await send({"type": "http.response.body", "body": event})
        if scope["type"] == "http" and not has_begun:
            await PlainTextResponse(MISFIT + reason, status_code=400)(scope, receive, send)

    def _refusal(self, scope: MutableMapping[str, Any]) -> str | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._allowed.takes_host(host):
            return f"This studio is not served as {host[:100]!r}. Its host can allow it with --allow-origin."
        if origin is not None and not self._allowed.takes_origin(origin, host):
            return f"Pages of {origin[:100]!r} may not use this studio. Its host can allow them with --allow-origin."
        return None


def _is_without_reason(message: Message) -> bool:
    """Whether an answer begins that is Starlette's own to an error: "Internal Server Error" and no more."""
    is_failure = message["type"] == "http.response.start" and message["status"] == 500
    return is_failure and _kind_of(message).startswith("text/plain")


def _kind_of(message: Message) -> str:
    return Headers(raw=message["headers"]).get("content-type", "")


def guarded(lifespan: Lifespan, allowed: Allowed) -> Lifespan:
    """Return a server lifespan that puts guard and limits before everything else, also before Gradio's own answers.

    Middleware of `app_kwargs` would come after those, which grant any origin what it asks for.
    """

    @asynccontextmanager
    async def guarding(app: Any) -> AsyncIterator[None]:
        app.middleware_stack = Guard(Limits(app.middleware_stack), allowed)
        watching = asyncio.create_task(Idle().watch(app))
        try:
            async with lifespan(app):
                yield
        finally:
            watching.cancel()

    return guarding
