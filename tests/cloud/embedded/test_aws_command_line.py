"""The plain AWS command line, pointed at the embedded cloud as a newcomer would: `eval "$(doit cloud env)"`."""

from __future__ import annotations

import json
import os
import shlex
import subprocess

import pytest

from tasks.bucket import create
from tasks.cloud.embedded import status
from tasks.cloud.embedded.home import Home
from tasks.infrastructure import stage as infrastructure
from tests import aws_command_line
from tests.cloud.embedded.conftest import Server
from tests.clouds import QuietCloud, run_in
from tests.iam import attached

REGION = "eu-central-1"
KEY = "branches/tarballs/0.tar.zst"
ANYBODY = {
    "Effect": "Allow",
    "Action": "sts:AssumeRole",
    "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
}


@pytest.fixture(scope="module")
def state(tmp_path_factory):
    """The state folder of a user whose embedded cloud runs."""
    folder = tmp_path_factory.mktemp("newcomer")
    home = folder / "release-pipeline" / "cloud"
    home.parent.mkdir()
    server = Server(Home(folder=home))
    server.start()
    yield folder
    server.kill()


@pytest.fixture
def run(checkout, state):
    home = Home(folder=state / "release-pipeline" / "cloud")
    return run_in(checkout, QuietCloud(REGION, home.load()), branch="new")


@pytest.fixture
def aws(state):
    """Runs a line of a shell after `eval` of what the command prints."""
    program = aws_command_line.program()
    printed = "\n".join(status.variables({"XDG_STATE_HOME": str(state)}))

    def of(line, **variables):
        script = f"{printed}\n{line.replace('aws ', f'{shlex.quote(str(program))} ', 1)}"
        environ = {**os.environ, "AWS_PROFILE": "another", "HTTP_PROXY": "http://127.0.0.1:9", **variables}
        return subprocess.run(["sh", "-c", script], env=environ, capture_output=True, text=True)

    return of


@pytest.mark.long(
    short="tests/cloud/embedded/test_aws_command_line.py::test_the_variables_are_printed_for_a_shell_and_only_while_the_cloud_runs"
)
@pytest.mark.promise("the-aws-command-line-works")
def test_it_lists_machines_fetches_a_tarball_and_is_refused_what_its_role_may_not(run, aws, tmp_path):
    infrastructure.share(run)
    infrastructure.converge(run)
    run.store.put(KEY, b"tarball")
    listed = aws("aws ec2 describe-instances --query 'Reservations[].Instances[].InstanceId' --output json")
    assert listed.returncode == 0, listed.stderr
    assert len(json.loads(listed.stdout)) == 1
    fetched = aws(f"aws s3 cp s3://{run.bucket}/{KEY} {tmp_path}/tarball")
    assert (fetched.returncode, (tmp_path / "tarball").read_bytes()) == (0, b"tarball"), fetched.stderr
    iam = run.cloud.client("iam")
    document = json.dumps({"Version": "2012-10-17", "Statement": [ANYBODY]})
    arn = iam.create_role(RoleName="reader", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    policy = json.dumps(attached("pull-request"))
    iam.put_role_policy(RoleName="reader", PolicyName="pull-request", PolicyDocument=policy)
    taken = aws(
        f"aws sts assume-role --role-arn {arn} --role-session-name kim --query Credentials --output json"
    )
    keys = json.loads(taken.stdout)
    role = (
        f"AWS_ACCESS_KEY_ID={keys['AccessKeyId']} AWS_SECRET_ACCESS_KEY={shlex.quote(keys['SecretAccessKey'])} "
        f"AWS_SESSION_TOKEN={shlex.quote(keys['SessionToken'])} "
    )
    assert aws(f"{role}aws s3 cp s3://{run.bucket}/{KEY} {tmp_path}/again").returncode == 0
    for line in (
        f"aws s3 cp {tmp_path}/again s3://{run.bucket}/{KEY}",
        f"aws s3 rm s3://{run.bucket}/{KEY}",
        "aws ec2 describe-instances",
        f"aws s3api get-object --bucket {run.bucket} --key state/testing-x/release.json {tmp_path}/state",
    ):
        refused = aws(role + line)
        assert refused.returncode != 0, line
        assert "AccessDenied" in refused.stderr or "UnauthorizedOperation" in refused.stderr, refused.stderr
    assert create.bucket_exists(run.store, "shop")


@pytest.mark.promise("the-aws-command-line-works")
def test_the_variables_are_printed_for_a_shell_and_only_while_the_cloud_runs(state, tmp_path):
    with pytest.raises(status.CloudStopped):
        status.variables({"XDG_STATE_HOME": str(tmp_path)})
    printed = status.variables({"XDG_STATE_HOME": str(state)})
    assert printed[0].startswith("unset AWS_PROFILE")
    assert any(each.startswith("export AWS_ENDPOINT_URL=http://127.0.0.1:") for each in printed)
