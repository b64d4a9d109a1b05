"""drill: restore the newest backup of an environment on a throw-away host, which reads its backups and reaches the bucket alone.

A backup that was not restored counts as none. The host has an identity of its own, with lease, tags and a time when it ends:
whatever becomes of this process, the next drill, a sweep or the host itself ends it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
from typing import TYPE_CHECKING, Any

from tasks import boundary, image
from tasks.backup import access, host, restored
from tasks.backup.host import BackupFailed
from tasks.bucket.lease import Lease
from tasks.infrastructure import find, throw_away
from tasks.infrastructure import stage as infrastructure
from tasks.process import children
from tasks.refusal import Refusal
from tasks.run import DRILL
from tasks.server import ledger
from tasks.server import stage as server
from tasks.settings import Backups, RolesTold, Server

if TYPE_CHECKING:
    from tasks.run import Run

NAME = "drill"
HOURS = 6
"""Hours that the host may stay: a large backup takes some, and its making."""
ROLES = ("base", "application", "proxy", "resolver", "firewall", "backup", "self_shutdown")
"""Those of the profile's roles that a host has which only restores, beside what the profile names: no mail, nothing of the application."""


class DrillFailed(Refusal):
    """The newest backup was not restored, or is not what was backed up: it counts as none."""

    sentence = "drill: the newest backup of {environment} counts as none: {problem}"
    remedy = "doit environment={environment} backup && doit environment={environment} drill"


class BackupsLate(Refusal):
    """The newest backup is whole, and older than two days, though a host of the environment runs: its timer makes none."""

    sentence = "drill: the newest backup of {environment}, of {time} UTC, can be restored, but none has been made for {days} days"
    remedy = "doit environment={environment} ssh sudo journalctl --unit backup && doit environment={environment} backup"


class DrillUnreachable(Refusal):
    """The throw-away host reaches nothing but the bucket, so that AWS Session Manager does not lead to it."""

    sentence = "drill: {environment} is reached through session-manager, whose agent needs AWS, and the host of a drill reaches the bucket alone"
    remedy = "$EDITOR environments/{environment}.yml  # infrastructure.ssh_through: a jump host"


def hold(run: Run) -> str:
    """Restore the environment's newest backup elsewhere, and record how that went; a sentence.

    Raises DrillFailed, BackupsLate, or what else refuses.
    """
    begun, there = run.clock.monotonic(), throw_away_host(run)
    if run.environment.infrastructure.ssh_through == "session-manager":
        raise DrillUnreachable(environment=run.environment_name)
    lease = Lease(there, on_lost=children.interrupt)
    lease.take(say=run.console.say(NAME))
    try:
        with contextlib.ExitStack() as afterwards:
            afterwards.callback(lease.free)
            afterwards.callback(_end, there)
            _end(there)  # of a drill that was killed
            said, told = _restore(run, there)
    except BackupFailed as failed:
        if children.cancelled():
            raise
        problem = str(failed.facts["problem"])
        restored.fail(run, NAME, problem)
        raise DrillFailed(environment=run.environment_name, problem=problem) from None
    except Exception as error:
        if children.cancelled():  # that says nothing of the backup
            raise
        refusal = boundary.told(error)
        restored.fail(run, NAME, refusal.text.splitlines()[0])
        raise refusal from None
    restored.keep(run, NAME, {**told, "whole_seconds": round(run.clock.monotonic() - begun, 1)})
    days = restored.late(f"{told['time']}+00:00", run.clock.now())
    if days and not _asleep(run):
        raise BackupsLate(environment=run.environment_name, time=told["time"], days=days)
    return f"{run.identity}: {said}"


def throw_away_host(run: Run) -> Run:
    """The run for the host: the same project and cloud, an identity of its own, testing's walls and no setting that an application has."""
    said = run.profile.file.said
    needed = {*ROLES, *said.server.tried_with}
    roles = RolesTold({name: told for name, told in said.server.roles.items() if name in needed})
    serving = dataclasses.replace(said.server, roles=roles, groups={}, connects=())
    settings = {name: run.profile.settings[name] for name in roles}
    lone = dataclasses.replace(
        run.environment.infrastructure,
        manage="all",
        instances=1,
        placement={},
        instance_type="",
        instance_profile="",
        spot=False,
        termination_protection=False,
        ends_itself=True,
        idle_hours=0,
        http_from=(),
        host_keys=(),
        machines=(),
    )
    environment = dataclasses.replace(
        run.environment,
        per_branch=False,
        host_name="",
        stores={},
        stages=(),
        takes_from="",
        egress="listed",
        infrastructure=lone,
        server=Server(
            roles={
                name: {each: one.default for each, one in found.items()} for name, found in settings.items()
            }
        ),
        release=dataclasses.replace(run.environment.release, test_data=False, expires_after_days=1),
        backup=Backups(),
    )
    profile = dataclasses.replace(
        run.profile,
        server=serving,
        file=dataclasses.replace(run.profile.file, said=dataclasses.replace(said, server=serving)),
        settings=settings,
    )
    until = run.clock.now() + datetime.timedelta(hours=HOURS)
    return dataclasses.replace(
        run,
        profile=profile,
        environment=environment,
        environment_name=f"{DRILL}{run.identity}",
        expires=f"{until:%Y-%m-%dT%H:%MZ}",
    )


def _restore(run: Run, there: Run) -> tuple[str, dict[str, Any]]:
    """What the host says of the newest backup, and its measures. Raises BackupFailed where it is not what was backed up."""
    access.read_only(run)  # who may not is refused before there is a host
    alike = dataclasses.replace(run.environment, infrastructure=there.environment.infrastructure)
    baked = dataclasses.replace(run, environment=alike)  # all roles, for a machine of this kind
    made = infrastructure.converge(there, NAME, baked=lambda _: image.start(baked))
    # a machine image has the packages of all roles
    elsewhere = _units(run) - _units(there)
    told = access.read_only(run)  # it ends within an hour
    server.provision(there, made.facts, {**told, "server_units_elsewhere": sorted(elsewhere)})
    *lines, measures = host.ask(there, NAME, "try", "newest")
    found = json.loads(measures)
    if not found["compared"]:
        problem = "nothing says what was in it: it is of a former version"
        raise BackupFailed(verb=NAME, host=there.identity, problem=problem)
    return " ".join(lines), found


def _asleep(run: Run) -> bool:
    """Whether the environment has machines, and none runs: it makes no backup before it wakes."""
    found = find.machines(run.cloud.client("ec2"), find.of(run))
    return bool(found) and all(each.state in ("stopping", "stopped") for each in found)


def _units(run: Run) -> set[str]:
    return {each.unit for each in run.network.services if each.unit}


def _end(there: Run) -> None:
    throw_away.end(there, NAME)
    ledger.forget(there.store, ledger.stored(there.store, there.identity))
