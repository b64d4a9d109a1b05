"""plan: decide what a sweep deletes, from the inventory, the branches of git and the time.

What is condemned for the first time is only remembered. It is taken when it has been condemned for the grace time.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tasks import image
from tasks.bucket import layout
from tasks.bucket.layout import Key, Zone
from tasks.environments import cost
from tasks.environments.cost import Prices
from tasks.environments.expiry import ALWAYS, expiry, kept_until, moment
from tasks.environments.inventory import (
    IMAGE_BUILDER,
    EnvironmentInventory,
    Inventory,
    Resource,
    StoredObject,
    Time,
    is_throw_away,
)
from tasks.settings import Sweep

FEW = 25
"""This many items may go whatever their share: a project with one environment must be able to delete it."""
STRAYS = ("instance", "volume", "key pair", "security group")
"""Kinds that are condemned without an environment's tag. A secret may belong to the project."""
REMOTE, PUSHED = "remote", "pushed"
"""Tags: the remote that says when the environment ends; the remote to which its branch was pushed."""
LIVED = ("history", "ledger")
"""Kinds of records that a teardown removes."""


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """What earlier sweeps have seen. `seen`: condemned items, and since when. `pushed`: for an environment, which remote had its branch."""

    seen: Mapping[str, Time] = field(default_factory=dict)
    pushed: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known besides the inventory. `remote`: the address of the one that is asked. `branches`: its branches, with their commits.
    `referred`: names of tarballs, layers and commits that are still in use."""

    remote: str
    branches: Mapping[str, str]
    referred: frozenset[str] = frozenset()
    memory: Sightings = field(default_factory=Sightings)


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One item to delete. `group`: items that are deleted together or not at all."""

    of: Resource | StoredObject
    group: str
    why: str

    @property
    def name(self) -> str:
        """The name in `Sightings.seen`."""
        return f"{self.of.kind} {self.of.id}" if isinstance(self.of, Resource) else self.of.key


