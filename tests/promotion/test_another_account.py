"""Production in another account, region, zone and bucket: staging is asked where staging is, production changes only its own."""

from __future__ import annotations

import dataclasses
import io
import json
from urllib.parse import parse_qs, urlsplit

import boto3
import moto
import pytest

from tasks.bucket import cache, layout, lease
from tasks.bucket.create import BucketGone
from tasks.cloud.caller import Caller
from tasks.cloud.interface import AccountWrong
from tasks.commands import command_line, controls
from tasks.console.console import Console
from tasks.digest import Digest
from tasks.environments import compare, diff, inventory, status
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion import record as promotion_record
from tasks.promotion.gate import Proof
from tasks.release import history
from tasks.release import stage as release
from tasks.run import elsewhere
from tasks.sweep import plan as sweep
from tasks.sweep import references
from tasks.sweep.references import ReferencesUnknown
from tasks.tarball import stored
from tasks.tarball.stored import Pointer
from tests.clouds import IdleHosts
from tests.conftest import commit
from tests.plain import Plain

STAGING_S, PRODUCTION_S = "123456789012", "210987654321"
DIGEST = Digest("d" * 64)
PRODUCTION = f"""
role: arn:aws:iam::{PRODUCTION_S}:role/shop-production
region: eu-west-1
dns_zone: live.localhost
bucket: shop-production
stages: [infrastructure, server, release]
takes_from: staging
approvals: different_person
"""


class Silent(Plain):
    """Machines whose console is not asked. `PERSON`: who has the caller's own credentials."""

    def host_keys(self, instance_id, say):
        return [f"ssh-ed25519 {instance_id}"]


class LiveHosts(IdleHosts):
    """Hosts that run what they are given."""

    def phases(self, program, phases, *, plan, **how):
        self.given = plan
        return super().phases(program, phases, **how)

    def python(self, host, stage, program):
        return self.given["sha256"]


@pytest.fixture
def cloud(monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("MOTO_EC2_LOAD_DEFAULT_AMIS", "false")  # 1,300, at the first call of each test
    with moto.mock_aws():
        yield Silent("eu-central-1")


@pytest.fixture
def shop(checkout):
    (checkout / "environments" / "production.yml").write_text(PRODUCTION)
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)
    return checkout


def run_in(shop, cloud, name):
    """A run of another person on another machine: nothing is known that was asked before."""
    fresh = Silent(cloud.region)
    fresh.calls = cloud.calls
    made = command_line.read(
        shop, {"environment": name}, cloud=fresh, hosts=LiveHosts(), console=Console(io.StringIO())
    )
    return dataclasses.replace(made, environment=dataclasses.replace(made.environment, approvals="none"))


def launches(run):
    """moto has no image of the settings' name."""
    ec2 = run.cloud.client("ec2")
    machine = ec2.run_instances(ImageId="ami-12c6146b", MinCount=1, MaxCount=1)["Instances"][0]["InstanceId"]
    ec2.create_image(InstanceId=machine, Name=run.pipeline.image)
    ec2.terminate_instances(InstanceIds=[machine])


def released(run, control):
    """One release: shared things, machine, tarball live, all of it recorded."""
    infrastructure.share(run)
    launches(run)
    finish = gate.begin(run, control, ["release"])
    facts = infrastructure.converge(run).facts
    tarball = {"digest": str(DIGEST)} if control == "start" else None
    live = release.go_live(run, tarball, facts).facts["digest"]
    assert finish(Proof(digest=Digest(live))) is None


def started(shop, cloud):
    """Staging has proved a tarball."""
    run = run_in(shop, cloud, "staging")
    infrastructure.share(run)
    pointer = layout.record(cache.of(run).writes, "commits", run.commit)
    run.store.write(pointer, Pointer(digest=DIGEST, role="builder").as_dict(), seen=None)
    run.store.put(layout.blob(cache.of(run).writes, "tarballs", DIGEST), b"tarball")
    released(run, "start")
    return run


