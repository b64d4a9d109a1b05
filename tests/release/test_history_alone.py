"""The history of an environment that is torn down while a run of it stands still."""

from __future__ import annotations

import dataclasses

import pytest

from tasks import teardown
from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.infrastructure import stage as infrastructure
from tasks.release import history
from tasks.release.stage import go_live
from tests.simulation.alone import Alone
from tests.simulation.controllers import TESTING, pack

DIGEST, OTHER = Digest("d" * 64), Digest("e" * 64)


class StandsStill:
    """A store or hosts at which a run stands still at one call; meanwhile something happens."""

    def __init__(self, real, call, then):
        self.real, self.call, self.then = real, call, then

    def __getattr__(self, name):
        return getattr(self.real, name)

    def write(self, key, value, *, seen):
        if key == layout.history(TESTING) and value["releases"] and self.call == "write":
            self.then()
        return self.real.write(key, value, seen=seen)

    def play(self, *words, **named):
        recap = self.real.play(*words, **named)
        if self.call == "play":
            self.then()
        return recap


def releases(run, call, then):
    """Make the machine, and release to it with a pause at this call."""
    tarball, machines = pack(run).facts, infrastructure.converge(run).facts
    store, hosts = (StandsStill(each, call, lambda: then(run)) for each in (run.store, run.hosts))
    go_live(dataclasses.replace(run, store=store, hosts=hosts), tarball=tarball, machines=machines)


def begins_again(run):
    """All is torn down, and another run has begun the environment anew."""
    teardown.tear_down(run)
    infrastructure.converge(run)
    history.opened(run.store, run.identity)


@pytest.mark.parametrize("call", ["play", "write"])
@pytest.mark.parametrize("then", [teardown.tear_down, begins_again])
def test_a_run_that_stood_still_records_nothing_where_all_is_torn_down(call, then):
    world = Alone()
    with pytest.raises(RecordTaken, match=f"state: {layout.history(TESTING)} was changed by "):
        world.does(lambda run: releases(run, call, then))
    assert not (world.value(layout.history(TESTING)) or {}).get("releases")


def test_a_release_is_added_to_those_before_it_and_one_that_did_not_end_adds_none():
    world = Alone()

    def act(run):
        before = history.opened(run.store, run.identity)
        assert history.read(run.store, run.identity) == []
        history.add(run, DIGEST, onto=before)
        history.opened(run.store, run.identity)  # this release does not end
        history.add(run, OTHER, onto=history.opened(run.store, run.identity))
        return [each.digest for each in history.read(run.store, run.identity)]

    assert world.does(act) == [DIGEST, OTHER]
