"""probe: asks the site several times a second while a release goes live: how long visitors were without it, and the slowest answer."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from tasks.release.phases import Failure, Site

EVERY = 0.25
"""Seconds between two questions, one at a time."""
LOST = 5.0
"""Seconds after which a question that has no answer at the end counts as none; before, it is only slow."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """One question. `reached`: whether a server of the site said anything; `well`: whether it answered 200."""

    path: str
    began: float
    ended: float
    reached: bool
    well: bool


@dataclass(frozen=True, kw_only=True)
class Visited:
    """What visitors had. `downtime`: seconds in which a path did not answer well; `slowest`: of the answers, in seconds."""

    downtime: float
    slowest: float

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.downtime:.1f} s without the site, slowest answer {self.slowest:.2f} s"


NOT_MEASURED = "not measured: the site cannot be asked from here"


def visited(asked: Sequence[Question], ended: float, lasts: float = 0.0) -> Visited | None:
    """What the questions say; None where none of them reached the site. `lasts`: seconds of one that has no answer yet. Pure.

    A path is down from the question that is not answered well to the next one that is, which is at most EVERY too long.
    """
    if not any(each.reached for each in asked):
        return None
    down = list[tuple[float, float]]()
    for path in {each.path for each in asked}:
        since = None
        for each in asked:
            if each.path == path and each.well and since is not None:
                down.append((since, each.began))
                since = None
            elif each.path == path and not each.well and since is None:
                since = each.began
        if since is not None:
            down.append((since, ended))
    seconds, until = 0.0, 0.0
    for begin, end in sorted(down):  # two paths that are down at once are down once
        seconds += max(0.0, end - max(begin, until))
        until = max(until, end)
    slowest = max(lasts, *(each.ended - each.began for each in asked))
    return Visited(downtime=round(seconds, 2), slowest=round(slowest, 3))


class Probe:
    """Asks from now on, in a thread of its own, until it is stopped."""

    def __init__(self, site: Site, paths: Sequence[str]) -> None:
        self.site, self.paths = site, paths
        self.asked: list[Question] = []
        self.asks: tuple[str, float] | None = None
        self.over, self.lock = threading.Event(), threading.Lock()
        self.seen: Visited | None = None
        threading.Thread(target=self._ask, name="probe", daemon=True).start()

    def stop(self) -> None:
        """Ask no more; `seen` says what was seen. Nobody waits for a question that has no answer yet: it counts as long as it has lasted."""
        if self.over.is_set():
            return
        self.over.set()
        with self.lock:
            asked, asks, ended = [*self.asked], self.asks, time.monotonic()
        path, began = asks or ("", ended)
        if ended - began > LOST:
            asked.append(Question(path=path, began=began, ended=ended, reached=False, well=False))
        self.seen = visited(asked, ended, ended - began)

    def _ask(self) -> None:
        for path in itertools.cycle(self.paths):
            began = time.monotonic()
            with self.lock:
                self.asks = path, began
            reached = well = True
            try:
                self.site.get(path)
            except Failure:
                well = False
            except Exception:  # no connection, or what no server of ours says
                reached = well = False
            with self.lock:
                self.asks = None
                ended = time.monotonic()
                self.asked.append(Question(path=path, began=began, ended=ended, reached=reached, well=well))
            if self.over.wait(EVERY):
                return
