"""stage: the machines, their name and their firewall become what the settings ask for."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tasks import endpoints, mail, network, search
from tasks.bucket import create
from tasks.graph.stage import Foreseen, Outcome
from tasks.infrastructure import delegation, find, hosts, machine, memory, name_servers, secrets, zone
from tasks.infrastructure.apply import Baked, apply, settle
from tasks.infrastructure.delegation import Ask
from tasks.infrastructure.hosts import MachineFacts
from tasks.infrastructure.plan import (
    Change,
    CreateMachine,
    EndMachine,
    Existing,
    HoldBack,
    Point,
    Repoint,
    StartMachine,
    Unpoint,
    Wanted,
    endings,
    later,
    more_than_additions,
    plan,
)
from tasks.infrastructure.waiting import POLL, CloudTooSlow
from tasks.infrastructure.written import Written
from tasks.refusal import Refusal
from tasks.settings import flat

if TYPE_CHECKING:
    from tasks.run import Run

ROUNDS = 4
"""The most plans until nothing is left to change: the first makes machines, the next sets the DNS record."""


class NoMachine(Refusal):
    """An environment whose machines the pipeline makes has no running machine."""

    sentence = "{stage}: {identity} has no running machine"
    remedy = "doit infrastructure"


class NoMachineFound(Refusal):
    """An environment whose machines the pipeline does not make has no running machine with its tags that its settings list."""

    sentence = (
        "{stage}: no running machine carries the tags project={project} environment={identity} and is listed"
    )
    remedy = "$EDITOR environments/{environment}.yml  # infrastructure.machines: [ID]"


class OnlyAdditive(Refusal):
    """An environment allows only additions, and its plan would change or remove something. No change is made."""

    sentence = "infrastructure: {environment} allows only additions, and the plan has: {changes}"
    remedy = "doit plan infrastructure"


class ScaleDownRefused(Refusal):
    """The settings have fewer machines, or other names of them, and the environment does not allow to end any. No change is made."""

    sentence = "infrastructure: {environment} has machines that `infrastructure.instances` and `placement` do not have, and may end none: {changes}"
    remedy = "$EDITOR environments/{environment}.yml  # infrastructure.scale_down: true, or the machines as they are"


def wanted(run: Run, known: secrets.Secrets | None) -> Wanted:
    """What the settings ask for in this environment. `known`: None before the secrets are made."""
    settings = run.environment.infrastructure
    return Wanted(
        name=run.name,
        public_key=known.deploy_key_public if known else "",
        rules=frozenset(
            (each.port, source)
            for each in run.network.services
            for name in each.open_to
            for source in getattr(settings, name)
        ),
        machines=settings.instances,
        host_names=run.host_names,
        zone=run.pipeline.dns_zone,
        tags=find.tags(run),
        protected=settings.termination_protection,
        named={name: run.placement.tags(name) for name in run.placement.groups},
        visited=network.visited(run.network, run.placement),
        peers=network.between(run.network, run.placement, settings.instances),
        ways_out=network.outward(run.network, run.cloud.bucket_port),
    )


def parts(run: Run) -> dict[str, object]:
    """The settings that this stage reads, by name."""
    return {
        **{f"infrastructure.{k}": v for k, v in flat(run.environment.infrastructure).items()},
        "network": network.words(run.network),
        "dns_zone": run.pipeline.dns_zone,
        "image": run.pipeline.image,
        "instance_type": run.pipeline.instance_type,
        "region": run.pipeline.region,
    }


# --- the stage: what every environment shares -----------------------------------------------------


def shared_differences(run: Run) -> list[str]:
    """Which of the bucket and the zone is missing."""
    with run.threads.pool(1) as aside:
        asked = aside.submit(_zone, run)
        missing = [] if _bucket_exists(run) else [f"create bucket {run.bucket}"]
    return missing if asked.result() else [*missing, f"create zone {run.pipeline.dns_zone}"]


def share(run: Run) -> Outcome:
    """Make the bucket and the zone. Raises BucketGone, NotBootstrapped, or ZoneMissing for a zone that the pipeline does not make."""
    made = []
    if not _bucket_exists(run):
        create.accept_making(run.store)
        create.make_bucket(run.store, run.pipeline.name, run.pipeline.region)
        made.append(f"bucket {run.bucket}")
    if not _zone(run):
        zone.make(run.cloud.client("route53"), run.pipeline.dns_zone, run.pipeline.name)
        made.append(f"zone {run.pipeline.dns_zone}")
    return Outcome(facts={}, done=f"made {' and '.join(made)}", unchanged="", changed=bool(made))


def _bucket_exists(run: Run) -> bool:
    return create.bucket_exists(run.store, run.pipeline.name)


def _zone(run: Run) -> str | None:
    return zone.zone_id(run.cloud, run.pipeline.dns_zone)


# --- the stage: an environment's own --------------------------------------------------------------


def differences(run: Run) -> list[str]:
    """How the cloud differs from what the settings ask for. Changes nothing."""
    found, changes = _compared(run)
    return [*_alarms(run, found), *map(str, changes)]


def _alarms(run: Run, found: Existing) -> list[str]:
    """Machines that somebody has given the environment's tags: they are shown, and get nothing."""
    words = "alarm: {} has the tags of {} and is none of its machines: it gets nothing"
    return [words.format(each.id, run.identity) for each in found.strangers]


