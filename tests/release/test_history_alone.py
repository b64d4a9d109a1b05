"""The history of an environment: what a run adds that stands still meanwhile, what failed, and whether somebody has changed it."""

from __future__ import annotations

import dataclasses

import pytest

from tasks import teardown
from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.hosts.ssh import HostUnreachable
from tasks.infrastructure import stage as infrastructure
from tasks.process.children import Cancelled
from tasks.release import history
from tasks.release.history import HistoryChanged, Measured
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

    def phases(self, *words, **named):
        answers = self.real.phases(*words, **named)
        if self.call == "phases":
            self.then()
        return answers


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


@pytest.mark.parametrize("call", ["phases", "write"])
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


class Fails(StandsStill):
    """Hosts on which a release ends with a refusal."""

    def __init__(self, real, refusal):
        super().__init__(real, "", None)
        self.refusal = refusal

    def phases(self, *words, **named):
        raise self.refusal


@pytest.mark.promise("failures-are-kept")
@pytest.mark.parametrize(
    ("refusal", "noted"),
    [
        (HostUnreachable(stage="release", host="i-1", address="10.0.0.1", port=22), 1),
        (Cancelled(stage="release"), 0),
    ],
)
def test_a_release_that_failed_is_noted_and_is_no_release(refusal, noted):
    world = Alone()

    def act(run):
        tarball, machines = pack(run).facts, infrastructure.converge(run).facts
        with pytest.raises(type(refusal)):
            go_live(
                dataclasses.replace(run, hosts=Fails(run.hosts, refusal)), tarball=tarball, machines=machines
            )
        go_live(run, tarball=tarball, machines=machines)
        history.verify(history.opened(run.store, run.identity).value)
        return history.whole(run.store, run.identity)

    found = world.does(act)
    assert [each.sentence for each in found.failures] == [refusal.text.splitlines()[0]] * noted
    assert len(found.releases) == 1


def added(number):
    """The document of a history of so many releases, and as many failures."""
    world = Alone()

    def act(run):
        for each in range(number):
            failure = HostUnreachable(stage="release", host=f"i-{each}", address="10.0.0.1", port=22)
            history.note_failure(run, failure, onto=history.opened(run.store, run.identity))
            history.add(run, Digest(f"{each:064x}"), seconds=each)
        return history.opened(run.store, run.identity).value

    return world.does(act)


@pytest.mark.promise("changed-past-is-found")
@pytest.mark.parametrize("number", [1, 3, history.KEPT + 2])
def test_a_history_is_as_it_was_written(number):
    value = added(number)
    assert len(value["releases"]) == len(value["failures"]) == min(number, history.KEPT)
    history.verify(value)


CHANGES = {
    "a name": lambda releases: releases[1].update(by="somebody"),
    "a time": lambda releases: releases[0].update(at="2020-01-01 00:00 UTC"),
    "a release in between": lambda releases: releases.pop(1),
    "the first one": lambda releases: releases.pop(0),
    "a second time": lambda releases: releases.insert(1, dict(releases[1])),
    "the order": lambda releases: releases.reverse(),
    "a chain that is gone": lambda releases: releases[1].update(chain=""),
}


@pytest.mark.promise("changed-past-is-found")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("number", [3, history.KEPT + 2])
@pytest.mark.parametrize("kind", ["releases", "failures"])
def test_a_change_of_the_past_is_found_and_named(number, kind, change):
    value = added(number)
    change(value[kind])
    with pytest.raises(
        HistoryChanged, match=f"the {kind[:-1]} of 20.*is not as it was written\n    doit history --json"
    ):
        history.verify(value)


@pytest.mark.promise("changed-past-is-found")
def test_what_an_older_pipeline_has_written_without_a_chain_is_believed_and_said():
    world = Alone()

    def act(run):
        history.add(run, DIGEST)
        document = history.opened(run.store, run.identity)
        del document.value["releases"][0]["chain"]
        assert history.verify(document.value).words()[-1] == "history: there is no entry in a chain"
        history.add(run, OTHER, onto=document)
        return history.opened(run.store, run.identity).value

    value = world.does(act)
    old, new = value["releases"]
    assert history.verify(value).words() == [
        f"history: 1 written by an older pipeline, the newest of {old['at']}: no chain holds them",
        f"history: no entry was changed since it was written; the chain ends with {new['chain']}",
    ]
    assert len(history.verify(added(2)).words()) == 1


UNKNOWN = Measured(migrated=None)
MIGRATED = Measured(migrated=True, downtime=4.2, steps=(("Switch", 0.1), ("Check", 1.5)))


@pytest.mark.parametrize(
    ("before", "measured", "wanted"),
    [
        ("", MIGRATED, True),
        ("", UNKNOWN, None),  # nothing was written of the run that has put it live
        (OTHER, UNKNOWN, None),
        (DIGEST, UNKNOWN, False),  # another commit of the same tarball: the entry before says it
        (DIGEST, MIGRATED, True),
    ],
)
def test_what_the_hosts_have_measured_is_written_and_what_nobody_knows_too(before, measured, wanted):
    world = Alone()

    def act(run):
        if before:
            history.add(dataclasses.replace(run, checked_out=1), before)
        history.add(run, DIGEST, measured=measured)
        history.verify(history.opened(run.store, run.identity).value)
        return history.read(run.store, run.identity)[-1]

    found = world.does(act)
    assert (found.migrated, found.downtime, found.steps) == (wanted, measured.downtime, measured.steps)
