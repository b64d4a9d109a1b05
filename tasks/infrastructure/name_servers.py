"""name_servers: asks DNS for the name servers of a zone, as everybody else in the world sees them."""

from __future__ import annotations

import re
import secrets
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

RESOLVERS = Path("/etc/resolv.conf")
WITHIN = 5.0
"""Seconds for an answer."""
NS, INTERNET, RECURSE = 2, 1, 0x0100
POINTER = 0xC0
"""The two bits of a length that make it a reference to an earlier name."""


def of(zone: str, resolvers: Path = RESOLVERS, port: int = 53) -> set[str]:
    """The name servers of a zone; none where it does not exist. Raises OSError where no resolver answers."""
    addresses = re.findall(r"^nameserver\s+(\S+)", resolvers.read_text(), re.MULTILINE) or ["127.0.0.1"]
    for address in addresses[:-1]:
        try:
            return _asked(zone, address, port)
        except OSError:  # the next one may
            continue
    return _asked(zone, addresses[-1], port)


def _asked(zone: str, address: str, port: int) -> set[str]:
    number = secrets.token_bytes(2)
    labels = b"".join(bytes([len(each)]) + each for each in zone.encode("idna").split(b"."))
    question = (
        number + struct.pack(">5H", RECURSE, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">2H", NS, INTERNET)
    )
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        asked.settimeout(WITHIN)
        asked.connect((address, port))  # so that nobody else can answer
        asked.send(question)
        answer = asked.recv(4096)
    try:
        return set(_servers(answer)) if answer[:2] == number else set()
    except (struct.error, IndexError, UnicodeDecodeError):
        raise OSError(f"{address} answers with what is not DNS") from None


def _servers(answer: bytes) -> Iterator[str]:
    """The names in the answer's NS records, in lower case."""
    questions, records = struct.unpack_from(">2H", answer, 4)
    at = 12
    for _ in range(questions):
        at = _name(answer, at)[1] + 4
    for _ in range(records):
        _, at = _name(answer, at)
        kind, _, _, length = struct.unpack_from(">2HIH", answer, at)
        at += 10
        if kind == NS:
            yield _name(answer, at)[0].lower()
        at += length


def _name(answer: bytes, at: int) -> tuple[str, int]:
    """A name, and where it ends."""
    labels, end = list[str](), 0
    while length := answer[at]:
        if length >= POINTER:
            end = end or at + 2
            earlier = (length - POINTER) << 8 | answer[at + 1]
            if earlier >= at:
                raise IndexError  # a reference forward could go round for ever
            at = earlier
            continue
        labels.append(answer[at + 1 : at + 1 + length].decode())
        at += 1 + length
    return ".".join(labels), end or at + 1
