"""Records of several runs that meet in a simulated world: what is written, when, in which version, and what it says."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.bucket import layout
from tasks.bucket.lease import LeaseLost
from tasks.bucket.store import RecordTaken
from tasks.graph.state import BucketState, Records
from tests.simulation.alone import Alone
from tests.simulation.controllers import TESTING

SERVER = layout.state(TESTING, "server")
PACK = layout.state(TESTING, "tarball:pack")


@pytest.fixture
def world():
    return Alone()


def of(run, **how):
    return BucketState(Records(run=run, **how), None)


def saves(task="server", lease=None, **values):
    """Save a success of a task, as doit does."""

    def act(run):
        state = of(run)
        state.lease = lease
        state.set(task, "_values_:", values)
        state.set(task, "deps:", [])

    return act


def written(world, key=SERVER):
    found = world.value(key)
    del found["nonce"]
    return found


def reads(world):
    return [name for _, name in world.requests].count("get_object")


def test_a_record_says_what_was_done_by_whom_and_when(world):
    values = {"done": "played", "unchanged": "as it was", "seconds": 4.0, "inputs": {"a": 1}}
    world.does(saves(**values))
    assert written(world) == {
        "doit": {"_values_:": values, "deps:": []},
        "run": "me",
        "by": "me",
        "at": "2026-03-02 08:00 UTC",
        "seconds": 4.0,
        "outcome": "played",
        "took": [4.0],
    }


def test_a_task_that_tells_no_outcome_leaves_none(world):
    world.does(saves())
    assert written(world).keys() == {"doit", "run", "by", "at", "took"}
    assert written(world)["took"] == []


@pytest.mark.parametrize(
    ("more", "outcome", "took"),
    [
        ({}, "played", [9.0]),
        ({"changed": True}, "played", [9.0]),
        ({"changed": False}, "as it was", []),
        ({"seconds": None}, "played", []),
        ({"seconds": 0}, "played", []),
    ],
)
def test_only_work_counts_for_the_time_that_a_task_takes(world, more, outcome, took):
    world.does(saves(done="played", unchanged="as it was", **{"seconds": 9.0, **more}))
    assert (written(world)["outcome"], written(world)["took"]) == (outcome, took)


def test_the_last_five_times_are_kept_and_their_middle_is_expected(world):
    def expected(run):
        return of(run).expected("server")

    assert world.does(expected) is None
    for seconds in (1.0, 50.0, 10.0, 30.0, 20.0, 40.0):
        world.does(saves(done="played", unchanged="", seconds=seconds))
    assert written(world)["took"] == [50.0, 10.0, 30.0, 20.0, 40.0]
    assert world.does(expected) == 30.0
    world.does(lambda run: of(run).void("server"))
    assert world.does(expected) == 30.0, "a run that fails forgets no times"


def test_one_state_adds_each_of_its_runs_to_the_times(world):
    def act(run):
        state = of(run)
        for seconds in (1.0, 3.0):
            state.set("server", "_values_:", {"done": "", "unchanged": "", "seconds": seconds})
            state.set("server", "deps:", [])
        return state.expected("server")

    assert world.does(act) == 2.0


def test_the_record_is_written_with_doits_last_key_and_not_before(world):
    def act(run):
        state = of(run)
        state.set("server", "value", 1)
        assert state.get("server", "value") == 1
        assert SERVER not in world.objects
        state.set("server", "deps:", [])
        assert state.record("server") == {"value": 1, "deps:": []} == world.value(SERVER)["doit"]

    world.does(act)


def test_that_a_task_is_ignored_is_written_at_once(world):
    world.does(lambda run: of(run).set("server", "ignore:", "1"))
    assert written(world)["doit"] == {"ignore:": "1"}


def test_a_task_that_leaves_no_record_writes_none(world):
    def act(run):
        state = of(run, unrecorded=frozenset({"teardown"}))
        state.lease = Held()
        state.set("teardown", "deps:", [])
        state.void("teardown")
        assert not state.in_("teardown")
        state.set("server", "deps:", [])

    world.does(act)
    assert list(world.objects) == [SERVER]


# --- what was done, and is not certain any more -------------------------------------------------------


class Held:
    """A lease that counts how often it is asked, and is lost after so many."""

    def __init__(self, lasts=99):
        self.asked, self.lasts = 0, lasts

    def check(self):
        self.asked += 1
        if self.asked > self.lasts:
            raise LeaseLost(identity=TESTING, why="the test says so", task="release")


@pytest.mark.promise("a-record-asks-for-the-lease")
def test_each_record_asks_for_the_lease_and_without_it_none_is_written(world):
    lease = Held(lasts=1)

    def act(run):
        state = of(run)
        state.lease = lease
        state.set("server", "deps:", [])
        before = world.objects[SERVER]
        for write in (lambda: state.set("server", "deps:", []), lambda: state.void("server")):
            with pytest.raises(LeaseLost):
                write()
        assert world.objects[SERVER] is before

    world.does(act)
    assert lease.asked == 3


@pytest.mark.parametrize(
    ("recorded", "held", "wrote"), [(True, False, True), (False, False, False), (False, True, True)]
)
def test_a_record_is_void_before_its_task_changes_anything(world, recorded, held, wrote):
    """Under a lease also where there is none: that of a former holder may come yet."""
    if recorded:
        world.does(saves(done="played", unchanged="", seconds=1.0))

    def act(run):
        state = of(run)
        state.lease = Held() if held else None
        state.void("server")
        assert not state.in_("server")

    world.does(act)
    assert (SERVER in world.objects and world.value(SERVER)["doit"] == {}) is wrote


def test_what_is_void_already_is_not_written_again_but_in_its_version(world):
    def act(run):
        state = of(run)
        state.set("server", "deps:", [])
        state.void("server")
        first = world.objects[SERVER]
        state.void("server")
        assert world.objects[SERVER] is not first, "a success of another run may lie in between"
        state.set("server", "deps:", [])
        assert state.in_("server")

    world.does(act)


def test_forgetting_is_written_at_the_end_and_once(world):
    world.does(saves())

    def act(run):
        state = of(run)
        state.remove("server")
        assert not state.in_("server")
        assert written(world)["doit"]
        state.dump()
        first = world.objects[SERVER]
        assert written(world)["doit"] == {}
        state.dump()
        assert world.objects[SERVER] is first

    world.does(act)


def test_a_forgotten_task_that_succeeds_after_all_is_not_forgotten(world):
    world.does(saves())

    def act(run):
        state = of(run)
        state.remove("server")
        state.set("server", "deps:", [])
        state.dump()

    world.does(act)
    assert written(world)["doit"] == {"deps:": []}


def test_a_task_that_another_run_has_succeeded_with_meanwhile_is_not_forgotten(world):
    world.does(saves())

    def act(run):
        state = of(run)
        state.remove("server")
        world.put(SERVER, {"doit": {"deps:": []}, "run": "another", "by": "kim@elsewhere"})
        with pytest.raises(RecordTaken, match="by kim@elsewhere"):
            state.dump()

    world.does(act)


def test_forgetting_everything_forgets_every_task_of_this_environment_and_no_other(world):
    names = ["server", "tarball:pack", "infrastructure:environment"]
    for task in names:
        world.does(saves(task))
    world.does(saves(), environment="staging")

    def act(run):
        state = of(run)
        state.remove_all()
        state.dump()
        return [state.in_(task) for task in names]

    assert world.does(act) == [False, False, False]
    assert all(world.value(layout.state(TESTING, task))["doit"] == {} for task in names)
    assert world.value(layout.state("staging", "server"))["doit"]


# --- what is read ---------------------------------------------------------------------------------


def test_a_record_is_read_once_and_the_parts_of_a_stage_together(world):
    for task in ("server", "tarball:pack", "tarball:style:de"):
        world.does(saves(task))

    def act(run):
        before = reads(world)
        state = of(run)
        assert state.in_("tarball:style:de")
        assert reads(world) - before == 2, "of one stage, all that are there"
        assert state.in_("tarball:pack")
        assert reads(world) - before == 2
        assert not state.in_("tarball:generated")
        assert reads(world) - before == 3
        before -= 1
        lists = [name for _, name in world.requests].count("list_objects_v2")
        for _ in range(2):
            assert state.in_("server")
        assert reads(world) - before == 5
        state.read_anew()
        assert state.in_("server")
        assert reads(world) - before == 6
        assert [name for _, name in world.requests].count("list_objects_v2") == lists, "it has no parts"

    world.does(act)


def test_a_part_that_was_read_is_not_forgotten_by_reading_the_others(world):
    def act(run):
        state = of(run)
        state.set("tarball", "value", 1)
        state.set("tarball:pack", "value", 2)
        world.put(PACK, {"doit": {"deps:": []}, "run": "another"})
        assert not state.in_("tarball:vendor")
        assert state.get("tarball:pack", "value") == 2

    world.does(act)


@pytest.mark.promise("records-are-read-under-the-lease")
def test_under_the_lease_the_version_is_that_of_now(world):
    def act(run):
        state = of(run)
        assert not state.in_("server")
        world.put(SERVER, {"doit": {"value": 2}, "run": "another"})
        state.read_anew()
        assert state.get("server", "value") == 2
        state.set("server", "deps:", [])

    world.does(act)
    assert written(world)["doit"] == {"value": 2, "deps:": []}


@pytest.mark.parametrize(
    ("body", "warned"),
    [(b"{", True), (b"[]", True), ({"doit": 3}, False), ({}, False), ({"doit": {}, "took": None}, False)],
)
@pytest.mark.promise("broken-record-is-a-warning")
def test_a_broken_record_is_a_warning_and_a_task_that_never_ran(world, body, warned):
    said = []
    world.put(SERVER, body)

    def act(run):
        run.console.say = lambda stage: lambda words: said.append((stage, words))
        state = of(run)
        assert not state.in_("server")
        assert state.expected("server") is None
        assert said == ([("state", f"{SERVER} is no JSON: the task counts as never run")] if warned else [])
        state.set("server", "deps:", [])

    world.does(act)
    assert written(world)["doit"] == {"deps:": []}


def test_doctor_and_doit_find_when_a_record_was_written(world):
    def act(run):
        state = of(run)
        state.in_("server")
        return state.at["server"]

    assert world.does(act) == ""
    world.does(saves())
    assert world.does(act) == "2026-03-02 08:00 UTC"


# --- who wrote it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "by"),
    [
        ({"run": "another", "by": "kim@elsewhere"}, "kim@elsewhere"),
        ({}, "another run"),
        (b"{", "another run"),
    ],
)
@pytest.mark.promise("records-are-not-overwritten")
def test_a_record_that_was_not_read_is_not_overwritten_and_its_writer_is_named(world, left, by):
    def act(run):
        state = of(run)
        assert not state.in_("server")
        world.put(SERVER, left)
        before = world.objects[SERVER]
        with pytest.raises(RecordTaken, match=f"state: {SERVER} was changed by {by} in the meantime"):
            state.set("server", "deps:", [])
        assert world.objects[SERVER] is before

    world.does(act)


def test_a_record_that_is_gone_since_it_was_read_was_another_run_s_doing(world):
    world.does(saves())

    def act(run):
        state = of(run)
        state.in_("server")
        del world.objects[SERVER]
        with pytest.raises(RecordTaken, match="was changed by another run"):
            state.set("server", "deps:", [])

    world.does(act)


def test_a_run_replaces_its_own_record_where_the_answer_to_its_write_was_lost(world):
    def act(run):
        state = of(run)
        assert not state.in_("server")
        world.put(SERVER, {"doit": {}, "run": run.id, "by": run.who})
        state.set("server", "deps:", [])
        state.void("server")

    world.does(act)
    assert written(world)["doit"] == {}


def test_the_state_is_of_the_run_that_was_named(world):
    def act(run):
        records = Records(run=run)
        state = BucketState(records, SimpleNamespace())
        assert state.name is records
        assert state.store is run.store
        assert state.key("tarball:pack") == PACK

    world.does(act)
