"""history: one seed makes one history: who is started when, who goes on, what goes wrong; and at its end all must be well."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation import controllers
from tests.simulation.cloud import RARE, World
from tests.simulation.controllers import COMMITS, TESTING, Command, launch
from tests.simulation.scheduler import Decisions, Scheduler
from tests.simulation.truth import Truth, Violation

RATES = (0.01, 0.03, 0.08)
SELDOM = (0.001, 0.005)
"""Where the order of the requests matters more than what happens to them."""


@dataclass(frozen=True, kw_only=True)
class Told:
    """A history. `decisions`: what makes the same one again. `wrong`: what does not hold, or empty."""

    decisions: tuple[int, ...]
    events: tuple[str, ...]
    wrong: str = ""


@dataclass(frozen=True)
class Kind:
    """A command that a history may start. `commits`: numbers of those that may be checked out."""

    environment: str
    command: Command
    commits: tuple[int, ...] = (0, 1, 2)


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """What a history is about. `kinds`: what is started, where, of which commits. `pace`: how far apart. `rates`: shares of requests that meet a fault. `before`: what is there already."""

    kinds: tuple[Kind, ...]
    pace: float
    rates: tuple[float, ...] = RATES
    before: Callable[[World], None]
    after: Callable[[World], None]


AFTER = (0.0, 0.0, 0.3, 1.0, 3.0, 10.0, 30.0, 60.0, 120.0)
"""Seconds after which one of them is started."""
AHEAD = (0.0, 5 * 3600.0, -5 * 3600.0, 4 * 24 * 3600.0)
"""Seconds that the wall clock of a process's machine is wrong."""
WEAK = ("", *RARE)
"""The request that often meets a fault, or none."""
BEHIND = (0.3, 0.9)
"""Share of the changes that EC2 shows late."""
JITTER = (0.0, 0.0, 0.3)
"""Share of the documents that are old when they arrive: others have acted meanwhile."""


def tell(decisions: Decisions) -> Told:
    """Run a history."""
    truth = Truth()
    scheduler = Scheduler(decisions)
    world = World(scheduler, truth)
    wrong = ""
    try:
        _trouble(world)
    except Violation as violation:
        wrong = str(violation)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"{type(error).__name__}: {error} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return Told(decisions=tuple(decisions.made), events=tuple(scheduler.events), wrong=wrong)


def _trouble(world: World) -> None:
    decisions = world.scheduler.decisions
    story = STORIES[decisions.one_of(len(STORIES))]
    story.before(world)
    world.rate, world.left = story.rates[decisions.one_of(len(story.rates))], 6
    world.weak, world.behind = WEAK[decisions.one_of(len(WEAK))], BEHIND[decisions.one_of(len(BEHIND))]
    world.jitter = JITTER[decisions.one_of(len(JITTER))]
    for number in range(2 + decisions.one_of(3)):
        kind = story.kinds[decisions.one_of(len(story.kinds))]
        sweeps = kind.command is controllers.sweep
        launch(
            world,
            f"p{number}",
            kind.command,
            environment=kind.environment,
            checked_out=kind.commits[decisions.one_of(len(kind.commits))],
            after=AFTER[decisions.one_of(len(AFTER))] * story.pace,
            ahead=0.0
            if sweeps
            else AHEAD[decisions.chance(0.3, len(AHEAD) - 1)],  # it judges by its own clock
            again=decisions.one_of(3),
        )
    world.scheduler.run()
    world.left = 0
    world.scheduler.now += 300
    story.after(world)


# --- one branch's environment ---------------------------------------------------------------------


def _nothing(world: World) -> None:
    pass


def _testing_is_well(world: World) -> None:
    """Without faults a release succeeds, and a teardown leaves nothing."""
    _well(world, "last", controllers.release_to, "testing")
    there = world.hosts(TESTING)
    hold(len(there) == 1, f"{len(there)} machines at the end")
    hold(there[0].server == COMMITS[NEWEST] and there[0].live, "not released at the end")
    _well(world, "end", controllers.stop, "testing")
    _nothing_is_left(world)


def _nothing_is_left(world: World) -> None:
    kept = ("leases/", "state/", "machines/")
    left = [key for key in world.objects if TESTING in key and not key.startswith(kept)]
    states = [key for key in world.objects if key.startswith(f"state/{TESTING}") and "tarball" not in key]
    left += [key for key in states if world.value(key)["doit"]]
    left += [each.id for each in world.hosts(TESTING)]
    left += [each["name"] for each in world.groups.values() if TESTING in each["name"]]
    left += [each for each in (*world.keys, *world.records, *world.parameters) if TESTING in each]
    memory = world.value(f"machines/{TESTING}.json") or {}
    left += [each for each in memory if each != "nonce"]
    hold(not left, f"left over: {left}")


# --- from staging to production -------------------------------------------------------------------


def _staged(world: World) -> None:
    """Now and then a commit is live on staging already, or in production."""
    for command, environment in ((controllers.start, "staging"), (controllers.go_on, "production"))[
        : world.scheduler.decisions.one_of(3)
    ]:
        _well(world, f"first-{environment}", command, environment, 0)


def _waiting(world: World) -> None:
    """A commit waits on staging, or is live; what begins or ends it, begins at nearly the same time."""
    _well(world, "first", controllers.start, "staging", 0)
    if not world.scheduler.decisions.one_of(4):
        _well(world, "second", controllers.go_on, "production", 0)


