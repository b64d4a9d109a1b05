"""waiting: how long to wait for the cloud, which accepts a request before it has carried it out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

PATIENCE = 300.0
"""Seconds until the cloud must have carried out a request that it has accepted."""
POLL = 0.5
POLL_IMAGE = 1.0
"""Seconds between two requests."""


class CloudTooSlow(Refusal):
    """The cloud has not carried out in time a request that it had accepted."""

    sentence = "infrastructure: {what}"
    remedy = "doit infrastructure"


def patience(run: Run, what: str, pause: float = POLL, seconds: float = PATIENCE) -> Iterator[None]:
    """Yield once for each attempt, with a pause between them. Raises CloudTooSlow after `seconds`."""
    end = run.clock.monotonic() + seconds
    while run.clock.monotonic() < end:
        yield
        run.threads.wait(pause, "infrastructure")
    raise CloudTooSlow(what=f"{what} after {seconds:.0f} s")
