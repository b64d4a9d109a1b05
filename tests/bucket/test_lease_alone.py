"""The lease, second by second: runs that meet in a simulated world, where time costs nothing."""

from __future__ import annotations

import json
import os
import shlex
import socket
import sys

import pytest

from tasks.bucket import layout, lease
from tasks.bucket.create import BucketGone
from tasks.bucket.lease import EnvironmentHeld, Holder, Lease, LeaseLost, LeaseState, LeaseUnreadable
from tasks.process.children import Cancelled
from tests.simulation.alone import Alone
from tests.simulation.cloud import Instance, refused
from tests.simulation.controllers import TESTING

TTL = 60.0
KEY = layout.lease(TESTING)
HOLDER = {
    "run": "another", "by": "kim@elsewhere", "host": "elsewhere", "machine": "elsewhere", "pid": 7, "started": 8,
    "command": "doit release", "at": "2026-03-02 07:59 UTC", "ttl": TTL,
}  # fmt: skip
FREE = {"by": "kim@elsewhere", "free": True, "unclean": False, "at": "2026-03-02 07:59 UTC"}


@pytest.fixture
def world():
    return Alone()


def holds(seconds, **how):
    """Hold the lease for so long, and free it."""

    def act(run):
        held = Lease(run, **how)
        held.take(0)
        run.cloud.world.scheduler.pause(seconds)
        held.free()

    return act


def now(world):
    return world.scheduler.now


# --- what stands in the lease ---------------------------------------------------------------------


def test_a_lease_says_who_holds_it_where_and_since_when(world):
    def act(run):
        Lease(run).take(0)
        return world.value(KEY), Lease(run).look().holder

    written, holder = world.does(act)
    del written["nonce"]
    machine = written.pop("machine")
    assert machine.split()[0] == socket.gethostname()
    assert written.pop("started") == lease.started_at(os.getpid())
    assert written == {
        "run": "me",
        "by": "me",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "command": shlex.join(["doit", *sys.argv[1:]]),
        "at": "2026-03-02 08:00 UTC",
        "ttl": TTL,
    }
    assert not holder.gone
    assert (
        str(Holder(**HOLDER))
        == "kim@elsewhere on elsewhere (process 7: doit release, since 2026-03-02 07:59 UTC)"
    )


def test_a_lease_that_is_given_back_says_by_whom_and_when(world):
    world.does(holds(120.0))
    left = world.value(KEY)
    del left["nonce"]
    assert left == {"by": "me", "free": True, "unclean": False, "at": "2026-03-02 08:02 UTC"}


@pytest.mark.parametrize("age", [TTL, TTL + 1])
def test_a_holder_is_dead_once_it_was_silent_for_longer_than_its_time_to_live(age):
    assert LeaseState(age=age, holder=Holder(**HOLDER)).dead is (age > TTL)
    assert not LeaseState(age=age).dead


@pytest.mark.parametrize(
    ("machine", "pid", "started", "gone"),
    [("here", "mine", "mine", False), ("here", "mine", "older", True), ("elsewhere", "mine", "older", False)],
)
def test_a_holder_is_gone_whose_process_has_ended_on_this_machine(machine, pid, started, gone):
    mine = lease.started_at(os.getpid())
    holder = Holder(
        **{
            **HOLDER,
            "machine": lease.this_machine() if machine == "here" else machine,
            "pid": os.getpid(),
            "started": mine if started == "mine" else mine - 1,
        }
    )
    assert holder.gone is gone
    assert LeaseState(age=0.0, holder=holder).dead is gone


# --- who takes it ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "unclean"),
    [
        (None, False),
        (FREE, False),
        ({**FREE, "unclean": True}, True),
        ({"free": True}, False),
        ({**HOLDER, "ttl": -1}, True),
        ({**HOLDER, "run": "me"}, True),
    ],
)
def test_a_lease_that_nobody_holds_is_taken_at_once_and_tells_of_an_unclean_end(world, found, unclean):
    if found:
        world.put(KEY, found)

    def act(run):
        held = Lease(run)
        held.take(0)
        assert now(world) < 1, "it was waited for"
        return held.unclean

    assert world.does(act) is unclean


