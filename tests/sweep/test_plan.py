"""What a sweep deletes and what it never deletes: the plan, and sweeps against the cloud's API."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import io
import json
import random
import time

import moto
import pytest

from tasks import source
from tasks.bucket.lease import TTL, Lease
from tasks.commands import command_line
from tasks.console.console import Console
from tasks.environments import cost, expiry, inventory
from tasks.environments.inventory import Inventory, Resource, StoredObject
from tasks.infrastructure import find
from tasks.infrastructure import plan as plans
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.zone import zone_id
from tasks.release import history
from tasks.run import branch_identity
from tasks.settings import Environment, Release, Sweep
from tasks.source import BranchesUnknown
from tasks.sweep import apply, references
from tasks.sweep import plan as sweep
from tasks.sweep.plan import Deletion, Known, Sightings
from tasks.sweep.references import SweepBlind
from tests.conftest import copy_project, git
from tests.plain import Plain

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
ORIGIN, FORK = "example.com/team/shop", "example.com/kim/shop"
"""The remote that the sweep asks, and another one."""


def identity(branch):
    return branch_identity("testing", branch)


def ago(**of):
    return NOW - datetime.timedelta(**of)


def machine(branch="shop", *, id="i-1", made=None, **tags):
    return Resource(
        kind="instance",
        id=id,
        identity=identity(branch),
        state="running",
        made=made or ago(days=1),
        tags={
            "project": "shop",
            "environment": identity(branch),
            "branch": branch,
            "remote": ORIGIN,
            "pushed": ORIGIN,
            **tags,
        },
        more={"type": "t3.medium", "image": "ami-1", "address": None},
    )


def stored(key, **age):
    return StoredObject(key=key, size=1, written=ago(**age) if age else ago(days=400))


def look(*found):
    return Inventory(
        at=NOW,
        settings=FILES,
        resources=tuple(each for each in found if isinstance(each, Resource)),
        objects=tuple(each for each in found if isinstance(each, StoredObject)),
    )


def doomed(*found, branches=("main",), referred=(), pushed=(), settings=LIMITS, remote=ORIGIN, elsewhere=()):
    """Why each group is condemned, or left. `pushed`: branches that an earlier sweep has seen."""
    known = Known(
        remote=remote,
        branches=dict.fromkeys(branches, "c0ffee"),
        referred=frozenset(referred),
        memory=Sightings(pushed=dict.fromkeys(map(identity, pushed), ORIGIN)),
    )
    seen = dataclasses.replace(look(*found), elsewhere=frozenset(elsewhere))
    said = list(sweep.condemned(seen, known, settings))
    kinds = {(each.group, type(each)) for each in said}
    assert len({group for group, _ in kinds}) == len(kinds), "nothing is taken and left"
    return {each.group: ("" if isinstance(each, Deletion) else "left: ") + each.why for each in said}


# --- environments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("resources", "branches", "why"),
    [
        ([machine()], ["shop"], None),
        ([machine()], [], "its branch shop is gone"),
        ([machine(made=LONG_AGO, expires="2026-11-30")], ["shop"], None),
        ([machine(expires="2026-11-24")], ["shop"], None),
        ([machine(expires="2026-11-23")], ["shop"], "expired on 2026-11-24 00:00 UTC"),
        ([machine(expires="2026-11-23", **{"keep-until": "2026-11-25T10:00Z"})], ["shop"], None),
        ([machine(expires="2026-11-23", **{"keep-until": "2026-11-24T10:00Z"})], ["shop"], "expired on 2026-11-24 10:00 UTC"),
        ([machine(made=ago(days=15))], ["shop"], "expired on 2026-11-23 12:00 UTC"),
        ([machine(made=ago(days=14))], ["shop"], "expired on 2026-11-24 12:00 UTC"),
        ([machine(**{"keep-until": "2026-11-24T12:00Z"})], [], "its branch shop is gone"),
        ([machine(**{"keep-until": "2026-12-01"})], [], "left: its branch shop is gone, but kept until 2026-12-02 00:00 UTC"),
        ([machine(**{"keep-until": "next week"})], [], "left: its branch shop is gone, but pinned"),
        ([machine(pin="demo")], [], "left: its branch shop is gone, but pinned"),
        ([machine(pushed="")], [], None),
        ([machine(pushed="", expires="2026-11-20")], [], "expired on 2026-11-21 00:00 UTC"),
        ([Resource(kind="key pair", id="k", identity=identity("shop"))], ["shop"], "half made: it has no machine"),
        ([stored(f"state/{identity('shop')}/release.json")], ["shop"], None),
        ([stored(f"leases/{identity('shop')}.json", days=1)], [], "what a teardown has left"),
        ([stored(f"history/{identity('shop')}.json", days=364)], [], None),
        ([stored(f"history/{identity('shop')}.json", days=366)], [], "records without a machine, older than 365 days"),
        ([stored(f"history/{identity('shop')}.json", days=366), stored(f"leases/{identity('shop')}.json", days=1)], [], "records without a machine, older than 365 days"),
        ([stored(f"history/{identity('shop')}.json", days=366), stored(f"state/{identity('shop')}/a.json", days=1)], [], None),
        ([stored(f"history/{identity('shop')}.json", days=366)], ["shop"], None),
    ],
)  # fmt: skip
@pytest.mark.promise(
    "when-an-environment-goes",
    "kept-and-pinned-stay",
    "unpushed-goes-by-expiry-only",
    "records-without-a-machine",
    "how-long-an-environment-stays",
)
def test_an_environment_goes_with_its_branch_its_time_or_its_machine(resources, branches, why):
    assert doomed(*resources, branches=["main", *branches]).get(identity("shop")) == why


@pytest.mark.promise("what-counts-as-pushed")
def test_a_branch_that_a_sweep_has_seen_and_that_is_gone_was_pushed():
    assert doomed(machine(pushed=""), pushed=["shop"]) == {identity("shop"): "its branch shop is gone"}


def test_records_go_with_a_branch_that_a_sweep_has_seen_and_that_is_gone():
    found = stored(f"history/{identity('shop')}.json", days=1)
    assert doomed(found, pushed=["shop"]) == {identity("shop"): "records of a branch that is gone"}
    assert doomed(found, pushed=["shop"], remote=FORK) == {}


ELSEWHERE = f"left: its branch shop is one of {FORK}, and this sweep asks {ORIGIN}"
UNKNOWN = "left: nothing says which remote has its branch shop"


@pytest.mark.parametrize(
    ("machines", "branches", "why"),
    [
        ([machine(remote=FORK, pushed=FORK)], [], ELSEWHERE),
        ([machine(remote=FORK, pushed=FORK)], ["shop"], None),
        # first of one, then released by a clone of the other one
        ([machine(remote=FORK)], [], ELSEWHERE),
        ([machine(pushed=FORK)], [], None),
        ([machine(), machine(id="i-2", remote=FORK)], [], ELSEWHERE),
        ([machine(remote=FORK), machine(id="i-2", remote="")], [], ELSEWHERE),
        ([machine(remote=FORK, expires="2026-11-23")], [], "expired on 2026-11-24 00:00 UTC"),
        # of a clone without a remote, and of a former version
        ([machine(remote="", pushed="")], [], UNKNOWN),
        ([machine(remote="", pushed="yes")], [], UNKNOWN),
    ],
)  # fmt: skip
@pytest.mark.promise("only-its-remote-says-that-a-branch-is-gone", "unknown-remote-is-left")
def test_a_branch_is_gone_only_for_the_remote_that_it_is_one_of(machines, branches, why):
    assert doomed(*machines, branches=["main", *branches]).get(identity("shop")) == why


@pytest.mark.promise("unknown-remote-is-left")
def test_a_sweep_that_does_not_know_whom_it_asks_takes_no_branch_for_gone():
    left = doomed(machine(), pushed=["shop"], remote="")
    assert left == {
        identity("shop"): f"left: its branch shop is one of {ORIGIN}, and this sweep asks an unknown one"
    }
    assert doomed(machine(remote="", pushed=""), remote="") == {identity("shop"): UNKNOWN}


@pytest.mark.promise("unknown-remote-is-left")
def test_what_a_sweep_has_seen_counts_for_its_own_remote_only():
    """Two remotes have a branch of that name; the environment is of the one that this sweep does not ask."""
    found = look(machine(remote=FORK, pushed=""))
    seen = sweep.plan(found, Known(remote=ORIGIN, branches={"main": "c", "shop": "c"}), LIMITS).memory
    assert seen.pushed == {}
    seen = sweep.plan(found, Known(remote=FORK, branches={"main": "c", "shop": "c"}), LIMITS).memory
    assert seen.pushed == {identity("shop"): FORK}
    again = sweep.plan(found, Known(remote=ORIGIN, branches={"main": "c"}, memory=seen), LIMITS)
    assert (again.memory.pushed, again.wait) == (seen.pushed, {})
    assert sweep.plan(found, Known(remote=FORK, branches={"main": "c"}, memory=seen), LIMITS).wait


@pytest.mark.parametrize("name", ["live", "image", "other"])
@pytest.mark.promise("when-a-bake-s-host-goes", "shared-environments-stay")
def test_an_environment_of_no_branch_does_not_go_with_a_branch(name):
    found = [dataclasses.replace(machine(), identity=name), stored(f"state/{name}/release.json")]
    expected = {
        "image": {"image": "a bake that did not end"},
        "other": {"other": "left: no file in environments/ makes other"},
    }
    assert doomed(*found) == expected.get(name, {})


@pytest.mark.promise("a-drill-s-host-ends")
def test_a_drill_s_host_goes_once_its_time_is_over_whatever_became_of_the_drill():
    there = dataclasses.replace(machine(expires="2026-11-24T12:01Z"), identity="drill-live")
    key = Resource(kind="key pair", id="shop-drill-live", identity="drill-live")
    assert doomed(there, key) == {}, "it may be at work"
    gone = {"drill-live": "a drill that did not end"}
    over = dataclasses.replace(there, tags={**there.tags, "expires": "2026-11-24T12:00Z"})
    assert doomed(over, key) == gone
    assert doomed(key) == gone, "half made: its lease says whether somebody makes it"
    assert doomed(dataclasses.replace(over, tags={"expires": "soon"})) == gone


def test_what_is_of_an_environment_elsewhere_is_left_to_the_sweep_there():
    """Its branch is gone and its disk is attached to nothing, but its records and its other machines are not here."""
    record = stored(f"history/{identity('shop')}.json", days=1)
    found = [record, volume(identity("shop")), dataclasses.replace(volume("live"), id="vol-2")]
    name, why = identity("shop"), "left: testing is elsewhere: doit environment=testing sweep"
    for resources in ([], [machine()]):
        assert doomed(*resources, *found, elsewhere=["testing", "live"]) == {name: why}
    assert doomed(record, pushed=["shop"], elsewhere=["testing"]) == {}
    assert set(doomed(machine(), *found)) == {name, "volume vol-1", "volume vol-2"}


# --- what belongs to no environment ---------------------------------------------------------------


def volume(identity="", **more):
    return Resource(
        kind="volume", id="vol-1", identity=identity, state="available", more={"gb": 8, "of": []}, **more
    )


@pytest.mark.parametrize(
    ("resource", "why"),
    [
        (Resource(kind="instance", id="i-9", more={"image": ""}), "it carries the tag of no environment"),
        (Resource(kind="key pair", id="k"), "it carries the tag of no environment"),
        (Resource(kind="security group", id="sg-1"), "it carries the tag of no environment"),
        (Resource(kind="security group", id="sg-1", tags={"pin": "x"}), "left: it carries the tag of no environment, but pinned"),
        (volume(), "it carries the tag of no environment"),
        (volume(tags={"keep-until": "2026-11-24T12:00Z"}), "it carries the tag of no environment"),
        (volume(tags={"keep-until": "2026-11-24T12:01Z"}), "left: it carries the tag of no environment, but kept until 2026-11-24 12:01 UTC"),
        (volume("live"), "left: attached to nothing, but it is live's"),
        (volume(identity("main")), "attached to nothing"),
        (volume(identity("main"), tags={"pin": "x"}), "left: attached to nothing, but pinned"),
        (Resource(kind="volume", id="vol-1", state="in-use", more={"gb": 8, "of": ["i-1"]}), None),
        (dataclasses.replace(volume(identity("main")), state="in-use"), None),
        (Resource(kind="secret", id="/shop/signing-key"), None),
    ],
)  # fmt: skip
@pytest.mark.promise("when-a-stray-goes")
def test_a_stray_is_what_no_environment_claims(resource, why):
    assert doomed(machine("main"), resource).get(f"{resource.kind} {resource.id}") == why


def test_what_is_condemned_is_the_thing_itself():
    disk = Resource(kind="volume", id="vol-1", state="available", made=ago(days=1))
    known = Known(remote=ORIGIN, branches={"main": "c0ffee"}, referred=frozenset(), memory=Sightings())
    (item,) = sweep.condemned(look(disk), known, LIMITS)
    assert (item.of, item.name) == (disk, "volume vol-1")


def test_a_machine_without_a_branch_or_a_remote_is_told_of_in_a_sentence():
    whole = machine()
    without = {name: value for name, value in whole.tags.items() if name != "branch"}
    assert doomed(dataclasses.replace(whole, tags=without)) == {identity("shop"): "its branch is gone"}
    without = {name: value for name, value in whole.tags.items() if name not in ("branch", "remote")}
    (said,) = doomed(dataclasses.replace(whole, tags=without)).values()
    assert said == "left: nothing says which remote has its branch "


@pytest.mark.promise("when-an-image-goes")
def test_old_images_go_unless_a_machine_runs_on_them():
    def baked(number, state="available"):
        made, tags = ago(days=number), {"fingerprint": "f"}
        return Resource(kind="image", id=f"ami-{number}", state=state, made=made, tags=tags)

    found = doomed(machine("main"), *(baked(number) for number in reversed(range(5))), baked(9, "failed"))
    # ami-0 is the newest; the machine runs on ami-1
    assert set(found) == {"image ami-2", "image ami-3", "image ami-4", "image ami-9"}
    kept = [
        dataclasses.replace(each, tags={**each.tags, "pin": "demo"})
        for each in (baked(7), baked(9, "failed"))
    ]
    found = doomed(machine("main"), *(baked(number) for number in range(3)), *kept)
    assert found["image ami-7"].startswith("left: older than the newest 2")
    assert found["image ami-9"] == "left: the image is failed, but pinned"
    on_older = dataclasses.replace(machine("main"), more={**machine().more, "image": "ami-3"})
    assert "image ami-3" not in doomed(on_older, *(baked(number) for number in range(5)))


@pytest.mark.promise("when-an-image-goes")
def test_images_are_counted_by_processor_and_only_those_that_a_bake_has_finished():
    def made(number, *, state="available", tags=("fingerprint",), **more):
        made, tags = ago(days=number), dict.fromkeys(tags, "f")
        return Resource(kind="image", id=f"ami-{number}", state=state, made=made, tags=tags, more=more)

    x86 = [made(10), made(11, architecture="x86_64"), made(12, architecture="x86_64")]
    arm = [made(number, architecture="arm64") for number in range(20, 23)]
    others = [made(30, state="pending"), made(31, tags=()), made(32, state="failed", tags=())]
    assert set(doomed(*x86, *arm, *others)) == {"image ami-12", "image ami-22"}


# --- the bucket -----------------------------------------------------------------------------------


@pytest.mark.promise("when-a-tarball-goes")
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
@pytest.mark.promise("when-a-layer-goes", "when-a-record-goes")
def test_a_record_or_layer_goes_when_it_is_old_and_nothing_refers_to_it(key, goes):
    key = key.format(DIGESTS[0])
    assert list(doomed(stored(key))) == ([key] if goes else [])
    assert doomed(stored(key), referred=DIGESTS[:1]) == {}
    assert doomed(stored(key, days=1)) == {}


@pytest.mark.parametrize(
    ("key", "days"),
    [
        ("trusted/layers/{}.tar.zst", 5),
        ("trusted/layers/{}.json", 5),
        ("trusted/keys/{}.json", 9),
        ("trusted/commits/{}.json", 9),
        ("runs/{}.json", 9),
        ("undone/trusted/{}.json", 9),
        ("undone/branches/{}.json", 9),
    ],
)
@pytest.mark.promise("when-a-layer-goes", "when-a-record-goes")
def test_layers_and_records_have_each_their_days(key, days):
    settings, key = dataclasses.replace(LIMITS, layer_days=5, record_days=9), key.format(DIGESTS[0])
    assert doomed(stored(key, days=days), settings=settings) == {}
    assert list(doomed(stored(key, days=days + 1), settings=settings)) == [key]


# --- the grace time -------------------------------------------------------------------------------


def planned(found, seen, **known):
    memory = Sightings(seen=seen, **known)
    return sweep.plan(look(*found), Known(remote=ORIGIN, branches={"main": "c"}, memory=memory), LIMITS)


@pytest.mark.promise("sweep-waits-a-grace-time", "nothing-goes-at-first-sight")
def test_nothing_is_taken_at_first_sight_and_all_of_it_after_the_grace_time():
    first = planned([machine()], {})
    assert (first.take, list(first.wait)) == ((), [identity("shop")])
    assert first.memory.seen == {"instance i-1": NOW}
    again = planned([machine()], {"instance i-1": ago(hours=23)})
    assert again.take == ()
    assert again.memory.seen == {"instance i-1": ago(hours=23)}, "the grace time does not begin anew"
    assert again.memory.pushed == {identity("shop"): ORIGIN}, "the machine says that its branch was pushed"
    (taken,) = planned([machine()], {"instance i-1": ago(hours=24)}).take
    assert taken.of.id == "i-1"


def test_the_plan_says_what_is_taken_what_waits_what_is_left_and_what_that_saves():
    big = dataclasses.replace(stored(f"runs/{DIGESTS[0]}.json"), size=3 * 10**12)
    found = [
        *(machine("gone", id=id, made=ago(hours=10)) for id in ("i-1", "i-2")),
        machine("new", id="i-3", made=ago(hours=10)),
        machine("kept", id="i-4", made=ago(hours=10), pin="demo"),
        big,
    ]
    plan = planned(found, dict.fromkeys(("instance i-1", "instance i-2", big.key), LONG_AGO))
    assert list(sweep.lines(plan, look(*found), PRICES)) == [
        f"take            {identity('gone')}: its branch gone is gone (2 instances)",
        f"take            {big.key}: a record older than 365 days (1 object)",
        f"wait            {identity('new')}: its branch new is gone; taken from 2026-11-25 12:00 UTC on (1 instance)",
        f"leave           {identity('kept')}: its branch kept is gone, but pinned",
        "3 environments, 40 instance hours, about 2.00 USD so far",
        "3 items to take save 73.00 USD a month and 3000000.0 MB, 1 wait",
    ]


@pytest.mark.promise("new-machine-new-grace")
def test_a_machine_that_is_new_gives_its_environment_a_new_grace_time():
    seen = {"instance i-1": LONG_AGO}
    assert planned([machine(), machine(id="i-2")], seen).take == ()


@pytest.mark.promise("what-is-needed-again-is-forgotten")
def test_what_is_held_again_is_forgotten():
    assert planned([machine("main")], {"instance i-1": LONG_AGO}).memory.seen == {}


@pytest.mark.promise("a-few-may-always-go")
def test_the_share_is_of_everything_and_a_few_may_always_go():
    many = [stored(f"runs/{each}.json") for each in DIGESTS[: 25 + 1]]
    living = [stored(f"runs/{each}.json", days=1) for each in DIGESTS[100 : 100 + 3 * len(many)]]
    seen = {each.key: LONG_AGO for each in many}
    assert planned([*many, *living], seen).share == 25
    assert planned(many[1:], seen).share == 0


@pytest.mark.promise(
    "sweep-waits-a-grace-time", "shared-environments-stay", "needed-tarballs-stay", "kept-and-pinned-stay"
)
def test_whatever_is_referred_to_pinned_or_new_is_never_taken():
    kinds_taken = set()
    for seed in range(300):
        chance = random.Random(seed)
        branches = [f"branch-{number}" for number in range(8)]
        alive = {"main", *chance.sample(branches, 4)}
        referred = set(chance.sample(DIGESTS[:40], 12))
        resources = [
            machine(
                branch,
                id=f"i-{number}",
                made=ago(days=chance.randrange(40)),
                remote=(remote := chance.choice([ORIGIN, ORIGIN, FORK, ""])),
                pushed=chance.choice([remote, ""]),
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
        found = look(*resources, *objects, *live)
        names = [f"instance {each.id}" for each in found.resources] + [each.key for each in found.objects]
        seen = {name: ago(hours=chance.randrange(60)) for name in names if chance.random() < 0.7}
        known = Known(
            remote=ORIGIN,
            branches=dict.fromkeys(alive, "c"),
            referred=frozenset(referred),
            memory=Sightings(seen=seen),
        )
        settings = dataclasses.replace(LIMITS, tarballs=chance.randrange(20))
        taken = sweep.plan(found, known, settings).take
        for each in taken:
            kinds_taken.add(type(each.of))
            assert each.name in seen
            assert seen[each.name] <= ago(hours=24)
            assert each.of.identity != "live"
            if isinstance(each.of, Resource):
                assert not each.of.tags["pin"]
                assert each.of.tags["keep-until"] != "2026-11-30"
                expired = expiry.expiry(found.environments[each.of.identity], FILES["testing"]) <= NOW
                assert expired or (
                    each.of.tags["branch"] not in alive
                    and each.of.tags["pushed"] == each.of.tags["remote"] == ORIGIN
                )
            else:
                assert not any(name in each.of.key for name in referred)
    assert kinds_taken == {Resource, StoredObject}, "else nothing is looked at"


# --- against the cloud's API, without hosts -------------------------------------------------------


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A clone of a remote that has main and the first of the branches, and one that knows main alone."""
    folder = tmp_path_factory.mktemp("project")
    root = copy_project(folder / "origin")
    head = git(root, "rev-parse", "HEAD")
    packed = "".join(f"{head} refs/heads/{name}\n" for name in BRANCHES[:LIVING])
    (root / ".git" / "packed-refs").write_text(f"# pack-refs with: peeled fully-peeled sorted\n{packed}")
    git(folder, "clone", "-q", f"file://{root}", "clone")
    git(folder, "clone", "-q", "--single-branch", "--depth", "1", f"file://{root}", "single")
    return folder


