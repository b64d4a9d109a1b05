"""The stage against the cloud's API: idempotent, converging after a death anywhere, leaving nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import time

import pytest

from tasks import settings, teardown
from tasks.bucket import create, layout
from tasks.bucket.store import RecordTaken
from tasks.cloud.embedded.faults import LATE
from tasks.digest import Digest
from tasks.infrastructure import find, memory, zone
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tasks.release import history
from tests.cloud.embedded.conftest import REGION
from tests.clouds import Killed, QuietCloud, run_in, secrets_of
from tests.conftest import sampled, until
from tests.infrastructure.conftest import instances


@pytest.mark.promise("the-cloud-is-asked-each-time")
def test_the_second_time_nothing_is_changed(run):
    first = infrastructure.converge(run)
    assert first.changed
    assert infrastructure.differences(run) == []
    before = len(run.cloud.calls)
    second = infrastructure.converge(run)
    assert (second.changed, second.facts) == (False, first.facts)
    assert len(run.cloud.calls) == before


@pytest.mark.parametrize("calls", sampled(range(14)))
@pytest.mark.promise("interrupted-infrastructure-goes-on", "no-machine-is-made-twice")
def test_a_run_killed_after_any_call_is_finished_without_a_duplicate(run, calls):
    run.cloud.calls.clear()
    run.cloud.dies_after = calls
    with contextlib.suppress(Killed):
        infrastructure.converge(run)
    run.cloud.dies_after = None
    outcome = infrastructure.converge(run)
    assert len(instances(run)) == 1
    assert infrastructure.differences(run) == []
    assert outcome.facts["hosts"][0]["host_keys"]
    teardown.tear_down(run)


@pytest.mark.parametrize("calls", sampled(range(8)))
@pytest.mark.promise("second-teardown-finds-nothing", "teardown-leaves-nothing")
def test_a_teardown_killed_after_any_call_is_finished_by_the_next(run, calls):
    infrastructure.converge(run)
    run.cloud.calls.clear()
    run.cloud.dies_after = calls
    with contextlib.suppress(Killed):
        teardown.tear_down(run)
    run.cloud.dies_after = None
    teardown.tear_down(run)
    assert find.everything(run) == Existing()
    assert not teardown.tear_down(run).changed


class Meanwhile:
    """A store in which another run acts, just before the object `key` is read or deleted for the `number`th time."""

    def __init__(self, run, key, number, act):
        self.store, self.key, self.left, self.act = run.store, key, number, act

    def __getattr__(self, name):
        return getattr(self.store, name)

    def read(self, key):
        self._meet(key)
        return self.store.read(key)

    def delete(self, key, **condition):
        self._meet(key)
        self.store.delete(key, **condition)

    def _meet(self, key):
        self.left -= key == self.key
        if key == self.key and self.left == 0:
            self.act()


@pytest.mark.parametrize("number", [1, 2])
def test_a_teardown_that_stood_still_leaves_the_history_of_the_next_run(run, number):
    """Another run releases between the teardown's first read and its last deletion, wherever that is."""
    infrastructure.converge(run)
    first, second = Digest("a" * 64), Digest("b" * 64)
    history.add(run, first)
    after = dataclasses.replace(run, id="another")
    key = (layout.machines(run.identity), layout.history(run.identity))[number - 1]
    late = Meanwhile(run, key, number, lambda: history.add(after, second))
    with pytest.raises(RecordTaken):
        teardown.tear_down(dataclasses.replace(run, store=late))
    assert [each.digest for each in history.read(run.store, run.identity)] == [first, second]
    teardown.tear_down(run)
    assert history.read(run.store, run.identity) == []


@pytest.mark.parametrize("number", [2, 3])
def test_a_teardown_that_stood_still_leaves_the_host_keys_of_the_next_run(run, number):
    infrastructure.converge(run)
    new = {"host_keys": {"i-1": ["key"]}, "launch": {"1": "token"}}
    late = Meanwhile(
        run,
        layout.machines(run.identity),
        number,
        lambda: memory.change(run.store, run.identity, lambda kept: new),
    )
    with pytest.raises(RecordTaken):
        teardown.tear_down(dataclasses.replace(run, store=late))
    assert memory.read(run.store, run.identity) == new
    teardown.tear_down(run)
    assert memory.read(run.store, run.identity) == {}


def test_a_teardown_that_stood_still_leaves_the_ledger_of_the_next_runs_machine(run):
    infrastructure.converge(run)
    gone, new = (layout.ledger(run.identity, host, "server") for host in ("i-gone", "i-new"))
    run.store.put(gone, b"{}")
    late = Meanwhile(run, layout.machines(run.identity), 2, lambda: run.store.put(new, b"{}"))
    teardown.tear_down(dataclasses.replace(run, store=late))
    assert list(run.store.keys(layout.ledgers(run.identity))) == [new]