@pytest.mark.parametrize("wait", [0, 0.5, 7, 300])
@pytest.mark.promise("wait-zero", "held-lease-is-waited-for")
def test_a_living_holder_is_waited_for_as_long_as_was_said(world, wait):
    world.start(holds(1000.0), name="holder")

    def act(run):
        world.at(1.0)
        with pytest.raises(
            EnvironmentHeld, match=rf"lease: {TESTING} is held by holder on .*\n    doit --wait 600 release$"
        ) as caught:
            Lease(run).take(wait)
        assert wait <= now(world) - 1 < wait + 0.3
        return caught.value.text

    said = world.does(act)
    assert f"last sign of life {int(wait + 1)} s ago" in said or wait > 7


@pytest.mark.promise("held-lease-is-waited-for")
def test_by_default_it_is_waited_for_as_long_as_a_dead_holder_takes_to_be_known(world):
    """For its time to live and a beat: 80 s."""
    world.start(holds(1000.0), name="holder")
    said = []

    def act(run):
        world.at(1.0)
        with pytest.raises(EnvironmentHeld):
            Lease(run).take(say=said.append)
        assert 80 <= now(world) - 1 < 81

    world.does(act)
    assert 70 < len(said) <= 80, "it looks once in a second"
    assert said[0].startswith("waits for holder on ")


@pytest.mark.promise("killed-holder-is-followed")
def test_a_silent_holder_elsewhere_is_followed_once_its_time_is_over(world):
    world.put(KEY, HOLDER)

    def act(run):
        held = Lease(run)
        held.take()
        assert TTL < now(world) < TTL + 3
        assert held.unclean

    world.does(act)


def test_the_lease_is_taken_in_the_second_in_which_it_is_given_back(world):
    world.start(holds(30.0), name="holder")

    def act(run):
        world.at(1.0)
        Lease(run).take()
        assert 30 <= now(world) < 33

    world.does(act)


def test_of_two_that_see_a_free_lease_one_takes_it_and_the_other_waits(world):
    taken = []

    def act(run):
        held = Lease(run)
        held.take()
        taken.append((run.id, now(world)))
        world.scheduler.pause(10.0)
        held.free()

    world.start(act, name="one")
    world.start(act, name="two")
    world.run()
    (first, at), (second, later) = taken
    assert {first, second} == {"one", "two"}
    assert later - at >= 10


@pytest.mark.parametrize(
    "damaged", [b"{", b"[]", b"{}", b'{"free": "yes"}', {**HOLDER, "ttl": "x"}, {**HOLDER, "pid": None}]
)
@pytest.mark.promise("damaged-lease-is-nobodys")
def test_a_damaged_lease_is_refused_with_its_key_and_its_age(world, damaged):
    world.put(KEY, damaged)

    def act(run):
        world.at(42.0)
        with pytest.raises(
            LeaseUnreadable, match=rf"lease: {KEY} is damaged: .* written 42 s ago\n    doit unlock"
        ):
            Lease(run).take()

    world.does(act)
    assert world.objects[KEY].etag == "v1"


def test_an_answer_that_comes_too_late_is_no_lease(world):
    """The first write was heard of when another run might have had the lease already."""
    put, late = [], 0.9 * TTL + 1

    class Slow(Alone):
        def call(self, process, name, effect, *, changes=False):
            answer = super().call(process, name, effect, changes=changes)
            if name == "put_object":
                put.append(self.scheduler.now)
                if len(put) == 1:
                    self.scheduler.pause(late)
            return answer

    def act(run):
        held = Lease(run)
        held.take(0)
        assert len(put) == 2
        assert held.lost is None

    Slow().does(act)


def test_an_answer_that_is_in_time_is_a_lease(world):
    class Slow(Alone):
        def call(self, process, name, effect, *, changes=False):
            answer = super().call(process, name, effect, changes=changes)
            if name == "put_object" and self.scheduler.now < 1:
                self.scheduler.pause(0.9 * TTL - 1)
            return answer

    slow = Slow()

    def act(run):
        Lease(run).take(0)
        assert slow.requests.count(("me", "put_object")) == 1

    slow.does(act)