@pytest.fixture
def aws(monkeypatch):
    """moto in this process."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1,300, at the first call of each test
    with moto.mock_aws():
        yield


def run_in(root, cloud, settings=LIMITS):
    run = command_line.read(root, {}, cloud=cloud, console=Console(io.StringIO()))
    return dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, sweep=settings))


def populate(run, branches, *, more=False):
    """Environments as releases leave them, without the time that it takes to make them one by one."""
    infrastructure.share(run)
    cloud, project = run.cloud, run.pipeline.name
    ec2, s3, ssm, route53 = (cloud.client(each) for each in ("ec2", "s3", "ssm", "route53"))
    image = ec2.register_image(Name="debian-12")["ImageId"]
    records = []

    def put(key, value):
        s3.put_object(Bucket=run.bucket, Key=key, Body=json.dumps(value).encode())

    for name, branch in [
        *([] if more else [("staging", "")]),
        *((identity(each), each) for each in branches),
    ]:
        origin = source.origin(run.root)
        tags = {"project": project, "environment": name, "branch": branch, "remote": origin, "pushed": origin}
        tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
        ec2.run_instances(
            ImageId=image,
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": kind, "Tags": tagged} for kind in ("instance", "volume")],
        )
        ec2.create_security_group(
            GroupName=f"{project}-{name}{'-more' if more else ''}",
            Description="x",
            TagSpecifications=[{"ResourceType": "security-group", "Tags": tagged}],
        )
        ssm.put_parameter(Name=f"/{project}/{name}/key", Value="x", Type="SecureString", Overwrite=more)
        records.append(
            {
                "Action": "UPSERT",
                "ResourceRecordSet": {
                    "Name": f"{name}.{run.pipeline.dns_zone}",
                    "Type": "A",
                    "TTL": 60,
                    "ResourceRecords": [{"Value": "10.0.0.1"}],
                },
            }
        )
        put(f"state/{name}/release.json", {"doit": {}})
        release = {"commit": "c", "branch": branch, "by": "x", "at": "x", "run": "x"}
        put(f"history/{name}.json", {"releases": [{**release, "digest": digest_of(branch)}]})
    zone = zone_id(run.cloud, run.pipeline.dns_zone)
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch={"Changes": records})


def digest_of(branch):
    """The tarball that runs in an environment; staging's is the first of all."""
    return DIGESTS[BRANCHES.index(branch) + 1 if branch else 0]


