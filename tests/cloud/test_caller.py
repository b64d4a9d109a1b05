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


@pytest.mark.parametrize(
    ("arn", "person"),
    [
        ("arn:aws:sts::123456789012:assumed-role/builder/kim", "kim"),
        ("arn:aws:sts::123456789012:assumed-role/releaser/Kim", "kim"),
        ("arn:aws:sts::123456789012:assumed-role/AWSReservedSSO_Admin_0a1b/kim@shop.example", "kim@shop.example"),
        ("arn:aws:iam::123456789012:user/team/kim", "kim"),
        ("arn:aws:iam::210987654321:user/kim", "kim"),
        ("arn:aws:sts::123456789012:federated-user/kim", "kim"),
        ("arn:aws:iam::123456789012:root", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/botocore-session-1764000000", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/AWS-CLI-session-1764000000", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/aws-sdk-js-1764000000", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/aws-go-sdk-1764000000", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/GitHubActions", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/1764000000", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/i-0123456789abcdef0", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder/0123456789abcdef0123456789abcdef", ""),
        ("arn:aws:sts::123456789012:assumed-role/builder", ""),
    ],
)  # fmt: skip
@pytest.mark.promise("another-person-continues", "no-person-no-approval")
def test_a_person_is_the_same_in_every_role_and_a_generated_name_is_none(arn, person):
    assert Caller(arn=arn).person == person
