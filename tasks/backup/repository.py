"""repository: restic on this machine, with the caller's rights: what a host may not do in its own repository."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tasks import environ
from tasks.backup import access
from tasks.backup.host import BackupFailed
from tasks.process import bounds, children, private

if TYPE_CHECKING:
    from tasks.run import Run

NO_REPOSITORY = ("Is there a repository", "specified key does not exist", "NoSuchKey")
"""What restic says where nothing was backed up yet."""


def restic(run: Run, password: str, *words: str, verb: str = "backup") -> str:
    """What restic prints. Raises BackupFailed."""
    code, output, said = _asked(run, password, words)
    if code:
        raise BackupFailed(verb=verb, host=_place(run), problem=" ".join(said.split())[-300:])
    return output


def open_by(run: Run, password: str, new: str) -> bool:
    """Let the repository open by a new password too; whether there is one. Raises BackupFailed."""
    for known in (new, password):
        code, _, said = _asked(run, known, ["cat", "config", "--no-lock"])
        if code and any(each in said for each in NO_REPOSITORY):
            return False
        if not code:
            break
    if known != new:
        with private.folder("restic") as folder:
            file = folder / "password"
            file.touch(mode=0o600)
            file.write_text(new)
            restic(run, password, "key", "add", "--new-password-file", str(file))
    return True


def open_by_only(run: Run, password: str) -> None:
    """Let the repository open by no other password. Raises BackupFailed."""
    for each in json.loads(restic(run, password, "key", "list", "--json")):
        if not each["current"]:
            restic(run, password, "key", "remove", each["id"])


def _place(run: Run) -> str:
    return access.repository(run, run.cloud.client("s3").meta.endpoint_url)


def _asked(run: Run, password: str, words: Sequence[str]) -> tuple[int, str, str]:
    given = {
        **environ.of(),
        **run.cloud.credentials(),
        "AWS_DEFAULT_REGION": run.pipeline.region,
        "RESTIC_REPOSITORY": _place(run),
        "RESTIC_PASSWORD": password,
    }
    command = ["restic", "-o", f"s3.region={run.pipeline.region}", "-o", "s3.layout=default", "--no-cache"]
    code, output, said = children.ask([*command, *words], env=given, seconds=bounds.BACKUP)
    return code, output.decode(errors="replace"), said.decode(errors="replace")
