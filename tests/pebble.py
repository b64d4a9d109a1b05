"""pebble: Let's Encrypt's small ACME authority for tests, which asks a DNS server of ours, as Debian has it."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tasks.server import certificates
from tests.conftest import until

UNKIND = {"PEBBLE_WFE_NONCEREJECT": "30", "PEBBLE_AUTHZREUSE": "0", "PEBBLE_VA_NOSLEEP": "1"}
"""Nonces are often too old, every name is proved anew; and nobody waits for what only tests the patience of clients."""
BLOCKED = "blocked.example.com"
"""A name that it refuses."""


@dataclass(frozen=True, kw_only=True)
class Pebble:
    """One that runs. `root`: a file with the certificate by which its own address is trusted."""

    directory: str
    root: Path


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@contextlib.contextmanager
def running(folder: Path, dns: int, **more: str) -> Iterator[Pebble]:
    """One for a block, which asks the DNS server at that port of loopback. `more`: its own variables."""
    now = datetime.datetime.now(datetime.UTC)
    authority = certificates.make_authority("pebble", "localhost", now)
    pem, root = folder / "pebble.pem", folder / "pebble-root.pem"
    pem.write_text(certificates.issue(authority, ["localhost"], now))
    root.write_text(certificates.root_of(authority))
    port, management = _port(), _port()
    settings = {
        "listenAddress": f"127.0.0.1:{port}",
        "managementListenAddress": f"127.0.0.1:{management}",
        "certificate": str(pem),
        "privateKey": str(pem),
        "httpPort": 5002,
        "tlsPort": 5001,
        "ocspResponderURL": "",
        "externalAccountBindingRequired": False,
        "domainBlocklist": [BLOCKED],
    }
    (folder / "pebble.json").write_text(json.dumps({"pebble": settings}))
    with (folder / "pebble.log").open("wb") as log:
        process = subprocess.Popen(
            ["pebble", "-config", folder / "pebble.json", "-dnsserver", f"127.0.0.1:{dns}"],
            env={**os.environ, **UNKIND, **more},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        until(lambda: _listens(port) or process.poll() is not None)
        yield Pebble(directory=f"https://localhost:{port}/dir", root=root)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
