"""Each role may do its whole job and nothing else: on the embedded cloud, which judges every call, and by tables."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import re
import uuid

import boto3
import pytest
from policy_sentry.querying.actions import get_action_data

from tasks import drill, image, profile, source
from tasks.backup import access, repository, retention
from tasks.backup.host import BackupFailed
from tasks.bucket.lease import Lease
from tasks.bucket.store import BucketForbidden
from tasks.cloud.embedded.faults import LATE, UNKNOWN
from tasks.cloud.embedded.home import Home
from tasks.cloud.embedded.judge import AccessRequest, judge
from tasks.digest import Digest
from tasks.environments import inventory
from tasks.graph.state import BucketState, Records
from tasks.infrastructure import apply as ec2s
from tasks.infrastructure import find, images, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing, teardown_plan
from tasks.release import history, undone
from tasks.server import ledger
from tasks.settings import Application
from tasks.sweep import apply, references
from tasks.sweep import plan as sweep
from tasks.tarball import signature, verify
from tasks.tarball import stage as tarball
from tasks.tarball.build import layers
from tasks.tarball.build.layers import Build
from tests import second_opinion
from tests.cloud.embedded.conftest import Server
from tests.clouds import IdleHosts, QuietCloud, run_in
from tests.conftest import EXAMPLE, ROOT, SERVED, commit, copy_project, git, until
from tests.iam import ACCOUNT, ROLES, allowed, attached, policy
from tests.paper import RestoringHosts
from tests.rules import policies

REGION = "eu-central-1"
S3_ACTIONS = {
    "DeleteObjects": "DeleteObject",
    "HeadObject": "GetObject",
    "ListObjectsV2": "ListBucket",
    "UploadPart": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "CompleteMultipartUpload": "PutObject",
}


# --- what AWS would say: resources and conditions ---------------------------------------------------

BUCKET = "arn:aws:s3:::shop-releases"
HOST = "arn:aws:ec2:eu-central-1:1:instance/i-1"
GROUP = "arn:aws:ec2:eu-central-1:1:security-group/sg-1"
PARAMETER = "arn:aws:ssm:eu-central-1:1:parameter"
ZONE = "arn:aws:route53:::hostedzone/Z1"


def of(environment: str, project: str = "shop") -> dict[str, str]:
    return {"aws:ResourceTag/project": project, "aws:ResourceTag/environment": environment}


def asked(environment: str, project: str = "shop") -> dict[str, str]:
    return {"aws:RequestTag/project": project, "aws:RequestTag/environment": environment}


def named(*names: str) -> dict[str, list[str]]:
    return {"route53:ChangeResourceRecordSetsNormalizedRecordNames": list(names)}


T, STAGING, PRODUCTION = "testing-0d6e4079e3", "staging", "production"
TABLE = [
    # who may, action, resource, what AWS knows of the call
    ("compiler builder", "s3:PutObject", f"{BUCKET}/trusted/tarballs/0.tar.zst", {}),
    ("branch", "s3:PutObject", f"{BUCKET}/branches/tarballs/0.tar.zst", {}),
    ("compiler builder releaser branch pull-request sweeper", "s3:GetObject", f"{BUCKET}/trusted/tarballs/0.tar.zst", {}),
    ("builder releaser branch sweeper", "s3:GetObject", f"{BUCKET}/state/{T}/release.json", {}),
    ("sweeper", "s3:DeleteObject", f"{BUCKET}/trusted/tarballs/0.tar.zst", {}),
    ("", "s3:GetObject", "arn:aws:s3:::another/trusted/x", {}),
    ("", "s3:PutBucketPolicy", BUCKET, {}),
    ("", "s3:DeleteBucket", BUCKET, {}),
    ("builder releaser branch", "s3:PutObject", f"{BUCKET}/state/{T}/release.json", {}),
    ("builder releaser", "s3:PutObject", f"{BUCKET}/state/{STAGING}/release.json", {}),
    ("builder releaser", "s3:PutObject", f"{BUCKET}/runs/current.json", {}),
    ("builder releaser branch sweeper", "ec2:TerminateInstances", HOST, of(T)),
    ("builder releaser", "ec2:TerminateInstances", HOST, of(STAGING)),
    ("builder sweeper", "ec2:TerminateInstances", HOST, of("image")),
    ("", "ec2:TerminateInstances", HOST, of(PRODUCTION)),
    ("", "ec2:TerminateInstances", HOST, of(T, project="another")),
    ("", "ec2:TerminateInstances", HOST, {}),
    ("", "ec2:StopInstances", HOST, of(PRODUCTION)),
    ("builder releaser", "ec2:CreateTags", HOST, of(PRODUCTION)),
    ("", "ec2:CreateTags", HOST, {**of(T), **asked(STAGING)}),  # nor is one's own made another environment's
    ("", "ec2:CreateTags", HOST, {**of(PRODUCTION), **asked(STAGING)}),
    ("", "ec2:CreateTags", HOST, {}),  # what carries no tag of ours is not taken by tagging it
    ("", "ec2:DeleteTags", HOST, of(T)),
    ("", "ec2:DeleteTags", HOST, of(PRODUCTION)),
    ("builder releaser branch", "ec2:RunInstances", HOST, {**asked(T), **policies.TYPE}),
    ("builder releaser", "ec2:RunInstances", HOST, {**asked(STAGING), **policies.TYPE}),
    ("", "ec2:RunInstances", HOST, {**asked(STAGING), "ec2:InstanceType": "p5.48xlarge"}),
    ("builder releaser sweeper", "s3:GetObject", f"{BUCKET}/state/{PRODUCTION}/release.json", {}),
    ("builder releaser sweeper", "s3:GetObject", f"{BUCKET}/runs/current.json", {}),
    ("", "ec2:RunInstances", HOST, {}),
    ("", "ec2:RunInstances", GROUP, of(T, project="another")),
    ("builder releaser branch", "ec2:RunInstances", GROUP, of(T)),
    ("builder releaser", "ec2:AuthorizeSecurityGroupIngress", GROUP, of(STAGING)),
    ("", "ec2:AuthorizeSecurityGroupIngress", GROUP, {}),
    ("", "ec2:ModifyInstanceAttribute", HOST, of(PRODUCTION)),
    ("builder releaser", "ec2:ModifyInstanceAttribute", HOST, {**of(PRODUCTION), "ec2:Attribute/DisableApiTermination": "true"}),
    ("", "ec2:ModifyInstanceAttribute", HOST, {**of(PRODUCTION), "ec2:Attribute/DisableApiTermination": "false"}),
    ("builder sweeper", "ec2:DeregisterImage", "arn:aws:ec2:eu-central-1::image/ami-1", of("image")),
    ("", "ec2:DeregisterImage", "arn:aws:ec2:eu-central-1::image/ami-1", {}),
    ("builder releaser branch sweeper", "ssm:GetParametersByPath", f"{PARAMETER}/shop/{T}", {}),
    ("builder releaser", "ssm:GetParametersByPath", f"{PARAMETER}/shop/{PRODUCTION}", {}),
    ("", "ssm:GetParametersByPath", f"{PARAMETER}/another/{T}", {}),
    ("builder", "ssm:GetParameter", f"{PARAMETER}/shop-signing/key", {}),
    ("", "ssm:PutParameter", f"{PARAMETER}/shop-signing/key", {}),
    ("", "ssm:GetParametersByPath", f"{PARAMETER}/shop-signing", {}),
    ("builder releaser branch sweeper", "route53:ChangeResourceRecordSets", ZONE, named(f"{T}.shop.localhost")),
    ("builder releaser", "route53:ChangeResourceRecordSets", ZONE, named("staging.shop.localhost")),
    ("", "route53:ChangeResourceRecordSets", ZONE, named(f"{T}.shop.localhost", "shop.localhost")),
    ("", "route53:DeleteHostedZone", ZONE, {}),
    ("", "iam:PassRole", "arn:aws:iam::1:role/builder", {}),
    ("", "sts:AssumeRole", "arn:aws:iam::1:role/builder", {}),
    ("sweeper", "ec2:TerminateInstances", HOST, {"aws:ResourceTag/project": "shop"}),  # nobody's, of ours
    ("sweeper", "ec2:DeleteVolume", "arn:aws:ec2:eu-central-1:1:volume/vol-1", of(T)),
    ("", "ec2:DeleteVolume", "arn:aws:ec2:eu-central-1:1:volume/vol-1", of(STAGING)),
    ("sweeper", "s3:PutObject", f"{BUCKET}/sweep/memory.json", {}),
    ("", "s3:DeleteObject", f"{BUCKET}/sweep/memory.json", {}),
    ("driller", "sts:AssumeRole", "arn:aws:iam::1:role/shop-backup-reader", {}),
    ("driller pruner", "ssm:GetParameter", f"{PARAMETER}/shop/{PRODUCTION}/backup_password", {}),
    ("", "ssm:GetParameter", f"{PARAMETER}/shop/{PRODUCTION}/database_password", {}),
    ("driller", "s3:PutObject", f"{BUCKET}/restored/{PRODUCTION}/1.json", {}),
    ("", "s3:DeleteObject", f"{BUCKET}/restored/{PRODUCTION}/1.json", {}),
    ("pruner", "s3:PutObject", f"{BUCKET}/backups/{PRODUCTION}/config", {}),
    ("pruner", "s3:DeleteObject", f"{BUCKET}/backups/{PRODUCTION}/config", {}),
    ("", "s3:DeleteObjectVersion", f"{BUCKET}/backups/{PRODUCTION}/config", {}),
    ("sweeper driller", "ec2:TerminateInstances", HOST, of("drill-production")),
]  # fmt: skip


@pytest.mark.parametrize(("who", "action", "resource", "context"), TABLE)
@pytest.mark.promise(
    "ci-cannot-unprotect",
    "roles-write-their-own",
    "builder-writes-trusted",
    "releaser-writes-no-tarball",
    "branch-writes-branches",
    "pull-request-writes-nothing",
    "sweeper-deletes-what-is-swept",
    "no-role-removes-the-bucket",
    "roles-change-tagged-only",
    "nothing-is-tagged-into-the-project",
    "no-role-ends-production",
    "protection-on-never-off",
    "the-signing-key-is-read-by-one",
    "names-below-the-zone-only",
    "launches-are-bounded",
    "a-branch-reads-its-own",
    "a-drill-reads-backups-only",
)
def test_who_may_do_what_to_which(who, action, resource, context):
    may = [role for role in ROLES if allowed(map(policy, ROLES[role]), action, resource, context)]
    assert may == who.split()


@pytest.mark.long(short="tests/test_iam.py::test_who_may_do_what_to_which")
@pytest.mark.promise("two-opinions")
def test_another_evaluator_says_the_same_to_every_row_of_every_table():
    told = {role: [policy(name) for name in names] for role, names in ROLES.items()}
    asked = {(action, resource, json.dumps(context)) for _, action, resource, context in TABLE}
    asked |= {(row.action, row.resource, json.dumps(dict(row.context))) for row in policies.rows()}
    cases = [
        (AccessRequest(action=action, resource=resource, context={**ACCOUNT, **json.loads(context)}), role)
        for action, resource, context in sorted(asked)
        for role in ROLES
    ]
    said = second_opinion.say((request, told[role]) for request, role in cases)
    differ = [
        (role, request.action, request.resource, request.context, each)
        for (request, role), each in zip(cases, said, strict=True)
        if (each.effect, each.unknown) != (judge(told[role], request).effect, ())
    ]
    assert differ == []


@pytest.mark.promise("two-opinions")
def test_every_action_and_condition_key_is_one_of_the_service(tmp_path):
    """By AWS's own list, as policy_sentry keeps it."""
    for name in policies.POLICIES:
        for each in policy(name)["Statement"]:
            for action in each["Action"]:
                service, _, verb = action.partition(":")
                known = get_action_data(service, verb)
                assert known, f"{name}: {each['Sid']}: {action}"
                keys = {
                    key.partition("$")[0].lower() for row in known[service] for key in row["condition_keys"]
                }
                for asked in each.get("Condition", {}).values():
                    for key in asked:
                        start = key if "/" not in key else f"{key.partition('/')[0]}/"
                        assert start.lower() in keys or key in GLOBAL, (
                            f"{name}: {each['Sid']}: {action}: {key}"
                        )


