"""What a sweep deletes, step by step: under the lease, judged again, and nothing after the lease is lost."""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from functools import partial
from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from tasks.bucket import layout
from tasks.bucket.lease import Lease
from tasks.bucket.store import RecordTaken
from tasks.environments import inventory
from tasks.environments.inventory import Resource
from tasks.sweep import apply, references
from tasks.sweep import plan as sweeping
from tasks.sweep.plan import Deletion, Known, Sightings
from tests.simulation import controllers
from tests.simulation.alone import Alone
from tests.simulation.cloud import Instance, refused
from tests.simulation.controllers import TESTING
from tests.simulation.scheduler import Pool

HOLDER = {
    "run": "another", "by": "kim@elsewhere", "host": "elsewhere", "machine": "elsewhere", "pid": 7, "started": 8,
    "command": "doit release", "at": "2026-03-02 07:59 UTC", "ttl": 60.0,
}  # fmt: skip
KEY = layout.lease(TESTING)
CHANGES = (
    *("terminate_instances", "delete_security_group", "delete_key_pair"),
    *("change_resource_record_sets", "delete_parameter"),
)


class Condemned(Alone):
    """The environment of a branch that is gone for so long that the next sweep takes it. `then`: what happens after a request."""

    def __init__(self, *, seen=False):
        super().__init__()
        self.then, self.refuses = None, None
        self.does(controllers.release_to, name="first")
        if seen:  # the clone that has released it did not know the remote's branches
            (machine,) = self.hosts(TESTING)
            machine.tags.append((0.0, {**machine.truly, "pushed": ""}))
            self.does(controllers.sweep, name="before", environment="staging")
        self.does(controllers.delete_branch, name="gone")
        self.does(controllers.sweep, name="seen", environment="staging")
        self.scheduler.now += 3600 * 3
        self.requests.clear()

    def call(self, process, name, effect, *, changes=False):
        if self.refuses and name == self.refuses[0]:
            raise self.refuses[1]
        answer = super().call(process, name, effect, changes=changes)
        if self.then:
            self.then(name)
        return answer

    def is_whole(self):
        there = [
            bool(self.hosts(TESTING)),
            bool(self.groups),
            bool(self.keys),
            bool(self.parameters),
            bool(self.records),
        ]
        return there == [True] * 5 and bool(self.value(layout.state(TESTING, "release"))["doit"])

    def remains(self):
        """Everything of the environment."""
        found = [key for key in self.objects if TESTING in key]
        found += [each.id for each in self.hosts(TESTING)]
        return (
            found
            + [each for each in (*self.keys, *self.records, *self.parameters) if TESTING in each]
            + list(self.groups)
        )


@pytest.fixture
def world():
    return Condemned()


def sweeps(world, *, before=lambda run: None, meanwhile=lambda run: None, branches=None, group=TESTING):
    """Decide, let something happen, and carry it out; the problems, and what the console said."""
    said = []

    def act(run):
        before(run)
        run.console.event = lambda stage, words: said.append((stage, words))
        ask = branches or (lambda: dict(world.branches))
        found, known = inventory.survey(run), ask()
        memory, _ = apply.remembered(run.store)
        facts = Known(
            remote=run.origin, branches=known, referred=references.of(run, found, known), memory=memory
        )
        plan = sweeping.plan(found, facts, run.pipeline.sweep)
        assert group in plan.groups
        world.requests.clear()
        meanwhile(run)
        return apply.carry_out(run, found, plan, ask)

    return world.does(act, environment="staging", name="sweep"), said


def changes(world):
    return [name for _, name in world.requests if name in CHANGES]


def test_an_environment_whose_branch_is_gone_goes_with_all_that_it_has(world):
    problems, said = sweeps(world)
    assert problems == {}
    assert world.remains() == []
    assert {stage for stage, _ in said} == {"sweep"}
    assert all(words.startswith(f"{TESTING}: ") for _, words in said)
    assert len(said) == len(changes(world))


