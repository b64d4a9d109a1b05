"""lease: one run at a time may change an environment; who loses it stops, and records nothing more.

An object of the bucket that is replaced only by who has seen its last version. Its holder writes it again every
third of its time to live; when it has not been written for that long, by the bucket's own clock, anybody may take it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bucket import create, layout
from tasks.bucket.store import BucketMissing, Document, NotADocument, RecordTaken, Store
from tasks.process import children
from tasks.process.life import started_at, this_boot
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

TTL = 60.0
"""Seconds without a sign of life after which a holder counts as dead."""
BEATS = 3
"""Signs of life in that time."""
SILENCE = 0.9
"""Part of that time after which a holder that cannot reach the bucket gives up: before anybody else takes over."""
POLL = 1.0


class EnvironmentHeld(Refusal):
    """Another run changes the environment, and has not ended while this one waited."""

    sentence = "lease: {identity} is held by {holder}; last sign of life {age} s ago"
    remedy = "doit --wait 600 {task}"


class LeaseUnreadable(Refusal):
    """The lease says nothing that can be understood, so nobody can tell whether a run is under way."""

    sentence = "lease: {key} is damaged: held by nobody can tell whom, written {age} s ago"
    remedy = "doit unlock"


class LeaseLost(Refusal):
    """Another run has taken the environment, or this one could not show for too long that it lives."""

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
        """As the one who waits for it reads it."""
        return f"{self.by} on {self.host} (process {self.pid}: {self.command}, since {self.at})"

    @property
    def gone(self) -> bool:
        """Whether it ran on this machine, and its process is no more."""
        return self.machine == this_machine() and started_at(self.pid) != self.started


@functools.cache
def this_machine() -> str:
    """This boot of this machine, as far as its process ids reach: containers have their own."""
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
    """What the lease says.

    `holder`: None when it is free. `readable`: False when nobody can tell. `unclean`: the last holder did not see all
    that it had started end.
    """

    etag: str | None = None
    age: float = 0.0
    holder: Holder | None = None
    readable: bool = True
    unclean: bool = False

    @property
    def dead(self) -> bool:
        """Whether its holder is: silent for too long, or gone from this machine."""
        return self.holder is not None and (self.age > self.holder.ttl or self.holder.gone)


def look(store: Store, identity: str) -> LeaseState:
    """What an environment's lease says now."""
    try:
        document = store.read(layout.lease(identity))
    except NotADocument as found:
        return LeaseState(etag=found.etag, age=found.age, readable=False)
    return _found(document) if document else LeaseState()


