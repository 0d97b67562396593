"""Pictures from the network: only from public addresses, within a size limit, and never stored as files."""

import ipaddress
import socket
import time
from contextlib import closing
from urllib.parse import urljoin

import httpx

from jepa_app.files.pictures import MAX_BYTES

MAX_REDIRECTS = 5
SECONDS, SECONDS_OF_SILENCE = 30.0, 10.0  # other visitors wait for their scores in the meantime


def fetch(address: str) -> bytes:
    """Return the body that an http or https address responds with.

    The host name is resolved once and that IP address is used, so a name cannot lead into this machine's own network.

    Raises:
        ValueError: the address is not public, or does not respond with a file of at most 64 MB.
    """
    try:
        for _ in range(1 + MAX_REDIRECTS):
            body, address = _ask(httpx.URL(address))
            if body is not None:
                return body
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as failure:
        raise ValueError(f"{address} cannot be read ({failure}); send the picture itself as base64") from failure
    raise ValueError(
        f"{address} redirects too many times; at most {MAX_REDIRECTS} redirects are followed: send the final address"
    )


def _ask(url: httpx.URL) -> tuple[bytes | None, str]:
    """Return the body and its address, or None and the address that it redirects to."""
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError(f"{url} is not the address of a picture; allowed: http://... and https://...")
    until = time.monotonic() + SECONDS
    with httpx.Client(timeout=SECONDS_OF_SILENCE, trust_env=False) as client:
        by_number = client.build_request(
            "GET",
            url.copy_with(host=_public_number(url)),
            headers={"Host": url.netloc.decode("ascii"), "User-Agent": "jepa-studio"},
            extensions={"sni_hostname": url.host},  # the certificate belongs to the name, not to the IP address
        )
        with closing(client.send(by_number, stream=True)) as answer:
            if answer.has_redirect_location:
                return None, urljoin(str(url), answer.headers["location"])
            if answer.status_code != httpx.codes.OK:
                raise ValueError(f"{url} responds with {answer.status_code} {answer.reason_phrase}; check the address")
            body = bytearray()
            for part in answer.iter_bytes():
                body += part
                if len(body) > MAX_BYTES:
                    raise ValueError(f"{url} is larger than {MAX_BYTES // 2**20} MB; reduce the picture")
                if time.monotonic() > until:
                    raise ValueError(f"{url} takes longer than {SECONDS:.0f} s; send the picture itself as base64")
            return bytes(body), str(url)


def _public_number(url: httpx.URL) -> str:
    port = url.port or (443 if url.scheme == "https" else 80)
    numbers = {str(found[4][0]) for found in socket.getaddrinfo(url.host, port, type=socket.SOCK_STREAM)}
    for number in sorted(numbers, key=lambda number: ":" in number):  # IPv4 first: not every network has IPv6
        if is_public(number):
            return number
    raise ValueError(f"{url.host} is not a public address; send the picture itself as base64")


def is_public(number: str) -> bool:
    """Whether an IP address belongs to the public network."""
    return ipaddress.ip_address(number).is_global
