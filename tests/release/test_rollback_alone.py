"""What a rollback goes to, by the history alone; and what it leaves: a mark, an entry, another commit on the machines."""

from __future__ import annotations

import dataclasses
import io

import pytest

from tasks.bucket import layout
from tasks.console.console import Console
from tasks.digest import Digest
from tasks.hosts.phased import Answer
from tasks.infrastructure import stage as infrastructure
from tasks.release import history, rollback
from tasks.release.history import LiveRelease
from tasks.release.rollback import NoWayBack, way_back
from tasks.release.stage import NotLive, go_live, measured
from tasks.release.undone import WasUndone
from tasks.version import Version
from tests.release.test_outside import front  # noqa: F401  (a fixture)
from tests.simulation.alone import Alone
from tests.simulation.controllers import COMMITS, TESTING, pack
from tests.tls import secure

OLD, NEW, OLDER = (Digest(each * 64) for each in "abc")


def live(digest, commit="1", **more):
    told = {"branch": "main", "by": "kim", "at": "2026-11-27 10:00 UTC", "run": "r", "migrated": False}
    return LiveRelease(digest=digest, commit=Version(commit * 40), **{**told, **more})


@pytest.mark.promise("rollback-goes-to-the-one-before")
@pytest.mark.parametrize(
    ("releases", "to"),
    [
        ([live(OLD), live(NEW)], (NEW, OLD)),
        ([live(OLDER), live(OLD), live(NEW)], (NEW, OLD)),
        ([live(OLD, "1"), live(OLD, "2"), live(NEW, "3"), live(NEW, "4")], (NEW, OLD)),
        ([live(OLD), live(NEW), live(OLD, undid=NEW), live(OLDER)], (OLDER, OLD)),
        ([live(OLD), live(NEW, migrated=True, online=True)], (NEW, OLD)),  # both work with it
        ([live(OLD, migrated=True), live(NEW)], (NEW, OLD)),  # what it has migrated, it knows
        ([live(NEW, migrated=True), live(OLD), live(NEW)], (NEW, OLD)),  # it was another time
    ],
)
def test_a_rollback_goes_to_the_newest_of_another_tarball(releases, to):
    way = way_back("production", releases)
    assert (way.undoes.digest, way.to.digest) == to
    assert (way.undoes.commit, way.to.commit) == (
        releases[-1].commit,
        next(each.commit for each in reversed(releases) if each.digest == to[1]),
    )


@pytest.mark.promise("rollback-goes-to-the-one-before", "only-code-is-rolled-back")
@pytest.mark.parametrize(
    ("releases", "why", "remedy"),
    [
        ([], "has no release", "doit release"),
        ([live(NEW)], f"has had no other release than {NEW.id}", f"git revert {'1' * 40}"),
        ([live(OLD), live(NEW), live(OLD, undid=NEW)], f"has gone back to {OLD.id} already", f"git revert {'1' * 40}"),
        # of the same tarball, another commit
        ([live(OLD), live(NEW), live(OLD, undid=NEW), live(OLD, "2")], f"has gone back to {OLD.id} already", f"git revert {'2' * 40}"),
        ([live(OLD), live(NEW, migrated=True)], f"has migrated its database with {NEW.id}, which {OLD.id} does not know", "git revert"),
        ([live(OLD), live(NEW, migrated=True), live(NEW, "2")], f"has migrated its database with {NEW.id}", f"git revert {'2' * 40}"),
        ([live(OLD), live(NEW, migrated=None)], f"may have migrated its database with {NEW.id}: nothing says that it has not", "git revert"),
        ([live(NEW), live(NEW, "2")], "has had no other release", "git revert"),
    ],
)  # fmt: skip
def test_where_there_is_no_way_back_the_reason_is_told(releases, why, remedy):
    with pytest.raises(NoWayBack) as refused:
        way_back("production", releases)
    assert refused.value.text.startswith(f"rollback: production {why}")
    assert f"\n    {remedy}" in refused.value.text


def said(host, value):
    return Answer(host=host, migrated=value)


