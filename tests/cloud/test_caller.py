import pytest

from tasks.cloud.caller import Caller


@pytest.mark.parametrize(
    ("arn", "role"),
    [
        ("arn:aws:sts::123456789012:assumed-role/builder/run-17", "builder"),
        ("arn:aws:iam::123456789012:user/team/kim", "kim"),
        ("arn:aws:iam::123456789012:root", "root"),
    ],
)
def test_the_role_is_what_stays_the_same_from_session_to_session(arn, role):
    assert Caller(arn=arn).role == role