@pytest.mark.promise("teardown-leaves-what-all-share")
def test_a_teardown_leaves_what_all_environments_share(run):
    infrastructure.converge(run)
    run.store.put("branches/tarballs/x.tar.zst", b"x")
    teardown.tear_down(run)
    assert find.everything(run) == Existing()
    assert infrastructure.shared_differences(run) == []
    assert run.store.exists("branches/tarballs/x.tar.zst")


@pytest.mark.long(
    short="tests/infrastructure/test_stage.py::test_a_machine_that_a_list_shows_as_it_was_before_it_ran_is_found"
)
@pytest.mark.promise("late-reads-do-not-matter")
def test_a_cloud_with_faults_gives_the_same(checkout, faulty):
    """Its reads are up to three changes behind, and it does not know at once what was made just now."""
    run = run_in(checkout, QuietCloud(REGION, faulty._identity), branch="faults")
    infrastructure.share(run)
    infrastructure.converge(run)
    assert not infrastructure.converge(another(run)).changed
    assert len(instances(run)) == 1
    infrastructure.converge(with_settings(another(run), instances=2, http_from=("10.0.0.0/8",)))
    caught_up(run)
    assert len(instances(run)) == 2
    teardown.tear_down(another(run))
    teardown.tear_down(another(run))
    caught_up(run)
    assert find.everything(run) == Existing()


@pytest.mark.promise("late-reads-do-not-matter")
def test_a_machine_that_a_list_shows_as_it_was_before_it_ran_is_found(checkout, faulty):
    run = run_in(checkout, QuietCloud(REGION, faulty._identity), branch="wakes")
    infrastructure.share(run)
    (machine,) = infrastructure.converge(run).facts["hosts"]
    ec2 = run.cloud.client("ec2")
    ec2.stop_instances(InstanceIds=[machine["id"]])
    until(lambda: states(run) == {"stopped"})
    ec2.start_instances(InstanceIds=[machine["id"]])
    until(lambda: states(run) == {"running"})  # seen once: the next reads are behind
    assert [each.id for each in infrastructure.existing(another(run))] == [machine["id"]]
    teardown.tear_down(run)


def states(run):
    return {each.state for each in find.everything(run).machines}


def another(run):
    """The same run in a process of its own, which has written nothing yet."""
    return dataclasses.replace(run, cloud=QuietCloud(REGION, run.cloud._identity))


def caught_up(run):
    """Read until no list is behind."""
    for _ in LATE:
        find._listed(run)


@pytest.mark.long(
    short="tests/infrastructure/test_stage.py::test_a_machine_that_a_list_shows_as_it_was_before_it_ran_is_found"
)
def test_a_machine_that_is_still_stopping_is_waited_for_and_started(checkout, faulty):
    run = run_in(checkout, QuietCloud(REGION, faulty._identity), branch="stopping")
    infrastructure.share(run)
    first = infrastructure.converge(run)
    run.cloud.client("ec2").stop_instances(InstanceIds=[first.facts["hosts"][0]["id"]])
    until(lambda: [each.state for each in find.everything(run).machines] == ["stopping"])
    again = infrastructure.converge(run)
    assert [each["id"] for each in again.facts["hosts"]] == [first.facts["hosts"][0]["id"]]
    teardown.tear_down(run)


def test_lowering_the_number_of_machines_ends_the_newest_where_the_settings_allow_it(run):
    infrastructure.converge(run)
    (oldest,) = find.everything(run).machines
    time.sleep(1)  # the cloud's launch times have whole seconds
    infrastructure.converge(with_settings(run, instances=2))
    (newest,) = {each.id for each in find.everything(run).machines} - {oldest.id}
    before = find.everything(run)
    with pytest.raises(infrastructure.ScaleDownRefused, match=f"may end none: end machine {newest}"):
        infrastructure.converge(run)
    assert find.everything(run) == before
    infrastructure.converge(with_settings(run, scale_down=True))
    assert [each.id for each in find.everything(run).machines] == [oldest.id]


def with_settings(run, **changed):
    wanted = dataclasses.replace(run.environment.infrastructure, **changed)
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, infrastructure=wanted))


@pytest.mark.promise("additive-only-adds")
def test_where_only_additions_are_allowed_no_machine_is_made_whose_name_would_have_to_change(run):
    infrastructure.converge(run)
    with pytest.raises(infrastructure.OnlyAdditive, match="repoint"):
        infrastructure.converge(with_settings(run, manage="additive", instances=2))
    assert len(instances(run)) == 1


