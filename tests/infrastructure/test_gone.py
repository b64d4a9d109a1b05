"""A no of EC2 to who deletes something: forbidden while it is there, and no fault when it is gone."""

from __future__ import annotations

import json

import pytest

from tasks import trust
from tasks.cloud.embedded.address import ACCOUNT
from tasks.environments.inventory import Resource
from tasks.infrastructure import find, plan
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.apply import ChangeRefused, apply
from tasks.settings import Ci
from tasks.sweep import apply as sweeping
from tests import jobs
from tests.cloud.embedded.conftest import REGION
from tests.cloud.embedded.test_access import client
from tests.clouds import QuietCloud, run_in

CI = Ci(provider="github", repository="team/shop")
SUB = {"branch": "repo:team/shop:ref:refs/heads/feature"}
MAIN = "repo:team/shop:ref:refs/heads/main"


@pytest.fixture(scope="module")
def issuer(server):
    iam = client(server, "iam", "key", "secret")
    return jobs.provide(
        iam, server.home, CI, lambda role: json.dumps(trust.policy(CI, "main", role, ACCOUNT))
    )


@pytest.fixture
def job(server, issuer, checkout, tmp_path):
    """A run of a role's job, in a process of its own, in the environment of a branch."""
    infrastructure.share(run_in(checkout, QuietCloud(REGION, server.home.load()), branch="main"))

    def made(role, branch=checkout.parent.name, **more):
        token = tmp_path / "token"
        token.write_text(issuer.token(SUB.get(role, MAIN)))
        return run_in(checkout, jobs.cloud_of(server.home, role, token), branch=branch, **more)

    return made


@pytest.mark.promise("gone-or-forbidden")
def test_a_no_to_what_is_there_stays_a_no(server, job, checkout):
    staging = run_in(checkout, QuietCloud(REGION, server.home.load()), environment="staging")
    infrastructure.converge(staging)
    found = find.everything(staging)
    for change in (
        plan.DeleteKey(name=staging.name),
        plan.DeleteGroup(name=staging.name, id=found.group),
        plan.EndMachine(id=found.machines[0].id),
    ):
        with pytest.raises(ChangeRefused, match="not authorized"):
            apply(job("branch"), change)
    assert find.everything(staging) == found


@pytest.mark.promise("gone-or-forbidden")
@pytest.mark.parametrize("kind", sorted(sweeping._STRAYS))
def test_a_stray_that_somebody_else_has_removed_is_no_fault(job, kind):
    gone = {
        "key pair": "nobody-s",
        "instance": "i-0123456789abcdef0",
        "security group": "sg-0123456789abcdef0",
    }
    gone |= {"volume": "vol-0123456789abcdef0", "snapshot": "snap-0123456789abcdef0", "image": "ami-01234567"}
    stray = Resource(kind=kind, id=gone[kind], identity="", more={"snapshots": [gone["snapshot"]]})
    sweeping._STRAYS[kind](job("sweeper", branch="main"), stray)
