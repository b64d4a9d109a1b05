"""lease: one run at a time may change an environment; a run that loses it stops, and records nothing more.

The lease is an object of the bucket. A writer replaces it only in the version that it has read. Its holder writes it three times in
its time to live; when it was not written for that long, by the bucket's own clock, any run may take it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bucket import create, layout
from tasks.bucket.store import BucketMissing, Document, NotADocument, RecordTaken, Store
from tasks.process import children
from tasks.process.life import started_at, this_boot
from tasks.refusal import Refusal

if TYPE_CHECKING:
    import threading

    from tasks.run import Run

TTL = 60.0
"""Seconds without a sign of life after which a holder counts as dead."""
BEATS = 3
"""Signs of life in `TTL`."""
SILENCE = 0.9
"""Part of `TTL` after which a holder that cannot reach the bucket stops: before another run may take the lease."""
FREEING = 10.0
"""Seconds for giving the lease back; on a dead network it runs out by itself."""
POLL = 1.0
"""Seconds between two looks at a lease that another run holds."""


class EnvironmentHeld(Refusal):
    """Another run changes the environment, and did not end while this one waited."""

    sentence = "lease: {identity} is held by {holder}; last sign of life {age} s ago"
    remedy = "doit --wait 600 {task}"


class LeaseUnreadable(Refusal):
    """The lease cannot be read, so it is unknown whether a run is under way."""

    sentence = "lease: {key} is damaged: its holder is unknown, it was written {age} s ago"
    remedy = "doit unlock"


class LeaseLost(Refusal):
    """Another run has taken the lease, or this one could not renew it in time."""

    sentence = "lease: {identity} is lost: {why}; this run has stopped, and records nothing more"
    remedy = "doit {task}"


@dataclass(frozen=True, kw_only=True)
class Holder:
    """Who holds a lease."""

    run: str
    by: str
    host: str
    machine: str
    pid: int
    started: int
    command: str
    at: str
    ttl: float

    def __str__(self) -> str:
        """For the messages of a run that waits."""
        return f"{self.by} on {self.host} (process {self.pid}: {self.command}, since {self.at})"

    @property
    def gone(self) -> bool:
        """Whether it ran on this machine, and its process has ended."""
        return self.machine == this_machine() and started_at(self.pid) != self.started


@functools.cache
def this_machine() -> str:
    """This boot of this machine, and the PID namespace: a container has its own process ids."""
    return f"{socket.gethostname()} {this_boot()} {Path('/proc/self/ns/pid').readlink()}"


def this_process(run: Run, ttl: float) -> Holder:
    """This process, as the holder of a lease."""
    return Holder(
        run=run.id,
        by=run.who,
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=started_at(os.getpid()) or 0,
        command=shlex.join(["doit", *sys.argv[1:]]),
        at=run.clock.stamp(),
        ttl=ttl,
    )


@dataclass(frozen=True, kw_only=True)
class LeaseState:
    """The state of a lease.

    `holder`: None if it is free. `readable`: False if the lease is damaged. `unclean`: processes that the last holder has
    started may still run.
    """

    etag: str | None = None
    age: float = 0.0
    holder: Holder | None = None
    readable: bool = True
    unclean: bool = False

    @property
    def dead(self) -> bool:
        """Whether its holder is dead: silent for longer than its time to live, or gone from this machine."""
        return self.holder is not None and (self.age > self.holder.ttl or self.holder.gone)


def look(store: Store, identity: str) -> LeaseState:
    """The state of an environment's lease."""
    try:
        document = store.read(layout.lease(identity))
    except NotADocument as found:
        return LeaseState(etag=found.etag, age=found.age, readable=False)
    return _found(document) if document else LeaseState()


@contextlib.contextmanager
def held(run: Run, verb: str) -> Iterator[None]:
    """A block of a command under the environment's lease; who loses it is interrupted. Raises as `Lease.take`."""
    lease = Lease(run, on_lost=children.interrupt)
    lease.take(say=run.console.say(verb))
    try:
        yield
    finally:
        lease.free()


