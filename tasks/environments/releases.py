"""releases: what an environment's machines have and could run: since when it was live, whose it is and why, and what it took."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.digest import Digest
from tasks.environments.status import columns
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.release import history, undone
from tasks.release.history import LiveRelease
from tasks.server import stage as server

if TYPE_CHECKING:
    from tasks.run import Run

HAS = """
import json
from pathlib import Path

root = Path("/srv/{name}")
marks = [each for each in root.glob("releases/*/.complete")]
links = dict((each, (root / each).resolve().name) for each in ("current", "previous") if (root / each).exists())
print(json.dumps([links, dict((each.parent.name, each.read_text().strip()) for each in marks)]))
"""
"""Prints what a host has: the names of two links, and the digest of each release that is complete."""
CURRENT, PREVIOUS, KEPT, MISSING = "current", "previous", "kept", "not there"
SUBJECT = 60
"""Characters of a commit's subject that fit into a line."""


@dataclass(frozen=True, kw_only=True)
class HostReleases:
    """What one host has: what is current, what was before, and the digests of all."""

    host: str
    current: str
    previous: str
    complete: tuple[str, ...]

    @classmethod
    def of(cls, host: str, said: str) -> HostReleases:
        """From what the program has printed."""
        links, digests = json.loads(said)
        linked = {name: str(digests.get(links.get(name), "")) for name in (CURRENT, PREVIOUS)}
        return cls(host=host, complete=tuple(digests.values()), **linked)

    def says(self, digest: str) -> str:
        """What a release is on this host."""
        if digest not in self.complete:
            return MISSING
        return {self.previous: PREVIOUS, self.current: CURRENT}.get(digest, KEPT)


@dataclass(frozen=True, kw_only=True)
class KeptRelease:
    """A release that machines have. `machines`: what it is on each of them. `live`: when it went live last; None for what no history knows."""

    digest: Digest
    machines: Mapping[str, str]
    undone: bool
    live: LiveRelease | None

    @property
    def state(self) -> str:
        """In words, of each machine where they differ."""
        words = sorted(set(self.machines.values()))
        on = [f"{said} on {host}" for host, said in sorted(self.machines.items())]
        return ", ".join([*(words if len(words) == 1 else on), *(["undone"] if self.undone else [])])


def look(run: Run) -> list[KeptRelease]:
    """What the machines have, the newest last. Raises a refusal of SSH."""
    reached = hosts.reachable(run, server.released(run, infrastructure.existing(run), "releases"))
    program = HAS.format(name=run.pipeline.name)
    with run.threads.pool(len(reached) or 1) as pool:
        said = list(pool.map(lambda host: run.hosts.python(host, "releases", program), reached))
    there = [HostReleases.of(host.name, each) for host, each in zip(reached, said, strict=True)]
    known = history.read(run.store, run.identity)
    marked = {each for one in there for each in one.complete if undone.of(run, Digest(each))}
    return joined(there, known, marked)


def joined(
    there: Sequence[HostReleases], known: Sequence[LiveRelease], marked: set[str]
) -> list[KeptRelease]:
    """What the hosts have, with what the history says of it; what it does not know comes first."""
    last = {each.digest: (number, each) for number, each in enumerate(known)}
    digests = sorted({Digest(each) for one in there for each in one.complete})
    return [
        KeptRelease(
            digest=each,
            machines={one.host: one.says(each) for one in there},
            undone=each in marked,
            live=last[each][1] if each in last else None,
        )
        for each in sorted(digests, key=lambda each: last[each][0] if each in last else -1)
    ]


def lines(found: Sequence[KeptRelease]) -> list[str]:
    """A line for each release, in columns."""
    head = ("state", "release", "commit", "author", "live since", "s", "down s", "slowest s", "by", "why")
    return columns([head, *map(_row, found)]) if found else ["the machines have no release"]


def _row(each: KeptRelease) -> tuple[str, ...]:
    live = each.live
    if not live:
        return (each.state, each.digest.id, *[""] * 8)
    seconds = f"{live.seconds:.1f}" if live.seconds else ""
    # of an older pipeline, no downtime is none that anybody has seen
    down = f"{live.downtime:.1f}" if live.downtime or live.slowest is not None else ""
    return (
        each.state,
        each.digest.id,
        live.commit.marked,
        live.author,
        live.at,
        seconds,
        down,
        "" if live.slowest is None else f"{live.slowest:.2f}",
        live.by,
        live.why[:SUBJECT],
    )
