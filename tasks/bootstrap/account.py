"""account: what an account has before the first release: bucket, zone, identity provider, roles, S3 endpoint, budget alarm. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks import trust
from tasks.backup import access
from tasks.bootstrap import policies, s3_endpoint
from tasks.bootstrap.s3_endpoint import S3Endpoint
from tasks.bucket import create
from tasks.run import environment
from tasks.settings import of_pipeline, same_place

if TYPE_CHECKING:
    from tasks.run import Run


@dataclass(frozen=True, kw_only=True)
class Role:
    """A role of CI: who may assume it, and its policies by name."""

    name: str
    trust: Mapping[str, Any]
    policies: Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, kw_only=True)
class BackupUser:
    """A user of one environment's hosts, with a key in the environment's secrets, in `folder`."""

    name: str
    folder: str
    policy: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Account:
    """Everything that is wanted. Without `provider` CI has no roles; without `mail` there is no alarm."""

    id: str
    project: str
    region: str
    bucket: str
    zone: str
    provider: str = ""
    audience: str = ""
    roles: tuple[Role, ...] = field(default=())
    readers: tuple[Role, ...] = field(default=())
    """Of backups: what a restore drill assumes for its host."""
    users: tuple[BackupUser, ...] = field(default=())
    s3_endpoints: tuple[S3Endpoint, ...] = field(default=())
    month: int = 0
    mail: str = ""

    @property
    def provider_arn(self) -> str:
        """The identity provider's."""
        return f"arn:aws:iam::{self.id}:oidc-provider/{self.provider}"

    def role_arn(self, role: Role) -> str:
        """What CI's variable for the role says."""
        return f"arn:aws:iam::{self.id}:role/{role.name}"


def wanted(run: Run) -> Account:
    """What the settings ask for. Raises CiUnset where they say of CI only a part, and what `s3_endpoint.wanted` raises."""
    settings, account = run.pipeline, run.cloud.account_id()
    known = {"project": settings.name, "bucket": run.bucket, "account": account}
    has_ci = settings.ci.provider != "none"
    roles = [
        Role(
            name=f"{settings.name}-{role}",
            trust=trust.policy(settings.ci, settings.default_branch, role, account),
            policies={each: policies.filled(run.root, each, **known) for each in policies.OF_ROLES[role]},
        )
        for role in (trust.ROLES if has_ci else ())
    ]
    files = {
        path.stem: environment(run.root, path.stem, run.profile.settings, run.profile.server.groups)
        for path in sorted((run.root / "environments").glob("*.yml"))
    }
    users = [
        BackupUser(
            name=access.user(settings.name, name),
            folder=f"/{settings.name}/{name}",
            policy=access.policy(run.bucket, name, account),
        )
        for name, each in files.items()
        if access.wanted(run, each) and same_place(of_pipeline(run.root), each, run.environment)
    ]
    return Account(
        id=account,
        project=settings.name,
        region=settings.region,
        bucket=run.bucket,
        zone=settings.dns_zone,
        provider=trust.provider(settings.ci) if has_ci else "",
        audience=trust.audience(settings.ci) if has_ci else "",
        roles=tuple(roles),
        readers=(_reader(settings.name, run.bucket, account),) if users else (),
        users=tuple(users),
        s3_endpoints=tuple(s3_endpoint.wanted(run)),
        month=settings.spending.month,
        mail=settings.spending.mail,
    )


def _reader(project: str, bucket: str, account: str) -> Role:
    """The role that reads backups."""
    return Role(
        name=access.reader(project),
        trust=access.readers(account),
        policies={access.READER: access.reading(bucket, account)},
    )


def tags(account: Account) -> list[dict[str, str]]:
    """Whose it is."""
    return [{"Key": "project", "Value": account.project}]


