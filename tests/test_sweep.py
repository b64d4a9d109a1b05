"""What a sweep takes, and above all what it never takes: its plan, and its life against the cloud's API."""

from __future__ import annotations

import dataclasses
import datetime
import random

import pytest

from tasks import keep, sweep
from tasks.estate import Estate, Object, Thing
from tasks.run import branch_id
from tasks.settings import Environment, Release, Sweep
from tasks.sweep import Doomed, Known, Memory

NOW = datetime.datetime(2026, 11, 24, 12, tzinfo=datetime.UTC)
LONG_AGO = NOW - datetime.timedelta(days=400)
LIMITS = Sweep()
FILES = {
    "testing": Environment(per_branch=True, release=Release(expires_after_days=14)),
    "live": Environment(),
}
BRANCHES = sorted(f"branch-{number:03}" for number in range(200))
LIVING = 180
"""Branches that the remote still has."""
DIGESTS = [f"{number:064x}" for number in range(1000)]


def identity(branch):
    return f"testing-{branch_id(branch)}"


def ago(**of):
    return NOW - datetime.timedelta(**of)


def machine(branch="shop", *, id="i-1", made=None, **tags):
    return Thing(
        kind="instance",
        id=id,
        identity=identity(branch),
        state="running",
        made=made or ago(days=1),
        tags={"project": "shop", "environment": identity(branch), "branch": branch, "pushed": "yes", **tags},
        more={"type": "t3.medium", "image": "ami-1", "address": None},
    )


def stored(key, **age):
    return Object(key=key, size=1, written=ago(**age) if age else ago(days=400))


def look(*found):
    return Estate(
        at=NOW,
        settings=FILES,
        things=tuple(each for each in found if isinstance(each, Thing)),
        objects=tuple(each for each in found if isinstance(each, Object)),
    )


def doomed(*found, branches=("main",), referred=(), pushed=(), settings=LIMITS):
    """Why each group is condemned, or left."""
    known = Known(
        branches=dict.fromkeys(branches, "c0ffee"),
        referred=frozenset(referred),
        memory=Memory(pushed=frozenset(map(identity, pushed))),
    )
    said = sweep.condemned(look(*found), known, settings)
    return {each.group: ("" if isinstance(each, Doomed) else "left: ") + each.why for each in said}


# --- environments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("things", "branches", "why"),
    [
        ([machine()], ["shop"], None),
        ([machine()], [], "its branch shop is gone"),
        ([machine(made=LONG_AGO, expires="2026-11-30")], ["shop"], None),
        ([machine(expires="2026-11-24")], ["shop"], None),
        ([machine(expires="2026-11-23")], ["shop"], "expired on 2026-11-24 00:00 UTC"),
        ([machine(expires="2026-11-23", **{"keep-until": "2026-11-25T10:00Z"})], ["shop"], None),
        ([machine(expires="2026-11-23", **{"keep-until": "2026-11-24T10:00Z"})], ["shop"], "expired on 2026-11-24 10:00 UTC"),
        ([machine(made=ago(days=15))], ["shop"], "expired on 2026-11-23 12:00 UTC"),
        ([machine(**{"keep-until": "2026-12-01"})], [], "left: its branch shop is gone, but kept until 2026-12-02 00:00 UTC"),
        ([machine(**{"keep-until": "next week"})], [], "left: its branch shop is gone, but pinned"),
        ([machine(pin="demo")], [], "left: its branch shop is gone, but pinned"),
        ([machine(pushed="")], [], None),
        ([machine(pushed="", expires="2026-11-20")], [], "expired on 2026-11-21 00:00 UTC"),
        ([Thing(kind="key pair", id="k", identity=identity("shop"))], ["shop"], "half made: it has no machine"),
        ([stored(f"state/{identity('shop')}/release.json")], ["shop"], None),
        ([stored(f"leases/{identity('shop')}.json")], [], "records of a branch that is gone"),
    ],
)  # fmt: skip
def test_an_environment_goes_with_its_branch_its_time_or_its_machine(things, branches, why):
    assert doomed(*things, branches=["main", *branches]).get(identity("shop")) == why


