"""restored: which backups were restored, and how that went: one record for each try, none of which is ever changed.

A backup that was not restored counts as none.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import NotADocument

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.bucket.store import Store
    from tasks.run import Run

STAMP = "%Y%m%dT%H%M%SZ"
"""A time in the name of a record."""
LATE = datetime.timedelta(days=2)
"""Age of a newest backup that no host makes any more: each makes one every day."""
SHORT = 8
"""Characters of a backup's id there."""


@dataclass(frozen=True, kw_only=True)
class BackupAge:
    """When the newest backup was made, and the newest one of those that were restored; empty for none.

    `at` and `seconds`: of that restore. `proved`: whether it is the newest backup that was restored. `failed`: why the last
    try has failed. `days`: after which a restore is too old.
    """

    newest: str = ""
    restored: str = ""
    at: str = ""
    seconds: float = 0.0
    proved: bool = False
    failed: str = ""
    days: int = 0

    def words(self, now: datetime.datetime) -> str:
        """All of it in a sentence."""
        if not self.newest:
            return "there is no backup"
        if self.proved:
            said = f"the newest backup, of {_minute(self.newest)}, was restored on {_minute(self.at)} in {self.seconds:g} s"
        else:
            said = f"the newest backup, of {_minute(self.newest)}, was never restored: it counts as none"
            if self.restored:
                said += (
                    f"; the one of {_minute(self.restored)} was, on {_minute(self.at)} in {self.seconds:g} s"
                )
        if days := late(self.newest, now):
            said += f"; none has been made for {days} days"
        if self.failed:
            said += f"; the last try failed: {self.failed}"
        if self.at and now - datetime.datetime.fromisoformat(self.at) > datetime.timedelta(days=self.days):
            said += f"; none was restored for more than {self.days} days (backup.drill_days)"
        return said


def late(newest: str, now: datetime.datetime) -> int:
    """For how many days no backup has been made, where one of every day is missing; else 0."""
    age = now - datetime.datetime.fromisoformat(newest)
    return age.days if age > LATE else 0


def keep(run: Run, how: str, told: dict[str, Any]) -> None:
    """Record a restore. `how`: drill, try or restore; `told`: the backup, the seconds, the rows of each table with their digest, files."""
    made = datetime.datetime.fromisoformat(told["time"])
    _write(run, {**told, "how": how}, f"{made:{STAMP}}", str(told["snapshot"])[:SHORT])


def fail(run: Run, how: str, sentence: str) -> None:
    """Record that a backup was not restored, and why."""
    _write(run, {"failed": sentence, "how": how})


def _write(run: Run, value: dict[str, Any], *backup: str) -> None:
    now = run.clock.now()
    key = layout.restored(run.identity, f"{now:{STAMP}}", run.id, *backup)
    run.store.write(key, {**value, "at": now.isoformat(timespec="seconds"), "by": run.who}, seen=None)


def look(store: Store, identity: str, days: int) -> BackupAge:
    """What the bucket shows of them. It needs neither restic nor the password. `days`: after which a restore is too old."""
    pages = store.client.get_paginator("list_objects_v2")
    found = [
        (each["LastModified"], each["Key"].rpartition("/")[2])
        for page in pages.paginate(Bucket=store.bucket, Prefix=layout.backups(identity, "snapshots/"))
        for each in page.get("Contents", ())
    ]
    if not found:
        return BackupAge(days=days)
    made, newest = max(found)
    keys = sorted(store.keys(layout.all_restored(identity)))
    best = _best(keys)
    said = _read(store, best) if best else {}
    return BackupAge(
        newest=made.astimezone(datetime.UTC).isoformat(timespec="seconds"),
        restored=f"{said['time']}+00:00" if said else "",
        at=str(said.get("at", "")),
        seconds=float(said.get("seconds", 0)),
        proved=bool(said) and best.split(".")[-2] == newest[:SHORT],
        days=days,
        failed=str(_read(store, keys[-1]).get("failed", "")) if keys and _failed(keys[-1]) else "",
    )


def proved(store: Store, identity: str) -> str:
    """The id, shortened, of the newest backup that was restored; empty for none."""
    best = _best(sorted(store.keys(layout.all_restored(identity))))
    return best.split(".")[-2] if best else ""


def _best(keys: Sequence[str]) -> str:
    """The record of the newest backup that was restored; of several, that of the last restore. Empty for none."""
    whole = [key for key in keys if not _failed(key)]
    return max(whole, key=lambda key: (key.split(".")[-3], key), default="")


def _failed(key: str) -> bool:
    return key.endswith(".failed.json")


def _read(store: Store, key: str) -> dict[str, Any]:
    try:
        document = store.read(key)
    except NotADocument:
        return {}
    return document.value if document else {}


def _minute(text: str) -> str:
    """A moment of UTC for people."""
    return f"{datetime.datetime.fromisoformat(text).astimezone(datetime.UTC):%Y-%m-%d %H:%M UTC}"
