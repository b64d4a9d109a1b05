"""One missing thing at a time is named, and nothing else; on a complete account nothing is."""

from __future__ import annotations

import dataclasses
import io
import json
from types import SimpleNamespace

import pytest

from tasks import teardown
from tasks.bootstrap import s3_endpoint, steps
from tasks.bucket import create
from tasks.cloud.aws import CredentialsMissing
from tasks.cloud.caller import Caller
from tasks.commands.doctor import DoctorCommand, lines
from tasks.console.console import Console
from tasks.doctor import examination
from tasks.infrastructure import find, zone
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.apply import LaunchRefused
from tasks.refusal import Refusal
from tasks.settings import S3Gateway
from tasks.tarball import signature
from tests.cloud.embedded.conftest import Home, Server
from tests.clouds import QuietCloud, run_in, with_search_engine

REGION = "eu-central-1"
ZONE = "shop.example.com"
ALL = [
    *(
        "tools",
        "versions",
        "search",
        "CI",
        "region",
        "credentials",
        "account",
        "zone",
        "delegation",
        "bucket",
    ),
    *("type", "quota", "image", "subnet", "signing key", "deploy key"),
]


class Account(QuietCloud):
    """The embedded cloud, as an account that others use too."""

    own = False


@pytest.fixture(scope="module")
def account(tmp_path_factory):
    """An account that has everything."""
    server = Server(Home(folder=tmp_path_factory.mktemp("account") / "cloud"))
    cloud = server.start()
    cloud.client("route53").create_hosted_zone(Name=ZONE, CallerReference="first")
    yield server
    server.kill()


@pytest.fixture
def run(checkout, account):
    settings = checkout / "pipeline.yml"
    settings.write_text(settings.read_text().replace("shop.localhost", ZONE) + "account: '123456789012'\n")
    with_search_engine(checkout)
    made = run_in(checkout, Account(REGION, account.home.load()), branch=checkout.parent.name)
    if not create.bucket_exists(made.store, "shop"):
        create.make_bucket(made.store, "shop", REGION)
    made.cloud.calls.clear()
    yield made
    teardown.tear_down(dataclasses.replace(made, cloud=QuietCloud(REGION, account.home.load())))


def servers(run):
    return lambda name: zone.name_servers(run.cloud, name)


def examined(run, environ=None, ask=None):
    return list(examination.of(run, environ or {}, ask or servers(run)))


def missing(run, environ=None, ask=None):
    return {each.what: each.missing for each in examined(run, environ, ask) if not each.found}


def with_settings(run, **changed):
    return dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, **changed))


def with_infrastructure(run, **changed):
    settings = dataclasses.replace(run.environment.infrastructure, **changed)
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, infrastructure=settings))


@pytest.mark.promise("doctor-names-what-is-missing")
def test_on_a_complete_account_nothing_is_missing(run):
    assert [each.what for each in examined(run) if each.found] == ALL
    assert run.cloud.calls == [], "it only looks"


@pytest.mark.parametrize(
    ("role", "said", "what"),
    [
        ("search", {"host": ""}, "search"),
        ("search", {"host": "stand-in"}, None),
        ("search", {"host": "search.example.com", "user": "kim"}, "search password"),
        ("mail", {"relay_host": "smtp.example.com", "relay_user": "kim"}, "relay password"),
        ("mariadb", {"endpoint": "db.example.com:3306"}, "endpoint passwords"),
    ],
)
@pytest.mark.promise("doctor-and-release-say-the-same")
def test_of_search_engine_and_relay_doctor_says_what_a_release_would_refuse(run, role, said, what):
    roles = {**run.environment.server.roles, role: {**run.environment.server.roles[role], **said}}
    server = dataclasses.replace(run.environment.server, roles=roles)
    named = dataclasses.replace(run, environment=dataclasses.replace(run.environment, server=server))
    found = missing(named)
    assert list(found) == ([what] if what else [])
    if what:
        with pytest.raises(Refusal) as refused:
            infrastructure.converge(named)
        assert refused.value.text.splitlines()[0] == found[what].sentence
        assert find.everything(named).machines == ()


@pytest.mark.parametrize(
    ("setting", "value", "what", "words"),
    [
        ("region", "eu-centrl-1", "region", "did you mean eu-central-1?"),
        ("dns_zone", "other.example.com", "zone", "no public hosted zone other.example.com"),
        ("image", "debian-99", "image", "no image named debian-99"),
        ("instance_type", "t9.medium", "type", "no machines of type t9.medium"),
        (
            "instance_type",
            "t4g.medium",
            "image",
            "debian-12 is an image for x86_64, and t4g.medium has arm64",
        ),
        ("instance_type", "p4d.24xlarge", None, ""),
    ],
)
@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_setting_that_names_what_the_account_has_not(run, setting, value, what, words):
    found = missing(with_settings(run, **{setting: value}))
    assert list(found) == ([what] if what else [])
    assert not what or (words in found[what].sentence and found[what].remedy)