@pytest.mark.parametrize(
    ("answers", "wanted"),
    [
        ([], False),
        ([("a", False)], False),
        ([("a", True)], True),
        ([("a", None)], None),
        # each phase is a call of its own, where there are several hosts: only `live` asks
        ([("a", None), ("b", None), ("a", True), ("b", False), ("a", None), ("b", None)], True),
        ([("a", None), ("b", None), ("a", False), ("b", False), ("a", None), ("b", None)], False),
        ([("a", None), ("b", None), ("a", None), ("b", False)], None),
    ],
)
def test_whether_a_release_has_migrated_is_what_its_hosts_say(answers, wanted):
    assert measured([said(*each) for each in answers]).migrated is wanted


def released(run):
    """Two tarballs have been live, the second one's commit is checked out; their digests."""
    machines = infrastructure.converge(run).facts
    digests = []
    for number in (0, 1):
        each = at(run, number)
        digests.append(pack(each).facts["digest"])
        go_live(each, tarball={"digest": digests[-1]}, machines=machines)
    return digests


def at(run, number):
    return dataclasses.replace(run, checked_out=number)


@pytest.mark.promise(
    "rollback-goes-to-the-one-before", "what-is-undone-goes-no-further", "changed-past-is-found"
)
def test_a_rollback_leaves_an_entry_a_mark_and_the_commit_that_runs():
    world = Alone()

    def act(run):
        old, new = released(run)
        outcome = rollback.go_back(at(run, 1))
        assert outcome.done.startswith(f"{Digest(old).id} of {COMMITS[0].short} is live again, as since ")
        assert outcome.done.endswith(f"; {Digest(new).id} goes no further")
        document = history.opened(run.store, run.identity).value
        history.verify(document)
        last = history.of(document)[-1]
        assert (last.digest, last.commit, last.undid, last.migrated, last.by) == (
            old,
            COMMITS[0],
            new,
            False,
            "me",
        )
        (machine,) = run.cloud.world.instances.values()
        assert (machine.live, machine.truly["commit"]) == (old, COMMITS[0])
        machines = infrastructure.converge(run).facts
        with pytest.raises(WasUndone):
            go_live(at(run, 1), tarball={"digest": new}, machines=machines)
        assert history.whole(run.store, run.identity).failures == ()
        assert machine.live == old
        with pytest.raises(NoWayBack, match="has gone back to"):
            rollback.go_back(at(run, 1))
        go_live(at(run, 2), tarball=pack(at(run, 2)).facts, machines=machines)
        rollback.go_back(at(run, 2))
        assert machine.live == old

    world.does(act)


def test_a_rollback_of_which_nothing_was_written_is_typed_again():
    world = Alone()

    def act(run):
        _, new = released(run)
        before = world.objects[layout.history(TESTING)]
        rollback.go_back(at(run, 1))
        world.objects[layout.history(TESTING)] = before
        rollback.go_back(at(run, 1))
        return [each.undid for each in history.read(run.store, run.identity)] == ["", "", new]

    assert world.does(act)


def test_a_host_that_runs_something_else_is_no_success_and_nothing_is_written():
    world = Alone()

    class Elsewhere:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def python(self, host, stage, program):
            return NEW

    def act(run):
        released(run)
        with pytest.raises(
            NotLive, match=r"^rollback: i-.* runs bbbbbbbbbbbbbbbb, not .*\n    doit rollback$"
        ):
            rollback.go_back(dataclasses.replace(at(run, 1), hosts=Elsewhere(run.hosts)))
        return [each.undid for each in history.read(run.store, run.identity)]

    assert world.does(act) == ["", ""]
    assert not [key for key in world.objects if key.startswith("undone")]


@pytest.mark.promise("the-site-is-seen-from-outside")
def test_a_site_that_is_ill_from_outside_is_told_and_stays_as_it_is(front):  # noqa: F811
    world = Alone()

    def act(run):
        old, _ = released(run)
        run.cloud.http_address = lambda name, https: ("127.0.0.1", front.server_port)
        secure(front, run.cloud.client("ssm"), run.authority_folder, run.pipeline.dns_zone)
        front.statuses["/"] = 502
        rollback.go_back(dataclasses.replace(at(run, 1), console=told))
        (machine,) = run.cloud.world.instances.values()
        return machine.live == old

    told = Console(io.StringIO())
    assert world.does(act)
    said = told.stream.getvalue()
    assert "from outside, " in said
    assert "answers 502, not 200" in said


def test_an_environment_without_a_history_gets_none():
    world = Alone()
    with pytest.raises(NoWayBack, match="has no release\n    doit release"):
        world.does(rollback.go_back)
    assert layout.history(TESTING) not in world.objects