def look_and_plan(run):
    """What there is, and what a sweep would do."""
    branches = source.remote_branches(run.root, "main")
    found = inventory.survey(run)
    memory, etag = apply.remembered(run.store)
    known = Known(
        remote=source.origin(run.root),
        branches=branches,
        referred=references.of(run, found, branches),
        memory=memory,
    )
    plan = sweep.plan(found, known, run.pipeline.sweep)
    apply.remember(run, plan.memory, etag)
    return found, plan


def decided(run):
    return look_and_plan(run)[1]


def swept(run):
    """A sweep as the command does it; what it takes, and what could not be taken."""
    found, plan = look_and_plan(run)
    return plan, carried_out(run, found, plan)


def carried_out(run, found, plan):
    return apply.carry_out(run, found, plan, lambda: source.remote_branches(run.root, "main"))


NOW_AND_ALL = Sweep(grace_hours=0, share=100)


@pytest.mark.parametrize(
    ("environments", "number"), [(20, 100), pytest.param(200, 1000, marks=pytest.mark.long)]
)
@pytest.mark.promise("nothing-goes-at-first-sight")
def test_exactly_the_right_environments_and_tarballs_go(aws, project, environments, number):
    living, gone = BRANCHES[LIVING - environments * 9 // 10 : LIVING], BRANCHES[LIVING:][: environments // 10]
    settings = dataclasses.replace(NOW_AND_ALL, tarballs=number // 10)
    run = run_in(project / "clone", Plain("eu-central-1"), settings)
    populate(run, [*living, *gone])
    s3 = run.cloud.client("s3")
    for digest in DIGESTS[-number:]:
        s3.put_object(Bucket=run.bucket, Key=f"branches/tarballs/{digest}.tar.zst", Body=b"x")
    run.cloud.calls.clear()
    assert decided(run).take == (), "first sight"
    assert run.cloud.calls["ListObjectsV2"] == 2 + (number + 2 * environments) // 1000, (
        "in pages, and what a young bucket lacks"
    )
    assert run.cloud.calls["DescribeParameters"] > 1, "in pages"
    _, problems = swept(run)
    assert problems == {}
    left = inventory.survey(run)
    assert set(left.environments) == {"staging", *map(identity, living)}
    for kind in ("instance", "volume", "record", "secret", "security group"):
        assert {each.identity for each in left.resources if each.kind == kind} == set(left.environments), kind
    here = {
        each.key.rpartition("/")[2].partition(".")[0] for each in left.objects if "/tarballs/" in each.key
    }
    running = {digest_of(each) for each in ["", *living, *gone]}
    assert running & set(DIGESTS[-number:]) <= here
    assert len(here - running) <= settings.tarballs
    run = run_in(project / "single", run.cloud, settings)
    assert {each for each in swept(run)[0].groups if "/" not in each} == set(), (
        "another clone knows no fewer branches"
    )


@pytest.mark.long(short="tests/sweep/test_plan.py::test_exactly_the_right_environments_and_tarballs_go")
def test_a_sweep_of_200_environments_and_1000_tarballs_is_decided_within_10_seconds(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"))
    populate(run, BRANCHES)
    s3 = run.cloud.client("s3")
    for digest in DIGESTS:
        s3.put_object(Bucket=run.bucket, Key=f"branches/tarballs/{digest}.tar.zst", Body=b"x")
    begun = time.process_time()  # other work on this machine is none of its
    assert len(decided(run).wait) >= len(BRANCHES) - LIVING
    assert time.process_time() - begun < 10


@pytest.mark.parametrize("calls", [0, 2, 5, 9])
@pytest.mark.promise("interrupted-sweep-is-repeated")
def test_a_sweep_that_is_interrupted_is_completed_by_the_next(aws, project, calls):
    run = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL)
    populate(run, [BRANCHES[0], BRANCHES[-1]])
    decided(run)
    run.cloud.dies_after = calls
    with contextlib.suppress(KeyboardInterrupt):
        swept(run)
    run.cloud.dies_after = None
    for _ in range(2):  # what it had seen is remembered; its lease runs out, as nobody renews it
        run.cloud.later += 2 * TTL
        run = dataclasses.replace(run, id="another")
        swept(run)
    assert set(inventory.survey(run).environments) == {"staging", identity(BRANCHES[0])}


@pytest.mark.promise("sweep-judges-under-the-lease", "renewed-meanwhile-stays")
def test_an_environment_that_a_run_holds_or_that_has_a_new_machine_stays(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL)
    held, grown = BRANCHES[-2:]
    populate(run, [held, grown])
    decided(run)
    found, plan = look_and_plan(run)
    other = dataclasses.replace(apply.run_of(run, found, identity(held)), id="another")
    lease = Lease(other)
    lease.take(0)
    populate(run, [grown], more=True)
    problems = carried_out(run, found, plan)
    lease.free()
    assert "is held by" in problems[identity(held)]
    assert problems[identity(grown)] == "a machine was added meanwhile"
    assert {identity(held), identity(grown)} <= set(inventory.survey(run).environments)


@pytest.fixture
def fork(project, tmp_path):
    """A clone of another repository, which has one branch more than the one that the sweeps ask."""
    git(tmp_path, "clone", "-q", "--bare", f"file://{project}/origin", "fork.git")
    git(tmp_path / "fork.git", "branch", "only-here", "main")
    git(tmp_path, "clone", "-q", f"file://{tmp_path}/fork.git", "clone")
    return tmp_path / "clone"


def released(root, cloud, branch):
    """What a release of that branch from that clone leaves: a machine with its tags, and its history."""
    run = command_line.read(root, {"branch": branch}, cloud=cloud, console=Console(io.StringIO()))
    infrastructure.share(run)
    ec2 = cloud.client("ec2")
    tagged = [{"ResourceType": "instance", "Tags": find.tag_list(find.tags(run))}]
    image = ec2.register_image(Name="debian-12")["ImageId"]
    made = ec2.run_instances(ImageId=image, MinCount=1, MaxCount=1, TagSpecifications=tagged)
    history.add(run, DIGESTS[50])
    return made["Instances"][0]["InstanceId"]


@pytest.mark.promise("only-its-remote-says-that-a-branch-is-gone")
def test_an_environment_of_another_repository_s_branch_stays_with_its_tarballs(aws, project, fork):
    run = run_in(project / "clone", Plain("eu-central-1"), dataclasses.replace(NOW_AND_ALL, tarballs=0))
    machine, name = released(fork, run.cloud, "only-here"), identity("only-here")
    tarball = f"branches/tarballs/{DIGESTS[50]}.tar.zst"
    run.store.put(tarball, b"x")
    for _ in range(3):
        plan, problems = swept(run)
        assert (plan.take, plan.wait, problems) == ((), {}, {})
        (left,) = plan.left
        assert (left.group, left.why) == (
            name,
            f"its branch only-here is one of {source.origin(fork)}, and this sweep asks {source.origin(run.root)}",
        )
    own = inventory.survey(run).environments[name]
    assert [each.id for each in own.instances] == [machine]
    assert run.store.exists(tarball)
    # its own remote's sweep takes it when the branch is gone there
    theirs = run_in(fork, run.cloud, NOW_AND_ALL)
    assert decided(theirs).wait == {}
    git(fork, "push", "-q", "origin", ":only-here")
    decided(theirs)
    assert swept(theirs)[1] == {}
    assert name not in inventory.survey(run).environments


@pytest.mark.promise("the-last-release-decides-whose")
def test_a_release_from_a_clone_of_another_repository_takes_the_environment_over(aws, project, fork):
    cloud = Plain("eu-central-1")
    first = command_line.read(project / "clone", {"branch": BRANCHES[0]}, cloud=cloud)
    then = command_line.read(fork, {"branch": BRANCHES[0]}, cloud=cloud)
    released(project / "clone", cloud, BRANCHES[0])
    changes = plans.plan(infrastructure.wanted(then, None), find.everything(then))
    (retagged,) = [each for each in changes if isinstance(each, plans.RetagMachine)]
    assert retagged.tags == {"remote": source.origin(fork), "pushed": source.origin(fork)}
    assert not any(
        isinstance(each, plans.RetagMachine)
        for each in plans.plan(infrastructure.wanted(first, None), find.everything(first))
    )


def test_what_a_former_version_remembers_of_unnamed_remotes_does_not_count(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"))
    infrastructure.share(run)
    run.store.write("sweep/memory.json", {"seen": {}, "pushed": [identity("shop")], "by": "x"}, seen=None)
    assert apply.remembered(run.store)[0] == Sightings()


@pytest.mark.parametrize("tag", ["expires", "keep-until"])
@pytest.mark.promise("renewed-meanwhile-stays")
def test_an_environment_that_was_renewed_since_the_survey_stays(aws, project, tag):
    """Its branch lives, it had expired, and somebody releases or keeps it while the sweep is at others."""
    run = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL)
    name, ec2 = identity(BRANCHES[0]), run.cloud.client("ec2")
    populate(run, [BRANCHES[0]])
    ids = [each.id for each in inventory.survey(run).environments[name].instances]

    def tagged(value, key=tag):
        ec2.create_tags(Resources=ids, Tags=[{"Key": key, "Value": value}])

    tagged("2020-01-01", "expires")
    decided(run)
    found, plan = look_and_plan(run)
    assert name in plan.groups
    tagged("2999-01-01")
    assert carried_out(run, found, plan) == {name: "it was renewed meanwhile"}
    assert [each.id for each in inventory.survey(run).environments[name].instances] == ids


@pytest.mark.promise("renewed-meanwhile-stays")
def test_an_environment_whose_branch_was_pushed_again_since_the_survey_stays(aws, project):
    run, branch = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL), BRANCHES[-1]
    populate(run, [branch])
    decided(run)
    found, plan = look_and_plan(run)
    assert identity(branch) in plan.groups
    now = {**source.remote_branches(run.root, "main"), branch: "c"}
    assert apply.carry_out(run, found, plan, lambda: now) == {identity(branch): "it was renewed meanwhile"}
    assert identity(branch) in inventory.survey(run).environments


