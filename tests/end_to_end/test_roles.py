"""Every role's job on hosts: each runner's job has a token that its provider signs, and the cloud judges all that it does."""

from __future__ import annotations

import os
import re
import time

import boto3
import pytest

from tasks.cloud.embedded import home
from tasks.settings import Ci
from tests import jobs
from tests.cloud.embedded.test_access import ACCOUNT
from tests.conftest import commit, doit, git
from tests.end_to_end.conftest import copy_example, replace
from tests.runners import Runner, line

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.long(
        short="tests/test_iam.py::test_a_role_does_its_whole_job_and_is_given_nothing_beyond_it"
    ),
]

CI = Ci(provider="gitlab", repository="team/shop")


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    assert "Traceback" not in answered.stderr
    return answered.stdout + answered.stderr


@pytest.fixture(params=["", "1"], ids=["kind", "faults"])
def project(request, tmp_path, monkeypatch):
    """A project whose administrator has made what all share: bucket, zone, signing key, provider and roles.

    Once in a cloud with faults: throttling, conflicts, lists that are behind, a console that is late.
    """
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    made = copy_example(tmp_path / "shop", "static")
    said(doit(made, "cloud", "start", CLOUD_FAULTS=request.param))
    replace(made / "environments" / "production.yml", {"manage: plan": "manage: all"})
    with (made / "environments" / "production.yml").open("a") as file:
        file.write("approvals: different_person\nbuilders: [compiler]\n")
    key = said(doit(made, "key")).split("[")[1].split("]")[0]
    with (made / "pipeline.yml").open("a") as file:
        file.write(f"public_keys: [{key}]\nsweep: {{grace_hours: 0}}\n")
        file.write(f"ci: {{provider: {CI.provider}, repository: {CI.repository}}}\n")
    commit(made, "the pages of a shop")
    git(made, "branch", "feature")
    said(doit(made, "infrastructure:shared"))
    yield made
    assert doit(made, "cloud", "delete").returncode == 0


@pytest.fixture
def job(project, tmp_path):
    """Type a control's line in a clean clone, as the job of a branch does that asks for a role."""
    place = home.of(os.environ)
    known = place.load()
    iam = boto3.client(
        "iam",
        region_name="eu-central-1",
        endpoint_url=f"http://127.0.0.1:{known.port}",
        aws_access_key_id=known.key,
        aws_secret_access_key=known.secret,
    )
    issuer = jobs.provide(iam, place, CI, lambda role: said(doit(project, "trust", role)))

    def typed(role, ref, control, person="kim", code=0):
        number = len(list(tmp_path.glob("runner-*")))
        runner = Runner(
            tmp_path / f"runner-{number}",
            project,
            "gitlab",
            ref,
            GITLAB_USER_LOGIN=person,
            AWS_ROLE_ARN=f"arn:aws:iam::{ACCOUNT}:role/{role}",
            # it ends long before the job does: credentials are taken once
            OIDC_TOKEN=issuer.token(
                f"project_path:{CI.repository}:ref_type:branch:ref:{ref}", exp=int(time.time()) + 60
            ),
        )
        typing = control if " " in control else line("gitlab", control)
        return said(runner.type(typing), code)

    return typed


@pytest.mark.promise("every-call-is-judged", "another-person-continues", "trust-by-token")
def test_every_role_does_its_job_and_another_person_continues(job):
    assert "released" in job("branch", "feature", "start")
    job("pull-request", "feature", "verify")
    assert "AccessDenied" in job("builder", "feature", "start", code=1)
    job("compiler", "main", "tarball")
    assert re.search(r"^ *tarball +unchanged", job("builder", "main", "start"), re.M)
    assert "another person's approval, and kim has started this run" in job(
        "releaser", "main", "continue", code=1
    )
    job("releaser", "main", "continue", person="lee")
    assert "is gone" in job("branch", "feature", "build/ci/run stop")
    job("builder", "main", "image")
    job("sweeper", "main", "build/ci/run sweep --yes")
