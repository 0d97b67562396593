"""Where a running Ray cluster is."""

import socket

ANY = "auto"  # the cluster that this machine belongs to
CLIENT = "ray://"  # before the address of a cluster that this machine need not belong to
PATIENCE = 10.0  # seconds for an address to answer; Ray itself would try for minutes
START = "start one with ray start --head, or leave the address out for a cluster of this machine"


def check_answers(address: str, option: str, *, clients: bool = False) -> None:
    """Refuse the address of a cluster, given with an option of the command line, where nothing answers.

    Raises:
        ValueError: it is not HOST:PORT (with `clients` also after "ray://") or "auto", or nothing answers there.
    """
    if address == ANY:
        return
    host, _, port = (address.removeprefix(CLIENT) if clients else address).rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        allowed = f"{CLIENT}HOST:PORT, HOST:PORT or {ANY}" if clients else f"HOST:PORT or {ANY}"
        raise ValueError(f"{option} is {address!r}; allowed: {allowed}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), PATIENCE).close()
    except (OSError, OverflowError) as refused:
        raise ValueError(f"there is no Ray cluster at {address} ({refused}); {START}") from refused
