"""Where a running Ray cluster is."""

import socket

ANY = "auto"  # the cluster that this machine belongs to
PATIENCE = 10.0  # seconds for an address to answer; Ray itself would try for minutes
START = "start one with ray start --head, or leave the address out for a cluster of this machine"


def check_answers(address: str, option: str) -> None:
    """Refuse the address of a cluster, given with an option of the command line, where nothing answers.

    Raises:
        ValueError: it is not HOST:PORT or "auto", or nothing answers there.
    """
    if address == ANY:
        return
    if address.startswith("ray://"):
        raise ValueError(
            f"{option} is {address!r}, but nothing can be streamed through a Ray client; on a machine of the cluster, "
            f"give {ANY} or HOST:PORT of its head"
        )
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"{option} is {address!r}; allowed: HOST:PORT or {ANY}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as refused:
        raise ValueError(f"there is no Ray cluster at {address} ({refused}); {START}") from refused