@pytest.fixture
def live(shop, cloud):
    """Both environments run the tarball."""
    staging = started(shop, cloud)
    production = run_in(shop, cloud, "production")
    released(production, "continue")
    return staging, production


def machines(run):
    found = run.cloud.client("ec2").describe_instances(
        Filters=[{"Name": "tag:environment", "Values": ["staging", "production"]}]
    )
    return [
        next(tag["Value"] for tag in each["Tags"] if tag["Key"] == "environment")
        for reservation in found["Reservations"]
        for each in reservation["Instances"]
    ]


@pytest.mark.promise("production-elsewhere", "production-asks-staging-s-bucket")
def test_what_staging_has_proved_goes_live_in_another_account(live):
    staging, production = live
    assert (staging.cloud.caller().account, production.cloud.caller().account) == (STAGING_S, PRODUCTION_S)
    assert (machines(staging), machines(production)) == (["staging"], ["production"])
    assert production.url == "https://production.live.localhost/"
    zones = production.cloud.client("route53").list_hosted_zones()["HostedZones"]
    assert [each["Name"] for each in zones] == ["live.localhost."]
    own = set(production.store.keys(""))
    assert {key.partition("/")[0] for key in own} == {"history", "machines"}
    assert [key for key in staging.store.keys("") if "production" in key] == []
    assert promotion_record.read(staging.store, staging.commit).state == "live"
    assert history.read(production.store, "production")[-1].digest == DIGEST
    url = urlsplit(production.hosts.given["url"])
    assert staging.bucket in url.netloc + url.path
    given = {name.lower() for name in parse_qs(url.query)}
    assert "x-amz-security-token" not in given, "it is signed with staging's credentials"


def test_a_tarball_that_is_gone_is_missed_in_staging_s_bucket(shop, cloud):
    staging = started(shop, cloud)
    staging.store.delete(layout.blob(cache.of(staging).writes, "tarballs", DIGEST))
    production = run_in(shop, cloud, "production")
    with pytest.raises(stored.TarballGone, match=f"in {staging.bucket} that"):
        release.variables(production, DIGEST)


def written(shop, text):
    (shop / "environments" / "production.yml").write_text(text)
    commit(shop)


@pytest.mark.promise("another-account-is-refused")
def test_with_credentials_of_another_account_nothing_of_production_is_changed(shop, cloud):
    started(shop, cloud)
    alone = PRODUCTION.replace("role: arn:aws:iam::", "account: '").replace(":role/shop-production", "'")
    written(shop, alone)
    production = run_in(shop, cloud, "production")
    ec2, s3 = cloud.client("ec2"), cloud.client("s3")

    def there():
        return ec2.describe_security_groups()["SecurityGroups"], s3.list_buckets()["Buckets"]

    before = there()
    with pytest.raises(AccountWrong, match=f"{STAGING_S}, and the settings name {PRODUCTION_S}"):
        infrastructure.share(production)
    with pytest.raises(AccountWrong):
        production.cloud.client("ec2").create_security_group(GroupName="x", Description="x")
    assert there() == before


@pytest.mark.promise("role-of-an-environment")
def test_a_role_s_name_is_one_in_the_account_that_is_pinned(shop, cloud):
    written(
        shop,
        PRODUCTION.replace(f"role: arn:aws:iam::{PRODUCTION_S}:role/", f"account: '{PRODUCTION_S}'\nrole: "),
    )
    caller = run_in(shop, cloud, "production").cloud.caller()
    assert (caller.account, caller.role) == (PRODUCTION_S, "shop-production")


@pytest.mark.promise("role-of-an-environment")
def test_without_a_role_nothing_more_is_asked(shop, cloud):
    started(shop, cloud)
    assert cloud.calls["AssumeRole"] == 0


