"""state: the graph's memory in the bucket: one record for each environment and task, a doit backend.

doit's own backends write when the run ends, so that a killed run loses all its records. Here each task's record is
written when the task ends, and voided before the task changes anything: a task without a record runs again.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import BucketMissing, Document, NotADocument, RecordTaken

if TYPE_CHECKING:
    from tasks.bucket.lease import Lease
    from tasks.bucket.store import Store
    from tasks.run import Run

REMEMBERED = 5
"""How many durations of a task are kept, to estimate the next one."""
LAST_KEY = "deps:"
"""doit sets this key last when it saves a success: then the record is written."""


@dataclass(frozen=True, kw_only=True)
class Records:
    """The run that the records belong to. `unrecorded`: tasks that leave no record."""

    run: Run
    unrecorded: frozenset[str] = frozenset()


class BucketState:
    """doit backend whose "file name" is a `Records`: DOIT_CONFIG's `dep_file` holds it.

    A record is JSON: `doit` (what doit keeps: values, inputs by name, git ids by path), `run`, `by`, `at`, `took` (seconds of
    the last runs that changed something), and after a success `seconds` and `outcome`.
    """

    desc = "one record per environment and task, in the bucket"

    def __init__(self, name: Records, codec: object, *, module_name: str | None = None) -> None:
        self.name = name  # doit reads it
        self.run, self.unrecorded = name.run, name.unrecorded
        self.records: dict[str, dict[str, Any]] = {}
        self.seen: dict[str, str | None] = {}
        self.took: dict[str, list[float]] = {}
        self.at: dict[str, str] = {}
        self.forgotten: set[str] = set()
        self.lease: Lease | None = None
        self.lock = name.run.threads.lock()  # tasks void their records from worker threads

    @property
    def store(self) -> Store:
        """The bucket. The first use connects to the cloud."""
        return self.run.store

    def key(self, task: str) -> str:
        """The bucket key of a task's record."""
        return layout.state(self.run.identity, task)

    # --- what doit calls ---

    def get(self, task: str, key: str) -> Any:
        """One value of a record, or None."""
        return self._record(task).get(key)

    def in_(self, task: str) -> bool:
        """Whether the task has succeeded here."""
        return bool(self._record(task))

    def set(self, task: str, key: str, value: Any) -> None:
        """Keep one value; with the last one, write the record."""
        if task in self.unrecorded:
            return
        with self.lock:
            self._record(task)[key] = value
            if key in (LAST_KEY, "ignore:"):
                self._write(task)

    def remove(self, task: str) -> None:
        """Forget a task. This is written at the end only, as doit calls it for `list` too."""
        with self.lock:
            self._record(task)  # read it now: the write needs its version
            self.records[task] = {}
            self.forgotten.add(task)

    def remove_all(self) -> None:
        """Forget every task of this environment."""
        for task in self._recorded(""):
            self.remove(task)

    def dump(self) -> None:
        """Write the forgotten records."""
        for task in list(self.forgotten):
            self.void(task)

    # --- what the stages call ---

    def expected(self, task: str) -> float | None:
        """Seconds that the task takes here if it has work to do; None if it never had any."""
        import statistics  # 3 ms to import, and only a plan needs it

        self._record(task)
        took = self.took.get(task)
        return statistics.median(took) if took else None

    def record(self, task: str) -> dict[str, Any]:
        """What is kept of a task; empty if it never succeeded here."""
        return self._record(task)

    def void(self, task: str) -> None:
        """Make the old record invalid. Call this before a task changes anything."""
        if task in self.unrecorded:
            return
        with self.lock:
            self._record(task)  # read it now: the write needs its version
            self.records[task] = {}
            # under a lease also where there is no record: that of a former holder, which stands still, may come yet
            if self.seen.get(task) or self.lease:
                with contextlib.suppress(BucketMissing):  # then there is no record
                    self._write(task)

    def read_anew(self) -> None:
        """Forget what was read, as another run may have written since. Call this when the lease is taken."""
        with self.lock:
            self.records.clear()
            self.seen.clear()

    def _record(self, task: str) -> dict[str, Any]:
        with self.lock:
            if task not in self.records:
                parts = [task]
                if ":" in task:
                    parts = sorted({task, *self._recorded(f"{task.partition(':')[0]}:")})
                new = [each for each in parts if each not in self.records]
                with self.run.threads.pool() as pool:  # read the parts of a stage in parallel
                    for each, document in zip(new, pool.map(self._read, new), strict=True):
                        self._remember(each, document)
            return self.records[task]

    def _recorded(self, beginning: str) -> list[str]:
        found = map(layout.parse, self.store.keys(layout.states(self.run.identity, beginning)))
        return [each.name for each in found if each]

    def _read(self, task: str) -> Document | NotADocument | None:
        try:
            return self.store.read(self.key(task))
        except NotADocument as found:
            return found

    def _remember(self, task: str, document: Document | NotADocument | None) -> None:
        if isinstance(document, NotADocument):
            self.run.console.say("state")(f"{self.key(task)} is no JSON: the task counts as never run")
        self.seen[task] = document.etag if document else None
        known = document.value if isinstance(document, Document) else {}
        value = known.get("doit")
        self.at[task] = str(known.get("at", ""))
        self.took[task] = list(known.get("took") or ())
        self.records[task] = value if isinstance(value, dict) else {}

    def _write(self, task: str) -> None:
        kept = self._record(task)
        record: dict[str, Any] = {
            "doit": kept,
            "run": self.run.id,
            "by": self.run.who,
            "at": self.run.clock.stamp(),
        }
        values = kept.get("_values_:") or {}
        if "done" in values:
            outcome = values["done"] if values.get("changed", True) else values["unchanged"]
            record |= {"seconds": values.get("seconds"), "outcome": outcome}
            if values.get("changed", True) and values.get("seconds"):
                self.took[task] = [*(self.took.get(task) or ()), values["seconds"]][-REMEMBERED:]
        record["took"] = self.took.get(task) or []
        if self.lease:
            self.lease.check()
        try:
            self.seen[task] = self.store.write(self.key(task), record, seen=self.seen.get(task))
        except RecordTaken:
            found = self._read(task)
            if not isinstance(found, Document) or found.value.get("run") != self.run.id:
                by = found.value.get("by") if isinstance(found, Document) else None
                # named anew: what was refused may have been told of this run's own record, and another's come since
                raise RecordTaken(key=self.key(task), by=by or "another run") from None
            # it is this run's own: the answer to an earlier write was lost
            self.seen[task] = self.store.write(self.key(task), record, seen=found.etag)
        self.forgotten.discard(task)