def _compared(run: Run) -> tuple[Existing, list[Change]]:
    """What exists, and all changes that are to be made."""
    with run.threads.pool(1) as aside:
        known = aside.submit(lambda: secrets.known(run.cloud.client("ssm"), run.secrets_folder))
        found = find.everything(run)
    ours = wanted(run, known.result())
    changes = plan(ours, found)
    return found, [*changes, *later(ours, found, changes)]


def foresee(run: Run) -> Foreseen | None:
    """Whether anything will be done, and what will be told of the machines; None if a machine is to be made or started.

    Settings and code are inputs of the stage, and most of their changes change nothing in the cloud.
    """
    found, changes = _compared(run)
    only_planned = run.environment.infrastructure.manage == "plan"
    made = [] if only_planned else changes
    ended = {each.id for each in made if isinstance(each, EndMachine)}
    kept = [each for each in found.machines if each.id not in ended]
    running = [each for each in kept if each.state == "running"]
    if not running or any(isinstance(each, CreateMachine | StartMachine) for each in made):
        return None
    pins = hosts.host_keys(run.store, run.identity)
    known = all(each.id in pins for each in running)  # a plan does not pin any
    machines = hosts.pinned(run, running) if known else []
    facts = hosts.facts(machines) if known else None
    if made:
        return Foreseen(what="run", facts=facts)
    summary = ", ".join(map(str, machines)) or f"{len(running)} machines"
    alarms = _alarms(run, found)
    if not changes:
        return Foreseen(what="unchanged", words=(f"{summary}, all as wanted", *alarms), facts=facts)
    planned = [f"would {each}" for each in changes]
    words = (f"{summary}, {len(changes)} changes only planned", *alarms, *planned)
    return Foreseen(what="unchanged", words=words, facts=facts)


