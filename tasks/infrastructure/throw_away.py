"""throw_away: the end of a host that was made for one job, with an identity of its own, and of all that belongs to it."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from tasks.infrastructure import find, memory, waiting
from tasks.infrastructure.apply import apply
from tasks.infrastructure.plan import Change, teardown_plan
from tasks.process import children
from tasks.process.children import Cancelled

if TYPE_CHECKING:
    from tasks.run import Run

LAST_MOMENT = 3.0
"""Seconds that an interrupted job has to remove its host; the next one removes what is left."""


def end(host: Run, named: str) -> None:
    """Remove all of it; after an interruption, for `LAST_MOMENT` seconds. `named`: the job that the lines on the terminal name."""
    deadline = time.monotonic() + LAST_MOMENT
    while changes := _left(host):
        for change in changes:
            host.console.event(named, str(change))
            with contextlib.suppress(Cancelled):
                apply(host, change)
        if children.cancelled() and time.monotonic() > deadline:
            return
        time.sleep(waiting.POLL if children.cancelled() else 0)
    memory.forget(host.store, host.identity, memory.version(host.store, host.identity))


def _left(host: Run) -> list[Change]:
    return teardown_plan(host.name, host.pipeline.dns_zone, find.everything(host))