class New(Alone):
    """An account whose bucket is not there until it is made."""

    def __init__(self):
        super().__init__()
        self.made = []

    def call(self, process, name, effect, *, changes=False):
        if name.endswith(("_object", "_bucket")) and not self.made:
            raise refused("NoSuchBucket", 404)
        return super().call(process, name, effect, changes=changes)

    def takes(self, run):
        run.store.client.create_bucket = lambda **request: self.made.append(request)
        Lease(run).take(0)


@pytest.mark.promise("missing-bucket-is-made")
def test_a_bucket_that_is_missing_is_made_where_it_belongs():
    new = New()
    new.does(new.takes)
    place = {"LocationConstraint": "eu-central-1"}
    assert new.made == [{"Bucket": "shop-releases", "CreateBucketConfiguration": place}]
    assert new.value(KEY)["run"] == "me"


@pytest.mark.promise("gone-bucket-is-refused")
def test_a_bucket_that_is_missing_is_not_made_where_the_project_has_machines():
    new = New()
    new.instances["i-1"] = Instance("i-1", "", {}, -60.0, -60.0, [(-60.0, {"project": "shop"})])
    with pytest.raises(BucketGone, match="i-1 of shop are still there"):
        new.does(new.takes)
    assert new.made == []


# --- how it is kept -------------------------------------------------------------------------------


def test_its_holder_writes_it_three_times_in_its_time_to_live(world):
    signs = []

    class Heard(Alone):
        def call(self, process, name, effect, *, changes=False):
            answer = super().call(process, name, effect, changes=changes)
            if name == "put_object":
                signs.append(round(self.scheduler.now))
            return answer

    heard = Heard()

    def act(run):
        held = Lease(run)
        held.take(0)
        heard.at(125.0)
        held.check()
        assert signs == [0, 20, 40, 60, 80, 100, 120]
        assert heard.value(KEY)["run"] == "me"
        held.free()

    heard.does(act)


@pytest.mark.promise("lost-lease-stops", "theft-is-noticed")
@pytest.mark.parametrize(
    ("instead", "why"),
    [
        (HOLDER, "it is held by kim@elsewhere on elsewhere"),
        (FREE, "it was freed or removed"),
        (None, "it was freed or removed"),
        (b"{", "it is damaged"),
    ],
)
@pytest.mark.parametrize("asked", [True, False])
def test_a_lease_that_is_not_its_own_any_more_is_lost_and_says_why(world, instead, why, asked):
    told = []

    def act(run):
        held = Lease(run, on_lost=lambda: told.append(now(world)))
        held.take(0)
        world.at(5.0)
        held.check()
        if instead:
            world.put(KEY, instead)
        else:
            del world.objects[KEY]
        if not asked:
            world.at(24.0)  # the next sign of life is due at 20 s
            assert 20 <= told[0] < 21
        for _ in range(2):
            with pytest.raises(
                LeaseLost, match=rf"lease: {TESTING} is lost: {why}.* records nothing more\n    doit release$"
            ):
                held.check()
        assert len(told) == 1
        before = world.objects.get(KEY)
        world.at(100.0)
        held.free()
        assert world.objects.get(KEY) is before, "who has lost it writes no more"

    world.does(act)


@pytest.mark.promise("no-bucket-no-writer", "both-sides-measure-silence")
def test_a_holder_that_cannot_reach_the_bucket_stops_before_another_may_follow_it(world):
    told = []

    def act(run):
        held = Lease(run, on_lost=lambda: told.append(now(world)))
        held.take(0)
        world.at(21.0)  # the last sign of life was at 20 s
        world.cut.add(run.id)
        world.at(20 + 0.9 * TTL - 1)
        assert told == [], "it may be heard of again"
        world.at(20 + TTL)
        with pytest.raises(LeaseLost, match="no sign of life got through to the bucket for 54 s"):
            held.check()
        world.put(KEY, HOLDER)
        world.cut.clear()
        world.at(200.0)
        with pytest.raises(LeaseLost, match="no sign of life got through"):
            held.check()
        assert len(told) == 1, "it is lost once"

    world.does(act)


