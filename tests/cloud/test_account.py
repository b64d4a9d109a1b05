"""The account is compared before anything in it is changed."""

from __future__ import annotations

import pytest

from tasks.cloud.interface import AccountWrong
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import QuietCloud, run_in


@pytest.mark.promise("another-account-is-refused")
@pytest.mark.parametrize("file", ["pipeline.yml", "environments/testing.yml"])
def test_in_another_account_nothing_is_changed_and_reading_works(checkout, server, file):  # noqa: F811
    path = checkout / file
    path.write_text(f"account: '210987654321'\n{path.read_text()}")
    run = run_in(checkout, QuietCloud(REGION, server.home.load()), branch="other")
    ec2 = run.cloud.client("ec2")
    before = ec2.describe_security_groups()["SecurityGroups"]
    with pytest.raises(AccountWrong, match=r"account 123456789012, and the settings name 210987654321"):
        ec2.create_security_group(GroupName="x", Description="x")
    with pytest.raises(AccountWrong):
        run.cloud.client("s3").create_bucket(Bucket="other-account")
    assert ec2.describe_security_groups()["SecurityGroups"] == before


def test_in_the_account_of_the_settings_everything_may_be_changed(checkout, server):  # noqa: F811
    path = checkout / "environments" / "testing.yml"
    path.write_text(f"account: '123456789012'\n{path.read_text()}")
    run = run_in(checkout, QuietCloud(REGION, server.home.load()), branch="own")
    group = run.cloud.client("ec2").create_security_group(GroupName="own-account", Description="x")
    run.cloud.client("ec2").delete_security_group(GroupId=group["GroupId"])
