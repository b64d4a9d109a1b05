"""age: how old an environment's newest backup is, and the newest one that was restored: another one counts as none."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.bucket import layout
from tasks.bucket.store import NotADocument

if TYPE_CHECKING:
    from tasks.bucket.store import Store


@dataclass(frozen=True, kw_only=True)
class BackupAge:
    """When the newest backup was made, and the newest one of those that were restored; empty for none."""

    newest: str = ""
    restored: str = ""


def look(store: Store, identity: str) -> BackupAge:
    """What the bucket shows of them. It needs neither restic nor the password."""
    pages = store.client.get_paginator("list_objects_v2")
    found = [
        each["LastModified"]
        for page in pages.paginate(Bucket=store.bucket, Prefix=layout.backups(identity, "snapshots/"))
        for each in page.get("Contents", ())
    ]
    if not found:
        return BackupAge()
    newest = max(found).astimezone(datetime.UTC).isoformat(timespec="seconds")
    try:
        document = store.read(layout.restored(identity))
    except NotADocument:
        document = None
    return BackupAge(newest=newest, restored=f"{document.value['time']}+00:00" if document else "")
