"""sleep: stop an environment's machines, so that only their disks cost, and start them again."""

from __future__ import annotations

import contextlib
import datetime
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tasks import image
from tasks.bucket import lease
from tasks.environments import cost, expiry, inventory
from tasks.hosts import ssh
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import find, hosts, waiting
from tasks.infrastructure import stage as infrastructure
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

GRACE_DAYS = 1
"""Days that an expired environment is kept for when it wakes."""


class SleepForbidden(Refusal):
    """The environment may not be torn down, so it may not be put to sleep."""

    sentence = "{verb}: {environment} may not sleep (environments/{environment}.yml: stages has no teardown)"
    remedy = "doit environment={environment} list"


class NothingToWake(Refusal):
    """`doit sleep` without a running machine, or `doit wake` without a stopped one."""

    sentence = "{verb}: {identity} has no machine that is {state}"
    remedy = "doit plan infrastructure"


class SpotCannotSleep(Refusal):
    """The machines are spot instances, which the cloud does not stop: they run or end."""

    sentence = "{verb}: the machines of {environment} are spot instances, which cannot be stopped (infrastructure.spot)"
    remedy = "doit environment={environment} stop"


def sleep(run: Run) -> list[str]:
    """Stop every machine and return their ids. Raises SleepForbidden, NothingToWake or EnvironmentHeld."""
    with _alone(run, "sleep"):
        awake = [each for each in inventory.own(run).instances if each.state in ("pending", "running")]
        if not awake:
            raise NothingToWake(verb="sleep", identity=run.identity, state="running")
        for each in awake:
            now = run.clock.now()
            hours = cost.total([each], now, cost.prices()).hours
            tags = [{"Key": cost.HOURS_TAG, "Value": f"{hours:.2f}"}]
            run.cloud.client("ec2").create_tags(Resources=[each.id], Tags=tags)
            run.console.event("sleep", f"stop {each.id}")
            ec2.stop(run, each.id)
    return [each.id for each in awake]


def wake(run: Run) -> list[str]:
    """Start every stopped machine, update its DNS record and return the ids. An expired environment gets a day.

    Raises SleepForbidden, NothingToWake or EnvironmentHeld.
    """
    with _alone(run, "wake"):
        asleep = [each.id for each in find.everything(run).machines if each.state in ("stopping", "stopped")]
        if not asleep:
            raise NothingToWake(verb="wake", identity=run.identity, state="asleep")
        machines = hosts.parsed(infrastructure.converge(run, "wake", baked=image.start).facts)
        for host in hosts.reachable(run, machines):  # a machine that runs accepts logins some seconds later
            for _ in waiting.patience(run, f"{host.name} not to be logged in to"):
                if ssh.answer(host) is ssh.LoginAnswer.LOGIN:
                    break
        end = expiry.expiry(inventory.own(run), run.environment)
        if end and end < run.clock.now() + datetime.timedelta(days=GRACE_DAYS):
            expiry.extend(run, GRACE_DAYS)
            run.console.event("wake", f"it had expired: kept for {GRACE_DAYS} day")
        else:
            expiry.tell(run)
    return asleep


@contextlib.contextmanager
def _alone(run: Run, verb: str) -> Iterator[None]:
    if not run.environment.has("teardown", offered=False):
        raise SleepForbidden(verb=verb, environment=run.environment_name)
    if run.environment.infrastructure.spot:
        raise SpotCannotSleep(verb=verb, environment=run.environment_name)
    with lease.held(run, verb):
        yield
