"""The promotion record, write by write: which steps it gets, from whom, in which version, and what a run before it becomes."""

from __future__ import annotations

import dataclasses

import pytest

from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.digest import Digest
from tasks.promotion import record
from tasks.promotion.record import OPEN, PromotionPath, PromotionRecord, Step
from tasks.version import Version
from tests.simulation.alone import Alone
from tests.simulation.controllers import COMMITS

FIRST, SECOND, THIRD = COMMITS[:3]
DIGEST = Digest("d" * 64)
KIM = {"at": "2026-03-02 07:00 UTC", "arn": "arn:kim", "by": "kim"}


@pytest.fixture
def world():
    return Alone()


def kept(world, commit=FIRST):
    return world.value(layout.commit_run(commit))


def states(world, commit=FIRST):
    return [each["state"] for each in kept(world, commit)["steps"]]


def put(world, *states, commit=FIRST, **more):
    """A commit's run with these steps, as kim has made it."""
    steps = [{"state": each, **KIM, "words": ""} for each in states]
    world.put(
        layout.commit_run(commit),
        {"commit": commit, "branch": "main", "digest": None, "steps": steps, **more},
    )


def begins(world, number=0, name="me"):
    return world.does(record.begin, environment="staging", checked_out=number, name=name)


# --- what it says ---------------------------------------------------------------------------------


def test_a_run_begins_with_a_step_that_says_who_and_when(world):
    assert begins(world) is None
    written = kept(world)
    del written["nonce"]
    step = {
        "state": "started",
        "at": "2026-03-02 08:00 UTC",
        "arn": "arn:aws:iam::123456789012:user/me",
        "by": "me",
        "words": "",
    }
    assert written == {
        "commit": FIRST,
        "branch": "main",
        "digest": None,
        "steps": [step],
        "state": "started",
        "by": "me",
    }
    current = world.value(layout.CURRENT_RUN)
    del current["nonce"]
    assert current == {"commit": FIRST, "by": "me", "at": "2026-03-02 08:00 UTC"}


def test_who_reads_a_record_gets_what_was_written(world):
    put(world, "failed", "started", "built", "started", "waiting", digest=DIGEST)
    steps = kept(world)["steps"]
    steps[1]["by"] = "somebody before"
    world.put(
        layout.commit_run(FIRST),
        {**kept(world), "steps": [{**each, "mood": "good"} for each in steps], "mood": "good"},
    )
    world.put(layout.CURRENT_RUN, {"commit": FIRST})
    found = world.does(lambda run: record.read(run.store, FIRST))
    assert found == world.does(lambda run: record.current(run.store))
    assert (found.commit, found.branch, found.digest, found.state) == (FIRST, "main", DIGEST, "waiting")
    assert (type(found.commit), type(found.digest)) == (Version, Digest)
    assert found.starter == Step(state="started", **KIM) == found.steps[3]
    assert found.starter is found.steps[3], "the newest start counts, for the approval by another person"


def test_nothing_is_read_where_nothing_is_written(world):
    assert world.does(lambda run: record.read(run.store, FIRST)) is None
    assert world.does(lambda run: record.current(run.store)) is None
    put(world, "started")
    assert world.does(lambda run: record.read(run.store, FIRST)).digest is None
    assert world.does(lambda run: record.read(run.store, SECOND)) is None


# --- what begins ends what was before --------------------------------------------------------------


@pytest.mark.parametrize(
    "state",
    ["started", "built", "staged", "waiting", "continuing", "live", "failed", "stopped", "superseded"],
)
@pytest.mark.promise("only-a-waiting-run-goes-on")
def test_the_run_before_it_is_superseded_if_it_is_open_and_stays_as_it_ended_otherwise(world, state):
    put(world, "started", state, digest=DIGEST)
    world.put(layout.CURRENT_RUN, {"commit": FIRST})
    begins(world, 1)
    assert world.value(layout.CURRENT_RUN)["commit"] == SECOND
    last = kept(world)["steps"][-1]
    if state in OPEN:
        arn = "arn:aws:iam::123456789012:user/me"
        words = f"by the run of {SECOND.short}"
        assert last == {
            "state": "superseded",
            "at": "2026-03-02 08:00 UTC",
            "arn": arn,
            "by": "me",
            "words": words,
        }
        assert kept(world)["digest"] == DIGEST
    else:
        assert states(world) == ["started", state]


@pytest.mark.promise("killed-run-begins-again")
def test_the_same_commit_begins_anew_without_the_tarball_that_was_proved_before(world):
    put(world, "started", "waiting", digest=DIGEST)
    world.put(layout.CURRENT_RUN, {"commit": FIRST})
    pointer = world.objects[layout.CURRENT_RUN]
    before = begins(world)
    assert (before.state, before.digest) == ("waiting", DIGEST)
    assert states(world) == ["started", "waiting", "started"], "it does not supersede itself"
    assert kept(world)["digest"] is None
    assert world.objects[layout.CURRENT_RUN] is pointer


def test_a_run_before_it_that_left_no_record_is_no_obstacle(world):
    world.put(layout.CURRENT_RUN, {"commit": THIRD})
    begins(world)
    assert world.value(layout.CURRENT_RUN)["commit"] == FIRST
    assert layout.commit_run(THIRD) not in world.objects


