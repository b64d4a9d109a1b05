"""An account is made ready once; what CI's roles need is then there, and the template says the same."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from types import SimpleNamespace

import pytest

from tasks.bootstrap import account, policies, s3_endpoint, steps
from tasks.bucket import create
from tasks.bucket.create import NotBootstrapped
from tasks.cloud.assumed_role import RoleRefused
from tasks.cloud.embedded.home import Home
from tasks.commands.bootstrap import BootstrapCommand, BootstrapUnconfirmed
from tasks.console.console import Console
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure import zone
from tasks.settings import Ci, S3Gateway, Spending
from tests.cloud.embedded.conftest import REGION, Server
from tests.clouds import QuietCloud, run_in
from tests.conftest import ROOT

CI = Ci(provider="github", repository="acme/shop")


class Shared(QuietCloud):
    """The embedded cloud, as an account that others use too."""

    own = False


@pytest.fixture
def empty(tmp_path):
    """An account that has nothing."""
    server = Server(Home(folder=tmp_path / "account" / "cloud"))
    server.home.folder.parent.mkdir()
    server.start()
    yield server
    server.kill()


@pytest.fixture
def run(checkout, empty):
    shutil.copytree(ROOT / "build" / "ci" / "iam", checkout / "build" / "ci" / "iam")
    made = run_in(
        checkout, Shared(REGION, empty.home.load()), console=Console(stream=io.StringIO()), branch="new"
    )
    settings = dataclasses.replace(
        made.pipeline, dns_zone="shop.example.com", ci=CI, spending=Spending(month=50, mail="web@example.com")
    )
    return dataclasses.replace(made, pipeline=settings)


def bootstrap(run, **options):
    command = BootstrapCommand(task_loader=None)
    command.task_list = [SimpleNamespace(meta={"run": run})]
    return command._execute(**options)


def words(run):
    fresh = dataclasses.replace(run, store=dataclasses.replace(run.store))
    return [each.words for each in steps.missing(account.wanted(fresh), fresh.cloud, fresh.store)]


@pytest.mark.promise(
    "bootstrap-shows-and-asks", "bootstrap-twice-changes-nothing", "on-aws-only-bootstrap-makes"
)
def test_an_empty_account_gets_everything_once(run):
    planned = words(run)
    assert planned[:4] == [
        "make bucket shop-123456789012-eu-central-1: versioned, encrypted, private",
        "make zone shop.example.com",
        "make identity provider token.actions.githubusercontent.com, for sts.amazonaws.com",
        "make role shop-compiler",
    ]
    assert planned[-1] == "make budget alarm: 50 USD a month, to web@example.com"
    with pytest.raises(BootstrapUnconfirmed, match=f"{len(planned)} changes"):
        bootstrap(run)
    assert run.cloud.calls == [], "nothing is made before somebody has said yes"
    with pytest.raises(NotBootstrapped):
        infrastructure.share(run)
    assert bootstrap(run, yes=True) == 0
    assert words(run) == []
    run.cloud.calls.clear()
    assert bootstrap(run) == 0
    assert run.cloud.calls == []
    told = run.console.stream.getvalue()
    assert "READER_ROLE" not in told, "no job assumes it with its token"
    assert "BUILDER_ROLE=arn:aws:iam::123456789012:role/shop-builder" in told
    assert "PULL_REQUEST_ROLE=arn:aws:iam::123456789012:role/shop-pull-request" in told
    assert zone.name_servers(run.cloud, "shop.example.com")[0] in told
    assert not infrastructure.share(run).changed
    _change_one_at_a_time(run)


def _change_one_at_a_time(run):
    """What somebody has changed is named alone, and made again."""
    iam, s3 = run.cloud.client("iam"), run.cloud.client("s3")
    rule = {"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}
    anybody = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "*"}}
    changes = {
        "give role shop-sweeper the policy sweeper": lambda: iam.put_role_policy(
            RoleName="shop-sweeper",
            PolicyName="sweeper",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [rule]}),
        ),
        "change who may assume role shop-backup-reader": lambda: iam.update_assume_role_policy(
            RoleName="shop-backup-reader",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [anybody]}),
        ),
        "give role shop-backup-reader the policy backup-reader": lambda: iam.put_role_policy(
            RoleName="shop-backup-reader",
            PolicyName="backup-reader",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [rule]}),
        ),
        "change who may assume role shop-builder": lambda: iam.update_assume_role_policy(
            RoleName="shop-builder",
            PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [anybody]}),
        ),
        "make user shop-backup-staging and its key, which adds backups and removes none": lambda: (
            run.cloud.client("ssm").delete_parameter(Name="/shop/staging/backup_key_id")
        ),
        "make user shop-backup-production and its key, which adds backups and removes none": lambda: (
            iam.put_user_policy(
                UserName="shop-backup-production",
                PolicyName="backup",
                PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [rule]}),
            )
        ),
        f"deny plain HTTP to bucket {run.bucket}": lambda: s3.delete_bucket_policy(Bucket=run.bucket),
    }
    for named, change in changes.items():
        change()
        assert words(run) == [named]
        bootstrap(run, yes=True)
        assert words(run) == []


@pytest.mark.promise("on-aws-only-bootstrap-makes")
def test_without_ci_and_mail_only_bucket_and_zone_and_who_backs_up_are_wanted(run):
    settings = dataclasses.replace(run.pipeline, ci=Ci(), spending=Spending())
    assert words(dataclasses.replace(run, pipeline=settings))[2:] == [
        "make role shop-backup-reader",
        "give role shop-backup-reader the policy backup-reader",
    ] + [
        f"make user shop-backup-{name} and its key, which adds backups and removes none"
        for name in ("production", "staging")
    ]


@pytest.mark.promise("bootstrap-is-the-administrator-s")
def test_what_an_environment_elsewhere_needs_is_made_without_its_role(checkout, empty):
    path = checkout / "environments" / "production.yml"
    path.write_text(
        f"{path.read_text()}role: shop-production\nbucket: shop-live\ndns_zone: live.example.com\n"
    )
    console = Console(stream=io.StringIO())
    run = run_in(checkout, Shared(REGION, empty.home.load()), console=console, environment="production")
    with pytest.raises(RoleRefused):
        infrastructure.share(run)
    assert bootstrap(run, yes=True) == 0
    assert "make bucket shop-live: versioned, encrypted, private" in console.stream.getvalue()
    assert "make zone live.example.com" in console.stream.getvalue()


@pytest.mark.promise("the-template-says-the-same")
def test_the_template_has_what_bootstrap_makes(run):
    bootstrap(run, cloudformation=True)
    assert run.cloud.calls == []
    made = json.loads(run.console.stream.getvalue())["Resources"]
    wanted = account.wanted(run)
    bucket = made["Bucket"]["Properties"]
    assert bucket["BucketName"] == run.bucket
    assert {"Key": "project", "Value": "shop"} in bucket["Tags"]
    assert made["BucketPolicy"]["Properties"]["PolicyDocument"] == create.policy(run.bucket)
    assert made["Zone"]["Properties"]["Name"] == "shop.example.com"
    assert made["IdentityProvider"]["Properties"]["ClientIdList"] == [wanted.audience]
    roles = {
        each["Properties"]["RoleName"]: each["Properties"]
        for each in made.values()
        if each["Type"].endswith("::Role")
    }
    assert sorted(roles) == sorted(each.name for each in (*wanted.roles, *wanted.readers))
    assert "shop-backup-reader" in roles
    for each in (*wanted.roles, *wanted.readers):
        assert roles[each.name]["AssumeRolePolicyDocument"] == each.trust
        assert {p["PolicyName"]: p["PolicyDocument"] for p in roles[each.name]["Policies"]} == each.policies
    assert made["Budget"]["Properties"]["Budget"] == account.budget(wanted)


@pytest.mark.parametrize("role", policies.OF_ROLES)
@pytest.mark.promise("policies-name-the-account-s-bucket")
def test_a_role_s_policies_name_the_bucket_and_its_account_and_fit(run, role):
    wanted = account.wanted(run)
    (found,) = [each for each in wanted.roles if each.name == f"shop-{role}"]
    text = json.dumps(list(found.policies.values()))
    assert "shop-releases" not in text
    for statement in (each for document in found.policies.values() for each in document["Statement"]):
        if all(action.startswith("s3:") for action in statement["Action"]):
            assert statement["Condition"]["StringEquals"]["aws:ResourceAccount"] == wanted.id
            assert all(run.bucket in each for each in statement["Resource"])
    as_iam_counts = [json.dumps(each, separators=(",", ":")) for each in found.policies.values()]
    assert sum(map(len, as_iam_counts)) <= 10_240  # IAM's limit for the inline policies of a role


# --- the S3 endpoint ------------------------------------------------------------------------------


@pytest.fixture
def listing(run):
    """An account that has everything else, and whose settings ask for the endpoint: egress of testing is listed."""
    bootstrap(run, yes=True)
    run.console.stream.truncate(0)
    run.cloud.calls.clear()
    return with_endpoint(run)


def with_endpoint(run, *buckets):
    wanted = S3Gateway(enabled=True, buckets=buckets)
    return dataclasses.replace(run, pipeline=dataclasses.replace(run.pipeline, s3_endpoint=wanted))


def networks(run):
    """The default network, and another one with its subnet."""
    ec2 = run.cloud.client("ec2")
    default = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=other, CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
    run.cloud.calls.clear()
    return default, other, subnet


def there(run):
    """The endpoints that are there, by their networks."""
    found = run.cloud.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
    return {each["VpcId"]: each for each in found}


def settings_of(run, name, text):
    path = run.root / "environments" / f"{name}.yml"
    path.write_text(f"{path.read_text()}{text}")


def subnet_of_testing(run, subnet):
    path = run.root / "environments" / "testing.yml"
    path.write_text(path.read_text().replace("  instances: 1\n", f"  subnets: [{subnet}]\n"))


@pytest.mark.promise("the-s3-endpoint-is-asked-for")
def test_without_the_setting_or_without_listed_egress_there_is_no_endpoint(listing):
    assert len(words(listing)) == 1
    plain = dataclasses.replace(listing.pipeline, s3_endpoint=S3Gateway(buckets=("media",)))
    assert words(dataclasses.replace(listing, pipeline=plain)) == []
    path = listing.root / "environments" / "testing.yml"
    path.write_text(path.read_text().replace("egress: listed", "egress: open"))
    assert words(listing) == []


@pytest.mark.promise(
    "bootstrap-shows-and-asks", "bootstrap-twice-changes-nothing", "the-s3-endpoint-lets-through"
)
def test_the_endpoint_is_shown_and_made_once_for_all_route_tables(listing):
    default, *_ = networks(listing)
    ec2 = listing.cloud.client("ec2")
    own = ec2.create_route_table(VpcId=default)["RouteTable"]["RouteTableId"]
    listing.cloud.calls.clear()
    said = f"make S3 endpoint of {default}: everything there reaches {listing.bucket}, no other bucket of the region"
    assert words(listing) == [said]
    with pytest.raises(BootstrapUnconfirmed):
        bootstrap(listing)
    assert (listing.cloud.calls, there(listing)) == ([], {})
    bootstrap(listing, yes=True)
    assert f"would {said}\n" in listing.console.stream.getvalue()
    made = there(listing)[default]
    assert (made["VpcEndpointType"], made["ServiceName"]) == ("Gateway", "com.amazonaws.eu-central-1.s3")
    assert {"Key": "project", "Value": "shop"} in made["Tags"]
    (statement,) = json.loads(made["PolicyDocument"])["Statement"]
    arn = f"arn:aws:s3:::{listing.bucket}"
    assert statement["Resource"] == [arn, f"{arn}/*"]
    assert statement["Condition"] == {"StringEquals": {"aws:ResourceAccount": "123456789012"}}
    tables = {each["RouteTableId"] for each in route_tables(listing, default)}
    assert set(made["RouteTableIds"]) == tables > {own}
    listing.cloud.calls.clear()
    bootstrap(listing)
    assert listing.cloud.calls == []


def route_tables(run, network):
    filters = [{"Name": "vpc-id", "Values": [network]}]
    return run.cloud.client("ec2").describe_route_tables(Filters=filters)["RouteTables"]


@pytest.mark.promise("bootstrap-twice-changes-nothing")
def test_what_somebody_changes_of_the_endpoint_is_named_and_made_again(listing):
    bootstrap(listing, yes=True)
    ec2, ((network, made),) = listing.cloud.client("ec2"), there(listing).items()
    alone = f"{listing.bucket}, no other bucket of the region"
    ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])
    assert words(listing) == [f"make S3 endpoint of {network}: everything there reaches {alone}"]
    bootstrap(listing, yes=True)
    id = there(listing)[network]["VpcEndpointId"]
    rule = {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "*"}
    anybody = json.dumps({"Version": "2012-10-17", "Statement": [rule]})
    ec2.modify_vpc_endpoint(VpcEndpointId=id, PolicyDocument=anybody)
    assert words(listing) == [f"change what the S3 endpoint of {network} lets through: {alone}"]
    table = ec2.create_route_table(VpcId=network)["RouteTable"]["RouteTableId"]
    assert words(listing)[1:] == [f"let {table} of {network} lead to its S3 endpoint"]
    bootstrap(listing, yes=True)
    assert (words(listing), there(listing)[network]["VpcEndpointId"]) == ([], id)


@pytest.mark.promise("an-endpoint-of-others-is-left-alone")
def test_an_endpoint_of_somebody_else_is_named_and_not_touched(listing):
    default, other, subnet = networks(listing)
    ec2, service = listing.cloud.client("ec2"), "com.amazonaws.eu-central-1.s3"
    tables = [each["RouteTableId"] for each in route_tables(listing, default)]
    ec2.create_vpc_endpoint(
        VpcId=default, ServiceName=service, VpcEndpointType="Gateway", RouteTableIds=tables
    )
    theirs = there(listing)
    listing.cloud.calls.clear()
    for options in {"yes": True}, {"cloudformation": True}:
        with pytest.raises(s3_endpoint.S3EndpointForeign) as refused:
            bootstrap(listing, **options)
        assert f"{default}, where the machines of testing are" in refused.value.text
        assert theirs[default]["VpcEndpointId"] in refused.value.text
    assert (listing.cloud.calls, there(listing)) == ([], theirs)
    subnet_of_testing(listing, subnet)
    bootstrap(listing, yes=True)
    assert set(there(listing)) == {default, other}
    assert there(listing)[default] == theirs[default]


@pytest.mark.promise("the-s3-endpoint-lets-through")
def test_the_endpoint_is_in_the_networks_of_listed_egress_and_lets_the_project_s_buckets_through(listing):
    default, other, subnet = networks(listing)
    ec2 = listing.cloud.client("ec2")
    interface = {"ServiceName": "com.amazonaws.eu-central-1.s3", "VpcEndpointType": "Interface"}
    ec2.create_vpc_endpoint(VpcId=other, SubnetIds=[subnet], **interface)  # that is no gateway
    subnet_of_testing(listing, subnet)
    settings_of(listing, "staging", "egress: listed\n")
    settings_of(listing, "production", "bucket: shop-live\n")
    copy = "stages: [infrastructure, server, release]\ntakes_from: elsewhere\negress: listed\n"
    (listing.root / "environments" / "copy.yml").write_text(copy)
    away = "account: '210987654321'\nrole: shop\nstages: [infrastructure, tarball]\n"
    (listing.root / "environments" / "elsewhere.yml").write_text(away)
    found = account.wanted(with_endpoint(listing, "media")).s3_endpoints
    assert {each.network for each in found} == {default, other}
    ours = {listing.bucket, "shop-live"}
    for each in found:
        said = {statement["Sid"]: statement for statement in each.policy["Statement"]}
        assert {arn.rpartition(":")[2].partition("/")[0] for arn in said["Own"]["Resource"]} == ours
        others = ["media", "shop-210987654321-eu-central-1"]
        assert said["Others"]["Resource"] == [
            f"arn:aws:s3:::{name}{keys}" for name in others for keys in ("", "/*")
        ]
        assert "Condition" not in said["Others"]


@pytest.mark.promise("the-template-says-the-same")
def test_the_template_has_the_endpoint(listing):
    bootstrap(listing, cloudformation=True)
    assert listing.cloud.calls == []
    made = json.loads(listing.console.stream.getvalue().lstrip("\0"))["Resources"]
    (wanted,) = account.wanted(listing).s3_endpoints
    (told,) = [each["Properties"] for each in made.values() if each["Type"] == "AWS::EC2::VPCEndpoint"]
    assert all(name.isalnum() for name in made)
    assert (told["VpcId"], told["PolicyDocument"]) == (wanted.network, wanted.policy)
    assert (told["ServiceName"], told["VpcEndpointType"]) == (wanted.service, "Gateway")
    assert (told["RouteTableIds"], told["Tags"]) == (
        [*wanted.route_tables],
        account.tags(account.wanted(listing)),
    )


def test_a_region_without_a_default_network_and_no_other_in_the_settings(listing):
    class Without:
        def describe_vpcs(self, Filters):  # noqa: N803
            return {"Vpcs": []}

    listing.cloud._clients["ec2"] = Without()
    with pytest.raises(s3_endpoint.DefaultNetworkMissing) as refused:
        account.wanted(listing)
    assert (
        "eu-central-1 has no default network (VPC), and environments/testing.yml names no"
        in refused.value.text
    )
