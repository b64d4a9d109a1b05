"""stage: the machines, their name and their firewall: what is wanted against what is found by tag."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks import source
from tasks.bucket import create
from tasks.graph.stage import Outcome
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import launches, secrets
from tasks.infrastructure.apply import CloudTooSlow
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

ROUNDS = 4
"""Plans until what is found is what is wanted: machines first, their addresses into the record next."""

ADDITIONS = {
    "create_group",
    "create_key",
    "create_machine",
    "open_port",
    "point",
    "protect_machine",
    "tag_machine",
}
"""Verbs after which everything that was there before still is, and is the same."""

Rules = frozenset[tuple[int, str]]
"""Ports that are open, each with the network (CIDR) for which it is."""


class NoMachine(Refusal):
    """An environment that makes its machines has none that runs."""

    sentence = "{stage}: {identity} has no running machine"
    remedy = "doit infrastructure"


class NoMachineFound(Refusal):
    """An environment that makes no machines has none that carries its tags and runs."""

    sentence = "{stage}: no running machine carries the tags project={project} environment={identity}"
    remedy = "aws ec2 create-tags --resources ID --tags Key=project,Value={project} Key=environment,Value={identity}"


class OnlyAdditive(Refusal):
    """An environment that lets nothing be changed or removed has a plan that would; nothing of it is done."""

    sentence = "infrastructure: {environment} only lets things be added, and the plan says: {changes}"
    remedy = "doit plan infrastructure"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An instance that carries our tags."""

    id: str
    state: str
    address: str | None
    tags: dict[str, str]
    protected: bool | None = None
    """Whether the cloud refuses to end it; None where nobody asked."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the settings ask for."""

    name: str
    public_key: str
    rules: Rules
    machines: int
    host_name: str
    tags: dict[str, str]
    protected: bool = False


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What there is, by tag and by name."""

    key: str | None = None
    group: str | None = None
    rules: Rules = frozenset()
    machines: tuple[Machine, ...] = ()
    record: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Change:
    """One call to the cloud that is due: `verb` names the function of tasks/infrastructure/apply.py that makes it."""

    verb: str
    what: str
    facts: dict[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        """As a person reads it: `create machine 1 of 1`."""
        return f"{self.verb.replace('_', ' ')} {self.what}"


def plan(wanted: Wanted, found: Existing) -> list[Change]:
    """The changes that lead from what is found towards what is wanted, in the order to make them."""
    changes: list[Change] = []
    if found.key != key_mark(wanted.public_key):
        if found.key:
            changes.append(Change(verb="delete_key", what=wanted.name))
        changes.append(Change(verb="create_key", what=wanted.name, facts={"public_key": wanted.public_key}))
    if not found.group:
        changes.append(Change(verb="create_group", what=wanted.name))
    for verb, rules in (
        ("open", wanted.rules - found.rules),
        ("close", found.rules - wanted.rules),
    ):
        changes += [
            Change(verb=f"{verb}_port", what=f"{port} for {network}", facts={"rule": (port, network)})
            for port, network in sorted(rules)
        ]
    present = sorted(found.machines, key=lambda each: each.id)
    changes += [Change(verb="start_machine", what=each.id) for each in present if each.state == "stopped"]
    changes += [
        Change(verb="create_machine", what=f"{number} of {wanted.machines}", facts={"number": number})
        for number in range(len(present) + 1, wanted.machines + 1)
    ]
    changes += [Change(verb="end_machine", what=each.id) for each in present[wanted.machines :]]
    for each in present[: wanted.machines]:
        for verb, tags in (
            ("tag_machine", {k: v for k, v in wanted.tags.items() if k not in each.tags}),
            ("retag_machine", {k: v for k, v in wanted.tags.items() if each.tags.get(k, v) != v}),
        ):
            if tags:
                changes.append(Change(verb=verb, what=each.id, facts={"tags": tags}))
        if wanted.protected and each.protected is False:
            changes.append(Change(verb="protect_machine", what=each.id))
    kept = present[: wanted.machines]
    addresses = tuple(sorted(each.address for each in kept if each.address))
    ready = len(kept) == wanted.machines and all(each.state == "running" for each in kept)
    if ready and addresses != found.record:
        what = f"{wanted.host_name} to {', '.join(addresses)}"
        verb = "repoint" if found.record else "point"
        changes.append(Change(verb=verb, what=what, facts={"addresses": addresses}))
    return changes


def more_than_additions(changes: list[Change]) -> list[Change]:
    """Those that change or remove what is there."""
    return [each for each in changes if each.verb not in ADDITIONS]


def teardown_plan(name: str, host_name: str, found: Existing) -> list[Change]:
    """The changes that leave nothing of an environment."""
    changes = []
    if found.record:
        facts: dict[str, object] = {"addresses": found.record}
        changes.append(Change(verb="unpoint", what=host_name, facts=facts))
    changes += [Change(verb="end_machine", what=each.id) for each in found.machines]
    if found.group:
        changes.append(Change(verb="delete_group", what=name))
    if found.key:
        changes.append(Change(verb="delete_key", what=name))
    changes += [Change(verb="delete_secret", what=each) for each in found.secrets]
    return changes


def wanted(run: Run, known: secrets.Secrets | None) -> Wanted:
    """What the settings ask for, for this environment; without secrets the key pair is still to be made."""
    settings = run.environment.infrastructure
    return Wanted(
        name=f"{run.pipeline.name}-{run.identity}",
        public_key=known.deploy_key_public if known else "",
        rules=frozenset(
            [(22, network) for network in settings.ssh_from]
            + [(port, network) for port in (80, 443) for network in settings.http_from]
        ),
        machines=settings.instances,
        host_name=run.host_name,
        tags=tags(run),
        protected=settings.termination_protection,
    )


def tags(run: Run) -> dict[str, str]:
    """What tells our machines from others, and for whom they run."""
    return {
        "Name": f"{run.pipeline.name}-{run.identity}",
        "project": run.pipeline.name,
        "environment": run.identity,
        "branch": run.branch if run.environment.per_branch else run.pipeline.default_branch,
        "owner": run.environment.infrastructure.owner,
        "cost_centre": run.environment.infrastructure.cost_centre,
        **({"pushed": "yes"} if run.environment.per_branch and source.pushed(run.root, run.branch) else {}),
    }


def key_mark(public_key: str) -> str:
    """What a key pair is tagged with, so that a changed key is noticed."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:16]


