"""apply: delete what the plan takes, each thing judged again just before, and each environment under its lease."""

from __future__ import annotations

import dataclasses
import datetime
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.lease import EnvironmentHeld, Lease
from tasks.bucket.store import NotADocument
from tasks.cloud import errors
from tasks.cloud.errors import already
from tasks.environments import inventory as inventories
from tasks.environments.inventory import Inventory, Resource, StoredObject, is_throw_away
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import find, images
from tasks.infrastructure.gone import unless_gone
from tasks.infrastructure.plan import teardown_plan
from tasks.refusal import Refusal
from tasks.sweep import plan as sweep
from tasks.sweep import references
from tasks.sweep.plan import Deletion, Known, Sightings, SweepPlan

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

Branches = Callable[[], Mapping[str, str]]
"""Asks the remote for its branches and their commits."""
AT_ONCE = 8
"""Environments that are deleted in parallel: most of the time is waiting."""


def remembered(store: Store) -> tuple[Sightings, str | None]:
    """What earlier sweeps have seen, and the ETag of that document."""
    try:
        document = store.read(layout.SIGHTINGS)
    except NotADocument as found:  # unreadable: everything is seen for the first time
        return Sightings(), found.etag
    if not document:
        return Sightings(), None
    seen = {name: datetime.datetime.fromisoformat(at) for name, at in document.value["seen"].items()}
    pushed = document.value["pushed"]
    # a former version did not say which remote had the branches
    return Sightings(seen=seen, pushed=pushed if isinstance(pushed, dict) else {}), document.etag


def remember(run: Run, memory: Sightings, etag: str | None) -> None:
    """Store it for the next sweep. Raises RecordTaken if another sweep is running."""
    seen = {name: at.isoformat() for name, at in sorted(memory.seen.items())}
    value = {"seen": seen, "pushed": dict(memory.pushed), "by": run.who}
    run.store.write(layout.SIGHTINGS, value, seen=etag)


def carry_out(run: Run, inventory: Inventory, plan: SweepPlan, branches: Branches) -> dict[str, str]:
    """Delete what the plan takes. Returns, by group, why a group was not deleted. A failed group stops no other."""
    files = [each.of.key for each in plan.take if isinstance(each.of, StoredObject) and not each.of.identity]
    # records before the files that they name: a record must not name a missing file
    for chosen in (
        [key for key in files if key.endswith(".json")],
        [key for key in files if not key.endswith(".json")],
    ):
        if chosen:
            condemned = _judged(run, plan.memory, branches, stored=True)
            run.store.delete_all([key for key in chosen if key in condemned])
    groups = {
        name: items
        for name, items in plan.groups.items()
        if not isinstance(items[0].of, StoredObject) or items[0].of.identity
    }
    with run.threads.pool(AT_ONCE) as pool:
        judge = functools.partial(_judged, run, plan.memory, branches)
        problems = pool.map(lambda name: _guarded(run, inventory, name, groups[name], judge), groups)
        try:
            return {name: problem for name, problem in zip(groups, problems, strict=True) if problem}
        except BaseException:
            pool.shutdown(
                wait=False, cancel_futures=True
            )  # groups that have started finish, the others do not start
            raise


def _judged(run: Run, memory: Sightings, branches: Branches, *, stored: bool = False) -> set[str]:
    """The names of everything that is condemned now. `stored`: ask for what living things refer to, too."""
    known, found = branches(), inventories.survey(run)
    referred = references.of(run, found, known) if stored else frozenset()
    facts = Known(remote=run.origin, branches=known, referred=referred, memory=memory)
    judged = sweep.condemned(found, facts, run.pipeline.sweep)
    return {each.name for each in judged if isinstance(each, Deletion)}