@pytest.mark.parametrize("ended", [False, True])
def test_a_drill_that_begins_or_ends_just_now_is_no_problem_of_the_sweep(world, ended):
    name, key = "drill-staging", "shop-drill-staging"
    world.keys[key] = {"project": "shop", "environment": name}
    old(world, names=[f"key pair {key}"])

    def meanwhile(_):
        if ended:
            del world.keys[key]
        else:
            world.put(layout.lease(name), HOLDER)

    problems, said = sweeps(world, meanwhile=meanwhile, group=name)
    assert problems == {}
    assert (key in world.keys) is not ended
    assert any("lease: drill-staging is held by kim" in words for _, words in said) is not ended


def test_its_records_go_before_its_machines(world):
    """A sweep that is killed leaves no environment that looks released."""
    states = []

    def then(name):
        if name == "terminate_instances":
            states.append([key for key in world.objects if key.startswith("state/")])

    world.then = then
    sweeps(world)
    assert states == [[]]


@pytest.mark.promise("sweep-judges-under-the-lease")
def test_an_environment_that_a_run_holds_is_left_whole(world):
    world.put(KEY, HOLDER)
    problems, _ = sweeps(world)
    assert problems[TESTING].startswith(f"lease: {TESTING} is held by kim@elsewhere on elsewhere")
    assert len([name for _, name in world.requests if name == "get_object"]) == 1, "it is not waited for"
    assert "\n" not in problems[TESTING]
    assert world.is_whole()
    assert world.value(KEY)["run"] == "another"


@pytest.mark.parametrize("after", CHANGES)
def test_once_its_lease_is_lost_a_sweep_changes_nothing_more(world, after):
    """A person unlocks it, and releases to the branch again."""
    stolen = []

    def then(name):
        if name == after and not stolen:
            stolen.append(len(changes(world)))
            world.put(KEY, HOLDER)

    world.then = then
    problems, _ = sweeps(world)
    assert len(changes(world)) == stolen[0]
    assert "is lost: it is held by kim@elsewhere" in problems[TESTING]
    assert layout.machines(TESTING) in world.objects, "what the new holder reads stays"
    assert world.value(KEY)["run"] == "another"


def test_a_sweep_whose_lease_is_lost_is_woken_from_what_it_waits_for(world):
    interrupted = []

    def then(name):
        if name == "terminate_instances":
            world.put(KEY, HOLDER)
            world.scheduler.pause(100.0)

    world.then = then

    def meanwhile(run):
        run.threads.interrupt = lambda: interrupted.append(1)

    sweeps(world, meanwhile=meanwhile)
    assert interrupted == [1]


def again(world, name="i-99", **tags):
    """A machine of the environment, as a release makes it."""
    old = world.hosts(TESTING)[0]
    now = world.scheduler.now
    world.instances[name] = Instance(name, name, old.request, now, now, [(now, {**old.truly, **tags})])


@pytest.mark.promise("renewed-meanwhile-stays", "sweep-judges-under-the-lease")
@pytest.mark.parametrize(
    ("meanwhile", "why"),
    [
        (lambda world: again(world), "a machine was added meanwhile"),
        (
            lambda world: world.hosts(TESTING)[0].tags.append(
                (0.0, {**world.hosts(TESTING)[0].truly, "pin": "x"})
            ),
            "it was renewed meanwhile",
        ),
        (lambda world: world.branches.update({"feature": "8" * 40}), "it was renewed meanwhile"),
    ],
)
def test_what_is_needed_again_since_the_survey_stays(world, meanwhile, why):
    problems, said = sweeps(world, meanwhile=lambda run: meanwhile(world))
    assert problems == {TESTING: why}
    assert world.is_whole()
    assert said == []
    assert world.value(KEY)["free"] is True, "it is given back, and the environment keeps it"
    assert world.value(KEY)["unclean"] is False


@pytest.mark.promise("interrupted-sweep-is-repeated")
def test_after_an_interruption_no_other_environment_is_begun(world):
    problems, _ = sweeps(world, meanwhile=lambda run: setattr(run.threads, "cancelled", lambda: True))
    assert problems == {TESTING: "interrupted"}
    assert world.is_whole()


@pytest.mark.parametrize(
    ("operation", "code"), [("terminate_instances", "UnauthorizedOperation"), ("delete_objects", "SlowDown")]
)
def test_what_the_cloud_refuses_is_named_and_the_lease_is_given_back(world, operation, code):
    world.refuses = operation, refused(code, 403)
    problems, _ = sweeps(world)
    assert code in problems[TESTING]
    assert "\n" not in problems[TESTING]
    assert not problems[TESTING].startswith(" "), "the sentence, and not what to type next"
    assert world.value(KEY)["free"] is True
    assert layout.machines(TESTING) in world.objects


