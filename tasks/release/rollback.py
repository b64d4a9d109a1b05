"""rollback: the release before is live again on every machine, and what is undone goes no further."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.graph.stage import Outcome
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.refusal import Refusal
from tasks.release import history, undone
from tasks.release import stage as release
from tasks.release.history import LiveRelease
from tasks.server import stage as server

if TYPE_CHECKING:
    from tasks.hosts.phased import Answer
    from tasks.release.probe import Probe
    from tasks.run import Run

BACK = ("ready", "live", "open", *release.END)
"""The phases of `phases.py`, in one call: unlike a release, nothing that is seen from outside changes what they do."""


class NoWayBack(Refusal):
    """The history of the environment has no release to go back to, or the database has moved on."""

    sentence = "rollback: {environment} {why}"
    remedy = "{remedy}"


@dataclass(frozen=True, kw_only=True)
class WayBack:
    """What is undone, and what is live then. `online`: what is undone has migrated the database, and the other one works with that."""

    undoes: LiveRelease
    to: LiveRelease
    online: bool = False

    @property
    def instead(self) -> str:
        """What to type where there is no way back."""
        return f"git revert {self.undoes.commit.commit}"


def way_back(environment: str, releases: Sequence[LiveRelease]) -> WayBack:
    """From the newest release to the one before it: the newest of another tarball. Pure. Raises NoWayBack."""
    if not releases:
        raise NoWayBack(environment=environment, why="has no release", remedy="doit release")
    now = releases[-1]
    live = [*itertools.takewhile(lambda each: each.digest == now.digest, reversed(releases))]
    before = releases[: -len(live)]
    online = any(each.online for each in live)
    way = WayBack(undoes=now, to=before[-1] if before else now, online=online)
    if any(each.undid for each in live):
        why = f"has gone back to {now.digest.id} already"
    elif not before:
        why = f"has had no other release than {now.digest.id}"
    elif any(each.migrated and not each.online for each in live):
        why = f"has migrated its database with {now.digest.id}, which {way.to.digest.id} does not know"
    elif any(each.migrated is None for each in live):
        why = f"may have migrated its database with {now.digest.id}: nothing says that it has not"
    else:
        return way
    raise NoWayBack(environment=environment, why=why, remedy=way.instead)


def go_back(run: Run) -> Outcome:
    """Run `phases.py` on the machines for the release that they have, then mark what was undone, and write the history."""
    document, begun = history.known(run.store, run.identity), run.clock.monotonic()
    way = way_back(run.identity, history.of(document.value))
    found = infrastructure.existing(run)
    released = server.released(run, found, "rollback")
    with run.hosts.connected(hosts.reachable(run, released)) as reached:
        told = {**release.variables_here(run, way.to.digest), **release.here(run, found, released)}
        told["release_commit"] = way.to.commit
        undoes = {"undoes": way.undoes.digest.id, "undoes_online": way.online, "instead": way.instead}
        plan = {**release.plan(told), **undoes}
        with release.watched(run, document) as watch:
            answers = release.perform(run, "rollback", BACK, reached, plan)
        with run.threads.pool(1) as pool:
            looked = pool.submit(_look, run, answers, watch)
            release.read_back(
                run.threads, run.hosts, reached, run.pipeline.name, way.to.digest, stage="rollback"
            )
            looked.result()
    release.tag(run, [each.id for each in found], way.to.commit)
    undone.mark(run, way.undoes.digest)
    seconds, measured = run.clock.monotonic() - begun, release.measured(answers, watch)
    history.add_rollback(run, way.undoes, way.to, onto=document, seconds=seconds, measured=measured)
    release.tell(run, "rollback", answers, watch)
    release.accept_late(answers, "rollback")
    to, what = way.to, way.undoes.digest.id
    return Outcome(
        facts={"commit": str(to.commit)},
        done=f"{to.digest.id} of {to.commit.short} is live again, as since {to.at}; {what} goes no further",
        unchanged="",
    )


def _look(run: Run, answers: Sequence[Answer], watch: Probe | None) -> None:
    """Tell what is wrong from outside: it is no reason to go on with what somebody undoes."""
    closed = any(each.closed for each in answers)
    if not closed and (wrong := release.seen_wrong(run, watch)):
        run.console.event("rollback", wrong)
