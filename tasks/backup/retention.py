"""retention: remove the backups that the settings no longer keep. A host cannot: its key deletes nothing.

The newest backup that was restored stays whatever its age: while newer ones cannot be restored, it is the only one that is
known to be whole.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tasks.backup import repository, restored
from tasks.infrastructure import secrets

if TYPE_CHECKING:
    from tasks.run import Run
    from tasks.settings import Backups


def forget(run: Run) -> str:
    """Remove them, and what only they need; a sentence of what is left. Raises BackupFailed."""
    password = secrets.one(run.cloud.client("ssm"), run.secrets_folder, "backup_password")
    repository.restic(run, password, "unlock")
    groups = repository.restic(run, password, "forget", "--dry-run", "--json", *kept(run.environment.backup))
    whole = restored.proved(run.store, run.identity)
    ids = [each["id"] for group in json.loads(groups) or [] for each in group["remove"] or []]
    removed = [each for each in ids if not whole or not each.startswith(whole)]
    if removed:
        repository.restic(run, password, "forget", "--quiet", "--prune", *removed)
    output = repository.restic(run, password, "snapshots", "--json", "--no-lock")
    return f"{len(json.loads(output) or [])} backups are left of {run.identity}"


def kept(settings: Backups) -> list[str]:
    """The retention as restic takes it: the newest backup of so many days, weeks and months."""
    counts = {"daily": settings.days, "weekly": settings.weeks, "monthly": settings.months}
    # its default is a group for each set of paths: after a change of the settings, old ones would stay for ever
    return ["--group-by", "host", *(f"--keep-{name}={count}" for name, count in counts.items() if count)]