def budget(account: Account) -> dict[str, Any]:
    """The budget, as its API has it."""
    return {
        "BudgetName": f"{account.project}-month",
        "BudgetLimit": {"Amount": str(account.month), "Unit": "USD"},
        "TimeUnit": "MONTHLY",
        "BudgetType": "COST",
    }


def notifications(account: Account) -> list[dict[str, Any]]:
    """Who is told, and when: four fifths are spent, or all will be."""
    said = [{"SubscriptionType": "EMAIL", "Address": account.mail}]
    return [
        {
            "Notification": {
                "NotificationType": kind,
                "ComparisonOperator": "GREATER_THAN",
                "Threshold": float(share),
                "ThresholdType": "PERCENTAGE",
            },
            "Subscribers": said,
        }
        for kind, share in (("ACTUAL", 80), ("FORECASTED", 100))
    ]


def template(account: Account) -> dict[str, Any]:
    """The same as a template of CloudFormation, for those who may not do it themselves. What holds data stays when the stack goes."""
    kept = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}
    rules = [{k: v for k, v in each.items() if k != "Filter"} for each in create.LIFECYCLE]
    made: dict[str, Any] = {
        "Bucket": {
            "Type": "AWS::S3::Bucket",
            **kept,
            "Properties": {
                "BucketName": account.bucket,
                "VersioningConfiguration": {"Status": "Enabled"},
                "PublicAccessBlockConfiguration": dict.fromkeys(create.CLOSED, True),
                "BucketEncryption": {
                    "ServerSideEncryptionConfiguration": [{"ServerSideEncryptionByDefault": create.ENCRYPTED}]
                },
                "LifecycleConfiguration": {"Rules": [_lifecycle(each) for each in rules]},
                "Tags": tags(account),
            },
        },
        "BucketPolicy": {
            "Type": "AWS::S3::BucketPolicy",
            "Properties": {"Bucket": {"Ref": "Bucket"}, "PolicyDocument": create.policy(account.bucket)},
        },
        "Zone": {"Type": "AWS::Route53::HostedZone", **kept, "Properties": {"Name": account.zone}},
    }
    if account.provider:
        made["IdentityProvider"] = {
            "Type": "AWS::IAM::OIDCProvider",
            "Properties": {"Url": f"https://{account.provider}", "ClientIdList": [account.audience]},
        }
    for role in (*account.roles, *account.readers):
        made[f"Role{role.name.removeprefix(account.project).title().replace('-', '')}"] = {
            "Type": "AWS::IAM::Role",
            **({"DependsOn": ["IdentityProvider"]} if role in account.roles else {}),
            "Properties": {
                "RoleName": role.name,
                "AssumeRolePolicyDocument": role.trust,
                "Policies": [
                    {"PolicyName": name, "PolicyDocument": document}
                    for name, document in role.policies.items()
                ],
                "Tags": tags(account),
            },
        }
    for each in account.s3_endpoints:
        made[f"S3Endpoint{each.network.removeprefix('vpc-')}"] = {
            "Type": "AWS::EC2::VPCEndpoint",
            "Properties": {
                "VpcEndpointType": "Gateway",
                "VpcId": each.network,
                "ServiceName": each.service,
                "RouteTableIds": list(each.route_tables),
                "PolicyDocument": each.policy,
                "Tags": tags(account),
            },
        }
    if account.mail:
        made["Budget"] = {
            "Type": "AWS::Budgets::Budget",
            "Properties": {"Budget": budget(account), "NotificationsWithSubscribers": notifications(account)},
        }
    return {"AWSTemplateFormatVersion": "2010-09-09", "Resources": made}


def _lifecycle(rule: Mapping[str, Any]) -> dict[str, Any]:
    """CloudFormation's names for the parts of a rule."""
    found = {"Id" if name == "ID" else name: value for name, value in rule.items() if name != "Expiration"}
    marker = rule.get("Expiration", {}).get("ExpiredObjectDeleteMarker")
    return {**found, **({"ExpiredObjectDeleteMarker": marker} if marker else {})}
