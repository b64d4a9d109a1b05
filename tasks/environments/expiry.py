"""expiry: how long an environment may stay: tags say so, and its hosts are told."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING

from tasks.environments.inventory import EnvironmentInventory, Time
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import find, hosts
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.stage import NoMachine
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run
    from tasks.settings import Environment

UNTIL = "keep-until"
PIN = "pin"
"""Tag: with any value, the resource is kept forever."""
ALWAYS = datetime.datetime.max.replace(tzinfo=datetime.UTC)
TOLD = "/var/lib/self_shutdown/keep-until"
"""The file of a host that the role self_shutdown reads: seconds since 1970."""
TELL = """
import os, sys
os.makedirs("{folder}", exist_ok=True)
with open("{file}.new", "w") as told:
    told.write("{seconds}\\n")
os.replace("{file}.new", "{file}")
"""


class NoExpiry(Refusal):
    """The environment never expires, so that there is nothing to extend."""

    sentence = (
        "keep: {environment} never expires (environments/{environment}.yml: release.expires_after_days)"
    )
    remedy = "doit environment={environment} list"


def kept_until(tags: Mapping[str, str]) -> Time | None:
    """Until when the tags keep a resource; None if they do not. An unparsable date means keep forever."""
    if tags.get(PIN):
        return ALWAYS
    return moment(tags[UNTIL]) or ALWAYS if tags.get(UNTIL) else None


def expiry(own: EnvironmentInventory, environment: Environment) -> Time | None:
    """When an environment expires; None if it never does, or has no machine."""
    days = environment.release.expires_after_days
    found = [ALWAYS] if not own.instances else []
    for each in own.instances:
        made = each.made + datetime.timedelta(days=days) if each.made and days else ALWAYS
        end = moment(each.tags.get("expires", "")) or made
        found.append(max(end, kept_until(each.tags) or end))
    return None if ALWAYS in found else max(found)


def moment(text: str) -> Time | None:
    """The end of a date, or a time; in UTC unless a zone is given. None if it is unparsable."""
    try:
        if len(text) == len("2026-11-24"):
            day = datetime.datetime.fromisoformat(text).replace(tzinfo=datetime.UTC)
            return day + datetime.timedelta(days=1)
        found = datetime.datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.UTC)


def extend(run: Run, days: int) -> Time:
    """Keep the environment for so many days from now. Sleeping hosts are told when they wake. Raises NoExpiry, NoMachine."""
    if not run.environment.release.expires_after_days:
        raise NoExpiry(environment=run.environment_name)
    machines = find.everything(run).machines
    if not machines:
        raise NoMachine(stage="keep", identity=run.identity)
    until = run.clock.now() + datetime.timedelta(days=days)
    ec2.tag(run, [each.id for each in machines], {UNTIL: f"{until:%Y-%m-%dT%H:%MZ}"})
    tell(run)
    return until


def tell(run: Run) -> None:
    """Tell each running host until when it is kept, if the hosts shut themselves down."""
    tags = [each.tags for each in find.everything(run).machines if each.state == "running"]
    until = max((found for each in tags if (found := kept_until(each))), default=None)
    if not until or not run.environment.infrastructure.ends_itself:
        return
    folder, _, _ = TOLD.rpartition("/")
    program = TELL.format(folder=folder, file=TOLD, seconds=int(until.timestamp()))
    for host in hosts.reachable(run, infrastructure.existing(run)):
        run.hosts.python(host, "keep", program)