GLOBAL = {"aws:ResourceAccount", "aws:PrincipalAccount", "aws:SecureTransport"}
"""Condition keys of every service."""


@pytest.mark.promise("policies-name-this-project")
def test_the_files_name_this_project():
    settings = (ROOT / "pipeline.yml").read_text()
    assert "name: shop\n" in settings
    assert "dns_zone: shop.localhost\n" in settings
    files = [ROOT / "pipeline.yml", *(ROOT / "environments").glob("*.yml")]
    types = {size for path in files for size in re.findall(r"instance_type: (\S+)", path.read_text())}
    bounds = [
        each["Condition"]["StringEquals"]["ec2:InstanceType"]
        for name in ("branch", "releaser", "driller")
        for each in policy(name)["Statement"]
        if each["Sid"] == "Launch"
    ]
    assert bounds == [sorted(types)] * 3
    assert policies.DEBIAN == images.DEBIAN
    texts = [path.read_text() for path in (ROOT / "build" / "ci" / "iam").glob("*.json")]
    assert len(texts) == len(ROLES)
    named = {
        "shop-releases": r"s3:::([\w-]+)",
        "shop": r"Tag/project\": \"(?!true)(\w+)\"",
        "shop.localhost": r"\"[\w-]*\*\.([a-z.]+)\"",
    }
    assert {
        name: {each for text in texts for each in re.findall(form, text)} for name, form in named.items()
    } == {name: {name} for name in named}


