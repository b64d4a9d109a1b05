"""host: back up and restore on the environment's host, by the program that the role `backup` has installed there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks import placement
from tasks.backup import access
from tasks.bucket import layout, lease
from tasks.bucket.store import NotADocument
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.process import bounds
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

PROGRAM = """
import json, os, subprocess, sys
if not os.path.exists("/etc/backup.json"):
    print(json.dumps([1, "", "this host was not provisioned for it yet"]))
    sys.exit()
done = subprocess.run(["/usr/local/sbin/backup", *{words!r}], stdin=subprocess.DEVNULL, capture_output=True, text=True)
print(json.dumps([done.returncode, done.stdout, done.stderr]))
"""


class BackupOff(Refusal):
    """The environment's file gives no time for backups, or the profile has no role `backup`."""

    sentence = "{verb}: {environment} does not back up (environments/{environment}.yml: backup.at, with the role backup in the profile)"
    remedy = "$EDITOR environments/{environment}.yml"


class BackupFailed(Refusal):
    """A host could not back up or restore, and says why. What is begun anew needs no tidying."""

    sentence = "{verb}: {host}: {problem}"
    remedy = "doit server && doit {verb}"


def take(run: Run) -> list[str]:
    """Back up now, and return what the host says of it. Raises BackupOff, BackupFailed, EnvironmentHeld or NoMachine."""
    with _alone(run, "backup"):
        return _on_host(run, "backup", "now")


def restore(run: Run, when: str) -> list[str]:
    """Bring a backup back, and record that it was restored; what the host says. `when`: newest, an id, a time.

    Raises BackupOff, BackupFailed, EnvironmentHeld or NoMachine.
    """
    with _alone(run, "restore"):
        *lines, told = _on_host(run, "restore", "restore", when)
        record(run, json.loads(told))
    return lines


def attempt(run: Run, when: str) -> list[str]:
    """Restore a backup beside what is there, and record that it was restored; what the host says. Releases need not wait.

    Raises BackupOff, BackupFailed or NoMachine.
    """
    _accept(run, "restore")
    *lines, told = _on_host(run, "restore", "try", when)
    record(run, json.loads(told))
    return lines


def record(run: Run, told: dict[str, Any]) -> None:
    """Write which backup was restored: its time, the seconds, and the rows and the checksum of each table."""
    key = layout.restored(run.identity)
    try:
        document = run.store.read(key)
        before, seen = (document.value["time"], document.etag) if document else ("", None)
    except NotADocument as damaged:
        before, seen = "", damaged.etag
    if told["time"] >= before:  # an older one proves nothing of the newest
        run.store.write(key, {**told, "at": run.clock.stamp(), "by": run.who}, seen=seen)


@contextmanager
def _alone(run: Run, verb: str) -> Iterator[None]:
    """Under the environment's lease: a release would change what is copied."""
    _accept(run, verb)
    with lease.held(run, verb):
        yield


def _accept(run: Run, verb: str) -> None:
    if not access.wanted(run):
        raise BackupOff(verb=verb, environment=run.environment_name)


def _on_host(run: Run, verb: str, *words: str) -> list[str]:
    """The lines that the host's program prints. Raises BackupFailed."""
    machines = infrastructure.existing(run)
    placement.accept_found(run.placement, [each.name for each in machines], verb)
    found = (each for each in machines if run.placement.has(each.name, access.ROLE))
    host = hosts.reachable(run, found)[0]
    printed = run.hosts.python(host, verb, PROGRAM.format(words=list(words)), seconds=bounds.BACKUP)
    code, output, complaints = json.loads(printed.splitlines()[-1])
    said = [line.removeprefix("backup: ") for line in complaints.splitlines() if line]
    if code:
        raise BackupFailed(verb=verb, host=host.name, problem="; ".join(said[-2:]) or f"exit code {code}")
    for line in said:
        run.console.event(verb, line)
    return list(output.splitlines())