def test_a_bug_of_ours_is_not_taken_for_a_refusal(world):
    world.refuses = "terminate_instances", ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError):
        sweeps(world)


def test_what_ends_a_sweep_lets_no_other_environment_begin_and_waits_for_none(world):
    """Those that have begun go on to their end, in their threads."""
    world.refuses = "terminate_instances", KeyboardInterrupt()
    told = []

    class Told(Pool):
        def map(self, work, *lists):
            return (work(*each) for each in zip(*lists, strict=False))

        def shutdown(self, **how):
            told.append(how)

    with pytest.raises(KeyboardInterrupt):
        sweeps(world, meanwhile=lambda run: setattr(run.threads, "pool", lambda most=None: Told()))
    assert told == [{"wait": False, "cancel_futures": True}]


def test_its_lease_is_held_while_it_is_deleted_and_goes_last(world):
    holders = []
    world.then = lambda name: holders.append((world.value(KEY) or {}).get("run")) if name in CHANGES else None
    sweeps(world)
    assert set(holders) == {"sweep"}
    assert KEY not in world.objects


def test_its_name_is_deleted_in_the_zone_of_the_settings(world):
    zones = []

    def meanwhile(run):
        run.cloud.zones.clear()  # the survey has asked already
        route53 = run.cloud.client("route53")
        real = route53.list_hosted_zones_by_name

        def lists(DNSName, MaxItems):  # noqa: N803
            zones.append(DNSName)
            return real(DNSName, MaxItems)

        route53.list_hosted_zones_by_name = lists

    sweeps(world, meanwhile=meanwhile)
    assert set(zones) == {"shop.localhost."}
    assert world.records == {}


def test_the_disks_of_its_machines_go_too(world):
    deleted = []
    old(world, names=["volume vol-1"])

    def before(run):
        ec2 = run.cloud.client("ec2")
        tags = [{"Key": "project", "Value": "shop"}, {"Key": "environment", "Value": TESTING}]
        disk = {"VolumeId": "vol-1", "Size": 8, "State": "in-use", "CreateTime": AT, "Tags": tags}
        ec2.describe_volumes = lambda Filters: {"Volumes": [disk]}  # noqa: N803
        ec2.delete_volume = lambda **request: deleted.append(request)

    assert sweeps(world, before=before)[0] == {}
    assert deleted == [{"VolumeId": "vol-1"}]


def test_a_document_of_another_environment_that_is_damaged_holds_none_back(world):
    """What is still in use is asked for the files that all share, and for nothing else."""
    problems, _ = sweeps(world, meanwhile=lambda run: world.put(layout.history("staging"), b"["))
    assert problems == {}
    assert world.remains() == []


def test_a_branch_that_only_a_former_sweep_has_seen_is_gone_for_the_judge_too(world):
    world = Condemned(seen=True)
    assert sweeps(world)[0] == {}
    assert world.remains() == []


# --- strays ---------------------------------------------------------------------------------------


class Account:
    """An EC2 that notes what it is asked. `uses`: images that machines run on. `no`: the code with which it refuses to delete.
    `there`: whether its lists have what is deleted."""

    exceptions = SimpleNamespace(ClientError=ClientError)

    def __init__(self, *, uses=(), no=None, there=True):
        self.asked, self.looked = [], []
        self.uses, self.no, self.there = uses, no, there

    def client(self, service):
        assert service == "ec2"
        return self

    def get_paginator(self, operation):
        found = [{"Instances": [{"ImageId": each} for each in self.uses]}]
        return SimpleNamespace(paginate=lambda **_: [{"Reservations": found}])

    def __getattr__(self, operation):
        return partial(self._list if operation.startswith("describe_") else self._delete, operation)

    def _list(self, operation, Filters):  # noqa: N803
        self.looked.append((operation, Filters[0]["Values"]))
        return defaultdict(lambda: [{}] if self.there else [])

    def _delete(self, operation, **request):
        self.asked.append((operation, request))
        if self.no:
            raise refused(self.no)


