"""forwarder: forwards a loopback port to hosts by name, so that a browser needs no /etc/hosts.

What comes over TLS is passed on as it is, by the name that it begins with: the host itself has the key, as on AWS.
"""

from __future__ import annotations

import contextlib
import html
import re
import socket
import ssl
import threading
from collections.abc import Mapping
from typing import Any

from moto.route53.models import route53_backends

PORTS = {"http": 80, "https": 443}
"""Where hosts listen."""
HANDSHAKE = b"\x16"
"""How a record of TLS begins in which a visitor says hello, and no request of HTTP."""
UNKNOWN_NAME = b"\x15\x03\x03\x00\x02\x02\x70"
"""The alert `unrecognized_name` of TLS, which breaks off: without a key there are no words."""
HEAD_LIMIT = 65536
IDLE = 900.0
"""Seconds after which a silent connection is closed."""


class SiteNames:
    """The cloud's A records, and whether a running host has an address."""

    def __init__(self, instances: Any, lock: threading.RLock) -> None:
        self.instances, self.lock = instances, lock

    def records(self) -> dict[str, str]:
        """Every A record of every zone."""
        found: dict[str, str] = {}
        with self.lock:
            for _, _, backend in route53_backends.iter_backends():
                for zone in backend.zones.values():
                    for record in zone.rrsets:
                        if record.type == "A" and record.records:
                            found[record.name.rstrip(".").lower()] = record.records[0]
        return found

    def running(self, address: str) -> bool:
        """Whether a running host has this address. If not, something else may have taken it."""
        return any(
            each.private_ip == address and each.state == "running" and self.instances.runtime.alive(each.id)
            for _, each in self.instances.all()
        )


def serve(listener: socket.socket, names: SiteNames, ports: Mapping[str, int] = PORTS) -> None:
    """Forward every connection. Never returns."""
    while True:
        client, _ = listener.accept()
        threading.Thread(target=_forward, args=(client, names, ports), daemon=True).start()


def _forward(client: socket.socket, names: SiteNames, ports: Mapping[str, int]) -> None:
    with client, contextlib.suppress(OSError):
        client.settimeout(IDLE)
        head, name = client.recv(4096), ""
        if head.startswith(HANDSHAKE):
            head, name = _hello(client, head)
            address = names.records().get(name, "")
            if not address or not names.running(address):
                client.sendall(UNKNOWN_NAME)
                return
            with socket.create_connection((address, ports["https"]), timeout=5) as host:
                _pipe(client, head, host)
            return
        head = _head(client, head)
        name = _host(head)
        known = names.records()
        if not name:
            _refuse(client, "400 Bad Request", "The request names no host.")
        elif name not in known:
            listed = ", ".join(sorted(known)) or "none yet"
            _refuse(client, "404 Not Found", f"No host is named {name} (known: {listed}).")
        elif not names.running(known[name]):
            _refuse(client, "502 Bad Gateway", f"The host of {name}, {known[name]}, is not running.")
        else:
            _to_host(client, head, name, known[name], ports["http"])


def _to_host(client: socket.socket, head: bytes, name: str, address: str, port: int) -> None:
    try:
        host = socket.create_connection((address, port), timeout=5)
    except OSError as error:
        _refuse(client, "502 Bad Gateway", f"{name} ({address}) does not answer on port {port}: {error}.")
        return
    with host:
        _pipe(client, head, host)


def _pipe(client: socket.socket, head: bytes, host: socket.socket) -> None:
    host.settimeout(IDLE)
    host.sendall(head)
    upward = threading.Thread(target=_copy, args=(client, host), daemon=True)
    upward.start()
    _copy(host, client)
    upward.join(IDLE)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while chunk := source.recv(1 << 16):
            target.sendall(chunk)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _hello(client: socket.socket, head: bytes) -> tuple[bytes, str]:
    """What a visitor says first, and the name in it. OpenSSL reads it, and is given no key to go on with."""
    found = list[str]()

    def tell(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> int:
        found.append(name or "")
        return ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = tell
    incoming = ssl.MemoryBIO()
    incoming.write(head)
    connection = context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True)
    while len(head) < HEAD_LIMIT:
        try:
            connection.do_handshake()
        except ssl.SSLWantReadError:
            chunk = client.recv(4096)
            if not chunk:
                break
            head += chunk
            incoming.write(chunk)
        except ssl.SSLError:
            break
    return head, found[0].lower().rstrip(".") if found else ""


def _head(client: socket.socket, head: bytes) -> bytes:
    while b"\r\n\r\n" not in head and len(head) < HEAD_LIMIT:
        chunk = client.recv(4096)
        if not chunk:
            break
        head += chunk
    return head


def _host(head: bytes) -> str:
    found = re.search(rb"\r\n[Hh][Oo][Ss][Tt]:[ \t]*([^\r\n:]+)", head.partition(b"\r\n\r\n")[0])
    return found[1].decode("ascii", "replace").strip().lower().rstrip(".") if found else ""


def _refuse(client: socket.socket, status: str, sentence: str) -> None:
    body = f"{html.escape(sentence)}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n"
    client.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
