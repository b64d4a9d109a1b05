"""waiting: the cloud says yes before it has done what was asked: how long that may take."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tasks.process import children
from tasks.refusal import Refusal

PATIENCE = 300.0
"""Seconds for anything that the cloud does after it has said yes."""
POLL = 0.5
POLL_IMAGE = 1.0


class CloudTooSlow(Refusal):
    """The cloud did not do in time what it had accepted."""

    sentence = "infrastructure: {what} after {seconds} s"
    remedy = "doit infrastructure"


def patience(what: str, pause: float = POLL, seconds: float = PATIENCE) -> Iterator[None]:
    """Tries, some time apart, until CloudTooSlow is raised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        children.wait(pause, "infrastructure")
    raise CloudTooSlow(what=what, seconds=round(seconds))
