"""Two runners with two roles: each job assumes its role with a token that its provider signs, and the cloud judges what it does."""

from __future__ import annotations

import dataclasses
import json
import urllib.request

import pytest
from botocore.exceptions import ClientError

from tasks import trust
from tasks.bucket import cache, create, layout
from tasks.bucket.store import BucketForbidden
from tasks.cloud.embedded.client import Job, job_of
from tasks.digest import Digest
from tasks.infrastructure import stage as infrastructure
from tasks.promotion import gate
from tasks.promotion.gate import Proof
from tasks.settings import Ci
from tasks.tarball.stored import Pointer
from tests import jobs
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.cloud.embedded.test_access import client
from tests.clouds import QuietCloud, run_in
from tests.conftest import commit

ACCOUNT = "123456789012"
CI = Ci(provider="github", repository="team/shop", environments={"releaser": ("production",)})
SUB = "repo:team/shop"
MAIN, PRODUCTION, FEATURE = (
    f"{SUB}:{rest}" for rest in ("ref:refs/heads/main", "environment:production", "ref:refs/heads/feature")
)
DIGEST = Digest("d" * 64)


@pytest.fixture(scope="module")
def issuer(server):  # noqa: F811
    """The provider, and the roles as the project ships them."""
    iam = client(server, "iam", "key", "secret")
    return jobs.provide(
        iam, server.home, CI, lambda role: json.dumps(trust.policy(CI, "main", role, ACCOUNT))
    )


@pytest.fixture
def job(server, issuer, tmp_path):  # noqa: F811
    """The cloud as a job sees it: whose token it has, the role that it asks for, and who started it."""

    def made(role, sub, person="kim"):
        path = tmp_path / f"{role}-{person}"
        path.write_text(issuer.token(sub))
        return jobs.cloud_of(server.home, role, path, person)

    return made


@pytest.mark.promise("another-person-continues", "trust-by-token")
def test_one_runner_s_job_starts_and_only_another_person_s_continues(job, server, checkout):  # noqa: F811
    (checkout / "README.md").write_text(str(checkout))
    commit(checkout)
    infrastructure.share(run_in(checkout, QuietCloud(REGION, server.home.load()), branch="main"))
    builds = run_in(checkout, job("builder", MAIN), environment="staging")
    assert (builds.cloud.caller().role, builds.cloud.caller().person) == ("builder", "kim")
    key = layout.record(cache.of(builds).writes, "commits", builds.commit)
    builds.store.write(key, Pointer(digest=DIGEST, role="builder").as_dict(), seen=None)
    assert gate.begin(builds, "start", ["release"])(Proof(digest=DIGEST)) is None

    def continues(person):
        run = run_in(checkout, job("releaser", PRODUCTION, person), environment="production")
        strict = dataclasses.replace(run.environment, approvals="different_person", builders=("builder",))
        return dataclasses.replace(run, environment=strict)

    assert "another person's approval, and kim has started this run" in gate.refusal(continues("kim")).text
    lee = continues("lee")
    assert gate.refusal(lee) is None
    assert gate.begin(lee, "continue", ["release"])(Proof(digest=DIGEST)) is None
    with pytest.raises(BucketForbidden):  # nor does the one who releases build
        lee.store.write(layout.record("trusted", "commits", "c" * 40), {}, seen=None)


@pytest.mark.parametrize(
    ("role", "sub"),
    [
        ("builder", FEATURE),
        ("builder", PRODUCTION),
        ("builder", f"{SUB}:environment:staging"),
        ("releaser", FEATURE),
        ("sweeper", FEATURE),
        ("branch", f"{SUB}:pull_request"),
        ("builder", f"{SUB}:pull_request"),
    ],
)
@pytest.mark.promise("trust-by-token", "builder-role-for-the-default-branch")
def test_a_job_of_another_place_does_not_get_the_role(job, role, sub):
    with pytest.raises(ClientError, match="Not authorized to perform sts:AssumeRoleWithWebIdentity"):
        job(role, sub).caller()


def test_where_the_role_is_refused_nobody_speaks_of_the_bucket(job, checkout):
    run = run_in(checkout, job("builder", FEATURE))
    for act in (
        lambda: run.store.bucket,
        lambda: dataclasses.replace(run.store, chosen="shop-releases").read("state/x.json"),
        lambda: create.create_bucket(dataclasses.replace(run.store, chosen="shop-releases"), "shop", REGION),
    ):
        with pytest.raises(ClientError) as caught:
            act()
        assert caught.value.operation_name == "AssumeRoleWithWebIdentity"


def test_variables_for_another_account_or_without_a_token_make_nobody_a_job(tmp_path):
    role = f"arn:aws:iam::{ACCOUNT}:role/builder"
    token = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token")}
    assert job_of({"AWS_ROLE_ARN": role, **token}) == Job(role=role, token=tmp_path / "token", session="job")
    for environ in (
        {},
        {"AWS_ROLE_ARN": role},
        token,
        {"AWS_ROLE_ARN": "arn:aws:iam::1:role/builder", **token},
    ):
        assert job_of(environ) is None


def test_a_job_s_credentials_sign_what_hosts_fetch(job, server, checkout):  # noqa: F811
    administrator = QuietCloud(REGION, server.home.load())
    run = run_in(checkout, administrator, branch="main")
    infrastructure.share(run)
    key = layout.blob("trusted", "tarballs", DIGEST)
    administrator.client("s3").put_object(Bucket=run.bucket, Key=key, Body=b"tarball")
    url = (
        job("releaser", PRODUCTION)
        .client("s3")
        .generate_presigned_url("get_object", Params={"Bucket": run.bucket, "Key": key}, ExpiresIn=60)
    )
    assert urllib.request.urlopen(url).read() == b"tarball"
