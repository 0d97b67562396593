"""Pictures from the network: only from public addresses, within a size limit, and never stored as files."""

import ipaddress
import socket
import threading
import time
from collections import Counter
from collections.abc import Hashable
from contextlib import closing, suppress
from queue import Empty, SimpleQueue
from typing import Any, Self
from urllib.parse import urljoin

import httpx

from jepa_app.files.pictures import MAX_BYTES

MAX_REDIRECTS = 5
IN_FLIGHT = 8  # addresses that are read at once, those given up included
# NAT64, its local form, 6to4, IPv4-compatible, Teredo, site-local: other addresses, in disguise
ELSEWHERE = tuple(
    map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "::/96", "2001::/32", "fec0::/10"))
)
_READING: Counter[Hashable] = Counter()  # how many addresses are read for whom
_TURN = threading.Lock()
SECONDS, SECONDS_OF_SILENCE = 30.0, 10.0  # other visitors wait for their scores in the meantime


def fetch(address: str, who: Hashable = None) -> bytes:
    """Return the body that an http or https address responds with.

    The host name is resolved once and that IP address is used, so a name cannot lead into this machine's own network.
    There is one deadline for everything, however slowly the answer drips in. Bodies must come as they are: nothing is
    unpacked that could be a thousand times larger. At most `IN_FLIGHT` addresses are read at once, and half of them for
    any one that asks, `who`.

    Raises:
        ValueError: the address is not public, or does not respond in time with a file of at most 64 MB.
    """
    with _TURN:
        if sum(_READING.values()) >= IN_FLIGHT or _READING[who] >= IN_FLIGHT // 2:
            raise ValueError("too many addresses are being read; try again in a moment, or send the picture as base64")
        _READING[who] += 1
    answer: SimpleQueue[bytes | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answer.put(_fetched(address, time.monotonic() + SECONDS))
        except Exception as failure:  # noqa: BLE001  # it is raised again by who waits
            answer.put(failure)
        finally:
            with _TURN:
                _READING[who] -= 1
                if not _READING[who]:
                    del _READING[who]

    threading.Thread(target=ask, daemon=True).start()
    try:
        found = answer.get(timeout=SECONDS + 1)
    except Empty:  # the thread ends soon after
        raise ValueError(_too_slow(address)) from None
    if isinstance(found, Exception):
        raise found
    return found


def _fetched(address: str, until: float) -> bytes:
    try:
        for _ in range(1 + MAX_REDIRECTS):
            body, address = _ask(httpx.URL(address), until)
            if body is not None:
                return body
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
        if time.monotonic() > until:  # which ended the connection
            raise ValueError(_too_slow(address)) from failure
        raise ValueError(f"{address} cannot be read ({failure}); send the picture itself as base64") from failure
    raise ValueError(
        f"{address} redirects too many times; at most {MAX_REDIRECTS} redirects are followed: send the final address"
    )


def _too_slow(address: object) -> str:
    return f"{address} takes longer than {SECONDS:.0f} s; send the picture itself as base64"


def _ask(url: httpx.URL, until: float) -> tuple[bytes | None, str]:
    """Return the body and its address, or None and the address that it redirects to."""
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{url} is not the address of a picture; allowed: http://... and https://...")
    with httpx.Client(timeout=SECONDS_OF_SILENCE, trust_env=False) as client, _Deadline(until) as deadline:
        by_number = client.build_request(
            "GET",
            url.copy_with(host=_public_number(url)),
            headers={"Host": url.netloc.decode("ascii"), "User-Agent": "jepa-studio", "Accept-Encoding": "identity"},
            # the certificate belongs to the name, not to the IP address
            extensions={"sni_hostname": url.host, "trace": deadline.trace},
        )
        with closing(client.send(by_number, stream=True)) as answer:
            if answer.has_redirect_location:
                return None, urljoin(str(url), answer.headers["location"])
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"{url} responds with {answer.status_code} {answer.reason_phrase}; check the address")
            packed = answer.headers.get("content-encoding", "identity")
            if packed != "identity":
                raise ValueError(
                    f"{url} responds with a body packed by {packed[:20]}; send the picture itself as base64"
                )
            body = bytearray()
            for part in answer.iter_raw():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError(f"{url} is larger than {MAX_BYTES // 2**20} MB; reduce the picture")
                if time.monotonic() > until:
                    raise ValueError(_too_slow(url))
            return bytes(body), str(url)


class _Deadline:
    """Ends a connection at a time, however slowly it drips: headers may go on for days.

    It is shut down, which wakes its reader; closing it here could give its number to another connection meanwhile.
    """

    def __init__(self, until: float) -> None:
        self._until = until
        self._connection: socket.socket | None = None
        self._timer = threading.Timer(max(0.0, until - time.monotonic()), self._end)
        self._timer.daemon = True

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def trace(self, event: str, info: dict[str, Any]) -> None:
        """Note the connection once httpcore has made it."""
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            self._connection = info["return_value"].get_extra_info("socket")
            if time.monotonic() > self._until:
                self._end()

    def _end(self) -> None:
        if self._connection is not None:
            with suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(self._connection, socket.SHUT_RDWR)  # TLS would say goodbye first


def _public_number(url: httpx.URL) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    numbers = {str(found[4][0]) for found in socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)}
    for number in sorted(numbers, key=lambda number: ":" in number):  # IPv4 first: not every network has IPv6
        if is_public(number):
            return number
    raise ValueError(f"{url.host} is not a public address; send the picture itself as base64")


def is_public(number: str) -> bool:
    """Whether an IP address belongs to the public network; what leads to another address inside it does not."""
    found = ipaddress.ip_address(number)
    if isinstance(found, ipaddress.IPv6Address):
        found = found.ipv4_mapped or found
    leads_elsewhere = any(found in network for network in ELSEWHERE if network.version == found.version)
    return found.is_global and not found.is_multicast and not leads_elsewhere