def _production_is_well(world: World) -> None:
    """Without faults a commit goes from staging to production."""
    _well(world, "last", controllers.start, "staging")
    _well(world, "end", controllers.go_on, "production")
    live = [[each.live for each in world.hosts(name)] for name in ("staging", "production")]
    hold(live[0] == live[1] and len(live[0]) == 1 and live[0][0], f"live at the end: {live}")
    record = world.value(f"runs/{COMMITS[NEWEST]}.json")
    hold(record["state"] == "live" and record["digest"] == live[0][0], "the record does not say what is live")


# --- sweeps ---------------------------------------------------------------------------------------


def _old(world: World) -> None:
    """Two environments are there for some time; the branch of one may be gone, and a sweep may have seen that."""
    _aged(world, world.scheduler.decisions.one_of)


def _condemned(world: World) -> None:
    """A branch is gone for so long that the next sweep takes its environment."""
    answers = iter((1, 0, 1, 1, 1, 2))  # not kept; no staging; gone; an hour; seen; two hours
    _aged(world, lambda _: next(answers), hours=1)


def _aged(world: World, chosen: Callable[[int], int], *, hours: int = 0) -> None:
    """`hours`: how long the first release is there before anything else happens."""
    _well(world, "first", controllers.release_to, "testing", 0)
    world.scheduler.now += 3600.0 * hours
    if not chosen(4):
        _well(world, "kept", controllers.keep, "testing", 0)
    if chosen(2):
        _well(world, "second", controllers.start, "staging", 0)
    if chosen(2):
        _well(world, "gone", controllers.delete_branch, "testing", 0)
    world.scheduler.now += 3600.0 * HOURS[chosen(len(HOURS))]
    if chosen(2):
        _well(world, "seen", controllers.sweep, "staging", 0)
        world.scheduler.now += 3600.0 * chosen(3)


def _swept_is_well(world: World) -> None:
    """Without faults sweeps leave nothing of a branch that is gone, and everything else works."""
    _well(world, "delete", controllers.delete_branch, "testing")
    _production_is_well(world)
    for name in ("one", "two", "three"):
        world.scheduler.now += 40 * 24 * 3600.0
        _well(world, name, controllers.sweep, "staging")
    _nothing_is_left(world)
    _well(world, "again", controllers.go_on, "production")


NEWEST = len(COMMITS) - 1
HOURS = (0, 1, 20, 70, 24 * 62)
STORIES = (
    Scenario(
        kinds=(
            Kind("testing", controllers.release_to),
            Kind("testing", controllers.release_to),
            Kind("testing", controllers.release_to),
            Kind("testing", controllers.stop),
            Kind("testing", controllers.unlock),
            Kind("testing", controllers.log_in),
        ),
        pace=1.0,
        before=_nothing,
        after=_testing_is_well,
    ),
    Scenario(
        kinds=(
            Kind("staging", controllers.start),
            Kind("staging", controllers.start),
            Kind("production", controllers.go_on),
            Kind("production", controllers.go_on),
            Kind("staging", controllers.end_waiting),
            Kind("staging", controllers.build),
            Kind("testing", controllers.release_to),
        ),
        pace=1.0,
        before=_staged,
        after=_production_is_well,
    ),
    Scenario(
        kinds=(
            Kind("staging", controllers.sweep),
            Kind("staging", controllers.sweep),
            Kind("testing", controllers.release_to),
            Kind("testing", controllers.keep),
            Kind("testing", controllers.delete_branch),
            Kind("testing", controllers.push_branch),
            Kind("staging", controllers.start),
        ),
        pace=1.5,
        before=_old,
        after=_swept_is_well,
    ),
    Scenario(
        kinds=(
            Kind("production", controllers.go_on, (0,)),
            Kind("production", controllers.go_on, (0,)),
            Kind("staging", controllers.start, (1,)),
            Kind("staging", controllers.start, (0, 1, 1)),
            Kind("staging", controllers.build, (1,)),
            Kind("staging", controllers.end_waiting),
        ),
        pace=0.02,
        rates=SELDOM,
        before=_waiting,
        after=_production_is_well,
    ),
    Scenario(
        kinds=(
            Kind("staging", controllers.sweep),
            Kind("staging", controllers.sweep),
            Kind("testing", controllers.push_branch),
            Kind("testing", controllers.keep),
            Kind("testing", controllers.release_to),
        ),
        pace=0.3,
        before=_condemned,
        after=_swept_is_well,
    ),
    Scenario(
        kinds=(
            Kind("testing", controllers.release_to),
            Kind("testing", controllers.log_in),
            Kind("testing", controllers.log_in),
            Kind("testing", controllers.stop),
        ),
        pace=0.1,
        rates=SELDOM,
        before=_nothing,
        after=_testing_is_well,
    ),
)


def _well(
    world: World, name: str, command: Command, environment: str, checked_out: int | None = None
) -> None:
    """Run it alone; without faults it ends well."""
    chosen = NEWEST if checked_out is None else checked_out
    process = launch(world, name, command, environment=environment, checked_out=chosen)
    world.scheduler.run()
    hold(process.end == "well", f"without faults, {process.name} ends with {process.end or 'nothing'}")


def hold(what: object, words: str) -> None:
    if not what:
        raise Violation(words)


def shrink(told: Told, tries: int = 300) -> Told:
    """A wrong history that fewer decisions make: the others are as usual."""
    best, size = told, len(told.decisions)
    while size and tries:
        for at in range(0, len(best.decisions), size):
            part = best.decisions[at : at + size]
            if not any(part) or not tries:
                continue
            tries -= 1
            fewer = (*best.decisions[:at], *[0] * len(part), *best.decisions[at + size :])
            tried = tell(Decisions(given=fewer))
            if tried.wrong and sum(map(bool, tried.decisions)) < sum(map(bool, best.decisions)):
                best = tried
        size //= 2
    return best