def test_of_two_that_begin_at_once_one_is_told_that_the_other_was_faster():
    class Meanwhile(Alone):
        def call(self, process, name, effect, *, changes=False):
            if name == "put_object" and layout.commit_run(FIRST) in self.objects:
                self.put(layout.CURRENT_RUN, {"commit": SECOND, "by": "kim"})
            return super().call(process, name, effect, changes=changes)

    meanwhile = Meanwhile()
    meanwhile.put(layout.CURRENT_RUN, {"commit": THIRD})
    with pytest.raises(RecordTaken, match="was changed by kim"):
        begins(meanwhile)


# --- how it is changed ----------------------------------------------------------------------------


def adds(world, *states, **how):
    return world.does(
        lambda run: record.add(run.store, FIRST, *[record.step(run, each, "why") for each in states], **how)
    )


@pytest.mark.parametrize(
    ("only_from", "added"), [((), True), (("waiting",), True), (("live", "failed"), False)]
)
@pytest.mark.promise("only-a-waiting-run-goes-on")
def test_steps_are_added_in_a_state_that_allows_them(world, only_from, added):
    put(world, "started", "waiting")
    found = adds(world, "continuing", "live", only_from=only_from)
    assert states(world) == ["started", "waiting", *(["continuing", "live"] if added else [])]
    assert (found and [each.state for each in found.steps]) == (states(world) if added else None)
    if added:
        assert (kept(world)["state"], kept(world)["by"], kept(world)["steps"][-1]["words"]) == (
            "live",
            "me",
            "why",
        )


def test_to_a_run_that_has_no_record_nothing_is_added(world):
    assert adds(world, "live") is None
    assert world.objects == {}


@pytest.mark.parametrize(
    ("before", "new", "after"),
    [(None, DIGEST, DIGEST), ("e" * 64, DIGEST, DIGEST), ("e" * 64, None, "e" * 64), (None, None, None)],
)
def test_a_tarball_stays_until_another_one_is_named(world, before, new, after):
    put(world, "started", digest=before)
    assert adds(world, "staged", digest=new)
    assert kept(world)["digest"] == after


class Contested(Alone):
    """Another run changes the record so often, each time just before a write."""

    def __init__(self, times, other):
        super().__init__()
        self.left, self.other, self.wrote = times, other, 0

    def call(self, process, name, effect, *, changes=False):
        if name == "put_object":
            self.wrote += 1
            if self.left:
                self.left -= 1
                put(self, "started", self.other, by="kim")
        return super().call(process, name, effect, changes=changes)


@pytest.mark.promise("a-record-is-replaced-as-read")
def test_a_change_is_made_again_upon_what_another_run_has_written(world):
    for times in range(record.TRIES):
        contested = Contested(times, "built")
        put(contested, "started")
        assert adds(contested, "failed")
        assert states(contested) == ["started", *(["built"] if times else []), "failed"]
        assert contested.wrote == times + 1


def test_after_five_tries_the_other_writer_is_named():
    contested = Contested(99, "built")
    put(contested, "started")
    with pytest.raises(RecordTaken, match="changed by kim in the meantime"):
        adds(contested, "failed")
    assert contested.wrote == 5


@pytest.mark.promise("a-record-is-replaced-as-read")
def test_a_run_that_was_stopped_while_it_was_claimed_is_not_claimed(world):
    contested = Contested(1, "stopped")
    put(contested, "started", "waiting")
    assert adds(contested, "continuing", only_from=("waiting",)) is None
    assert states(contested) == ["started", "stopped"]


def test_a_change_that_changes_nothing_writes_nothing(world):
    put(world, "started")
    before = world.objects[layout.commit_run(FIRST)]
    for changed in (lambda old: old, lambda old: None):
        found = world.does(lambda run, changed=changed: record.change(run.store, FIRST, changed))
        assert found.state == "started"
    assert world.objects[layout.commit_run(FIRST)] is before


def test_a_change_returns_what_it_has_written(world):
    new = PromotionRecord(commit=FIRST, branch="main", steps=(Step(state="started", **KIM),))
    assert world.does(lambda run: record.change(run.store, FIRST, lambda old: new)) == new
    closed = dataclasses.replace(new, steps=(*new.steps, Step(state="failed", **KIM)))
    assert world.does(lambda run: record.change(run.store, FIRST, lambda old: closed)) == closed
    assert kept(world)["state"] == "failed"


# --- the way from environment to environment -------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "path"),
    [
        (
            {"production": "takes_from: staging\n", "staging": "{}\n"},
            PromotionPath(upstream="staging", downstream="production"),
        ),
        (
            {"b": "takes_from: c\n", "a": "{}\n", "d": "takes_from: c\n", "c": "{}\n"},
            PromotionPath(upstream="c", downstream="b"),
        ),
        ({"testing": "per_branch: true\n"}, None),
        ({}, None),
    ],
)
def test_the_way_is_what_the_first_environment_says_that_takes_from_another(tmp_path, files, path):
    (tmp_path / "environments").mkdir()
    for name, text in files.items():
        (tmp_path / "environments" / f"{name}.yml").write_text(text)
    (tmp_path / "environments" / "notes.txt").write_text("takes_from: staging\n")
    assert record.promotion_path(tmp_path) == path