@pytest.mark.parametrize("name", sorted({each for names in ROLES.values() for each in names}))
def test_a_policy_fits_into_a_managed_one_and_allows_no_group_of_actions(name):
    document = policy(name)
    assert len(json.dumps(document, separators=(",", ":"))) <= 6144
    assert not [each for statement in document["Statement"] for each in statement["Action"] if "*" in each]


# --- what the embedded cloud says: the role's own job, every call judged ---------------------------------


class Account(QuietCloud):
    """The cloud as a role sees it; remembers which actions were called."""

    def __init__(self, identity, keys):
        super().__init__(REGION, identity)
        self.keys, self.called = keys, set()

    def host_keys(self, instance_id, say):
        self.client("ec2").get_console_output(InstanceId=instance_id)
        return ["ssh-ed25519 key"]

    def _keys(self, *_):
        return self.keys

    def _connect(self, service):
        client = super()._connect(service)
        client.meta.events.register("before-call", self._remember)
        return client

    def _remember(self, model, **_):
        service, name = model.service_model.service_name, model.name
        self.called.add(f"{service}:{S3_ACTIONS.get(name, name) if service == 's3' else name}")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """This project with an application that needs no tools to be built."""
    root = copy_project(tmp_path_factory.mktemp("project") / "shop")
    (root / "applications" / "tiny").mkdir()
    (root / "applications" / "tiny" / "profile.yml").write_text(
        f"{SERVED}options: {{}}\ntools: {{}}\nexclude: []\n"
        "layers: [{name: pages, files: [pub], commands: [[mkdir, out]], outputs: [out]}]\n"
    )
    pipeline = (root / "pipeline.yml").read_text().replace(EXAMPLE, "profile: tiny")
    (root / "pipeline.yml").write_text(pipeline.partition("  options:")[0])
    commit(root)
    git(root, "remote", "add", "origin", "git@example.com:team/shop.git")
    source._snapshot.cache_clear()
    yield root
    source._snapshot.cache_clear()


