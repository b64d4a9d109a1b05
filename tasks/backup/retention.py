"""retention: remove the backups that the settings no longer keep. A host cannot: its key deletes nothing."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tasks import environ
from tasks.backup import access
from tasks.backup.host import BackupFailed, BackupOff
from tasks.infrastructure import secrets
from tasks.process import bounds, children

if TYPE_CHECKING:
    from tasks.run import Run
    from tasks.settings import Backups


def forget(run: Run) -> str:
    """Remove them, and what only they need; a sentence of what is left. Raises BackupOff or BackupFailed."""
    if not access.wanted(run):
        raise BackupOff(verb="backup", environment=run.environment_name)
    known = secrets.known(run.cloud.client("ssm"), run.secrets_folder)
    repository = access.repository(run, run.cloud.client("s3").meta.endpoint_url)
    given = {
        **environ.of(),
        **run.cloud.credentials(),
        "AWS_DEFAULT_REGION": run.pipeline.region,
        "RESTIC_REPOSITORY": repository,
        "RESTIC_PASSWORD": known.backup_password if known else "",
    }
    command = ["restic", "-o", f"s3.region={run.pipeline.region}", "-o", "s3.layout=default", "--no-cache"]
    removal = ["forget", "--quiet", "--prune", *kept(run.environment.backup)]
    output = b""
    for words in (["unlock"], removal, ["snapshots", "--json", "--no-lock"]):
        code, output, said = children.ask([*command, *words], env=given, seconds=bounds.BACKUP)
        if code:
            problem = " ".join(said.decode(errors="replace").split())[-300:]
            raise BackupFailed(verb="backup", host=repository, problem=problem)
    return f"{len(json.loads(output) or [])} backups are left of {run.identity}"


def kept(settings: Backups) -> list[str]:
    """The retention as restic takes it: the newest backup of so many days, weeks and months."""
    counts = {"daily": settings.days, "weekly": settings.weeks, "monthly": settings.months}
    # its default is a group for each set of paths: after a change of the settings, old ones would stay for ever
    return ["--group-by", "host", *(f"--keep-{name}={count}" for name, count in counts.items() if count)]