def _guarded(
    run: Run, inventory: Inventory, name: str, items: Sequence[Deletion], judge: Callable[[], set[str]]
) -> str:
    """Why a group was not deleted; empty if it was."""
    if run.threads.cancelled():
        return "interrupted"
    try:
        if name in inventory.environments:
            return _end(run, inventory, name, items, judge)
        if not {each.name for each in items} <= judge():
            return "it is in use again"
        for each in items:
            _STRAYS[each.of.kind](run, each.of)  # type: ignore[union-attr]
        return ""
    except Refusal as refusal:
        said = refusal.text.splitlines()[0]
        if isinstance(refusal, EnvironmentHeld) and is_throw_away(name):  # its job is at work, and ends it
            run.console.event("sweep", said)
            return ""
        return said
    except Exception as error:
        if not (unanswered := errors.refusal_of(error)):
            raise
        return unanswered.text.splitlines()[0]


# --- environments ---------------------------------------------------------------------------------


def _end(
    run: Run, inventory: Inventory, identity: str, items: Sequence[Deletion], judge: Callable[[], set[str]]
) -> str:
    there = run_of(run, inventory, identity)
    lease = Lease(there, on_lost=run.threads.interrupt)
    lease.take(0)
    gone = False
    try:
        found = find.everything(there)
        condemned = {each.of.id for each in items if isinstance(each.of, Resource)}
        if not {each.id for each in found.machines} <= condemned:
            return "a machine was added meanwhile"
        # a release, `doit keep` or a push may have renewed it since the survey
        if not judge() & {each.name for each in items}:
            if is_throw_away(identity):  # its job has ended it
                return ""
            return "it was renewed meanwhile"
        own = [each.of for each in items if isinstance(each.of, StoredObject)]
        # delete the state first, as a teardown does: a partly deleted environment must not look released
        there.store.delete_all([each.key for each in own if each.parsed and each.parsed.kind == "state"])
        for change in teardown_plan(there.name, there.pipeline.dns_zone, found):
            run.console.event("sweep", f"{identity}: {change}")
            lease.check()
            ec2.apply(there, change)
        for each in items:
            if isinstance(each.of, Resource) and each.of.kind == "volume":
                _delete_volume(there, each.of)
        lease.check()
        there.store.delete_all([each.key for each in own if each.key != lease.key])
        gone = True
    finally:
        lease.free(remove=gone)
    return ""


def run_of(run: Run, inventory: Inventory, identity: str) -> Run:
    """A run in that environment: of a branch, which is no longer known."""
    name = inventory.names.environment(identity)
    settings = inventory.settings[name] if name else run.environment
    environment = dataclasses.replace(settings, per_branch=True, host_name="")
    return dataclasses.replace(
        run, environment=environment, environment_name=name or identity, named_identity=identity
    )


# --- strays ---------------------------------------------------------------------------------------


def _terminate(run: Run, each: Resource) -> None:
    with already("InvalidInstanceID.NotFound"), unless_gone(run, "instance", each.id):
        run.cloud.client("ec2").terminate_instances(InstanceIds=[each.id])


def _delete_volume(run: Run, each: Resource) -> None:
    with already("InvalidVolume.NotFound"), unless_gone(run, "volume", each.id):
        run.cloud.client("ec2").delete_volume(VolumeId=each.id)


def _delete_key(run: Run, each: Resource) -> None:
    with unless_gone(run, "key pair", each.id):
        run.cloud.client("ec2").delete_key_pair(KeyName=each.id)


def _delete_group(run: Run, each: Resource) -> None:
    with already("InvalidGroup.NotFound"), unless_gone(run, "security group", each.id):
        run.cloud.client("ec2").delete_security_group(GroupId=each.id)


def _delete_image(run: Run, each: Resource) -> None:
    client = run.cloud.client("ec2")
    if not images.in_use(client, [each.id]):
        images.remove(run, each.id, each.more["snapshots"])


def _delete_snapshot(run: Run, each: Resource) -> None:
    images.remove_snapshot(run, each.id)


_STRAYS: dict[str, Callable[[Run, Any], None]] = {
    "image": _delete_image,
    "instance": _terminate,
    "key pair": _delete_key,
    "security group": _delete_group,
    "snapshot": _delete_snapshot,
    "volume": _delete_volume,
}