def test_a_holder_that_was_silent_for_too_long_gives_nothing_back(world):
    """Its object is still its own; who follows must find it unclean."""

    def act(run):
        held = Lease(run)
        held.take(0)
        world.cut.add(run.id)
        world.at(56.0)
        assert held.lost
        world.cut.clear()
        held.free()
        world.at(80.0)
        assert world.value(KEY)["run"] == run.id

    world.does(act)


def test_a_holder_that_is_heard_of_again_in_time_goes_on(world):
    told = []

    def act(run):
        held = Lease(run, on_lost=lambda: told.append(now(world)))
        held.take(0)
        for begin in (21.0, 105.0):
            world.at(begin)
            world.cut.add(run.id)
            world.at(begin + 30)
            world.cut.clear()
        world.at(200.0)
        held.check()
        assert told == []
        held.free()
        assert world.value(KEY)["free"] is True

    world.does(act)


def test_a_sign_of_life_whose_answer_was_lost_is_its_own(world):
    class Unheard(Alone):
        def call(self, process, name, effect, *, changes=False):
            answer = super().call(process, name, effect, changes=changes)
            if name == "put_object" and 30 < self.scheduler.now < 50:
                raise refused("InternalError", 500)
            return answer

    unheard = Unheard()

    def act(run):
        held = Lease(run)
        held.take(0)
        unheard.at(70.0)
        held.check()
        held.free()
        assert unheard.value(KEY)["free"] is True

    unheard.does(act)


# --- how it is given back -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "unclean", "left"),
    [(False, False, False), (False, True, True), (True, False, True), (True, True, True)],
)
@pytest.mark.promise("next-run-knows-an-unclean-end", "an-interrupted-run-leaves-a-note")
def test_what_was_left_unclean_is_noted_until_a_run_has_cleaned_up(world, before, unclean, left):
    world.put(KEY, {**FREE, "unclean": before})

    def act(run):
        held = Lease(run)
        held.take(0)
        held.free(unclean=unclean)

    world.does(act)
    assert world.value(KEY)["unclean"] is left


def test_a_lease_that_was_not_taken_is_not_given_back(world):
    def act(run):
        held = Lease(run)
        assert held.unclean is False
        held.free()

    world.does(act)
    assert world.requests == []


def test_once_it_is_given_back_it_gives_no_sign_of_life_and_is_not_lost(world):
    told = []

    def act(run):
        held = Lease(run, on_lost=lambda: told.append(1))
        held.take(0)
        held.free()
        world.put(KEY, HOLDER)
        before = len(world.requests)
        world.at(300.0)
        assert len(world.requests) == before
        assert (held.lost, told) == (None, [])

    world.does(act)


def test_a_lease_that_goes_with_its_environment_is_deleted_in_the_version_that_was_written(world):
    def act(run):
        held = Lease(run)
        held.take(0)
        world.at(45.0)
        held.free(remove=True)
        assert KEY not in world.objects
        held = Lease(run)
        held.take(0)
        world.put(KEY, HOLDER)
        held.free(remove=True)
        assert world.value(KEY)["run"] == "another"

    world.does(act)


@pytest.mark.promise("dead-network-does-not-hang")
def test_on_a_dead_network_it_is_given_up_after_ten_seconds_and_said(world):
    said = []

    class Dead(Alone):
        def call(self, process, name, effect, *, changes=False):
            if self.scheduler.now > 30:
                self.scheduler.pause(900.0)
            return super().call(process, name, effect, changes=changes)

    dead = Dead()

    def act(run):
        run.console.event = lambda stage, words: said.append((stage, words))
        held = Lease(run)
        held.take(0)
        dead.at(31.0)
        held.free()
        assert 41 <= now(dead) < 42

    dead.does(act)
    assert said == [("lease", "not given back in 10 s: it runs out by itself")]


def test_what_is_given_back_in_time_is_not_spoken_of(world):
    def act(run):
        run.console.event = lambda stage, words: pytest.fail(words)
        held = Lease(run)
        held.take(0)
        held.free()
        assert now(world) < 5

    world.does(act)


