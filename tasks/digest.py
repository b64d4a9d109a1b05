"""digest: a SHA-256 as it is passed around: plain text in JSON, and cut to length here alone."""

from __future__ import annotations

import hashlib
import json


class Digest(str):
    """64 hex digits. It is text: JSON, tags and Ansible's variables show nothing else."""

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
        """16 digits: the name of a release's folder on a machine, an image's fingerprint."""
        return self[:16]