def test_a_stray_that_was_claimed_since_the_survey_stays(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL)
    infrastructure.share(run)
    ec2 = run.cloud.client("ec2")
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "project", "Value": "shop"}]}]
    made = ec2.create_volume(AvailabilityZone="eu-central-1a", Size=1, TagSpecifications=tags)["VolumeId"]
    decided(run)
    found, plan = look_and_plan(run)
    assert f"volume {made}" in plan.groups
    ec2.create_tags(Resources=[made], Tags=[{"Key": "pin", "Value": "yes"}])
    assert carried_out(run, found, plan) == {f"volume {made}": "it is in use again"}


@pytest.mark.promise("when-a-snapshot-goes")
def test_a_snapshot_without_its_image_goes_and_no_other():
    def disk(id, **more):
        return Resource(kind="snapshot", id=id, state="completed", tags={"project": "shop"}, **more)

    made = Resource(kind="image", id="ami-1", state="available", more={"snapshots": ["snap-1"]})
    copying = dataclasses.replace(disk("snap-3"), state="pending")
    kept = dataclasses.replace(disk("snap-4"), tags={"project": "shop", "pin": "me"})
    found = doomed(made, disk("snap-1"), disk("snap-2"), copying, kept)
    assert found["snapshot snap-2"] == "its image is gone"
    assert found["snapshot snap-4"] == "left: its image is gone, but pinned"
    assert {each for each in found if each.startswith("snapshot")} == {"snapshot snap-2", "snapshot snap-4"}


