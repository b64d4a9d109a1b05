"""plan: find what no branch owns, and give it back: decided here, from what there is, what git has, and the time.

What is condemned for the first time is only remembered; it is taken when it has been condemned for the grace time.
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
from tasks.environments.expiry import ALWAYS, expiry, kept_until
from tasks.environments.inventory import BAKERY, EnvironmentInventory, Inventory, Resource, StoredObject, Time
from tasks.settings import Sweep

FEW = 25
"""Items that may go whatever their share: a project with one environment must be able to end it."""
STRAYS = ("instance", "volume", "key pair", "security group")
"""Kinds that are nobody's without an environment's tag; a secret may be the project's."""
PUSHED = "pushed"
"""Tag: the branch is known to a remote."""


@dataclass(frozen=True, kw_only=True)
class Sightings:
    """What earlier sweeps have seen: things condemned, since when; environments whose branch a remote had."""

    seen: Mapping[str, Time] = field(default_factory=dict)
    pushed: frozenset[str] = frozenset()


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known beside the cloud. `branches`: the remote's, with their commits. `referred`: names of tarballs, layers and
    commits that something living refers to."""

    branches: Mapping[str, str]
    referred: frozenset[str] = frozenset()
    memory: Sightings = field(default_factory=Sightings)


@dataclass(frozen=True, kw_only=True)
class Deletion:
    """One item that nothing holds. `group`: what goes together, or not at all."""

    of: Resource | StoredObject
    group: str
    why: str

    @property
    def name(self) -> str:
        """What it is remembered by."""
        return f"{self.of.kind} {self.of.id}" if isinstance(self.of, Resource) else self.of.key


@dataclass(frozen=True, kw_only=True)
class Spared:
    """What would go, but for this."""

    group: str
    why: str


@dataclass(frozen=True, kw_only=True)
class SweepPlan:
    """What is taken now, what waits and until when, what is left; and what is to be remembered."""

    take: tuple[Deletion, ...]
    wait: Mapping[str, tuple[Time, tuple[Deletion, ...]]]
    left: tuple[Spared, ...]
    memory: Sightings
    share: float
    """Percent of everything that would be taken."""

    @property
    def groups(self) -> dict[str, list[Deletion]]:
        """What is taken, as it goes together."""
        found: dict[str, list[Deletion]] = {}
        for each in self.take:
            found.setdefault(each.group, []).append(each)
        return found


def plan(estate: Inventory, known: Known, settings: Sweep) -> SweepPlan:
    """What is to be done, by whom nothing is asked and nothing changed."""
    found = list(condemned(estate, known, settings))
    groups: dict[str, list[Deletion]] = {}
    for each in found:
        if isinstance(each, Deletion):
            groups.setdefault(each.group, []).append(each)
    grace, seen = datetime.timedelta(hours=settings.grace_hours), known.memory.seen
    take: list[Deletion] = []
    wait: dict[str, tuple[Time, tuple[Deletion, ...]]] = {}
    for name, items in groups.items():
        due = max(seen.get(each.name, estate.at) for each in items) + grace
        if due <= estate.at and all(each.name in seen for each in items):
            take += items
        else:
            wait[name] = due, tuple(items)
    everything = len(estate.things) + len(estate.objects)
    return SweepPlan(
        take=tuple(take),
        wait=wait,
        left=tuple(each for each in found if isinstance(each, Spared)),
        memory=Sightings(
            seen={each.name: seen.get(each.name, estate.at) for items in groups.values() for each in items},
            pushed=frozenset(known.memory.pushed & estate.places.keys())
            | (_identities(estate, known) & estate.places.keys()),
        ),
        share=100 * len(take) / everything if len(take) > FEW else 0.0,
    )


def condemned(estate: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion | Spared]:
    """Everything that nothing holds, and what only a tag holds."""
    living = _identities(estate, known)
    for place in estate.places.values():
        yield from _place(estate, place, known, living)
    for each in estate.things:
        yield from _stray(estate, each)
    yield from _images(estate)
    yield from _files(estate, known, settings)
    yield from _records(estate, known, settings)


def _identities(estate: Inventory, known: Known) -> set[str]:
    return set().union(*(estate.names.of_branch(branch) for branch in known.branches))


def lines(plan: SweepPlan, estate: Inventory, prices: Prices) -> Iterator[str]:
    """The plan, as a person reads it: a line for each thing that goes, waits or is left, and what it costs."""
    for name, items in plan.groups.items():
        yield f"{'take':<15} {name}: {items[0].why} ({_counted(items)})"
    for name, (due, waiting) in plan.wait.items():
        when = f"taken from {due:%Y-%m-%d %H:%M} UTC on"
        yield f"{'wait':<15} {name}: {waiting[0].why}; {when} ({_counted(waiting)})"
    for each in plan.left:
        yield f"{'leave':<15} {each.group}: {each.why}"
    everything = cost.total(estate.things, estate.at, prices)
    saved = cost.total((each.of for each in plan.take if isinstance(each.of, Resource)), estate.at, prices)
    bytes = sum(each.of.size for each in plan.take if isinstance(each.of, StoredObject))
    number, money = len(estate.places), f"{everything.money:.2f} {prices.currency}"
    yield f"{number} environments, {everything.hours:.0f} instance hours, about {money} so far"
    yield (
        f"{len(plan.take)} items to take save {saved.hourly * cost.MONTH:.2f} {prices.currency} a month and "
        f"{bytes / 1e6:.1f} MB, {sum(len(items) for _, items in plan.wait.values())} wait"
    )


def _counted(items: Iterable[Deletion]) -> str:
    kinds = Counter(each.of.kind if isinstance(each.of, Resource) else "object" for each in items)
    return ", ".join(f"{number} {kind}{'s' if number > 1 else ''}" for kind, number in kinds.items())


# --- environments ---------------------------------------------------------------------------------


def _place(
    estate: Inventory, place: EnvironmentInventory, known: Known, living: set[str]
) -> Iterator[Deletion | Spared]:
    name = estate.names.environment(place.identity)
    if name in estate.names.fixed:
        return
    if name is None and place.identity != BAKERY:
        if place.things:
            yield Spared(group=place.identity, why=f"no file in environments/ makes {place.identity}")
        return
    why = "a bake that did not end" if name is None else _why(estate, place, name, known, living)
    if not why or (name is None and not place.things):
        return
    until = max((kept_until(each.tags) or estate.at for each in place.things), default=estate.at)
    if until > estate.at:
        yield Spared(group=place.identity, why=f"{why}, but {_kept(until)}")
        return
    items: tuple[Resource | StoredObject, ...] = (*place.things, *place.objects)
    yield from (Deletion(of=each, group=place.identity, why=why) for each in items)


def _why(estate: Inventory, place: EnvironmentInventory, name: str, known: Known, living: set[str]) -> str:
    """Why nothing holds an environment; empty where something does."""
    gone = place.identity not in living
    pushed = place.identity in known.memory.pushed or place.tags.get(PUSHED) == "yes"
    branch = place.tags.get("branch", "")
    if not place.things:
        return "records of a branch that is gone" if gone else ""
    if gone and pushed:
        return f"its branch {branch} is gone".replace("  ", " ")
    if not place.instances:
        return "half made: it has no machine"
    end = expiry(place, estate.settings[name])
    return f"expired on {end:%Y-%m-%d %H:%M} UTC" if end and end <= estate.at else ""


def _kept(until: Time) -> str:
    return "pinned" if until == ALWAYS else f"kept until {until:%Y-%m-%d %H:%M} UTC"


# --- what belongs to no environment ---------------------------------------------------------------


def _stray(estate: Inventory, each: Resource) -> Iterator[Deletion | Spared]:
    known = each.identity == BAKERY or estate.names.environment(each.identity)
    if each.kind == "volume" and each.state == "available" and known:
        # one of a testing environment goes with it; others' may hold what nobody else has
        if each.identity in estate.names.fixed:
            yield Spared(group=f"volume {each.id}", why=f"attached to nothing, but it is {each.identity}'s")
        elif not estate.places[each.identity].instances:
            return
        else:
            yield from _unless_kept(estate, each, "attached to nothing")
    elif not each.identity and each.kind in STRAYS and not each.more.get("of"):
        yield from _unless_kept(estate, each, "it carries the tag of no environment")


def _images(estate: Inventory) -> Iterator[Deletion | Spared]:
    baked = [each for each in estate.things if each.kind == "image" and "fingerprint" in each.tags]
    newest = sorted(baked, key=lambda each: each.made or estate.at, reverse=True)
    whole = [each for each in newest if each.state == "available"]
    used = {each.more["image"] for each in estate.things if each.kind == "instance"}
    for each in newest:
        if each.state in image.SPENT:
            yield from _unless_kept(estate, each, f"the image is {each.state}")
        elif each in whole[image.KEPT :] and each.id not in used:
            yield from _unless_kept(
                estate, each, f"older than the newest {image.KEPT}, and no machine runs on it"
            )


def _unless_kept(estate: Inventory, each: Resource, why: str) -> Iterator[Deletion | Spared]:
    until, group = kept_until(each.tags), f"{each.kind} {each.id}"
    if until and until > estate.at:
        yield Spared(group=group, why=f"{why}, but {_kept(until)}")
    else:
        yield Deletion(of=each, group=group, why=why)


# --- the bucket -----------------------------------------------------------------------------------


def _files(estate: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion]:
    """Tarballs beyond age or number with what lies beside them; layers beyond age."""
    tarballs: dict[Zone, dict[str, list[StoredObject]]] = {}
    for each, key in keyed(estate.objects):
        if key.zone and key.folder == "tarballs":
            tarballs.setdefault(key.zone, {}).setdefault(key.name, []).append(each)
        elif (
            key.folder == "layers"
            and older(estate, each, settings.layer_days)
            and key.name not in known.referred
        ):
            why = f"older than {settings.layer_days} days, and nothing living is made of it"
            yield Deletion(of=each, group=each.key, why=why)
    for zone, named in tarballs.items():
        newest = sorted(named, key=lambda name: max(each.written for each in named[name]), reverse=True)
        for number, name in enumerate(newest):
            old = all(older(estate, each, settings.tarball_days) for each in named[name])
            if (old or number >= settings.tarballs) and name not in known.referred:
                why = (
                    f"older than {settings.tarball_days} days"
                    if old
                    else f"beyond {settings.tarballs} tarballs"
                )
                for each in named[name]:
                    group = layout.blobs(zone, "tarballs", name)
                    yield Deletion(of=each, group=group, why=f"{why}, and nothing living refers to it")


def _records(estate: Inventory, known: Known, settings: Sweep) -> Iterator[Deletion]:
    """Commits' pointers, keys of builds and records of runs that are old."""
    why = f"a record older than {settings.record_days} days"
    found = list(keyed(estate.objects))
    pointers = [(each, key) for each, key in found if key.folder in ("keys", "commits")]
    runs = [(each, key) for each, key in found if key.kind == "run"]
    for each, key in (*pointers, *runs):
        if older(estate, each, settings.record_days) and key.name not in known.referred:
            yield Deletion(of=each, group=each.key, why=why)


def keyed(objects: Iterable[StoredObject]) -> Iterator[tuple[StoredObject, Key]]:
    """Those that somebody here has made, with what their keys were made of."""
    yield from ((each, each.parsed) for each in objects if each.parsed)


def older(estate: Inventory, each: StoredObject, days: int) -> bool:
    """Whether it was written longer ago than that."""
    return estate.at - each.written > datetime.timedelta(days=days)
