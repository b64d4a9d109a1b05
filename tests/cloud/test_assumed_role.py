"""A role that the caller's own credentials may assume: for as long as a run takes, and refused in words."""

from __future__ import annotations

import datetime
import json

import pytest

from tasks.cloud.assumed_role import RoleRefused
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import QuietCloud, run_in

ACCOUNT = "123456789012"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
            "Action": "sts:AssumeRole",
        }
    ],
}
READS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "ec2:DescribeInstances", "Resource": "*"}],
}


@pytest.fixture
def cloud(server):  # noqa: F811
    made = QuietCloud(REGION, server.home.load())
    iam = made.client("iam")
    if "releases" not in [each["RoleName"] for each in iam.list_roles()["Roles"]]:
        iam.create_role(RoleName="releases", AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.put_role_policy(RoleName="releases", PolicyName="reads", PolicyDocument=json.dumps(READS))
    return made


def run_of(checkout, cloud, role):
    path = checkout / "environments" / "testing.yml"
    path.write_text(f"{path.read_text()}role: {role}\n")
    return run_in(checkout, cloud, branch="one")


@pytest.mark.promise("role-of-an-environment")
@pytest.mark.parametrize("role", ["releases", f"arn:aws:iam::{ACCOUNT}:role/releases"])
def test_an_environment_s_calls_are_those_of_its_role(checkout, cloud, role):
    run = run_of(checkout, cloud, role)
    assert run.cloud.caller().arn == f"arn:aws:sts::{ACCOUNT}:assumed-role/releases/moto"
    assert run.cloud.client("ec2").describe_instances()["Reservations"] is not None
    with pytest.raises(run.cloud.client("ec2").exceptions.ClientError, match="UnauthorizedOperation"):
        run.cloud.client("ec2").create_security_group(GroupName="x", Description="x")


@pytest.mark.promise("role-of-an-environment")
@pytest.mark.parametrize("role", ["nobody-s", f"arn:aws:iam::{ACCOUNT}:role/nobody-s"])
def test_a_role_that_may_not_be_assumed_is_refused_before_anything(checkout, cloud, role):
    run = run_of(checkout, cloud, role)
    with pytest.raises(
        RoleRefused,
        match=f"arn:aws:sts::{ACCOUNT}:user/moto may not assume arn:aws:iam::{ACCOUNT}:role/nobody-s",
    ) as refused:
        run.cloud.client("ec2").create_security_group(GroupName="nobody-s", Description="x")
    assert "aws sts assume-role --role-arn arn:aws:iam::123456789012:role/nobody-s" in refused.value.text
    assert "nobody-s" not in [
        each["GroupName"] for each in cloud.client("ec2").describe_security_groups()["SecurityGroups"]
    ]


@pytest.mark.promise("role-of-an-environment")
def test_a_run_that_is_longer_than_a_session_gets_another_one(checkout, cloud):
    run = run_of(checkout, cloud, "releases")
    run.cloud.client("ec2").describe_instances()
    credentials = run.cloud._session.get_credentials()
    before = credentials.access_key
    credentials._expiry_time = datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=1)
    run.cloud.client("ec2").describe_instances()
    assert credentials.access_key != before