@pytest.mark.promise("plan-lists-the-same-changes")
def test_what_is_foreseen_is_what_is_told_afterwards(run):
    assert infrastructure.foresee(run) is None  # nobody knows a new machine's address
    facts = infrastructure.converge(run).facts
    ahead = infrastructure.foresee(run)
    assert (ahead.what, ahead.facts) == ("unchanged", facts)
    closed = with_settings(run, http_from=("10.0.0.0/8",))
    ahead = infrastructure.foresee(closed)
    assert (ahead.what, ahead.facts) == ("run", facts)
    ahead = infrastructure.foresee(with_settings(closed, manage="plan"))
    assert (ahead.what, ahead.facts) == ("unchanged", facts)
    assert "would close port 80 for 0.0.0.0/0" in ahead.words
    assert infrastructure.converge(closed).facts == facts


def test_a_replaced_host_name_goes_with_its_replacement(run):
    infrastructure.converge(run)
    named = named_as(run, "qa")
    assert infrastructure.differences(named)[-1] == f"unpoint {run.host_name}"
    infrastructure.converge(named)
    assert addresses_of(run, named) == [named.host_name]
    assert infrastructure.differences(named) == []


@pytest.mark.parametrize("calls", sampled(range(12)))
@pytest.mark.promise("teardown-leaves-nothing")
def test_no_name_outlives_a_teardown_wherever_a_run_was_killed(run, calls):
    named = named_as(run, "qa")
    infrastructure.converge(named)
    run.cloud.calls.clear()
    run.cloud.dies_after = calls
    with contextlib.suppress(Killed):
        infrastructure.converge(run)
    run.cloud.dies_after = None
    teardown.tear_down(run)
    assert addresses_of(run, named) == []


@pytest.mark.promise("stores-have-names")
def test_the_names_of_stores_come_and_go_with_the_settings_and_with_the_environment(run):
    both = with_stores(run, "de", "at")
    infrastructure.converge(both)
    assert addresses_of(run, both) == sorted(both.host_names)
    assert infrastructure.differences(both) == []
    one = with_stores(run, "de")
    assert infrastructure.differences(one) == [f"unpoint at.{run.host_name}"]
    infrastructure.converge(one)
    assert addresses_of(run, both) == sorted(one.host_names)
    teardown.tear_down(run)  # of a checkout that no longer has them
    assert addresses_of(run, both) == []


def with_stores(run, *names):
    stores = {each: settings.NamedStore(code=each) for each in names}
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, stores=stores))


def named_as(run, host_name):
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, host_name=host_name))


def addresses_of(run, *others):
    """The names of these runs that have a record."""
    route53 = run.cloud.client("route53")
    records = route53.list_resource_record_sets(HostedZoneId=zone.zone_id(run.cloud, run.pipeline.dns_zone))
    names = {each["Name"].rstrip(".") for each in records["ResourceRecordSets"] if each["Type"] == "A"}
    return sorted(names & {name for each in (run, *others) for name in each.host_names})


@pytest.mark.promise("branches-share-nothing-else")
def test_two_branches_share_the_bucket_and_nothing_else(run, checkout):
    other = run_in(checkout, run.cloud, branch="other")
    infrastructure.converge(run)
    infrastructure.converge(other)
    assert {each["InstanceId"] for each in instances(run)}.isdisjoint(
        each["InstanceId"] for each in instances(other)
    )
    assert run.host_name != other.host_name
    assert secrets_of(run) != secrets_of(other)
    assert create.bucket_exists(other.store, other.pipeline.name)


@pytest.mark.parametrize(("environment", "behaviour"), [("testing", "terminate"), ("staging", "stop")])
@pytest.mark.promise("a-shutdown-terminates", "elsewhere-a-shutdown-stops")
def test_only_a_machine_that_guards_itself_is_ended_by_its_own_shutdown(
    checkout,
    server,
    environment,
    behaviour,
):
    run = run_in(checkout, QuietCloud(REGION, server.home.load()), environment=environment, branch="guarded")
    infrastructure.share(run)
    infrastructure.converge(run)
    (machine,) = find.everything(run).machines
    ask = run.cloud.client("ec2").describe_instance_attribute
    said = ask(InstanceId=machine.id, Attribute="instanceInitiatedShutdownBehavior")
    assert said["InstanceInitiatedShutdownBehavior"]["Value"] == behaviour


@pytest.mark.promise("bucket-is-private", "replaced-objects-stay-for-30-days")
def test_the_bucket_is_versioned_encrypted_and_private(run):
    s3 = run.cloud.client("s3")
    assert s3.get_bucket_versioning(Bucket=run.bucket)["Status"] == "Enabled"
    rules = s3.get_bucket_encryption(Bucket=run.bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    kept = {
        each["NoncurrentVersionExpiration"]["NoncurrentDays"]
        for each in s3.get_bucket_lifecycle_configuration(Bucket=run.bucket)["Rules"]
        if "NoncurrentVersionExpiration" in each
    }
    assert kept == {30}
    assert all(s3.get_public_access_block(Bucket=run.bucket)["PublicAccessBlockConfiguration"].values())
    assert infrastructure.shared_differences(run) == []
    assert not infrastructure.share(run).changed