def stray(kind, account):
    each = Resource(kind=kind, id="x-1", more={"snapshots": ["snap-1"]})
    threads = SimpleNamespace(wait=lambda seconds, stage: None)
    apply._STRAYS[kind](SimpleNamespace(cloud=account, threads=threads), each)
    return account.asked


@pytest.mark.parametrize(
    ("kind", "asked"),
    [
        ("instance", ("terminate_instances", {"InstanceIds": ["x-1"]})),
        ("volume", ("delete_volume", {"VolumeId": "x-1"})),
        ("key pair", ("delete_key_pair", {"KeyName": "x-1"})),
        ("security group", ("delete_security_group", {"GroupId": "x-1"})),
        ("snapshot", ("delete_snapshot", {"SnapshotId": "x-1"})),
    ],
)
def test_a_stray_is_deleted_as_its_kind_is(kind, asked):
    assert stray(kind, Account()) == [asked]


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        ("instance", "InvalidInstanceID.NotFound"),
        ("volume", "InvalidVolume.NotFound"),
        ("security group", "InvalidGroup.NotFound"),
        ("snapshot", "InvalidSnapshot.NotFound"),
        ("snapshot", "InvalidSnapshot.InUse"),
    ],
)
def test_a_stray_that_is_gone_already_is_no_error(kind, code):
    assert len(stray(kind, Account(no=code))) == 1


@pytest.mark.promise("gone-or-forbidden")
@pytest.mark.parametrize("kind", sorted(apply._STRAYS))
def test_a_stray_that_is_forbidden_is_an_error_while_it_is_there(kind):
    """By its tags, the policy decides; what is gone has none."""
    gone = Account(no="UnauthorizedOperation", there=False)
    stray(kind, gone)
    assert gone.looked[0] == (f"describe_{kind.replace(' ', '_')}s", ["x-1"])
    for account in (Account(no="UnauthorizedOperation"), Account(no="IncorrectState", there=False)):
        with pytest.raises(ClientError):
            stray(kind, account)


@pytest.mark.promise("when-an-image-goes")
def test_an_image_is_asked_for_again_and_goes_if_no_machine_runs_on_it():
    assert stray("image", Account(uses=["x-1"])) == []
    assert stray("image", Account()) == [
        ("deregister_image", {"ImageId": "x-1", "DeleteAssociatedSnapshots": True}),
        ("delete_snapshot", {"SnapshotId": "snap-1"}),
    ]


@pytest.mark.parametrize(("claimed", "gone"), [(True, False), (False, True)])
def test_a_stray_goes_unless_it_was_claimed_since_the_survey(world, claimed, gone):
    world.keys["old"] = {"project": "shop", "environment": ""}
    item = Deletion(group="key pair old", of=Resource(kind="key pair", id="old"), why="")
    judged = set() if claimed else {"key pair old"}

    def act(run):
        found = inventory.survey(run)
        return apply._guarded(run, found, "key pair old", [item], lambda: judged)

    assert world.does(act, environment="staging") == ("it is in use again" if claimed else "")
    assert ("old" not in world.keys) is gone


# --- files ----------------------------------------------------------------------------------------


def old(world, *keys, names=()):
    """Files that nothing refers to, written long ago, and seen by a sweep not so long ago; and the names of what else one has seen."""
    memory = world.value(layout.SIGHTINGS)
    world.put(
        layout.SIGHTINGS,
        {**memory, "seen": {**memory["seen"], **dict.fromkeys((*keys, *names), AT.isoformat())}},
    )
    for key in keys:
        world.put(key, {})
        world.objects[key].at = world.scheduler.now - 3600 * 24 * 500


RECORD, BLOB = layout.record("branches", "layers", "a" * 64), layout.blob("branches", "layers", "b" * 64)


TARBALL = layout.blob("branches", "tarballs", "c" * 64)


def carries_out(world, meanwhile=lambda run: None):
    """Sweep old files; the keys of each request that deletes."""
    old(world, RECORD, BLOB, TARBALL)
    deleted = []

    def before(run):
        real = run.store.client.delete_objects

        def delete_objects(Bucket, Delete):  # noqa: N803
            deleted.append([each["Key"] for each in Delete["Objects"]])
            return real(Bucket, Delete)

        run.store.client.delete_objects = delete_objects

    sweeps(world, before=before, meanwhile=meanwhile)
    return [[key for key in keys if key in (RECORD, BLOB, TARBALL)] for keys in deleted][:2]