@pytest.mark.promise("when-an-image-goes")
def test_an_image_from_which_a_machine_has_just_started_stays(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL)
    ec2 = run.cloud.client("ec2")
    start = {"MinCount": 1, "MaxCount": 1}
    debian = ec2.register_image(Name="debian-12")["ImageId"]
    first = ec2.run_instances(ImageId=debian, **start)["Instances"][0]
    ami = ec2.create_image(InstanceId=first["InstanceId"], Name="baked")["ImageId"]
    old = Resource(kind="image", id=ami, state="available", more={"snapshots": []})
    (second,) = ec2.run_instances(ImageId=ami, **start)["Instances"]
    apply._delete_image(run, old)
    assert ec2.describe_images(ImageIds=[ami])["Images"]
    ec2.terminate_instances(InstanceIds=[second["InstanceId"]])
    apply._delete_image(run, old)
    assert not ec2.describe_images(Owners=["self"], Filters=[{"Name": "name", "Values": ["baked"]}])["Images"]


@pytest.mark.promise("files-are-judged-again")
def test_a_layers_bytes_stay_as_long_as_its_record(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"), dataclasses.replace(NOW_AND_ALL, layer_days=-1))
    infrastructure.share(run)
    tarball, key, bytes, other = DIGESTS[20:24]
    head = git(project / "origin", "rev-parse", "HEAD")
    documents = {
        f"trusted/commits/{head}.json": {"digest": tarball},
        f"trusted/tarballs/{tarball}.manifest.json": {"layers": {"x": {"key": key}}},
        f"trusted/layers/{key}.json": {"digest": bytes},
    }
    for name, value in documents.items():
        run.store.write(name, value, seen=None)
    for digest in (bytes, other):
        run.store.put(f"trusted/layers/{digest}.tar.zst", b"x")
    decided(run)
    _, problems = swept(run)
    assert problems == {}
    left = {each.key for each in inventory.survey(run).objects}
    assert {f"trusted/layers/{key}.json", f"trusted/layers/{bytes}.tar.zst"} <= left
    assert f"trusted/layers/{other}.tar.zst" not in left


@pytest.mark.promise("files-are-judged-again")
def test_a_file_that_a_commit_refers_to_since_the_survey_stays(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"), dataclasses.replace(NOW_AND_ALL, tarballs=0))
    infrastructure.share(run)
    run.store.put(f"trusted/tarballs/{DIGESTS[40]}.tar.zst", b"x")
    decided(run)
    found, plan = look_and_plan(run)
    assert f"trusted/tarballs/{DIGESTS[40]}" in plan.groups
    head = git(project / "origin", "rev-parse", "HEAD")
    run.store.write(f"trusted/commits/{head}.json", {"digest": DIGESTS[40]}, seen=None)
    carried_out(run, found, plan)
    assert run.store.exists(f"trusted/tarballs/{DIGESTS[40]}.tar.zst")


@pytest.mark.promise("needed-tarballs-stay")
def test_what_the_living_need_is_what_they_run_can_return_to_and_are_made_of(aws, project):
    run = run_in(project / "clone", Plain("eu-central-1"))
    infrastructure.share(run)
    head = git(project / "origin", "rev-parse", "HEAD")
    release = {"branch": "x", "by": "x", "at": "x", "run": "x"}
    releases = [{**release, "digest": each, "commit": f"c{each}"} for each in DIGESTS[:9]]
    documents = {
        "history/staging.json": {"releases": releases},
        f"trusted/commits/{head}.json": {"digest": DIGESTS[20]},
        "runs/current.json": {"commit": "waiting"},
        "runs/waiting.json": {"digest": DIGESTS[21]},
        f"trusted/tarballs/{DIGESTS[21]}.manifest.json": {"layers": {"x": {"key": DIGESTS[30]}}},
        f"trusted/tarballs/{DIGESTS[22]}.manifest.json": {"layers": {"x": {"key": DIGESTS[31]}}},
    }
    for key, value in documents.items():
        run.store.write(key, value, seen=None)
    branches = source.remote_branches(run.root, "main")
    found = references.of(run, inventory.survey(run), branches)
    kept = Release().keep + references.ALSO
    assert {*DIGESTS[9 - kept : 9], DIGESTS[20], DIGESTS[21], DIGESTS[30], head, "waiting"} <= found
    assert not found & {DIGESTS[0], DIGESTS[22], DIGESTS[31]}
    run.cloud.client("s3").put_object(Bucket=run.bucket, Key="history/staging.json", Body=b"half")
    with pytest.raises(SweepBlind, match=r"history/staging\.json"):
        references.of(run, inventory.survey(run), branches)


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        (["remote", "remove", "origin"], "'origin' does not appear to be a git repository"),
        (["remote", "set-url", "origin", "/nowhere"], "'/nowhere' does not appear to be a git repository"),
        (["remote", "set-url", "origin", "."], "0 branches, and none is main"),
    ],
)
@pytest.mark.promise("no-branches-no-sweep")
def test_without_the_remote_s_branches_nothing_is_decided(tmp_path, broken, why):
    git(tmp_path, "init", "-q", "-b", "other")
    git(tmp_path, "remote", "add", "origin", "/somewhere")
    git(tmp_path, *broken)
    source.repository.cache_clear()
    with pytest.raises(BranchesUnknown, match=why):
        source.remote_branches(tmp_path, "main")


