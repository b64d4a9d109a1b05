"""history: one seed makes one history: who is started when, who goes on, what goes wrong; and at its end all must be well."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tests.simulation import controllers
from tests.simulation.cloud import World
from tests.simulation.controllers import COMMITS, TESTING, Command, launch
from tests.simulation.scheduler import Decisions, Scheduler
from tests.simulation.truth import Truth, Violation


@dataclass(frozen=True, kw_only=True)
class Told:
    """A history. `decisions`: what makes the same one again. `wrong`: what does not hold, or empty."""

    decisions: tuple[int, ...]
    events: tuple[str, ...]
    wrong: str = ""


def release(run):
    controllers.start(run, "run")


def start(run):
    controllers.start(run, "start")


def go_on(run):
    controllers.start(run, "continue")


KINDS: tuple[tuple[str, Command], ...] = (
    ("testing", release),
    ("testing", release),
    ("testing", controllers.stop),
    ("testing", controllers.unlock),
)
RATES = (0.01, 0.03, 0.08)


def tell(decisions: Decisions) -> Told:
    """Run a history."""
    truth = Truth()
    scheduler = Scheduler(decisions)
    world = World(scheduler, truth)
    wrong = ""
    try:
        _trouble(world)
        _calm(world)
    except Violation as violation:
        wrong = str(violation)
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        wrong = f"{type(error).__name__}: {error} ({last.filename.rpartition('/')[2]}:{last.lineno})"
    return Told(decisions=tuple(decisions.made), events=tuple(scheduler.events), wrong=wrong)


def _trouble(world: World) -> None:
    decisions = world.scheduler.decisions
    world.rate, world.left = RATES[decisions.one_of(len(RATES))], 6
    for number in range(2 + decisions.one_of(3)):
        environment, command = KINDS[decisions.one_of(len(KINDS))]
        launch(
            world,
            f"p{number}",
            command,
            environment=environment,
            checked_out=decisions.one_of(3),
            after=float(decisions.one_of(120)),
        )
    world.scheduler.run()


def _calm(world: World) -> None:
    """Without faults every run succeeds, and a teardown leaves nothing."""
    world.left = 0
    world.scheduler.now += 300
    newest = len(COMMITS) - 1
    _well(world, launch(world, "last", release, environment="testing", checked_out=newest))
    there = world.hosts(TESTING)
    hold(len(there) == 1, f"{len(there)} machines at the end")
    hold(there[0].server == COMMITS[newest] and there[0].live, "not released at the end")
    _well(world, launch(world, "end", controllers.stop, environment="testing", checked_out=newest))
    left = [key for key in world.objects if TESTING in key and not key.startswith(("leases/", "state/"))]
    left += [key for key in world.objects if key.startswith(f"state/{TESTING}") and "tarball" not in key and world.value(key)["doit"]]
    left += [f"{each}" for each in (*world.hosts(TESTING), *world.groups, *world.keys, *world.records)]
    left += [each for each in world.parameters if TESTING in each]
    left = [each for each in left if each != f"machines/{TESTING}.json" or len(world.value(each)) > 1]
    hold(not left, f"left over: {left}")


def _well(world: World, process) -> None:
    world.scheduler.run()
    hold(process.end == "well", f"without faults, {process.name} ends with {process.end or 'nothing'}")


def hold(what: object, words: str) -> None:
    if not what:
        raise Violation(words)


def shrink(told: Told, still: Callable[[Sequence[int]], Told]) -> Told:
    """A history with the same kind of ending that fewer decisions make."""
    best = told
    size = max(1, len(best.decisions) // 2)
    while size:
        at = 0
        while at < len(best.decisions):
            chosen = list(best.decisions)
            if any(chosen[at : at + size]):
                chosen[at : at + size] = [0] * len(chosen[at : at + size])
                tried = still(chosen)
                if tried.wrong:
                    best = tried
            at += size
        size //= 2
    return best
