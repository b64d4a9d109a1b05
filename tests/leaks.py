"""leaks: where a secret must not be: files with what is compressed in them, and the arguments of processes of this machine and its hosts."""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import zstandard

from tasks.infrastructure.secrets import Secrets

EVERY = 0.05
"""Seconds between two looks at the processes. One that ends sooner may be missed; tests/rules/roles.py reads what starts it."""


def words(known: Secrets, authority: str) -> list[str]:
    """The values of an environment's secrets and of its authority, of keys a line: in JSON its end would be another one."""
    return [
        *(known.database_password, known.crypt_key, known.deploy_key.splitlines()[2]),
        *(known.administrator_password, known.administrator_secret),
        *(each.splitlines()[1] for each in (known.own_certificate, authority) if each),
    ]


def plain(data: bytes) -> bytes:
    """Content; of an archive what is in it."""
    if data[:4] != zstandard.MAGIC_NUMBER.to_bytes(4, "little"):
        return data
    try:
        return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read()
    except zstandard.ZstdError:  # damaged: nobody reads more of it
        return data


def leaked(hidden: Collection[str], data: bytes) -> bool:
    """Whether one of the values is in a content."""
    assert all(hidden)
    found = plain(data)
    return any(each.encode() in found for each in hidden)


class ProcessLists:
    """Every argument of every process that was seen; containers' are this machine's too."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self.over = threading.Event()

    def look(self) -> None:
        """At what runs now."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.seen.add(path.read_bytes())

    @contextlib.contextmanager
    def watching(self) -> Iterator[ProcessLists]:
        """As long as the block lasts."""

        def watch() -> None:
            while not self.over.wait(EVERY):
                self.look()

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield self
        finally:
            self.over.set()
            thread.join()
