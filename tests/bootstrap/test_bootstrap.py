"""An account is made ready once; what CI's roles need is then there, and the template says the same."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
from types import SimpleNamespace

import pytest

from tasks.bootstrap import account, policies, steps
from tasks.bucket import create
from tasks.bucket.create import NotBootstrapped
from tasks.cloud.assumed_role import RoleRefused
from tasks.cloud.embedded.home import Home
from tasks.commands.bootstrap import BootstrapCommand, BootstrapUnconfirmed
from tasks.console.console import Console
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure import zone
from tasks.settings import Ci, Spending
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
