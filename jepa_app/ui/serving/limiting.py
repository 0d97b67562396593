"""How much one visitor may send and keep here: requests at once, bytes in a request, uploaded files."""

import json
from collections import Counter
from collections.abc import Iterable, MutableMapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gradio.utils import get_upload_folder
from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MB = 2**20
MAX_REQUEST = 96 * MB  # bytes: the largest picture as base64, with its captions
MAX_UPLOAD = 160 * MB  # bytes in one upload of several files
MAX_AT_ONCE = 48  # requests of one address that are being answered
MAX_STREAMS = 256  # of one address: what is read, and answers that last
MAX_COMING, MAX_COMING_IN_ALL = 2 * MAX_UPLOAD, 1024 * MB  # bytes of requests on their way
MAX_FILES, MAX_KEPT = 2_000, 1024 * MB  # uploads of one address that are kept
MAX_KEPT_IN_ALL = 4096 * MB
UPLOAD, FORWARDED = "/upload", b"x-forwarded-for"


@dataclass
class _Kept:
    """Uploads of one address: their paths with their bytes."""

    files: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(self.files.values())


class Uploads:
    """The uploads that are still on disk, by the address that they came from."""

    def __init__(self) -> None:
        self._kept: dict[str, _Kept] = {}

    def refusal(self, address: str, coming: int) -> str | None:
        """Why an upload of so many bytes is refused; None if it is welcome."""
        self._forget()
        mine = self._kept.get(address, _Kept())
        if len(mine.files) >= MAX_FILES:
            return f"{MAX_FILES:,} of your files are kept already; each is removed an hour after its last use"
        if mine.size + coming > MAX_KEPT:
            kept = f"{mine.size // MB} of at most {MAX_KEPT // MB} MB"
            return f"{kept} of files are yours already; each is removed an hour after its last use"
        if sum(each.size for each in self._kept.values()) + _on_the_way() + coming > MAX_KEPT_IN_ALL:
            return "there is no room for more files at the moment; try again later"
        return None

    def add(self, address: str, paths: list[str]) -> None:
        """Note files that came in one upload."""
        for path in paths:
            with suppress(OSError):  # it is being moved still, or removed again
                self._kept.setdefault(address, _Kept()).files[path] = Path(path).stat().st_size

    def _forget(self) -> None:
        """Forget what is no longer on disk."""
        for address, kept in list(self._kept.items()):
            kept.files = {path: size for path, size in kept.files.items() if Path(path).exists()}
            if not kept.files:
                del self._kept[address]


def _on_the_way() -> int:
    """The bytes of uploads that are not complete, those that were cut off included: they lie in the folder itself."""
    size, folder = 0, Path(get_upload_folder())
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(OSError):  # it is complete and has been moved
            size += path.stat().st_size if path.is_file() else 0
    return size


class Limits:
    """ASGI middleware that refuses what is too much, before the rest of the server sees it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._uploads = Uploads()
        self._at_once: Counter[tuple[str, bool]] = Counter()  # address, and whether something is only read
        self._coming: Counter[str] = Counter()  # bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it with a refusal."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        address = (scope.get("client") or ("",))[0]
        scope = {**scope, "headers": _headers_from(address, scope["headers"])}
        is_read = scope["method"] in ("GET", "HEAD", "OPTIONS")
        is_upload = scope["path"].rstrip("/").endswith(UPLOAD)
        most = MAX_UPLOAD if is_upload else MAX_REQUEST
        size = 0 if is_read else _size_of(scope, most)
        refusal = self._refusal(address, size, most, is_read=is_read, is_upload=is_upload)
        if refusal is not None:
            await PlainTextResponse(refusal[1], status_code=refusal[0])(scope, receive, send)
            return
        counted = _Counted(most, receive, send, keeps_answer=is_upload)
        self._at_once[address, is_read] += 1
        self._coming[address] += size
        try:
            await self._app(scope, counted.receive, counted.send)
        finally:
            self._at_once -= Counter({(address, is_read): 1})  # drops what is at zero
            self._coming -= Counter({address: size})
        if is_upload and counted.status == 200:
            with suppress(ValueError):
                self._uploads.add(address, json.loads(counted.answer))

    def _refusal(self, address: str, size: int, most: int, *, is_read: bool, is_upload: bool) -> tuple[int, str] | None:
        if size > most:
            return 413, _too_large(most)
        at_once = MAX_STREAMS if is_read else MAX_AT_ONCE
        if self._at_once[address, is_read] >= at_once:
            return 429, f"{at_once} of your requests are being answered; send this one again when some are done"
        coming = self._coming[address] + size
        if size and (coming > MAX_COMING or self._coming.total() + size > MAX_COMING_IN_ALL):
            return 429, "too much is on its way to the server; send this again in a moment"
        refusal = self._uploads.refusal(address, coming) if is_upload else None
        return None if refusal is None else (413, refusal)


def _headers_from(address: str, headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Headers that name the address a request came from: Gradio's MCP server passes them on to the server itself."""
    rest = [(name, value) for name, value in headers if name.lower() != FORWARDED]
    return [*rest, (FORWARDED, address.encode())]


def _size_of(scope: MutableMapping[str, Any], most: int) -> int:
    """The bytes that a request brings; as many as it may if it does not say."""
    headers = Headers(scope=scope)
    length = headers.get("content-length", "")
    if length.isdecimal():
        return int(length[:20])
    return most if "transfer-encoding" in headers else 0


class _Counted:
    """A request whose bytes are counted; one that turns out too large is answered with a refusal."""

    def __init__(self, most: int, receive: Receive, send: Send, *, keeps_answer: bool) -> None:
        self._most, self._receive, self._send, self._keeps_answer = most, receive, send, keeps_answer
        self._seen = 0
        self.status = 0
        self.answer = b""

    async def receive(self) -> Message:
        message = await self._receive()
        self._seen += len(message.get("body", b""))
        return message if self._seen <= self._most else {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._seen > self._most:
            if not self.status:
                self.status = 413
                text = _too_large(self._most).encode()
                await self._send({"type": "http.response.start", "status": 413, "headers": [(b"connection", b"close")]})
                await self._send({"type": "http.response.body", "body": text})
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        elif self._keeps_answer:
            self.answer += message.get("body", b"")
        await self._send(message)


def _too_large(most: int) -> str:
    return f"the request is larger than {most // MB} MB; send less at once"
