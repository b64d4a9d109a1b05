"""listen: sockets for the server, on addresses that may not exist yet."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


def listen(address: str, port: int, *, freebind: bool = False) -> socket.socket:
    """A listening TCP socket. `freebind`: the address need not exist: a bridge has its only while a host runs."""
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