@contextlib.contextmanager
def cloud_of_roles(folder, *, faults=False):
    """A cloud in which each role has its policies; and how to be one."""
    server = Server(Home(folder=folder / "cloud"), faults=faults)
    server.start()
    identity = server.home.load()
    keys = {"aws_access_key_id": identity.key, "aws_secret_access_key": identity.secret}
    at = {"region_name": REGION, "endpoint_url": f"http://127.0.0.1:{identity.port}", **keys}
    iam, sts = boto3.client("iam", **at), boto3.client("sts", **at)
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "sts:AssumeRole",
    }
    arns = {}
    for role, names in ROLES.items():
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        arns[role] = iam.create_role(RoleName=role, AssumeRolePolicyDocument=document)["Role"]["Arn"]
        for name in names:
            iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(attached(name)))

    def be(role):
        if role not in arns:
            return Account(identity, keys)
        taken = sts.assume_role(RoleArn=arns[role], RoleSessionName="job-1")["Credentials"]
        return Account(
            identity,
            {
                "aws_access_key_id": taken["AccessKeyId"],
                "aws_secret_access_key": taken["SecretAccessKey"],
                "aws_session_token": taken["SessionToken"],
            },
        )

    try:
        yield be
    finally:
        server.kill()


@pytest.fixture(scope="module")
def roles(tmp_path_factory):
    with cloud_of_roles(tmp_path_factory.mktemp("state")) as be:
        yield be


