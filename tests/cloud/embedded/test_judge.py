"""What policies allow: by our evaluator, and by another one, which says the same to every row."""

from __future__ import annotations

import pytest

from tasks.cloud.embedded.judge import AccessRequest, Decision, NotJudged, judge
from tests import second_opinion

ACCOUNT = second_opinion.ACCOUNT
OBJECT = "arn:aws:s3:::shop/trusted/1"
INSTANCE = f"arn:aws:ec2:eu-central-1:{ACCOUNT}:instance/i-1"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/branch/kim"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/branch"


def of(condition=None, **elements):
    """A policy of one statement."""
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", **elements}
    if "NotAction" in elements:
        del statement["Action"]
    return {
        "Version": "2012-10-17",
        "Statement": [{**statement, **({"Condition": condition} if condition else {})}],
    }


def asked(context=None, action="s3:GetObject", resource=OBJECT):
    return AccessRequest(action=action, resource=resource, context=context or {})


TAG = "aws:PrincipalTag/team"
ROWS = [
    # what is decided, a policy, a request
    ("allowed", of(), asked()),
    ("allowed", of(Action="S3:getobject"), asked()),
    ("allowed", of(Action=["s3:Get*"]), asked()),
    ("implicitly denied", of(Action="s3:PutObject"), asked()),
    ("denied", {"Version": "2012-10-17", "Statement": [*of()["Statement"], *of(Effect="Deny")["Statement"]]}, asked()),
    ("denied", of(Effect="Deny"), asked()),
    ("implicitly denied", of(NotAction="s3:*"), asked()),
    ("allowed", of(Resource="arn:aws:s3:::shop/*"), asked()),
    ("implicitly denied", of(Resource="arn:aws:s3:::shop"), asked()),
    ("implicitly denied", of(Resource="arn:aws:s3:::SHOP/*"), asked()),
    ("allowed", of(Resource="arn:aws:s3:::sho?/trusted/?"), asked()),
    ("allowed", of(Resource="arn:aws:ec2:*:*:instance/*"), asked(action="ec2:StopInstances", resource=INSTANCE)),
    ("implicitly denied", of(Resource="arn:aws:ec2:*:1:instance/*"), asked(action="ec2:StopInstances", resource=INSTANCE)),
    ("implicitly denied", of({"StringEquals": {TAG: "a"}}), asked()),
    ("allowed", of({"StringEquals": {TAG: "a"}}), asked({TAG: "a"})),
    ("implicitly denied", of({"StringEquals": {TAG: "a"}}), asked({TAG: "A"})),
    ("allowed", of({"StringEquals": {TAG: ["b", "a"]}}), asked({TAG: "a"})),
    ("implicitly denied", of({"StringEquals": {TAG: "a*"}}), asked({TAG: "ab"})),
    ("allowed", of({"StringEqualsIgnoreCase": {TAG: "a"}}), asked({TAG: "A"})),
    ("allowed", of({"StringLike": {TAG: "a*"}}), asked({TAG: "ab"})),
    ("implicitly denied", of({"StringLike": {TAG: "a?"}}), asked({TAG: "abc"})),
    ("allowed", of({"StringNotEquals": {TAG: "a"}}), asked({TAG: "b"})),
    ("implicitly denied", of({"StringNotEquals": {TAG: ["a", "b"]}}), asked({TAG: "b"})),
    ("allowed", of({"StringNotEquals": {TAG: "a"}}), asked()),
    ("allowed", of({"StringNotLike": {TAG: "a*"}}), asked({TAG: "b"})),
    ("implicitly denied", of({"StringNotEqualsIgnoreCase": {TAG: "a"}}), asked({TAG: "A"})),
    ("allowed", of({"StringEqualsIfExists": {TAG: "a"}}), asked()),
    ("implicitly denied", of({"StringEqualsIfExists": {TAG: "a"}}), asked({TAG: "b"})),
    ("allowed", of({"Null": {TAG: "true"}}), asked()),
    ("implicitly denied", of({"Null": {TAG: "true"}}), asked({TAG: "a"})),
    ("allowed", of({"Null": {TAG: False}}), asked({TAG: "a"})),
    ("allowed", of({"Bool": {"aws:SecureTransport": "true"}}), asked({"aws:SecureTransport": "true"})),
    ("allowed", of({"Bool": {"aws:SecureTransport": True}}), asked({"aws:SecureTransport": "true"})),
    ("implicitly denied", of({"Bool": {"aws:SecureTransport": "true"}}), asked({"aws:SecureTransport": "false"})),
    ("implicitly denied", of({"Bool": {"aws:SecureTransport": "false"}}), asked()),
    ("allowed", of({"BoolIfExists": {"aws:SecureTransport": "true"}}), asked()),
    ("allowed", of({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}), asked({"aws:SourceIp": "10.1.2.3"})),
    ("implicitly denied", of({"IpAddress": {"aws:SourceIp": "10.1.0.0/16"}}), asked({"aws:SourceIp": "10.2.2.3"})),
    ("allowed", of({"NotIpAddress": {"aws:SourceIp": ["10.1.0.0/16", "::/0"]}}), asked({"aws:SourceIp": "10.2.2.3"})),
    ("allowed", of({"IpAddress": {"aws:SourceIp": "2001:db8::/32"}}), asked({"aws:SourceIp": "2001:db8::1"})),
    ("allowed", of({"NumericLessThan": {"aws:MultiFactorAuthAge": "100"}}), asked({"aws:MultiFactorAuthAge": "9"})),
    ("implicitly denied", of({"NumericLessThanEquals": {"aws:MultiFactorAuthAge": "9"}}), asked({"aws:MultiFactorAuthAge": "10"})),
    ("allowed", of({"NumericGreaterThanEquals": {"aws:MultiFactorAuthAge": "9"}}), asked({"aws:MultiFactorAuthAge": "9.0"})),
    ("allowed", of({"NumericNotEquals": {"aws:MultiFactorAuthAge": "9"}}), asked({"aws:MultiFactorAuthAge": "8"})),
    ("implicitly denied", of({"NumericNotEquals": {"aws:MultiFactorAuthAge": "9"}}), asked({"aws:MultiFactorAuthAge": "9"})),
    ("allowed", of({"DateLessThan": {"aws:CurrentTime": "2026-12-01T00:00:00Z"}}), asked({"aws:CurrentTime": "2026-11-27T00:00:00Z"})),
    ("implicitly denied", of({"DateGreaterThan": {"aws:CurrentTime": "2026-12-01T00:00:00Z"}}), asked({"aws:CurrentTime": "2026-11-27T00:00:00Z"})),
    ("allowed", of({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/br*"}}), asked({"aws:PrincipalArn": ROLE})),
    ("implicitly denied", of({"ArnLike": {"aws:PrincipalArn": "arn:aws:iam::*role/br*"}}), asked({"aws:PrincipalArn": ROLE})),
    ("allowed", of({"ArnEquals": {"aws:PrincipalArn": ROLE}}), asked({"aws:PrincipalArn": ROLE})),
    ("implicitly denied", of({"ArnNotLike": {"aws:PrincipalArn": "arn:aws:iam::*:role/*"}}), asked({"aws:PrincipalArn": ROLE})),
    ("allowed", of({"ForAllValues:StringEquals": {"aws:TagKeys": ["a", "b"]}}), asked({"aws:TagKeys": ["a", "b"]}, "ec2:CreateTags", INSTANCE)),
    ("implicitly denied", of({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}), asked({"aws:TagKeys": ["a", "b"]}, "ec2:CreateTags", INSTANCE)),
    ("allowed", of({"ForAllValues:StringEquals": {"aws:TagKeys": ["a"]}}), asked({}, "ec2:CreateTags", INSTANCE)),
    ("allowed", of({"ForAnyValue:StringEquals": {"aws:TagKeys": ["b"]}}), asked({"aws:TagKeys": ["a", "b"]}, "ec2:CreateTags", INSTANCE)),
    ("implicitly denied", of({"ForAnyValue:StringEquals": {"aws:TagKeys": ["c"]}}), asked({"aws:TagKeys": ["a", "b"]}, "ec2:CreateTags", INSTANCE)),
    ("implicitly denied", of({"ForAnyValue:StringEquals": {"aws:TagKeys": ["c"]}}), asked({}, "ec2:CreateTags", INSTANCE)),
    ("implicitly denied", of({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["environment"]}}), asked({"aws:TagKeys": ["a", "environment"]}, "ec2:CreateTags", INSTANCE)),
    ("allowed", of({"ForAllValues:StringNotEquals": {"aws:TagKeys": ["environment"]}}), asked({"aws:TagKeys": ["a", "b"]}, "ec2:CreateTags", INSTANCE)),
    ("allowed", of({"StringEquals": {"ec2:CreateAction": "RunInstances"}}), asked({"ec2:CreateAction": "RunInstances"}, "ec2:CreateTags", INSTANCE)),
    ("implicitly denied", of({"StringEquals": {"ec2:CreateAction": "RunInstances"}}), asked({}, "ec2:CreateTags", INSTANCE)),
    ("allowed", of({"StringEquals": {"ec2:ResourceTag/project": "shop"}}), asked({"ec2:ResourceTag/project": "shop"}, "ec2:StopInstances", INSTANCE)),
    ("allowed", of({"StringLike": {"s3:prefix": ["trusted/*"]}}), asked({"s3:prefix": "trusted/x"}, "s3:ListBucket", "arn:aws:s3:::shop")),
    ("implicitly denied", of({"StringLike": {"s3:prefix": ["trusted/*"]}}), asked({}, "s3:ListBucket", "arn:aws:s3:::shop")),
    ("allowed", of({"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}), asked({"aws:ResourceAccount": ACCOUNT, "aws:PrincipalAccount": ACCOUNT})),
    ("implicitly denied", of({"StringEquals": {"aws:ResourceAccount": "${aws:PrincipalAccount}"}}), asked({"aws:ResourceAccount": "1", "aws:PrincipalAccount": ACCOUNT})),
    ("allowed", of(Resource="arn:aws:s3:::shop/${aws:PrincipalTag/team}/1"), asked({TAG: "trusted"})),
    ("implicitly denied", of(Resource="arn:aws:s3:::shop/${aws:PrincipalTag/team}/1"), asked()),
    ("implicitly denied", of(Resource="arn:aws:s3:::shop/${aws:PrincipalTag/team}/1"), asked({TAG: "t*"})),
    ("allowed", of({"StringLike": {TAG: "${*}"}}), asked({TAG: "*"})),
    ("implicitly denied", of({"StringLike": {TAG: "${*}"}}), asked({TAG: "x"})),
    ("allowed", of({"StringEquals": {TAG: "a"}, "Null": {"aws:username": "true"}}), asked({TAG: "a"})),
    ("implicitly denied", of({"StringEquals": {TAG: "a"}, "Null": {"aws:username": "false"}}), asked({TAG: "a"})),
]  # fmt: skip


@pytest.mark.parametrize(("effect", "policy", "request_"), ROWS)
def test_a_policy_allows_what_it_says(effect, policy, request_):
    assert judge([policy], request_).effect == effect


def test_another_evaluator_says_the_same_to_every_row():
    said = second_opinion.say((request, [policy]) for _, policy, request in ROWS)
    assert [
        (number, row[0], each.effect, each.unknown)
        for number, (row, each) in enumerate(zip(ROWS, said, strict=True))
        if (each.effect, each.unknown) != (row[0], ())
    ] == []


def named(principal, effect="Allow", **more):
    return {
        "Version": "2012-10-17",
        "Statement": [{"Effect": effect, "Principal": principal, "Action": "s3:*", "Resource": "*", **more}],
    }


NONE, GET = of(Action="s3:PutObject"), of(Action="s3:GetObject")
BUCKET_ROWS = [
    # what is decided, the caller's policy, the bucket's policy
    ("implicitly denied", NONE, None),
    ("allowed", NONE, named("*")),
    ("allowed", NONE, named({"AWS": "*"})),
    ("allowed", NONE, named({"AWS": ROLE})),
    ("allowed", NONE, named({"AWS": SESSION})),
    ("implicitly denied", NONE, named({"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"})),
    ("implicitly denied", NONE, named({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})),
    ("allowed", GET, named({"AWS": f"arn:aws:iam::{ACCOUNT}:root"})),
    ("denied", GET, named("*", "Deny")),
    ("denied", GET, named({"AWS": ACCOUNT}, "Deny")),
    ("denied", GET, named("*", "Deny", Condition={"Bool": {"aws:SecureTransport": "true"}})),
    ("allowed", GET, named("*", "Deny", Condition={"Bool": {"aws:SecureTransport": "false"}})),
]  # fmt: skip


def fetch():
    """A session's fetch of an object."""
    known = {"aws:SecureTransport": "true"}
    return AccessRequest(action="s3:GetObject", resource=OBJECT, context=known, principal=(SESSION, ROLE))


@pytest.mark.parametrize(("effect", "policy", "bucket"), BUCKET_ROWS)
def test_a_bucket_s_policy_counts_too(effect, policy, bucket):
    request = fetch()
    assert judge([policy], request, resource_policy=bucket).effect == effect
    (said,) = second_opinion.say([(request, [policy])], bucket)
    assert said.effect == effect


SESSION_ROWS = [
    # what is decided, the caller's policy, the session's own
    ("allowed", GET, None),
    ("allowed", GET, of()),
    ("implicitly denied", GET, NONE),
    ("implicitly denied", NONE, GET),
    ("denied", GET, of(Effect="Deny")),
]


@pytest.mark.parametrize(("effect", "policy", "session"), SESSION_ROWS)
def test_a_session_s_own_policy_takes_away_and_gives_nothing(effect, policy, session):
    assert judge([policy], asked(), session_policy=session).effect == effect


TRUST_ROWS = [
    # what is decided, the caller's policy, the role's trust policy
    ("implicitly denied", of(), {"Statement": []}),
    ("allowed", of(), named({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, Action="sts:AssumeRole")),
    ("implicitly denied", GET, named({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, Action="sts:AssumeRole")),
    ("allowed", GET, named({"AWS": ROLE}, Action="sts:AssumeRole")),
    ("implicitly denied", of(), named({"AWS": "arn:aws:iam::999999999999:root"}, Action="sts:AssumeRole")),
]


def assume():
    """A session asks for a role."""
    return AccessRequest(action="sts:AssumeRole", resource=ROLE, principal=(SESSION, ROLE))


@pytest.mark.parametrize(("effect", "policy", "trust"), TRUST_ROWS)
def test_a_role_has_to_admit_who_assumes_it(effect, policy, trust):
    assert judge([policy], assume(), resource_policy=trust, must_admit=True).effect == effect


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Colour": "red"},
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"StringAlmost": {"a": "b"}}},
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"ForSome:StringLike": {"a": "b"}}},
        {
            "Effect": "Allow",
            "Action": "*",
            "Resource": "*",
            "Condition": {"StringLike": {"aws:TagKeys": "b"}},
        },
    ],
)
def test_what_is_not_judged_is_an_error_and_never_a_right(statement):
    with pytest.raises(NotJudged):
        judge([{"Statement": statement}], asked({"aws:TagKeys": ["a", "b"]}))


def test_a_decision_names_its_statement():
    assert judge([of(Sid="Look")], asked()) == Decision(effect="allowed", by="Look")