def test_what_fails_while_it_is_given_back_is_no_traceback(world):
    def act(run):
        held = Lease(run)
        held.take(0)
        world.cut.add(run.id)
        held.free()

    world.does(act)


def test_its_threads_have_names_for_who_looks_at_a_stack(world):
    seen = set()

    class Looks(Alone):
        def call(self, process, name, effect, *, changes=False):
            seen.update(each.name for each in self.scheduler.live)
            return super().call(process, name, effect, changes=changes)

    Looks().does(holds(30.0))
    assert seen == {"main", "lease", "lease-watch", "lease-free"}


def test_an_interruption_while_it_is_waited_for_is_the_lease_s(world):
    world.put(KEY, HOLDER)

    def act(run, wait):
        run.threads.process.interrupted = True
        with pytest.raises(Cancelled, match=rf"^{wait}: ") as caught:
            (Lease(run).take if wait == "lease" else lambda: Lease(run).seize(lambda words: None))()
        assert caught.value.facts["stage"] == wait

    world.does(lambda run: act(run, "lease"))
    world.does(lambda run: act(run, "unlock"))


# --- how it is taken by force ---------------------------------------------------------------------


def unlock(world, at=0.0, said=None):
    def act(run):
        world.at(at)
        return Lease(run).seize((said if said is not None else []).append), now(world)

    return world.does(act, name="unlocker")


@pytest.mark.parametrize("found", [None, FREE])
def test_a_lease_that_nobody_holds_is_not_unlocked(world, found):
    if found:
        world.put(KEY, found)
    before = dict(world.objects)
    state, _ = unlock(world)
    assert state.holder is None
    assert world.objects == before


@pytest.mark.promise("unlock-waits")
@pytest.mark.parametrize(
    ("found", "at", "until"),
    [
        (HOLDER, 15.0, TTL + 1),
        ({**HOLDER, "ttl": 30.0}, 15.0, 31.0),
        (HOLDER, 60.0, TTL + 1),
        (HOLDER, 300.0, 300.0),
        (b"{", 15.0, TTL + 1),
    ],
)
def test_unlocking_waits_until_its_holder_must_have_noticed_and_leaves_it_free(world, found, at, until):
    said = []
    world.put(KEY, found)
    state, end = unlock(world, at, said)
    assert until <= end < until + 2
    pause = until - at
    assert said == ([f"waits {pause:.0f} s, until the former holder must have noticed"] if pause else [])
    assert (state.holder.by if state.readable else None) == (
        HOLDER["by"] if isinstance(found, dict) else None
    )
    left = world.value(KEY)
    del left["nonce"]
    assert left == {"by": "unlocker", "free": True, "unclean": True, "at": left["at"]}
    assert left["at"].startswith("2026-03-02 08:0")


def test_unlocking_does_not_wait_for_a_holder_that_is_gone_from_this_machine(world):
    world.put(KEY, {**HOLDER, "machine": lease.this_machine(), "started": 1})
    said = []
    _, end = unlock(world, 0.0, said)
    assert end < 2
    assert said == []


@pytest.mark.promise("unlock-waits")
def test_while_it_is_unlocked_nobody_else_takes_it(world):
    world.put(KEY, HOLDER)
    order = []

    def force(run):
        world.at(5.0)
        Lease(run).seize(lambda words: None)
        order.append(("free", now(world)))

    def follow(run):
        world.at(6.0)
        held = Lease(run)
        held.take()
        order.append(("taken", now(world)))

    world.start(force, name="unlocker")
    world.start(follow, name="follower")
    world.run()
    assert [what for what, _ in order] == ["free", "taken"]


def test_the_lease_is_a_document_that_an_older_pipeline_reads(world):
    """The names of its parts stay."""
    world.does(holds(0.0))
    world.put(KEY, json.dumps({**HOLDER, "mood": "a newer pipeline's"}).encode())
    state = world.does(lambda run: lease.look(run.store, TESTING))
    assert state.holder == Holder(**HOLDER)