def test_a_branch_that_a_sweep_has_seen_and_that_is_gone_was_pushed():
    assert doomed(machine(pushed=""), pushed=["shop"]) == {identity("shop"): "its branch shop is gone"}


@pytest.mark.parametrize("name", ["live", "image", "other"])
def test_what_is_no_branch_s_environment_is_no_branch_s_to_take(name):
    found = [dataclasses.replace(machine(), identity=name), stored(f"state/{name}/release.json")]
    expected = {
        "image": {"image": "a bake that did not end"},
        "other": {"other": "left: no file in environments/ makes other"},
    }
    assert doomed(*found) == expected.get(name, {})


# --- what belongs to no environment ---------------------------------------------------------------


def volume(identity="", **more):
    return Thing(
        kind="volume", id="vol-1", identity=identity, state="available", more={"gb": 8, "of": []}, **more
    )


@pytest.mark.parametrize(
    ("thing", "why"),
    [
        (Thing(kind="instance", id="i-9", more={"image": ""}), "it carries the tag of no environment"),
        (Thing(kind="key pair", id="k"), "it carries the tag of no environment"),
        (Thing(kind="security group", id="sg-1"), "it carries the tag of no environment"),
        (Thing(kind="security group", id="sg-1", tags={"pin": "x"}), "left: it carries the tag of no environment, but pinned"),
        (volume(), "it carries the tag of no environment"),
        (volume("live"), "left: attached to nothing, but it is live's"),
        (volume(identity("main")), "attached to nothing"),
        (Thing(kind="volume", id="vol-1", state="in-use", more={"gb": 8, "of": ["i-1"]}), None),
        (Thing(kind="secret", id="/shop/signing-key"), None),
    ],
)  # fmt: skip
def test_a_stray_is_what_no_environment_claims(thing, why):
    assert doomed(machine("main"), thing).get(f"{thing.kind} {thing.id}") == why


def test_old_images_go_unless_a_machine_runs_on_them():
    def baked(number, state="available"):
        made, tags = ago(days=number), {"fingerprint": "f"}
        return Thing(kind="image", id=f"ami-{number}", state=state, made=made, tags=tags)

    found = doomed(machine("main"), *(baked(number) for number in range(5)), baked(9, "failed"))
    # ami-0 is the newest; the machine runs on ami-1
    assert set(found) == {"image ami-2", "image ami-3", "image ami-4", "image ami-9"}
    on_older = dataclasses.replace(machine("main"), more={**machine().more, "image": "ami-3"})
    assert "image ami-3" not in doomed(on_older, *(baked(number) for number in range(5)))


# --- the bucket -----------------------------------------------------------------------------------


def test_tarballs_go_beyond_age_or_number_with_what_lies_beside_them():
    old, young = DIGESTS[0], DIGESTS[1:]
    beside = [stored(f"branches/tarballs/{old}.{kind}") for kind in ("tar.zst", "manifest.json", "minisig")]
    new = [stored(f"branches/tarballs/{each}.tar.zst", hours=n) for n, each in enumerate(young[:4])]
    settings = dataclasses.replace(LIMITS, tarballs=3)
    found = doomed(*beside, *new, settings=settings)
    assert found == {
        f"branches/tarballs/{old}": "older than 60 days, and nothing living refers to it",
        f"branches/tarballs/{young[3]}": "beyond 3 tarballs, and nothing living refers to it",
    }
    assert doomed(*beside, *new, settings=settings, referred=[old, young[3]]) == {}


@pytest.mark.parametrize(
    ("key", "goes"),
    [
        ("trusted/layers/{}.tar.zst", True),
        ("trusted/layers/{}.json", True),
        ("trusted/keys/{}.json", True),
        ("trusted/commits/{}.json", True),
        ("runs/{}.json", True),
        ("runs/current.json", False),
        ("history/live.json", False),
        ("sweep/memory.json", False),
        ("somebody/else.txt", False),
    ],
)
def test_a_record_or_layer_goes_when_it_is_old_and_nothing_refers_to_it(key, goes):
    key = key.format(DIGESTS[0])
    assert bool(doomed(stored(key))) == goes
    assert doomed(stored(key), referred=DIGESTS[:1]) == {}
    assert doomed(stored(key, days=1)) == {}


