"""waiting: how long to wait for the cloud, which accepts a request before it has carried it out."""

from __future__ import annotations

import time
from collections.abc import Iterator

from tasks.process import children
from tasks.refusal import Refusal

PATIENCE = 300.0
"""Seconds until the cloud must have carried out a request that it has accepted."""
POLL = 0.5
POLL_IMAGE = 1.0
"""Seconds between two requests."""


class CloudTooSlow(Refusal):
    """The cloud has not carried out in time a request that it had accepted."""

    sentence = "infrastructure: {what}"
    remedy = "doit infrastructure"


def patience(what: str, pause: float = POLL, seconds: float = PATIENCE) -> Iterator[None]:
    """Yield once for each attempt, with a pause between them. Raises CloudTooSlow after so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        children.wait(pause, "infrastructure")
    raise CloudTooSlow(what=f"{what} after {seconds:.0f} s")