@pytest.mark.promise("doctor-names-what-is-missing")
def test_an_account_that_is_not_pinned_or_another_one(run):
    for pinned, words in ("", "the settings name no account"), ("210987654321", "the account 123456789012"):
        run.cloud.account = pinned
        found = missing(run)
        assert list(found) == ["account"]
        assert words in found["account"].sentence
    run.cloud.account = "123456789012"


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_bucket_that_is_not_there(run):
    other = dataclasses.replace(run, store=dataclasses.replace(run.store, chosen="other-releases"))
    assert missing(other)["bucket"].remedy == "doit bootstrap"
    assert list(missing(other)) == ["bucket"]


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_zone_that_its_parent_does_not_delegate(run):
    def nobody(name):
        return set()

    def silent(name):
        raise TimeoutError("timed out")

    found = missing(run, ask=nobody)
    assert list(found) == ["delegation"]
    assert "the zone example.com does not delegate shop.example.com" in found["delegation"].sentence
    assert zone.name_servers(run.cloud, ZONE)[0] in found["delegation"].sentence
    assert list(missing(run, ask=silent)) == ["delegation"]


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_quota_that_is_too_low_for_the_machines_that_are_still_to_be_made(run, account):
    (account.home.folder / "quota").write_text("5")
    try:
        assert missing(run) == {}
        found = missing(with_infrastructure(run, instances=3))
        assert list(found) == ["quota"]
        assert "6 more vCPUs are wanted, and 0 of 5 are in use" in found["quota"].sentence
        assert "--desired-value 6" in found["quota"].remedy
        with pytest.raises(LaunchRefused, match="vCPU"):
            infrastructure.converge(with_infrastructure(run, instances=3))
    finally:
        (account.home.folder / "quota").unlink()


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_region_without_a_default_subnet(run):
    without_default_subnets(run)
    found = missing(run)
    assert list(found) == ["subnet"]
    assert "no default subnet, and environments/testing.yml names none" in found["subnet"].sentence
    assert found["subnet"].remedy == "aws ec2 create-default-vpc --region eu-central-1"


@pytest.mark.promise("doctor-names-what-is-missing")
def test_subnets_of_the_settings_need_no_default_one_and_each_that_is_not_there_is_named(run):
    theirs = sorted(each["SubnetId"] for each in run.cloud.client("ec2").describe_subnets()["Subnets"])[:2]
    without_default_subnets(run)
    assert missing(with_infrastructure(run, subnets=tuple(theirs))) == {}
    found = missing(with_infrastructure(run, subnets=(theirs[0], "subnet-2", "subnet-1")))
    assert list(found) == ["subnet"]
    assert "no subnet subnet-1, subnet-2 in eu-central-1" in found["subnet"].sentence
    assert found["subnet"].remedy == "aws ec2 describe-subnets --region eu-central-1"


@pytest.mark.promise("doctor-looks-at-the-s3-endpoint")
def test_an_s3_endpoint_that_is_missing_or_other_than_wanted_or_somebody_else_s(run):
    wanted, ec2 = with_settings(run, s3_endpoint=S3Gateway(enabled=True)), run.cloud.client("ec2")
    found = missing(wanted)
    assert list(found) == ["S3 endpoint"]
    assert "has yet to make S3 endpoint of vpc-" in found["S3 endpoint"].sentence
    assert found["S3 endpoint"].remedy == "doit bootstrap"
    opened = dataclasses.replace(wanted, environment=dataclasses.replace(run.environment, egress="open"))
    assert missing(opened) == {}
    (endpoint,) = s3_endpoint.wanted(wanted)
    for step in steps.endpoint(endpoint, ec2):
        step.do()
    (made,) = s3_endpoint.found(ec2, endpoint.network, endpoint.service)
    try:
        assert missing(wanted) == {}
        table = ec2.create_route_table(VpcId=endpoint.network)["RouteTable"]["RouteTableId"]
        assert f"let {table} of" in missing(wanted)["S3 endpoint"].sentence
        ec2.delete_route_table(RouteTableId=table)
        ec2.delete_tags(Resources=[made["VpcEndpointId"]], Tags=[{"Key": "project"}])
        assert "an S3 endpoint of somebody else" in missing(wanted)["S3 endpoint"].sentence
    finally:
        ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])