@pytest.mark.promise("the-person-is-who-assumes")
def test_the_person_counts_who_has_the_credentials_not_the_session(shop, cloud, monkeypatch):
    """Whoever assumes a role names the session."""
    iam = cloud.client("iam")
    for person in ("kim", "lee"):
        iam.create_user(UserName=person)

    def signed_in(person):
        key = iam.create_access_key(UserName=person)["AccessKey"]
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
        boto3.setup_default_session()

    def continues():
        made = run_in(shop, cloud, "production")
        strict = dataclasses.replace(made.environment, approvals="different_person")
        return dataclasses.replace(made, environment=strict)

    signed_in("kim")
    started(shop, cloud)
    assert "kim has started this run" in gate.refusal(continues()).text
    signed_in("lee")
    run = continues()
    assert gate.refusal(run) is None
    assert run.cloud.caller().arn == f"arn:aws:sts::{PRODUCTION_S}:assumed-role/shop-production/lee"
    assert run.cloud.person().arn == f"arn:aws:iam::{STAGING_S}:user/lee"


@pytest.mark.promise("the-person-is-who-assumes", "no-person-no-approval")
def test_a_made_up_session_of_ci_is_no_person_by_assuming_a_role(shop, cloud, monkeypatch):
    started(shop, cloud)
    made_up = {"RoleArn": f"arn:aws:iam::{STAGING_S}:role/releaser", "RoleSessionName": "botocore-session-1"}
    keys = cloud.client("sts").assume_role(**made_up)["Credentials"]
    for name, key in (("ACCESS_KEY_ID", "AccessKeyId"), ("SECRET_ACCESS_KEY", "SecretAccessKey")):
        monkeypatch.setenv(f"AWS_{name}", keys[key])
    monkeypatch.setenv("AWS_SESSION_TOKEN", keys["SessionToken"])
    boto3.setup_default_session()
    production = run_in(shop, cloud, "production")
    strict = dataclasses.replace(production.environment, approvals="different_person")
    refused = gate.refusal(dataclasses.replace(production, environment=strict))
    assert "botocore-session-1" in refused.text
    assert not Caller(arn=promotion_record.step(production, "stopped").arn).person


@pytest.mark.promise("production-asks-staging-s-bucket")
def test_stop_ends_the_run_in_staging_s_bucket_and_looks_at_production_s_lease(shop, cloud):
    started(shop, cloud)
    production = run_in(shop, cloud, "production")
    infrastructure.share(production)
    holder = lease.Lease(production)
    holder.take(0)
    with pytest.raises(controls.RunUnderWay, match="production is held by"):
        controls._end(run_in(shop, cloud, "testing"))
    holder.free()
    assert "goes no further" in controls._end(run_in(shop, cloud, "production"))


# --- what looks at one place ------------------------------------------------------------------------


def old(found):
    """The same inventory, when everything in it is a year older."""
    return dataclasses.replace(found, at=found.at.replace(year=found.at.year + 2))


def swept(run):
    """What a sweep would delete at the end of all times."""
    found = inventory.survey(run)
    known = sweep.Known(remote="", branches={}, referred=references.of(run, found, {}))
    return list(sweep.condemned(old(found), known, run.pipeline.sweep))


def forgotten_by_staging(staging):
    """Staging runs other tarballs by now."""
    staging.store.delete(layout.history("staging"))
    staging.store.delete(layout.CURRENT_RUN)


@pytest.mark.promise("sweep-reads-the-other-bucket")
def test_a_sweep_takes_no_tarball_that_runs_elsewhere(live):
    staging, production = live
    forgotten_by_staging(staging)
    tarball = layout.blob(cache.of(staging).writes, "tarballs", DIGEST)
    assert tarball not in [each.name for each in swept(staging) if isinstance(each, sweep.Deletion)]
    production.store.delete(layout.history("production"))
    assert tarball in [each.name for each in swept(staging) if isinstance(each, sweep.Deletion)]


