"""clock: the time, passed as a value so that a test can set it."""

from __future__ import annotations

import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass


def _since_boot() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _utc() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


STAMP = "%Y-%m-%d %H:%M UTC"


def stamp(at: datetime.datetime) -> str:
    """A moment of UTC, for records and for people: `2026-11-24 07:46 UTC`."""
    return f"{at:{STAMP}}"


def stamped(text: str) -> datetime.datetime:
    """The moment of a stamp. Raises ValueError."""
    return datetime.datetime.strptime(text, STAMP).replace(tzinfo=datetime.UTC)


@dataclass(frozen=True, kw_only=True)
class Clock:
    """`now`: the time in UTC. `monotonic`: seconds that only grow, for measuring. `since_boot`: the same, and it goes on in suspend."""

    now: Callable[[], datetime.datetime] = _utc
    monotonic: Callable[[], float] = time.monotonic
    since_boot: Callable[[], float] = _since_boot

    def stamp(self) -> str:
        """This moment, for records and for people."""
        return stamp(self.now())


SYSTEM = Clock()
"""This machine's clock."""