@pytest.fixture
def run_as(project, roles):
    """A run of a role."""
    return runs(project, roles)


@pytest.fixture
def run_alone_as(project, tmp_path, request):
    """A run of a role in a cloud that has nothing yet but the bucket and the zone. Once with all its faults at once."""
    with cloud_of_roles(tmp_path, faults=request.param == "faults") as be:
        yield runs(project, be)


def runs(project, roles):
    accounts = {}

    def started(role, **variables):
        if role not in accounts:
            accounts[role] = roles(role)
        return run_in(project, accounts[role], hosts=IdleHosts(), **(variables or {"branch": "feature"}))

    infrastructure.share(started("administrator"))
    return started


def build(run):
    build = Build(run)
    tarball.layer(build, name="pages")
    tarball.pack(build)


def compiles(run):
    build(run)
    assert infrastructure.shared_differences(run) == []
    for task in ("infrastructure:shared", "tarball"):
        BucketState(Records(run=run), None).set(task, "deps:", [])
    assert [each for each in run.store.keys("trusted/tarballs/") if each.endswith(".minisig")] == []


def try_to_build(run):
    """Whether it can be built, twice alike, of what the cache has; nothing is kept."""
    layers.ensure(Build(run), "pages")
    build = Build(run)
    assert [each.differing for each in verify.verdicts(build, verify.means(build))] == [()]
    assert list(run.store.keys("branches/")) == []


def release(run):
    """All calls of a release but those that Ansible makes, which go to the host."""
    lease, state = Lease(run), BucketState(Records(run=run), None)
    lease.take()
    assert infrastructure.shared_differences(run) == []
    infrastructure.converge(run, baked=image.start)
    state.set("server", "deps:", [])
    state.void("server")
    ec2s.tag(run, [each.id for each in infrastructure.existing(run)], {"commit": "c"})
    history.add(run, uuid.uuid4().hex)
    lease.free()


def undo(run):
    """What a rollback and `doit allow` write."""
    digest = Digest.of_bytes(b"undone")
    undone.mark(run, digest)
    assert undone.of(run, digest)
    undone.allow(run, digest)
    assert not undone.of(run, digest)


def give_back(run):
    for change in teardown_plan(run.name, run.pipeline.dns_zone, find.everything(run)):
        ec2s.apply(run, change)
    ledger.forget(run.store, ledger.stored(run.store, run.identity))
    history.forget(run.store, run.identity, history.version(run.store, run.identity))


