"""listen: listening sockets for the server, also on addresses that do not exist yet."""

from __future__ import annotations

import contextlib
import random
import socket

FIRST, LAST = 20000, 32000
"""Below the ephemeral ports of outgoing connections: the cloud keeps its port."""


def listen(address: str, port: int, *, freebind: bool = False) -> socket.socket:
    """A listening TCP socket. `freebind`: the address need not exist; a bridge has its own only while a host runs."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if freebind:
        made.setsockopt(socket.IPPROTO_IP, getattr(socket, "IP_FREEBIND", 15), 1)
    try:
        made.bind((address, port))
        made.listen(128)
    except OSError:
        made.close()
        raise
    return made


def listen_somewhere(address: str, *preferred: int) -> socket.socket:
    """A listening TCP socket on a free port."""
    for port in (*preferred, *random.sample(range(FIRST, LAST), LAST - FIRST)):
        with contextlib.suppress(OSError):
            return listen(address, port)
    return listen(address, 0)