class Lease:
    """The right to change one environment. `lost` is set, and `on_lost` called from a thread, when it is lost."""

    def __init__(self, run: Run, *, ttl: float = TTL, on_lost: Callable[[], None] = lambda: None) -> None:
        self.key = layout.lease(run.identity)
        self.lost: LeaseLost | None = None
        self.unclean = False
        self._run = run
        self._store = run.store
        self._me = this_process(run, ttl)
        self._on_lost = on_lost
        self._seen: str | None = None
        self._sign = 0.0
        self._over = threading.Event()
        self._lock = threading.RLock()
        self._beats = threading.Thread(target=self._beat, daemon=True, name="lease")

    def look(self) -> LeaseState:
        """What the lease says now."""
        return look(self._store, self._run.identity)

    def take(self, wait: float | None = None, say: Callable[[str], None] = lambda words: None) -> None:
        """Take the lease, and keep it until `free`.

        Waits for a living holder, as long as one would need to be known as dead if `wait` does not say otherwise.
        Raises EnvironmentHeld, LeaseUnreadable or BucketGone.
        """
        patience = self._me.ttl * (1 + 1 / BEATS) if wait is None else wait
        end = time.monotonic() + patience
        while True:
            found = self.look()
            if not found.readable:
                raise LeaseUnreadable(key=self.key, age=round(found.age))
            holder = found.holder
            if holder is None or found.dead or holder.run == self._me.run:
                if self._taken(found):
                    return
            elif time.monotonic() >= end:
                raise EnvironmentHeld(
                    identity=self._run.identity, holder=holder, age=round(found.age), task="release"
                )
            else:
                say(f"waits for {holder}")
            children.wait(min(POLL, max(0.05, end - time.monotonic())), "lease")

    def _taken(self, found: LeaseState) -> bool:
        begun = time.monotonic()
        try:
            self._seen = self._store.write(self.key, dataclasses.asdict(self._me), seen=found.etag)
        except RecordTaken:
            return False  # somebody else was faster
        except BucketMissing:
            create.create_bucket(self._run)
            return False
        self._sign = begun
        self.unclean = found.unclean or found.holder is not None
        self._beats.start()
        threading.Thread(target=self._watch, daemon=True, name="lease-watch").start()
        return True

    def check(self) -> None:
        """Make sure that the lease is still ours, by asking. Raises LeaseLost."""
        if not self.lost and not self._ours(found := self.look()):
            self._lose(_whose(found))
        if self.lost:
            raise self.lost

    def free(self, *, unclean: bool = False) -> None:
        """Give the lease back. `unclean`: what was started may still be running on the hosts."""
        with self._lock:
            self._over.set()
        if self._beats.ident is None or self.lost:
            return
        self._beats.join()
        document = {
            "by": self._me.by,
            "free": True,
            "unclean": unclean or self.unclean,
            "at": self._run.clock.stamp(),
        }
        with contextlib.suppress(RecordTaken, BucketMissing):
            self._write(document)

    def seize(self, say: Callable[[str], None]) -> LeaseState:
        """Take the lease from whoever has it, and free it. Returns who had it.

        Who is alive finds out with the next sign of life, and until then the lease is nobody's.
        """
        found = self.look()
        if found.readable and found.holder is None:
            return found
        self._seen = self._store.write(self.key, dataclasses.asdict(self._me), seen=found.etag)
        if found.holder and not found.dead:
            pause = found.holder.ttl / BEATS + 1
            say(f"waits {pause:.0f} s: so long may the former holder take to notice")
            children.wait(pause, "unlock")
        document = {"by": self._me.by, "free": True, "unclean": True, "at": self._run.clock.stamp()}
        self._store.write(self.key, document, seen=self._seen)
        return found

    def _beat(self) -> None:
        while not self._over.wait(self._me.ttl / BEATS):
            begun = time.monotonic()
            try:
                self._write(dataclasses.asdict(self._me))
                self._sign = begun
            except RecordTaken:
                self._lose(_whose(self.look()))
                return
            except Exception:  # noqa: S112  the network: the next one may get through, and `_watch` counts
                continue

    def _write(self, document: dict[str, Any]) -> None:
        """Replace our last version. Raises RecordTaken when that is not ours any more."""
        try:
            self._seen = self._store.write(self.key, document, seen=self._seen)
        except RecordTaken:
            found = self.look()
            if not self._ours(found):
                raise
            self._seen = self._store.write(self.key, document, seen=found.etag)  # an answer got lost

    def _watch(self) -> None:
        """A request may hang for minutes: so the time is kept by another thread."""
        silence = self._me.ttl * SILENCE
        while not self._over.wait(self._me.ttl / 60):
            if time.monotonic() - self._sign > silence:
                self._lose(f"no sign of life got through to the bucket for {silence:.0f} s")
                return

    def _ours(self, found: LeaseState) -> bool:
        return found.holder is not None and found.holder.run == self._me.run

    def _lose(self, why: str) -> None:
        with self._lock:  # so that nobody is told after `free`
            if self.lost or self._over.is_set():
                return
            self.lost = LeaseLost(identity=self._run.identity, why=why, task="release")
            self._on_lost()


def _whose(found: LeaseState) -> str:
    if not found.readable:
        return "it is damaged"
    return f"it is held by {found.holder}" if found.holder else "somebody has freed or removed it"


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