# --- the grace time -------------------------------------------------------------------------------


def planned(found, seen, **known):
    memory = Memory(seen=seen, **known)
    return sweep.plan(look(*found), Known(branches={"main": "c"}, memory=memory), LIMITS)


def test_nothing_is_taken_at_first_sight_and_all_of_it_after_the_grace_time():
    first = planned([machine()], {})
    assert (first.take, list(first.wait)) == ((), [identity("shop")])
    assert first.memory.seen == {"instance i-1": NOW}
    assert planned([machine()], {"instance i-1": ago(hours=23)}).take == ()
    (taken,) = planned([machine()], {"instance i-1": ago(hours=24)}).take
    assert taken.of.id == "i-1"


def test_a_machine_that_is_new_gives_its_environment_a_new_grace_time():
    seen = {"instance i-1": LONG_AGO}
    assert planned([machine(), machine(id="i-2")], seen).take == ()


def test_what_is_held_again_is_forgotten():
    assert planned([machine("main")], {"instance i-1": LONG_AGO}).memory.seen == {}


def test_the_share_is_of_everything_and_a_few_may_always_go():
    many = [stored(f"runs/{each}.json") for each in DIGESTS[: sweep.FEW + 1]]
    living = [stored(f"runs/{each}.json", days=1) for each in DIGESTS[100 : 100 + 3 * len(many)]]
    seen = {each.key: LONG_AGO for each in many}
    assert planned([*many, *living], seen).share == 25
    assert planned(many[1:], seen).share == 0


def test_whatever_is_referred_to_pinned_or_new_is_never_taken():
    for seed in range(300):
        chance = random.Random(seed)
        branches = [f"branch-{number}" for number in range(8)]
        alive = {"main", *chance.sample(branches, 4)}
        referred = set(chance.sample(DIGESTS[:40], 12))
        things = [
            machine(
                branch,
                id=f"i-{number}",
                made=ago(days=chance.randrange(40)),
                pushed=chance.choice(["yes", ""]),
                pin=chance.choice(["", "", "x"]),
                **{"keep-until": chance.choice(["", "2026-11-20", "2026-11-30"])},
            )
            for number, branch in enumerate([*branches, "main"])
        ]
        kinds = (
            "tarballs/{}.tar.zst",
            "layers/{}.json",
            "layers/{}.tar.zst",
            "commits/{}.json",
            "keys/{}.json",
        )
        objects = [
            stored(f"{chance.choice(['trusted', 'branches'])}/{chance.choice(kinds).format(each)}", days=chance.randrange(800))
            for each in DIGESTS[:40]
        ]  # fmt: skip
        live = [
            dataclasses.replace(machine(), identity="live", id="i-live"),
            stored("state/live/release.json"),
        ]
        found = look(*things, *objects, *live)
        names = [f"instance {each.id}" for each in found.things] + [each.key for each in found.objects]
        seen = {name: ago(hours=chance.randrange(60)) for name in names if chance.random() < 0.7}
        known = Known(
            branches=dict.fromkeys(alive, "c"), referred=frozenset(referred), memory=Memory(seen=seen)
        )
        settings = dataclasses.replace(LIMITS, tarballs=chance.randrange(20))
        taken = sweep.plan(found, known, settings).take
        for each in taken:
            assert each.name in seen
            assert seen[each.name] <= ago(hours=24)
            assert each.of.identity != "live"
            if isinstance(each.of, Thing):
                assert not each.of.tags["pin"]
                assert each.of.tags["keep-until"] != "2026-11-30"
                expired = keep.expiry(found.places[each.of.identity], FILES["testing"]) <= NOW
                assert expired or (each.of.tags["branch"] not in alive and each.of.tags["pushed"])
            else:
                assert not any(name in each.of.key for name in referred)