def disturb(administrator, run):
    """What somebody does by hand, and a release puts right: a machine stopped and unprotected, a port opened."""
    ec2 = administrator.cloud.client("ec2")
    ec2.stop_instances(InstanceIds=[each.id for each in find.everything(run).machines])
    rule = {"IpProtocol": "tcp", "FromPort": 8080, "ToPort": 8080, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_ingress(GroupId=find.everything(run).group, IpPermissions=[rule])
    for each in find.everything(run).machines:
        ec2.modify_instance_attribute(InstanceId=each.id, DisableApiTermination={"Value": False})
    until(lambda: {each.state for each in up_to_date(run).machines} == {"stopped"}, 60)


def up_to_date(run):
    """What there is once no list is behind."""
    return [find.everything(run) for _ in LATE][-1]


def remove_images(run):
    """Twice: a list may still name what is gone."""
    gone = [(each.id, each.snapshots) for each in image.found(run)]
    for id, snapshots in [*gone, *gone]:
        images.remove(run, id, snapshots)


def abandon(administrator, run):
    """What a sweep finds: the environment of a branch that is gone, strays of each kind, images too many."""
    gone = run_in(administrator.root, administrator.cloud, hosts=IdleHosts(), branch="gone")
    release(gone)
    ec2, tags = administrator.cloud.client("ec2"), [{"Key": "project", "Value": "shop"}]

    def tagged(kind):
        return {"TagSpecifications": [{"ResourceType": kind, "Tags": tags}]}

    ec2.create_volume(AvailabilityZone=f"{REGION}a", Size=1, **tagged("volume"))
    group = ec2.create_security_group(GroupName="stray", Description="stray", **tagged("security-group"))
    for _ in range(UNKNOWN):  # it was made long ago
        with contextlib.suppress(ec2.exceptions.ClientError):
            ec2.create_tags(Resources=[group["GroupId"]], Tags=tags)
    ec2.create_key_pair(KeyName="stray", **tagged("key-pair"))
    (machine,) = find.everything(gone).machines
    for number in range(image.KEPT + 1):
        mark = {"project": "shop", "fingerprint": str(number)}
        images.create(administrator.cloud.client("ec2"), machine.id, name=f"image-{number}", tags=mark)


def sweep_up(run):
    """A sweep that has condemned everything it can long ago."""
    found, (_, etag) = inventory.survey(run), apply.remembered(run.store)
    branches = {"main": "c"}
    referred = references.of(run, found, branches)
    remote = source.origin(run.root)
    memory = sweep.Sightings(pushed=dict.fromkeys(found.environments, remote))
    known = sweep.Known(remote=remote, branches=branches, referred=referred, memory=memory)
    first = sweep.plan(found, known, run.pipeline.sweep)
    seen = dict.fromkeys(first.memory.seen, found.at - datetime.timedelta(days=30))
    memory = dataclasses.replace(first.memory, seen=seen)
    plan = sweep.plan(found, dataclasses.replace(known, memory=memory), run.pipeline.sweep)
    apply.remember(run, plan.memory, etag)
    assert apply.carry_out(run, found, plan, lambda: branches) == {}
    left = [inventory.survey(run) for _ in (*LATE, 0)][-1]  # until no list is behind
    kept = [each.more["snapshots"] for each in left.resources if each.kind == "image"]
    assert {each.id for each in left.resources if each.kind != "image"} == {id for ids in kept for id in ids}


def asks_for_the_key(run):
    signature._key(run)


def lend(administrator, run):
    """What an administrator and a first provisioning have made: the role that reads backups, and the password that opens them."""
    iam, account = administrator.cloud.client("iam"), administrator.cloud.account_id()
    name, allowed = access.reader("shop"), json.dumps(access.reading(run.bucket, account))
    iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(access.readers(account)))
    iam.put_role_policy(RoleName=name, PolicyName=access.READER, PolicyDocument=allowed)
    password = secrets.ensure(
        administrator.cloud.client("ssm"), run.secrets_folder, ["backup"]
    ).backup_password
    there = dataclasses.replace(
        administrator, environment_name=run.environment_name, named_identity=run.identity
    )
    repository.restic(there, password, "init")
    until(lambda: opens(there, password))  # a bucket that is new answers 404 for a while
    for _ in range(2):
        repository.restic(there, password, "backup", "--host", run.identity, str(ROOT / "README.md"))


def opens(run, password):
    try:
        return repository.restic(run, password, "cat", "config", "--no-lock")
    except BackupFailed:
        return ""


def forgets(run):
    assert retention.forget(run) == "1 backups are left of staging"


def restores_elsewhere(run):
    kind = profile.load(run.root, Application(profile="php"))  # one with hosts
    run = dataclasses.replace(run, hosts=RestoringHosts(), profile=kind)
    assert "can be restored" in drill.hold(run)
    assert find.everything(drill.throw_away_host(run)) == Existing()


JOBS = {
    "compiler": [({"environment": "staging"}, [compiles])],
    "builder": [({"branch": "main"}, [asks_for_the_key, build, image.bake, remove_images])],
    "releaser": [
        ({"environment": "staging"}, [release, disturb, release]),
        ({"branch": "main"}, [release, undo, give_back]),
    ],
    "pull-request": [({"branch": "feature"}, [try_to_build])],
    "branch": [({"branch": "feature"}, [build, release, undo, disturb, release, give_back, give_back])],
    "sweeper": [({"branch": "main"}, [abandon, sweep_up])],
    "driller": [({"environment": "staging"}, [lend, restores_elsewhere])],
    "pruner": [({"environment": "staging"}, [lend, forgets])],
}
RESTIC = {"pruner": {"s3:GetObject", "s3:PutObject", "s3:DeleteObject", "s3:ListBucket"}}
"""Calls of another program; that it forgets needs all of them."""
UNSEEN = {"s3:AbortMultipartUpload", "ec2:CreateTags", "ec2:DescribeSubnets", "iam:PassRole"}
"""Needed when an upload fails, by calls that make a thing with its tags, and where the settings name subnets or an instance profile."""