def converge(
    run: Run, named: str = "infrastructure", *, baked: Baked | None = None, ask: Ask = name_servers.of
) -> Outcome:
    """Plan and apply until there is nothing to do. Safe to interrupt and to call again.

    `named`: the stage that the lines on the terminal name. `baked`: chooses the image of a new machine; the default is the
    image of the settings.
    """
    manage = run.environment.infrastructure.manage
    if manage == "plan":
        return _only_planned(run, named)
    if run.environment.has("server"):  # what provisioning would refuse is refused before there is a machine
        search.has_stand_in(run)
        machine.memory(run)
    made: list[Change] = []
    lacks: Callable[[], list[str]] | None = None
    known = secrets.ensure(run.cloud.client("ssm"), run.secrets_folder)
    if run.environment.has("server"):
        search.password(run, known.search_password)
        mail.relay_password(run, known.relay_password)
        endpoints.passwords(run, known.value)
    written = Written()
    for _ in range(ROUNDS):
        found = written.over(find.everything(run), run.host_names)
        if found.ended:
            memory.drop(run.store, run.identity, machines=found.ended)
        for alarm in _alarms(run, found):
            run.console.once(named, alarm)
        for name, words in found.foreign.items() if not made else ():
            run.console.event(named, f"leaves {name}, {words}")
        ours = wanted(run, known)
        changes = plan(ours, found)
        if not changes and all(each.state == "running" for each in found.machines):
            break
        if manage == "additive" and (more := more_than_additions([*changes, *later(ours, found, changes)])):
            raise OnlyAdditive(environment=run.environment_name, changes="; ".join(map(str, more)))
        if (ended := endings(changes)) and not run.environment.infrastructure.scale_down:
            raise ScaleDownRefused(environment=run.environment_name, changes="; ".join(map(str, ended)))
        if changes and run.environment.per_branch and find.fitted(run.branch) != run.branch:
            run.console.once(named, f"shortens the branch's name to {find.LONGEST_TAG} characters in tags")
        if not (run.cloud.own or lacks) and any(isinstance(each, Point | Repoint) for each in changes):
            lacks = delegation.asked(run.cloud, run.pipeline.dns_zone, ask)
        for change in changes:
            run.console.event(named, str(change))
            written.note(change, apply(run, change, baked=baked))
            if isinstance(change, Unpoint):  # a teardown forgets all names, and a sweep may not write here
                memory.drop_host_name(run.store, run.identity, change.host_name)
            if isinstance(change, EndMachine):
                memory.drop(run.store, run.identity, machines=[change.id])
            made.append(change)
        written.settled(settle(run, run.console.say(named), written.started))
    else:
        left = "; ".join(map(str, changes))
        raise CloudTooSlow(what=f"the plan still has, after {ROUNDS} rounds: {left}")
    for words in lacks() if lacks else ():
        run.console.event(named, words)
    machines = hosts.pinned(run, found.machines)
    summary = ", ".join(map(str, machines))
    return Outcome(
        facts=hosts.facts(machines),
        done=f"{summary}, {len(made)} changes",
        unchanged=f"{summary}, all as wanted",
        changed=bool(made),
    )


def provisioned(run: Run, named: str) -> None:
    """Once hosts are provisioned, hold back what only those of the former settings have used."""
    if run.environment.infrastructure.manage != "all" or not run.environment.has("infrastructure"):
        return
    ways = network.outward(run.network, run.cloud.bucket_port)
    former = memory.ways_out(memory.read(run.store, run.identity))
    if ways == former:
        return
    listed = sorted(map(list, ways))
    memory.change(run.store, run.identity, lambda document: {**document, "ways_out": listed})
    for change in _compared(run)[1] if former else ():
        if isinstance(change, HoldBack):
            run.console.event(named, str(change))
            apply(run, change)


def _only_planned(run: Run, named: str) -> Outcome:
    found, changes = _compared(run)
    for alarm in _alarms(run, found):
        run.console.once(named, alarm)
    for change in changes:
        run.console.event(named, f"would {change}")
    machines = existing(run)
    words = f"{len(changes)} changes only planned" if changes else "all as wanted"
    summary = ", ".join(map(str, machines))
    return Outcome(facts=hosts.facts(machines), done="", unchanged=f"{summary}, {words}", changed=False)


def existing(run: Run) -> list[MachineFacts]:
    """The environment's running machines with their pinned host keys. Raises NoMachine or NoMachineFound."""
    for _ in range(find.READS):  # a list may be behind, and show one that runs as it was before
        machines = find.everything(run).machines
        if all(each.state == "running" for each in machines):
            break
        run.threads.wait(POLL, "infrastructure")
    running = [each for each in machines if each.state == "running"]
    if not running:
        makes = run.environment.has("infrastructure") and run.environment.infrastructure.manage != "plan"
        kind = NoMachine if makes else NoMachineFound
        names = {"environment": run.environment_name, "project": run.pipeline.name}
        raise kind(stage="server", identity=run.identity, **names)
    return hosts.pinned(run, running)
