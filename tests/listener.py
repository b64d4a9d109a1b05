"""listener: a server of HTTP on this machine that keeps what it is told, and answers as it is told."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Heard:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """What it says."""
        return json.loads(self.body)


@dataclass(kw_only=True)
class Listener:
    """`status`, `answer`: what it says; `held`: while it is cleared, nobody gets an answer."""

    port: int
    heard: list[Heard] = field(default_factory=list)
    status: int = 200
    answer: bytes = b'{"id": 7}'
    held: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.port}"


@contextlib.contextmanager
def listening() -> Iterator[Listener]:
    """A listener, until the end of the block."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = Heard(method=self.command, path=self.path, headers=dict(self.headers), body=body)
            told.heard.append(said)
            told.held.wait(60)
            with contextlib.suppress(OSError):  # nobody waits any more
                self.send_response(told.status)
                self.send_header("Content-Length", str(len(told.answer)))
                self.end_headers()
                self.wfile.write(told.answer)

        do_POST = do_PUT = do_GET = do  # noqa: N815 (the library's names)

        def log_message(self, *words: object) -> None:
            """Nothing is printed."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    told = Listener(port=server.server_port)
    told.held.set()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield told
    finally:
        told.held.set()
        server.shutdown()
        server.server_close()
