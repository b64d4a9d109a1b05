"""tls: servers of tests that speak TLS as hosts do: with a certificate of the environment's authority."""

from __future__ import annotations

import datetime
import functools
import socketserver
import ssl
import tempfile
from typing import Any

from tasks.server import certificates


def context_of(text: str) -> ssl.SSLContext:
    """A server's context for a key and its certificates, one text of PEM."""
    made = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(text)
        file.flush()
        made.load_cert_chain(file.name)
    return made


def wrap(server: socketserver.TCPServer, context: ssl.SSLContext) -> None:
    """Let a server speak TLS from now on."""
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)


def secure(server: socketserver.TCPServer, ssm: Any, folder: str, zone: str) -> None:
    """The same under every name that it is asked by, with certificates of the authority in a folder of the parameter store."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificates.ensure_authority(ssm, folder, zone, now)

    @functools.cache
    def of(name: str) -> ssl.SSLContext:
        return context_of(certificates.issue(authority, [name], now))

    def named(connection: ssl.SSLSocket, name: str, _: ssl.SSLContext) -> None:
        connection.context = of(name)

    context = of(zone)
    context.sni_callback = named
    wrap(server, context)
