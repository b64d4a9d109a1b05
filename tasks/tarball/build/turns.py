"""turns: which layers are built side by side: as many as the machine has cores and memory for, the longest way first.

What a layer takes is known from the last time that it was built here; until then, it takes a core for the seconds that the profile says.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

TOGETHER = 0.05
"""Seconds: layers that the same layer held up ask within this; the longest of them is to be first."""


@dataclass(frozen=True, kw_only=True)
class Effort:
    """What a layer takes: seconds, CPU seconds, and bytes of memory at its peak."""

    seconds: float
    cpu: float
    memory: int = 0

    @property
    def cores(self) -> float:
        """How many cores it keeps busy."""
        return self.cpu / max(self.seconds, 0.01)


class Turns:
    """The layers of a build that wait and that are built. `after`: the layers below each."""

    def __init__(
        self, after: Mapping[str, Sequence[str]], costs: Mapping[str, Effort], *, cores: float, memory: float
    ) -> None:
        self.costs, self.cores, self.memory = costs, cores, memory
        self.ways = ways(after, costs)
        self.waiting: set[str] = set()
        self.building: set[str] = set()
        self.changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, name: str) -> Iterator[None]:
        """A block in which the layer is built; it begins when there is room and no longer way waits."""
        with self.changed:
            self.waiting.add(name)
            self.changed.wait(TOGETHER)
            try:
                self.changed.wait_for(lambda: self.next() == name)
                self.building.add(name)
            finally:
                self.waiting.discard(name)
                self.changed.notify_all()
        try:
            yield
        finally:
            with self.changed:
                self.building.discard(name)
                self.changed.notify_all()

    def next(self) -> str | None:
        """Of those that wait, the layer with the longest way that there is room for. One is always built."""
        order = sorted(self.waiting, key=lambda each: (-self.ways[each], each))
        return next((each for each in order if self._fits(each)), None)

    def _fits(self, name: str) -> bool:
        there = [self.costs[each] for each in (*self.building, name)]
        # half a core more: what is measured varies
        cores, memory = sum(each.cores for each in there), sum(each.memory for each in there)
        return not self.building or (cores <= self.cores + 0.5 and memory <= self.memory)


def ways(after: Mapping[str, Sequence[str]], costs: Mapping[str, Effort]) -> dict[str, float]:
    """Seconds from the beginning of each layer to the end of the last that needs it. `after` is in order."""
    found: dict[str, float] = {}
    for name in reversed(list(after)):
        above = [found[each] for each, below in after.items() if name in below]
        found[name] = costs[name].seconds + max(above, default=0.0)
    return found


def unmeasured(seconds: float) -> Effort:
    """What a layer takes that was never built here."""
    return Effort(seconds=seconds, cpu=seconds)


def read(path: Path) -> dict[str, Effort]:
    """What layers took when they were last built here; nothing where that is not known."""
    try:
        return {str(name): Effort(**told) for name, told in json.loads(path.read_text()).items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def write(path: Path, name: str, cost: Effort) -> None:
    """Remember what a layer took. Two runs may lose one of theirs: the next build tells it again."""
    known = {each: asdict(told) for each, told in {**read(path), name: cost}.items()}
    part = path.with_suffix(f".{os.getpid()}.{threading.get_native_id()}")
    part.write_text(json.dumps(known, indent=1))
    part.rename(path)


def free_memory() -> float:
    """Bytes that new processes may take."""
    with open("/proc/meminfo") as file:  # noqa: PTH123  not worth an import at start
        told = dict(line.split(":") for line in file)
    return int(told["MemAvailable"].split()[0]) * 1024