def parts(run: Run) -> dict[str, object]:
    """The settings that this stage reads, by name."""
    from tasks.settings import flat

    return {
        **{f"infrastructure.{k}": v for k, v in flat(run.environment.infrastructure).items()},
        "dns_zone": run.pipeline.dns_zone,
        "image": run.pipeline.image,
        "instance_type": run.pipeline.instance_type,
        "region": run.pipeline.region,
    }


# --- the stage: what every environment shares -----------------------------------------------------


def shared_differences(run: Run) -> list[str]:
    """What is missing of the bucket and the zone."""
    with ThreadPoolExecutor(max_workers=1) as aside:
        zone = aside.submit(create.zone_id, run)
        missing = [] if create.bucket_exists(run) else [f"create bucket {run.bucket}"]
    return missing if zone.result() else [*missing, f"create zone {run.pipeline.dns_zone}"]


def share(run: Run) -> Outcome:
    """Make the bucket and, where it is ours to make, the zone."""
    made = create.make_shared(run)
    return Outcome(facts={}, done=f"made {' and '.join(made)}", unchanged="", changed=bool(made))


# --- the stage: an environment's own --------------------------------------------------------------


def differences(run: Run) -> list[str]:
    """What the cloud has not, or has otherwise than the settings ask for. Changes nothing."""
    with ThreadPoolExecutor(max_workers=1) as aside:
        known = aside.submit(secrets.known, run)
        found = ec2.find(run)
    return list(map(str, plan(wanted(run, known.result()), found)))


def converge(run: Run, stage: str = "infrastructure") -> Outcome:
    """Plan and apply until there is nothing to do. Safe to interrupt and to call again."""
    manage = run.environment.infrastructure.manage
    if manage == "plan":
        return _only_planned(run, stage)
    made: list[Change] = []
    known = secrets.ensure(run)
    for _ in range(ROUNDS):
        found = ec2.find(run)
        changes = plan(wanted(run, known), found)
        if not changes and all(each.state == "running" for each in found.machines):
            break
        if manage == "additive" and (more := more_than_additions(changes)):
            raise OnlyAdditive(environment=run.environment_name, changes="; ".join(map(str, more)))
        for change in changes:
            run.console.event(stage, str(change))
            ec2.apply(run, change)
            made.append(change)
        ec2.settle(run, run.console.say(stage))
    else:
        left = "; ".join(map(str, changes))
        raise CloudTooSlow(what=f"still to do after {ROUNDS} rounds: {left}", seconds=0)
    hosts = existing(run)
    summary = ", ".join(f"{each['id']} at {each['address']}" for each in hosts["hosts"])
    done = f"{summary}, {len(made)} changes"
    return Outcome(facts=hosts, done=done, unchanged=f"{summary}, all as wanted", changed=bool(made))


def _only_planned(run: Run, stage: str) -> Outcome:
    changes = differences(run)
    for change in changes:
        run.console.event(stage, f"would {change}")
    hosts = existing(run)
    summary = ", ".join(f"{each['id']} at {each['address']}" for each in hosts["hosts"])
    held = f"{len(changes)} changes only planned" if changes else "all as wanted"
    return Outcome(facts=hosts, done="", unchanged=f"{summary}, {held}", changed=False)


def existing(run: Run) -> dict[str, list[dict[str, object]]]:
    """The environment's running machines with their pinned host keys. Raises NoMachine or NoMachineFound."""
    running = [each for each in ec2.find(run).machines if each.state == "running"]
    if not running:
        makes = run.environment.has("infrastructure") and run.environment.infrastructure.manage != "plan"
        kind = NoMachine if makes else NoMachineFound
        raise kind(stage="server", identity=run.identity, project=run.pipeline.name)
    return {"hosts": launches.pinned(run, running)}