@pytest.mark.parametrize(
    ("run_alone_as", "role"),
    [
        *(("kind", role) for role in JOBS),
        *(pytest.param("faults", role, marks=pytest.mark.long) for role in JOBS),
    ],
    indirect=["run_alone_as"],
)
@pytest.mark.promise(
    "verify-names-what-differs",
    "readers-store-nothing",
    "pull-request-writes-nothing",
    "compiler-signs-nothing",
)
def test_a_role_does_its_whole_job_and_is_given_nothing_beyond_it(run_alone_as, role):
    run_as = run_alone_as
    for variables, jobs in JOBS[role]:
        run = run_as(role, **variables)
        for job in jobs:
            if job in (disturb, abandon, lend):
                job(run_as("administrator"), run)
                continue
            assert run.cloud.caller().role == role
            job(run)
    given = {each for statement in policy(role)["Statement"] for each in statement["Action"]}
    assert given - run.cloud.called - UNSEEN - RESTIC.get(role, set()) == set()


@pytest.mark.parametrize(
    ("role", "call"),
    [
        ("compiler", lambda run: run.store.write("state/staging/release.json", {}, seen=None)),
        ("releaser", lambda run: run.store.write("trusted/tarballs/0.json", {}, seen=None)),
        ("branch", lambda run: run.store.write("trusted/tarballs/0.json", {}, seen=None)),
        ("pull-request", lambda run: run.store.write("branches/layers/0.json", {}, seen=None)),
        ("builder", lambda run: run.store.write("branches/tarballs/0.json", {}, seen=None)),
        ("branch", lambda run: run.store.write("state/staging/release.json", {}, seen=None)),
        ("branch", lambda run: run.store.write("undone/trusted/0.json", {}, seen=None)),
    ],
)
@pytest.mark.promise("readers-store-nothing", "roles-write-their-own", "releaser-writes-no-tarball")
def test_an_object_too_many_is_denied(run_as, role, call):
    run = run_as(role)
    with pytest.raises(BucketForbidden):
        call(run)


def test_a_file_too_many_is_denied_in_a_sentence(run_as, tmp_path):
    run = run_as("releaser")
    (tmp_path / "file").write_bytes(b"poison")
    with pytest.raises(BucketForbidden) as denied:
        run.store.upload("trusted/tarballs/0.tar.zst", tmp_path / "file")
    sentence = "state: the bucket shop-123456789012-eu-central-1 does not let us write trusted/tarballs/0.tar.zst (AccessDenied)"
    assert denied.value.text.startswith(sentence)


@pytest.mark.parametrize(
    ("role", "service", "call", "options"),
    [
        ("builder", "s3", "delete_bucket", {"Bucket": "shop-123456789012-eu-central-1"}),
        ("releaser", "ec2", "create_image", {"InstanceId": "i-1", "Name": "own"}),
        ("branch", "ec2", "stop_instances", {"InstanceIds": ["i-1"]}),
        ("branch", "ec2", "modify_instance_attribute", {"InstanceId": "i-1", "DisableApiTermination": {"Value": False}}),
        ("releaser", "sts", "assume_role", {"RoleArn": "arn:aws:iam::123456789012:role/builder", "RoleSessionName": "kim"}),
    ],
)  # fmt: skip
@pytest.mark.promise("roles-write-their-own", "no-role-removes-the-bucket")
def test_a_call_too_many_is_denied(run_as, role, service, call, options):
    run = run_as(role)
    client = run.cloud.client(service)
    with pytest.raises(client.exceptions.ClientError) as denied:
        getattr(client, call)(**options)
    assert denied.value.response["Error"]["Code"] in (
        "AccessDenied",
        "UnauthorizedOperation",
        "AccessDeniedException",
    )
