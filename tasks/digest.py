"""digest: a SHA-256 as text. Only this module shortens it."""

from __future__ import annotations

import hashlib
import json


class Digest(str):
    """64 hex digits. As a `str`, it is plain text in JSON, tags and Ansible's variables."""

    __slots__ = ()

    @classmethod
    def of_bytes(cls, content: bytes) -> Digest:
        """The digest of bytes."""
        return cls(hashlib.sha256(content).hexdigest())

    @classmethod
    def of_value(cls, value: object) -> Digest:
        """The digest of a value that JSON can hold; the order of a mapping does not count."""
        return cls.of_bytes(json.dumps(value, sort_keys=True).encode())

    @property
    def short(self) -> str:
        """12 digits, for people."""
        return self[:12]

    @property
    def id(self) -> str:
        """16 digits, for the name of a release's folder on a machine and for an image's fingerprint."""
        return self[:16]
