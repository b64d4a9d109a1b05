"""Infrastructure against the cloud's API: idempotent, converging after a death anywhere, leaving nothing."""

from __future__ import annotations

import contextlib
from types import SimpleNamespace

import pytest

from tasks import teardown
from tasks.bucket import create
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import launches, secrets
from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, faulty, server  # noqa: F401  (fixtures)
from tests.clouds import Killed, QuietCloud, run_in


@pytest.fixture
def run(checkout, server):  # noqa: F811
    made = run_in(checkout, QuietCloud(REGION, server.home.load()), branch=checkout.parent.name)
    infrastructure.share(made)
    return made


@pytest.fixture
def _no_records(monkeypatch):
    """Teardown voids doit's records; here there is no doit."""
    import doit

    backend = SimpleNamespace(void=lambda task: None)
    monkeypatch.setattr(doit.Globals, "dep_manager", SimpleNamespace(backend=backend))


def instances(run):
    filters = [{"Name": "tag:environment", "Values": [run.identity]}]
    return [
        each
        for page in run.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
        if each["State"]["Name"] not in ("terminated", "shutting-down")
    ]


def test_the_second_time_nothing_is_changed(run):
    first = infrastructure.converge(run)
    assert first.changed
    assert infrastructure.differences(run) == []
    before = len(run.cloud.calls)
    second = infrastructure.converge(run)
    assert (second.changed, second.facts) == (False, first.facts)
    assert len(run.cloud.calls) == before


def test_the_bucket_is_versioned_encrypted_and_private(run):
    s3 = run.cloud.client("s3")
    assert s3.get_bucket_versioning(Bucket=run.bucket)["Status"] == "Enabled"
    rules = s3.get_bucket_encryption(Bucket=run.bucket)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rules[0]["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "AES256"
    assert all(s3.get_public_access_block(Bucket=run.bucket)["PublicAccessBlockConfiguration"].values())
    assert infrastructure.shared_differences(run) == []
    assert not infrastructure.share(run).changed


def test_machines_carry_the_tags_that_find_them(run):
    infrastructure.converge(run)
    (machine,) = instances(run)
    tags = {each["Key"]: each["Value"] for each in machine["Tags"]}
    assert tags == infrastructure.tags(run)
    assert tags["branch"] == run.branch


@pytest.mark.usefixtures("_no_records")
@pytest.mark.parametrize("calls", range(14))
def test_a_death_after_any_call_converges_without_a_duplicate(run, calls):
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


@pytest.mark.usefixtures("_no_records")
@pytest.mark.parametrize("calls", range(8))
def test_a_teardown_that_dies_anywhere_is_finished_by_the_next(run, calls):
    infrastructure.converge(run)
    run.cloud.calls.clear()
    run.cloud.dies_after = calls
    with contextlib.suppress(Killed):
        teardown.tear_down(run)
    run.cloud.dies_after = None
    teardown.tear_down(run)
    assert ec2.find(run) == infrastructure.Existing()
    assert not teardown.tear_down(run).changed


@pytest.mark.usefixtures("_no_records")
def test_a_cloud_with_faults_gives_the_same(checkout, faulty):  # noqa: F811
    run = run_in(checkout, QuietCloud(REGION, faulty._identity), branch="faults")
    infrastructure.share(run)
    infrastructure.converge(run)
    assert len(instances(run)) == 1
    assert not infrastructure.converge(run).changed
    teardown.tear_down(run)
    assert ec2.find(run) == infrastructure.Existing()


@pytest.mark.usefixtures("_no_records")
def test_a_machine_that_is_still_stopping_is_waited_for_and_started(checkout, faulty):  # noqa: F811
    run = run_in(checkout, QuietCloud(REGION, faulty._identity), branch="stopping")
    infrastructure.share(run)
    first = infrastructure.converge(run)
    run.cloud.client("ec2").stop_instances(InstanceIds=[first.facts["hosts"][0]["id"]])
    assert [each.state for each in ec2.find(run).machines] == ["stopping"]
    again = infrastructure.converge(run)
    assert [each["id"] for each in again.facts["hosts"]] == [first.facts["hosts"][0]["id"]]
    teardown.tear_down(run)


def test_a_launch_that_was_not_seen_is_asked_for_with_the_same_token(run):
    infrastructure.converge(run)
    token = launches.launch_token(run, "1")
    assert launches.launch_token(run, "1") == token
    launches.forget_launches(run)
    assert launches.launch_token(run, "1") != token


def test_host_keys_are_pinned_at_first_sight(run):
    facts = infrastructure.converge(run).facts
    run.cloud.host_keys = lambda id, say: ["ssh-ed25519 another"]
    assert infrastructure.existing(run) == facts


def test_secrets_are_made_once_and_never_shown(run):
    first = secrets.ensure(run)
    assert secrets.ensure(run) == first
    assert first.database_password not in repr(first)
    assert first.deploy_key not in repr(first)
    parameters = run.cloud.client("ssm").describe_parameters(
        ParameterFilters=[{"Key": "Path", "Values": [secrets.folder(run)]}]
    )["Parameters"]
    assert {each["Type"] for each in parameters} == {"SecureString"}
    assert len(parameters) == len(secrets.MAKE)


def test_two_branches_share_the_bucket_and_nothing_else(run, checkout):
    other = run_in(checkout, run.cloud, branch="other")
    infrastructure.converge(run)
    infrastructure.converge(other)
    assert {each["InstanceId"] for each in instances(run)}.isdisjoint(
        each["InstanceId"] for each in instances(other)
    )
    assert run.host_name != other.host_name
    assert secrets.ensure(run) != secrets.ensure(other)
    assert create.bucket_exists(other)


@pytest.mark.parametrize(("environment", "behaviour"), [("testing", "terminate"), ("staging", "stop")])
def test_only_a_machine_that_guards_itself_is_ended_by_its_own_shutdown(
    checkout,
    server,  # noqa: F811
    environment,
    behaviour,
):
    run = run_in(checkout, QuietCloud(REGION, server.home.load()), environment=environment, branch="guarded")
    infrastructure.share(run)
    infrastructure.converge(run)
    (machine,) = ec2.find(run).machines
    ask = run.cloud.client("ec2").describe_instance_attribute
    said = ask(InstanceId=machine.id, Attribute="instanceInitiatedShutdownBehavior")
    assert said["InstanceInitiatedShutdownBehavior"]["Value"] == behaviour