@pytest.mark.promise("files-are-judged-again")
def test_records_go_before_the_files_that_they_name(world):
    assert carries_out(world) == [[RECORD], [BLOB, TARBALL]]
    assert not {RECORD, BLOB, TARBALL} & world.objects.keys()


@pytest.mark.promise("files-are-judged-again")
def test_a_file_that_is_needed_since_the_survey_stays(world):
    """The head of a branch has it as its tarball now."""
    pointer = layout.record("branches", "commits", world.branches["main"])
    carries_out(world, lambda run: world.put(pointer, {"digest": "c" * 64}))
    assert TARBALL in world.objects
    assert BLOB not in world.objects


def test_files_are_judged_with_what_former_sweeps_have_seen():
    world = Condemned(seen=True)
    assert carries_out(world) == [[RECORD], [BLOB, TARBALL]]


def test_a_stray_and_an_environment_of_records_go_as_groups_of_their_own(world):
    world.keys["shop-old"] = {"project": "shop", "environment": ""}
    key = layout.history("testing-0123456789")
    old(world, key, names=["key pair shop-old"])
    problems, _ = sweeps(world, group="testing-0123456789")
    assert problems == {}
    assert key not in world.objects
    assert "shop-old" not in world.keys


# --- what a sweep remembers -------------------------------------------------------------------------


AT = datetime.datetime(2026, 3, 1, 12, tzinfo=datetime.UTC)
SEEN = Sightings(seen={"b": AT, "a": AT}, pushed={TESTING: "example.com/shop"})


@pytest.fixture
def empty():
    return Alone()


def test_what_a_sweep_has_seen_is_remembered_for_the_next_one(empty):
    def act(run):
        assert apply.remembered(run.store) == (Sightings(), None)
        apply.remember(run, SEEN, None)
        found, etag = apply.remembered(run.store)
        assert found == SEEN
        apply.remember(run, Sightings(), etag)
        with pytest.raises(RecordTaken, match="changed by me"):
            apply.remember(run, SEEN, etag)

    empty.does(act)
    written = empty.value(layout.SIGHTINGS)
    assert (written["seen"], written["pushed"], written["by"]) == ({}, {}, "me")


def test_what_cannot_be_read_is_seen_for_the_first_time_and_replaced(empty):
    empty.put(layout.SIGHTINGS, b"[")

    def act(run):
        found, etag = apply.remembered(run.store)
        assert found == Sightings()
        apply.remember(run, SEEN, etag)

    empty.does(act)
    assert empty.value(layout.SIGHTINGS)["seen"] == {"a": AT.isoformat(), "b": AT.isoformat()}


def test_a_former_version_said_of_no_remote_what_was_pushed(empty):
    empty.put(layout.SIGHTINGS, {"seen": {"a": AT.isoformat()}, "pushed": [TESTING]})
    found, _ = empty.does(lambda run: apply.remembered(run.store))
    assert found == Sightings(seen={"a": AT}, pushed={})


def test_a_run_of_a_branch_that_is_gone_has_its_name_and_its_environments_settings(empty):
    def act(run):
        found = inventory.survey(run)
        there = apply.run_of(run, found, TESTING)
        assert (there.identity, there.name, there.environment_name) == (TESTING, f"shop-{TESTING}", "testing")
        assert there.environment.uncommitted == "allowed"
        assert there.host_name == f"{TESTING}.{run.pipeline.dns_zone}"
        named = {"testing": dataclasses.replace(found.settings["testing"], host_name="shop")}
        there = apply.run_of(run, dataclasses.replace(found, settings=named), TESTING)
        assert there.host_name == f"{TESTING}.{run.pipeline.dns_zone}"
        strange = apply.run_of(run, found, "nobody")
        assert (strange.identity, strange.environment_name) == ("nobody", "nobody")
        assert strange.environment == dataclasses.replace(run.environment, per_branch=True)
        assert Lease(there).key == KEY

    empty.does(act, environment="staging")