@pytest.mark.promise("sweep-reads-the-other-bucket")
def test_a_sweep_that_does_not_find_the_other_bucket_takes_nothing(shop, cloud):
    staging = started(shop, cloud)
    with pytest.raises(ReferencesUnknown, match="no bucket shop-production with its releases"):
        swept(staging)


@pytest.mark.promise("sweep-leaves-what-is-elsewhere")
def test_a_sweep_leaves_a_branch_s_machine_that_has_another_bucket(shop, cloud):
    staging = started(shop, cloud)
    testing = shop / "environments" / "testing.yml"
    testing.write_text(f"{testing.read_text()}bucket: shop-testing\n")
    commit(shop)
    written(shop, "takes_from: staging\nstages: [release]\n")
    branch = run_in(shop, cloud, "testing")
    infrastructure.share(branch)
    infrastructure.converge(branch)
    left = [each for each in swept(staging) if getattr(each, "group", "") == branch.identity]
    assert [each.why for each in left] == ["testing is elsewhere: doit environment=testing sweep"]
    assert branch.identity in [each.group for each in swept(branch)], "half made: it is old and its own"


@pytest.mark.promise("status-names-what-is-elsewhere")
def test_status_shows_an_environment_where_it_is_and_names_it_elsewhere(live):
    staging, production = live
    assert [each.environment for each in status.look(staging)] == ["staging"]
    assert status.elsewhere(staging) == ["production is elsewhere: doit environment=production status"]
    (shown,) = status.look(production)
    assert (shown.environment, shown.digest, shown.url) == (
        "production",
        DIGEST,
        "https://production.live.localhost/",
    )


@pytest.mark.promise("compare-asks-both")
def test_compare_and_diff_ask_each_environment_where_it_is(live):
    staging, production = live
    for run, owner in ((staging, "nobody"), (production, "www-data")):
        facts = {"file /etc/motd": {"task": "greet", "facts": {"owner": owner}}}
        run.store.put(
            layout.ledger(run.identity, "one", "server"),
            json.dumps(
                {"things": facts, "leftovers": {}, "folders": [], "files": [], "settings": {}}
            ).encode(),
        )
    for run in live:
        views = [compare.view(compare.ledgers(run, name)) for name in ("staging", "production")]
        assert compare.lines(*views) == ["file /etc/motd owner: nobody | www-data"]
        assert {diff.find(run, name) for name in ("staging", "production")} == {DIGEST}


def test_the_way_there_and_back_is_one_connection(shop, cloud):
    production = run_in(shop, cloud, "production")
    there = elsewhere(production, "staging")
    assert there.cloud is elsewhere(elsewhere(there, "production"), "staging").cloud
    assert elsewhere(there, "production").cloud is production.cloud
    assert (there.pipeline.region, there.host_name) == ("eu-central-1", "staging.shop.localhost")


def test_a_bucket_of_its_own_that_is_gone_is_missed_where_its_machines_are(shop, cloud):
    written(shop, PRODUCTION.replace("role:", "# role:").replace("region:", "# region:"))
    started(shop, cloud)
    production = run_in(shop, cloud, "production")
    infrastructure.share(production)
    infrastructure.converge(production)
    for key in list(production.store.keys("")):
        production.store.delete(key)
    s3 = production.cloud.client("s3")
    for each in s3.list_object_versions(Bucket="shop-production").get("Versions", []):
        s3.delete_object(Bucket="shop-production", Key=each["Key"], VersionId=each["VersionId"])
    for each in s3.list_object_versions(Bucket="shop-production").get("DeleteMarkers", []):
        s3.delete_object(Bucket="shop-production", Key=each["Key"], VersionId=each["VersionId"])
    s3.delete_bucket(Bucket="shop-production")
    with pytest.raises(BucketGone, match="shop-production is gone"):
        infrastructure.share(run_in(shop, cloud, "production"))