@pytest.mark.promise("doctor-names-what-is-missing")
def test_subnets_of_two_networks(run):
    ec2 = run.cloud.client("ec2")
    theirs = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    vpc = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    other = ec2.create_subnet(VpcId=vpc, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    found = missing(with_infrastructure(run, subnets=(theirs, other)))
    assert list(found) == ["subnet"]
    assert f"{other} in {vpc}" in found["subnet"].sentence


def without_default_subnets(run):
    """The account's region has lost its default subnets."""

    class Without:
        def __init__(self, ec2):
            self.ec2 = ec2

        def __getattr__(self, name):
            return getattr(self.ec2, name)

        def describe_subnets(self, Filters):  # noqa: N803
            if Filters[0]["Name"] == "default-for-az":
                return {"Subnets": []}
            return self.ec2.describe_subnets(Filters=Filters)

    run.cloud._clients["ec2"] = Without(run.cloud.client("ec2"))


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_signing_key_that_an_environment_requires_to_which_this_one_leads(checkout, run):
    staging = run_in(checkout, run.cloud, environment="staging")
    found = missing(staging)
    assert list(found) == ["signing key"]
    assert (
        "production: signed tarballs only, and pipeline.yml names no public key"
        in found["signing key"].sentence
    )
    lost = missing(with_settings(staging, public_keys=("RWQ",)))
    assert "the private key at /shop-signing/key is missing" in lost["signing key"].sentence
    made = signature.make_key(staging, replace=True)
    try:
        assert missing(with_settings(staging, public_keys=(made,))) == {}
        other = missing(with_settings(staging, public_keys=("RWQ",)))
        assert f"is {made}, which pipeline.yml does not name" in other["signing key"].sentence
    finally:
        run.cloud.client("ssm").delete_parameter(Name=signature.parameter(staging))


@pytest.mark.promise("doctor-names-what-is-missing")
def test_a_machine_whose_deploy_key_is_gone(run):
    infrastructure.converge(run)
    assert missing(run) == {}
    ssm = run.cloud.client("ssm")
    kept = ssm.get_parameter(Name=f"{run.secrets_folder}/deploy_key", WithDecryption=True)["Parameter"][
        "Value"
    ]
    ssm.delete_parameter(Name=f"{run.secrets_folder}/deploy_key")
    found = missing(run)
    assert list(found) == ["deploy key"]
    assert "accepts a deploy key that is no longer at" in found["deploy key"].sentence
    ssm.put_parameter(Name=f"{run.secrets_folder}/deploy_key", Value=kept, Type="SecureString")
    assert missing(run) == {}


@pytest.mark.promise("doctor-names-what-is-missing")
def test_tools_that_the_build_needs_and_an_environment_that_builds_nothing_does_not(checkout, run):
    lacking = dataclasses.replace(run.profile, tools={**run.profile.tools, "php": ("no-such-program", "-v")})
    found = missing(dataclasses.replace(run, profile=lacking))
    assert list(found) == ["tools"]
    assert found["tools"].sentence == "not installed: php"
    production = run_in(checkout, run.cloud, environment="production")
    assert "tools" not in missing(dataclasses.replace(production, profile=lacking))


@pytest.mark.promise("doctor-names-what-is-missing")
def test_credentials_that_are_missing_or_not_accepted_are_named_alone(run):
    def refused(error):
        def caller():
            raise error

        run.cloud.caller = caller
        return missing(run)

    sts = run.cloud.client("sts")
    assert list(refused(CredentialsMissing(problem="none"))) == ["credentials"]
    told = {
        "Error": {"Code": "InvalidClientTokenId", "Message": "invalid"},
        "ResponseMetadata": {"HTTPStatusCode": 403},
    }
    found = refused(sts.exceptions.ClientError(told, "GetCallerIdentity"))
    assert list(found) == ["credentials"]
    assert "the account has not enabled the region" in found["credentials"].sentence


def test_what_the_credentials_may_not_ask_is_unknown_and_not_counted(run):
    class Denying:
        def get_service_quota(self, **_):
            told = {"Error": {"Code": "AccessDeniedException", "Message": "no"}, "ResponseMetadata": {}}
            raise run.cloud.client("sts").exceptions.ClientError(told, "GetServiceQuota")

    run.cloud._clients["service-quotas"] = Denying()
    (unknown,) = [each for each in examined(run) if not each.found]
    assert unknown.what == "quota"
    assert "may not ask" in unknown.unknown


def test_in_a_cloud_of_ones_own_the_first_release_makes_what_is_shared(checkout, account):
    path = checkout / "pipeline.yml"
    path.write_text(path.read_text().replace("shop.localhost", "new.localhost"))
    run = run_in(checkout, QuietCloud(REGION, account.home.load()), branch="own")
    assert missing(run) == {}
    assert "account" not in [each.what for each in examined(run)]


@pytest.mark.promise("doctor-names-what-is-missing")
def test_the_command_prints_each_thing_what_to_type_and_exits_1(run):
    def said(run, **options):
        console = Console(stream=io.StringIO())
        command = DoctorCommand(task_loader=None)
        command.task_list = [SimpleNamespace(meta={"run": dataclasses.replace(run, console=console)})]
        return command._execute(**options), console.stream.getvalue()

    code, printed = said(with_settings(run, dns_zone="a.localhost", image="debian-99"))
    assert code == 1
    assert (
        "image           missing  infrastructure: no image named debian-99 in eu-central-1 (pipeline.yml: image)\n    $EDITOR"
        in printed
    )
    assert printed.endswith("missing: zone, image\n")
    code, printed = said(with_settings(run, image="debian-99"), as_json=True)
    assert "image" in [each["what"] for each in json.loads(printed) if each["missing"]]


def test_a_caller_is_named(run):
    found = {each.what: each.found for each in examined(run)}
    assert found["credentials"] == run.cloud.caller().arn
    assert Caller(arn=found["credentials"]).account == "123456789012"
    assert all(len(list(lines(each))) == 1 for each in examined(run))