class Lease:
    """The right to change one environment. When it is lost, `lost` is set, and a thread calls `on_lost`."""

    def __init__(self, run: Run, *, ttl: float = TTL, on_lost: Callable[[], None] = lambda: None) -> None:
        self.key = layout.lease(run.identity)
        self.lost: LeaseLost | None = None
        self.unclean = False
        self._run = run
        self._store = run.store
        self._now = run.clock.since_boot  # a suspended machine gives no sign of life
        self._me = this_process(run, ttl)
        self._on_lost = on_lost
        self._seen: str | None = None
        self._last_sign = 0.0
        self._threads = run.threads
        self._over = run.threads.event()
        self._lock = run.threads.lock()
        self._beats: threading.Thread | None = None

    def look(self) -> LeaseState:
        """The state of the lease."""
        return look(self._store, self._run.identity)

    def take(self, wait: float | None = None, say: Callable[[str], None] = lambda words: None) -> None:
        """Take the lease, and renew it until `free`.

        Waits `wait` seconds for a living holder; by default as long as it takes to know that a holder is dead.
        Raises EnvironmentHeld, LeaseUnreadable or BucketGone.
        """
        patience = self._me.ttl * (1 + 1 / BEATS) if wait is None else wait
        end = self._now() + patience
        while True:
            found = self.look()
            if not found.readable:
                raise LeaseUnreadable(key=self.key, age=round(found.age))
            holder = found.holder
            if holder is None or found.dead or holder.run == self._me.run:
                if self._taken(found):
                    return
            elif self._now() >= end:
                raise EnvironmentHeld(
                    identity=self._run.identity, holder=holder, age=round(found.age), task="release"
                )
            else:
                say(f"waits for {holder}")
            self._threads.wait(min(POLL, max(0.05, end - self._now())), "lease")

    def _taken(self, found: LeaseState) -> bool:
        begun = self._now()
        try:
            self._seen = self._store.write(self.key, dataclasses.asdict(self._me), seen=found.etag)
        except RecordTaken:
            return False  # another run was faster
        except BucketMissing:
            create.accept_making(self._store)
            create.create_bucket(self._store, self._run.pipeline.name, self._run.pipeline.region)
            return False
        if self._now() - begun > self._me.ttl * SILENCE:
            return False  # the answer came so late that another run may have it by now
        self._last_sign = begun
        self.unclean = found.unclean or found.holder is not None
        self._beats = self._threads.start("lease", self._beat)
        self._threads.start("lease-watch", self._watch)
        return True

    def check(self) -> None:
        """Ask the bucket whether this run still holds the lease. Raises LeaseLost."""
        if not self.lost and not self._is_mine(found := self.look()):
            self._lose(_why_lost(found))
        if self.lost:
            raise self.lost

    def free(self, *, unclean: bool = False, remove: bool = False) -> None:
        """Give the lease back. `unclean`: processes that this run has started may still run on the hosts.

        `remove`: delete its object, as the environment is gone. Another run that has taken the lease meanwhile keeps it.
        """
        with self._lock:
            self._over.set()
        if not self._beats or self.lost:
            return
        # in a thread of its own: a request may hang for minutes
        beats = self._beats
        giving = self._threads.start("lease-free", lambda: self._give_back(beats, unclean, remove))
        giving.join(FREEING)
        if giving.is_alive():
            self._run.console.event("lease", f"not given back in {FREEING:.0f} s: it runs out by itself")

    def _give_back(self, beats: threading.Thread, unclean: bool, remove: bool) -> None:
        beats.join()
        document = {
            "by": self._me.by,
            "free": True,
            "unclean": unclean or self.unclean,
            "at": self._run.clock.stamp(),
        }
        with contextlib.suppress(Exception):  # whatever fails: the lease runs out by itself
            if remove:
                self._store.delete(self.key, seen=self._seen)
            else:
                self._write(document)

    def seize(self, say: Callable[[str], None]) -> LeaseState:
        """Take the lease from its holder, free it, and return its state before.

        A living holder notices at its next sign of life, and one without a network when its time is over. Until then no run can
        take the lease.
        """
        found = self.look()
        if found.readable and found.holder is None:
            return found
        self._seen = self._store.write(self.key, dataclasses.asdict(self._me), seen=found.etag)
        pause = (found.holder.ttl if found.holder else self._me.ttl) - found.age + 1
        if pause > 0 and not (found.holder and found.holder.gone):
            say(f"waits {pause:.0f} s, until the former holder must have noticed")
            self._threads.wait(pause, "unlock")
        document = {"by": self._me.by, "free": True, "unclean": True, "at": self._run.clock.stamp()}
        self._store.write(self.key, document, seen=self._seen)
        return found

    def _beat(self) -> None:
        while not self._over.wait(self._me.ttl / BEATS):
            begun = self._now()
            try:
                self._write(dataclasses.asdict(self._me))
                self._last_sign = begun
            except RecordTaken:
                self._lose(_why_lost(self.look()))
                return
            except Exception:  # noqa: S112  a network error: the next write may succeed, and `_watch` keeps the time
                continue

    def _write(self, document: dict[str, Any]) -> None:
        """Replace the version that this run wrote last. Raises RecordTaken if another run has replaced it."""
        try:
            self._seen = self._store.write(self.key, document, seen=self._seen)
        except RecordTaken:
            found = self.look()
            if not self._is_mine(found):
                raise
            self._seen = self._store.write(self.key, document, seen=found.etag)  # its answer was lost

    def _watch(self) -> None:
        """Keep the time in a thread of its own: a request may hang for minutes."""
        silence = self._me.ttl * SILENCE
        while not self._over.wait(self._me.ttl / 60):
            if self._now() - self._last_sign > silence:
                self._lose(f"no sign of life got through to the bucket for {silence:.0f} s")
                return

    def _is_mine(self, found: LeaseState) -> bool:
        return found.holder is not None and found.holder.run == self._me.run

    def _lose(self, why: str) -> None:
        with self._lock:  # after `free`, `on_lost` is not called
            if self.lost or self._over.is_set():
                return
            self.lost = LeaseLost(identity=self._run.identity, why=why, task="release")
            self._on_lost()


def _why_lost(found: LeaseState) -> str:
    if not found.readable:
        return "it is damaged"
    return f"it is held by {found.holder}" if found.holder else "it was freed or removed"


def _found(document: Document) -> LeaseState:
    value, found = document.value, LeaseState(etag=document.etag, age=document.age)
    if value.get("free") is True:
        return dataclasses.replace(found, unclean=bool(value.get("unclean")))
    try:
        holder = Holder(**{each.name: value[each.name] for each in dataclasses.fields(Holder)})
        return dataclasses.replace(
            found, holder=dataclasses.replace(holder, ttl=float(holder.ttl), pid=int(holder.pid))
        )
    except (KeyError, TypeError, ValueError):
        return dataclasses.replace(found, readable=False)
