"""host: back up and restore on the environment's host, by the program that the role `backup` has installed there."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks import boundary, placement
from tasks.backup import access, restored
from tasks.bucket import lease
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.process import bounds, children
from tasks.refusal import Refusal
from tasks.run import elsewhere
from tasks.settings import of_pipeline, same_place

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


class BackupsElsewhere(Refusal):
    """Environments back up, and each is in another account, region or bucket, or of another role, than this call."""

    sentence = "{verb}: {environments}: all that back up are elsewhere, and none was tried"
    remedy = "doit environment={first} {verb}"


class BackupFailed(Refusal):
    """A host could not back up or restore, and says why. What is begun anew needs no tidying."""

    sentence = "{verb}: {host}: {problem}"
    remedy = "doit server && doit {verb}"


def of_each(run: Run, verb: str, work: Callable[[Run], str]) -> Iterator[str]:
    """Do it in the environment that was typed, else in all here that back up; a line of each. One that fails holds up no other.

    Raises BackupOff, BackupsElsewhere, the last failure when all are done, or at once what an interruption raises.
    """
    tried: list[Run] = []
    failed, away = list[Refusal](), list[str]()
    if any(each.startswith("environment=") for each in run.variables):
        accept(run, verb)
        tried.append(run)
    else:
        names = sorted(path.stem for path in (run.root / "environments").glob("*.yml"))
        found, pipeline = [elsewhere(run, name) for name in names], of_pipeline(run.root)
        for each in filter(access.wanted, found):
            if same_place(pipeline, each.environment, run.environment):
                tried.append(each)
            else:
                away.append(each.environment_name)
    for each in tried:
        try:
            line = work(each)
        except Exception as error:
            if children.cancelled():
                raise
            failed.append(boundary.told(error))
            line = failed[-1].text.splitlines()[0]
        yield line
    yield from (f"{name} is elsewhere: doit environment={name} {verb}" for name in away)
    if failed:
        raise failed[-1]
    if away and not tried:
        raise BackupsElsewhere(verb=verb, environments=", ".join(away), first=away[0])
    if not tried:
        yield "no environment here backs up"


def take(run: Run) -> list[str]:
    """Back up now, and return what the host says of it. Raises BackupOff, BackupFailed, EnvironmentHeld or NoMachine."""
    with _alone(run, "backup"):
        return ask(run, "backup", "now")


def restore(run: Run, when: str) -> list[str]:
    """Bring a backup back, and record that it was restored; what the host says. `when`: newest, an id, a time.

    Raises BackupOff, BackupFailed, EnvironmentHeld or NoMachine.
    """
    with _alone(run, "restore"):
        *lines, told = ask(run, "restore", "restore", when)
        restored.keep(run, "restore", json.loads(told))
    return lines


def attempt(run: Run, when: str) -> list[str]:
    """Restore a backup beside what is there, and record that it was restored; what the host says. Releases need not wait.

    Raises BackupOff, BackupFailed or NoMachine.
    """
    accept(run, "restore")
    *lines, told = ask(run, "restore", "try", when)
    restored.keep(run, "try", json.loads(told))
    return lines


@contextmanager
def _alone(run: Run, verb: str) -> Iterator[None]:
    """Under the environment's lease: a release would change what is copied."""
    accept(run, verb)
    with lease.held(run, verb):
        yield


def accept(run: Run, verb: str) -> None:
    """Raises BackupOff."""
    if not access.wanted(run):
        raise BackupOff(verb=verb, environment=run.environment_name)


def ask(run: Run, verb: str, *words: str) -> list[str]:
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