@dataclass(frozen=True, kw_only=True)
class Spared:
    """A group that would be deleted, and why it is not."""

    group: str
    why: str


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What is taken now, what waits and until when, what is left, and what to remember."""

    take: tuple[Deletion, ...]
    wait: Mapping[str, tuple[Time, tuple[Deletion, ...]]]
    left: tuple[Spared, ...]
    memory: Sightings
    share: float
    """Percent of all items that would be taken."""

    @property
    def groups(self) -> dict[str, list[Deletion]]:
        """What is taken, by group."""
        found: dict[str, list[Deletion]] = {}
        for each in self.take:
            found.setdefault(each.group, []).append(each)
        return found


def plan(inventory: Inventory, known: Known, settings: Sweep) -> SweepPlan:
    """The plan: pure, it asks and changes nothing."""
    found = list(condemned(inventory, known, settings))
    groups: dict[str, list[Deletion]] = {}
    for each in found:
        if isinstance(each, Deletion):
            groups.setdefault(each.group, []).append(each)
    grace, seen = datetime.timedelta(hours=settings.grace_hours), known.memory.seen
    take: list[Deletion] = []
    wait: dict[str, tuple[Time, tuple[Deletion, ...]]] = {}
    for name, items in groups.items():
        due = max(seen.get(each.name, inventory.at) for each in items) + grace
        if due <= inventory.at and all(each.name in seen for each in items):
            take += items
        else:
            wait[name] = due, tuple(items)
    everything = len(inventory.resources) + len(inventory.objects)
    return SweepPlan(
        take=tuple(take),
        wait=wait,
        left=tuple(each for each in found if isinstance(each, Spared)),
        memory=Sightings(
            seen={
                each.name: seen.get(each.name, inventory.at) for items in groups.values() for each in items
            },
            pushed=_pushed(inventory, known),
        ),
        share=100 * len(take) / everything if len(take) > FEW else 0.0,
    )


def condemned(inventory: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion | Spared]:
    """Every item to delete, and every group that only a tag keeps."""
    living = _identities(inventory, known)
    for own in inventory.environments.values():
        yield from _environment(inventory, own, known, living, settings)
    for each in inventory.resources:
        yield from _stray(inventory, each)
    yield from _images(inventory)
    yield from _snapshots(inventory)
    yield from _files(inventory, known, settings)
    yield from _records(inventory, known, settings)


def _identities(inventory: Inventory, known: Known) -> set[str]:
    return set().union(*(inventory.names.of_branch(branch) for branch in known.branches))


def _pushed(inventory: Inventory, known: Known) -> dict[str, str]:
    """What is remembered of existing environments, and which of those that this remote judges it has, or had."""
    environments, living = inventory.environments, _identities(inventory, known)
    before = {name: remote for name, remote in known.memory.pushed.items() if name in environments}
    here = {name for name, own in environments.items() if not _elsewhere(own, known)}
    had = {name for name in here if name in living or environments[name].tags.get(PUSHED) == known.remote}
    return before | dict.fromkeys(sorted(had), known.remote)


def lines(plan: SweepPlan, inventory: Inventory, prices: Prices) -> Iterator[str]:
    """The plan in words: a line for each group that goes, waits or is left, and the costs."""
    for name, items in plan.groups.items():
        yield f"{'take':<15} {name}: {items[0].why} ({_counted(items)})"
    for name, (due, waiting) in plan.wait.items():
        when = f"taken from {due:%Y-%m-%d %H:%M} UTC on"
        yield f"{'wait':<15} {name}: {waiting[0].why}; {when} ({_counted(waiting)})"
    for each in plan.left:
        yield f"{'leave':<15} {each.group}: {each.why}"
    everything = cost.total(inventory.resources, inventory.at, prices)
    saved = cost.total((each.of for each in plan.take if isinstance(each.of, Resource)), inventory.at, prices)
    bytes = sum(each.of.size for each in plan.take if isinstance(each.of, StoredObject))
    number, money = len(inventory.environments), f"{everything.money:.2f} {prices.currency}"
    yield f"{number} environments, {everything.hours:.0f} instance hours, about {money} so far"
    yield (
        f"{len(plan.take)} items to take save {saved.hourly * cost.MONTH:.2f} {prices.currency} a month and "
        f"{bytes / 1e6:.1f} MB, {sum(len(items) for _, items in plan.wait.values())} wait"
    )


def _counted(items: Iterable[Deletion]) -> str:
    kinds = Counter(each.of.kind if isinstance(each.of, Resource) else "object" for each in items)
    return ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in kinds.items())


# --- environments ---------------------------------------------------------------------------------


def _environment(
    inventory: Inventory, own: EnvironmentInventory, known: Known, living: set[str], settings: Sweep
) -> Iterator[Deletion | Spared]:
    name = inventory.names.environment(own.identity)
    if name in inventory.names.fixed:
        return
    if name is None and not is_throw_away(own.identity):
        if own.resources:
            yield Spared(group=own.identity, why=f"no file in environments/ makes {own.identity}")
        return
    if name in inventory.elsewhere:
        if own.resources:
            yield Spared(group=own.identity, why=f"{name} is elsewhere: doit environment={name} sweep")
        return
    why = _unended(inventory, own) if name is None else _why(inventory, own, name, known, living, settings)
    if (
        not why
        and name
        and own.instances
        and own.identity not in living
        and (other := _elsewhere(own, known))
    ):
        yield Spared(group=own.identity, why=other)
    if not why or (name is None and not own.resources):
        return
    until = max((kept_until(each.tags) or inventory.at for each in own.resources), default=inventory.at)
    if until > inventory.at:
        yield Spared(group=own.identity, why=f"{why}, but {_kept(until)}")
        return
    items: tuple[Resource | StoredObject, ...] = (*own.resources, *own.objects)
    yield from (Deletion(of=each, group=own.identity, why=why) for each in items)


def _unended(inventory: Inventory, own: EnvironmentInventory) -> str:
    """Why a throw-away host goes; empty as long as its job may need it. Its lease is asked for as well."""
    if own.identity == IMAGE_BUILDER:
        return "a bake that did not end"
    ends = [moment(each.tags.get("expires", "")) or inventory.at for each in own.instances]
    return "" if any(each > inventory.at for each in ends) else "a drill that did not end"


def _why(
    inventory: Inventory,
    own: EnvironmentInventory,
    name: str,
    known: Known,
    living: set[str],
    settings: Sweep,
) -> str:
    """Why an environment is condemned; empty if it is not."""
    gone = own.identity not in living
    seen = known.memory.pushed.get(own.identity) == known.remote
    if not own.resources:
        return _records_alone(inventory, own, settings, seen=seen) if gone else ""
    pushed = seen or own.tags.get(PUSHED) == known.remote
    branch = own.tags.get("branch", "")
    if gone and pushed and not _elsewhere(own, known):
        return f"its branch {branch} is gone".replace("  ", " ")
    if not own.instances:
        return "half made: it has no machine"
    end = expiry(own, inventory.settings[name])
    return f"expired on {end:%Y-%m-%d %H:%M} UTC" if end and end <= inventory.at else ""


def _elsewhere(own: EnvironmentInventory, known: Known) -> str:
    """Why this sweep's remote cannot say whether the environment's branch is gone; empty if it can."""
    remotes, branch = {each.tags.get(REMOTE, "") for each in own.instances}, own.tags.get("branch", "")
    if known.remote and remotes == {known.remote}:
        return ""
    others = " and ".join(sorted(remotes - {"", known.remote}))
    if not others:
        return f"nothing says which remote has its branch {branch}"
    return f"its branch {branch} is one of {others}, and this sweep asks {known.remote or 'an unknown one'}"


def _records_alone(inventory: Inventory, own: EnvironmentInventory, settings: Sweep, *, seen: bool) -> str:
    """Why records without a resource go. Nothing says which remote has the branch, unless a sweep has seen it there."""
    if seen:
        return "records of a branch that is gone"
    if not any(each.parsed and each.parsed.kind in LIVED for each in own.objects):
        return "what a teardown has left"
    # whoever takes the lease writes it, the sweep itself too: that renews nothing
    records = (each for each in own.objects if not (each.parsed and each.parsed.kind == "lease"))
    old = all(older(inventory, each, settings.record_days) for each in records)
    return f"records without a machine, older than {settings.record_days} days" if old else ""


def _kept(until: Time) -> str:
    return "pinned" if until == ALWAYS else f"kept until {until:%Y-%m-%d %H:%M} UTC"


# --- what belongs to no environment ---------------------------------------------------------------


def _stray(inventory: Inventory, each: Resource) -> Iterator[Deletion | Spared]:
    name = inventory.names.environment(each.identity)
    known = is_throw_away(each.identity) or name
    if name in inventory.elsewhere:
        return
    if each.kind == "volume" and each.state == "available" and known:
        # a testing environment's volume goes with it; a fixed environment's may have the only copy of its data
        if each.identity in inventory.names.fixed:
            yield Spared(group=f"volume {each.id}", why=f"attached to nothing, but it is {each.identity}'s")
        elif not inventory.environments[each.identity].instances:
            return
        else:
            yield from _unless_kept(inventory, each, "attached to nothing")
    elif not each.identity and each.kind in STRAYS and not each.more.get("of"):
        yield from _unless_kept(inventory, each, "it carries the tag of no environment")


def _images(inventory: Inventory) -> Iterator[Deletion | Spared]:
    baked = [each for each in inventory.resources if each.kind == "image" and "fingerprint" in each.tags]
    newest = sorted(baked, key=lambda each: each.made or inventory.at, reverse=True)
    stays = image.newest(
        (each.id, each.more.get("architecture", image.X86)) for each in newest if each.state == "available"
    )
    used = {each.more["image"] for each in inventory.resources if each.kind == "instance"}
    for each in newest:
        if each.state in image.SPENT:
            yield from _unless_kept(inventory, each, f"the image is {each.state}")
        elif each.state == "available" and each.id not in stays | used:
            yield from _unless_kept(
                inventory, each, f"older than the newest {image.KEPT}, and no machine runs on it"
            )


def _snapshots(inventory: Inventory) -> Iterator[Deletion | Spared]:
    """The disks of images that are no more: AWS may keep them when it removes an image."""
    ours = {each for found in inventory.resources for each in found.more.get("snapshots", ())}
    for each in inventory.resources:
        if (
            each.kind == "snapshot"
            and each.state == "completed"
            and each.id not in ours
            and not each.identity
        ):
            yield from _unless_kept(inventory, each, "its image is gone")


def _unless_kept(inventory: Inventory, each: Resource, why: str) -> Iterator[Deletion | Spared]:
    until, group = kept_until(each.tags), f"{each.kind} {each.id}"
    if until and until > inventory.at:
        yield Spared(group=group, why=f"{why}, but {_kept(until)}")
    else:
        yield Deletion(of=each, group=group, why=why)


# --- the bucket -----------------------------------------------------------------------------------


def _files(inventory: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion]:
    """Tarballs that are too old or too many, with the documents beside them, and layers that are too old."""
    tarballs: dict[Zone, dict[str, list[StoredObject]]] = {}
    for each, key in keyed(inventory.objects):
        if key.zone and key.folder == "tarballs":
            tarballs.setdefault(key.zone, {}).setdefault(key.name, []).append(each)
        elif (
            key.folder == "layers"
            and older(inventory, each, settings.layer_days)
            and key.name not in known.referred
        ):
            why = f"older than {settings.layer_days} days, and nothing living is made of it"
            yield Deletion(of=each, group=each.key, why=why)
    for zone, named in tarballs.items():
        newest = sorted(named, key=lambda name: max(each.written for each in named[name]), reverse=True)
        for number, name in enumerate(newest):
            old = all(older(inventory, each, settings.tarball_days) for each in named[name])
            if (old or number >= settings.tarballs) and name not in known.referred:
                why = (
                    f"older than {settings.tarball_days} days"
                    if old
                    else f"beyond {settings.tarballs} tarballs"
                )
                for each in named[name]:
                    group = layout.blobs(zone, "tarballs", name)
                    yield Deletion(of=each, group=group, why=f"{why}, and nothing living refers to it")


def _records(inventory: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion]:
    """Old pointers of commits, keys of builds, records of runs and marks of tarballs that were undone."""
    why = f"a record older than {settings.record_days} days"
    found = list(keyed(inventory.objects))
    pointers = [(each, key) for each, key in found if key.folder in ("keys", "commits")]
    runs = [(each, key) for each, key in found if key.kind in ("run", "undone")]
    for each, key in (*pointers, *runs):
        if older(inventory, each, settings.record_days) and key.name not in known.referred:
            yield Deletion(of=each, group=each.key, why=why)


def keyed(objects: Iterable[StoredObject]) -> Iterator[tuple[StoredObject, Key]]:
    """The objects whose keys the pipeline makes, with the parsed key."""
    yield from ((each, each.parsed) for each in objects if each.parsed)


def older(inventory: Inventory, each: StoredObject, days: int) -> bool:
    """Whether an object was written more than so many days ago."""
    return inventory.at - each.written > datetime.timedelta(days=days)