# --- cost -----------------------------------------------------------------------------------------

PRICES = cost.Prices(currency="USD", instance_hour={"t3.medium": 0.05}, disk_gb_month=0.073)


@pytest.mark.parametrize(
    ("resource", "hours", "money", "hourly"),
    [
        (machine(made=ago(hours=10)), 10, 0.5, 0.05),
        (dataclasses.replace(machine(made=ago(hours=10), **{"hours-before": "4.00"}), state="stopped"), 4, 0.2, 0),
        (machine(made=ago(hours=10), **{"hours-before": "4.00"}), 14, 0.7, 0.05),
        (machine(made=ago(hours=10), **{"hours-before": "some"}), 10, 0.5, 0.05),
        (dataclasses.replace(machine(made=ago(hours=10)), more={"type": "x1"}), 10, 0, 0),
        (dataclasses.replace(volume(), made=ago(hours=10)), 0, 0.008, 0.0008),
    ],
)  # fmt: skip
@pytest.mark.promise("cost-of-hours-awake")
def test_an_estimate_is_of_hours_awake_and_of_disks(resource, hours, money, hourly):
    found = cost.total([resource], NOW, PRICES)
    assert (found.hours, found.money, found.hourly) == (
        pytest.approx(hours),
        pytest.approx(money),
        pytest.approx(hourly),
    )


def test_the_repository_s_prices_have_the_size_of_the_settings(project):
    assert command_line.read(project / "clone", {}).pipeline.instance_type in cost.prices().instance_hour
