"""steps: what of the wanted account is missing, and how each thing is made. An administrator's credentials are needed to make it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tasks.backup import access
from tasks.bootstrap import s3_endpoint
from tasks.bootstrap.account import Account, BackupUser, Role, budget, notifications, tags
from tasks.bootstrap.s3_endpoint import S3Endpoint
from tasks.bucket import create
from tasks.cloud.errors import code
from tasks.infrastructure import secrets, zone

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.cloud.interface import Cloud


@dataclass(frozen=True, kw_only=True)
class MissingThing:
    """One thing that is missing, in words, and what makes it."""

    words: str
    do: Callable[[], object]


def missing(account: Account, cloud: Cloud, store: Store) -> list[MissingThing]:
    """What is missing, in the order in which it is made. Changes nothing."""
    return [
        *_bucket(account, store),
        *_zone(account, cloud),
        *(_provider(account, cloud.client("iam")) if account.provider else ()),
        *(
            step
            for role in (*account.roles, *account.readers)
            for step in _role(account, role, cloud.client("iam"))
        ),
        *(step for user in account.users for step in _user(account, user, cloud)),
        *(step for each in account.s3_endpoints for step in endpoint(each, cloud.client("ec2"))),
        *(_budget(account, cloud.client("budgets")) if account.mail else ()),
    ]


def _bucket(account: Account, store: Store) -> Iterator[MissingThing]:
    if not create.bucket_exists(store, account.project):
        words = f"make bucket {account.bucket}: versioned, encrypted, private"
        yield MissingThing(
            words=words, do=partial(create.make_bucket, store, account.project, account.region)
        )
    elif not create.denies_plain_http(store):
        yield MissingThing(
            words=f"deny plain HTTP to bucket {account.bucket}", do=partial(create.deny_plain_http, store)
        )


def _zone(account: Account, cloud: Cloud) -> Iterator[MissingThing]:
    if not zone.zone_id(cloud, account.zone):
        do = partial(zone.make, cloud.client("route53"), account.zone, account.project, anywhere=True)
        yield MissingThing(words=f"make zone {account.zone}", do=do)


def _provider(account: Account, iam: Any) -> Iterator[MissingThing]:
    arn = account.provider_arn
    audiences = _asked(lambda: iam.get_open_id_connect_provider(OpenIDConnectProviderArn=arn)["ClientIDList"])
    if audiences is None:
        make = partial(iam.create_open_id_connect_provider, Url=f"https://{account.provider}")
        words = f"make identity provider {account.provider}, for {account.audience}"
        yield MissingThing(words=words, do=partial(make, ClientIDList=[account.audience], Tags=tags(account)))
    elif account.audience not in audiences:
        add = iam.add_client_id_to_open_id_connect_provider
        words = f"let identity provider {account.provider} be for {account.audience} too"
        yield MissingThing(
            words=words, do=partial(add, OpenIDConnectProviderArn=arn, ClientID=account.audience)
        )


def _role(account: Account, role: Role, iam: Any) -> Iterator[MissingThing]:
    trusted = _asked(lambda: iam.get_role(RoleName=role.name)["Role"]["AssumeRolePolicyDocument"])
    document = json.dumps(role.trust)
    if trusted is None:
        do = partial(
            iam.create_role, RoleName=role.name, AssumeRolePolicyDocument=document, Tags=tags(account)
        )
        yield MissingThing(words=f"make role {role.name}", do=do)
    elif trusted != role.trust:
        do = partial(iam.update_assume_role_policy, RoleName=role.name, PolicyDocument=document)
        yield MissingThing(words=f"change who may assume role {role.name}", do=do)
    for name, policy in role.policies.items():
        ask = partial(iam.get_role_policy, RoleName=role.name, PolicyName=name)
        if trusted is None or _asked(lambda ask=ask: ask()["PolicyDocument"]) != policy:  # type: ignore[misc]
            put = partial(iam.put_role_policy, RoleName=role.name, PolicyName=name)
            yield MissingThing(
                words=f"give role {role.name} the policy {name}",
                do=partial(put, PolicyDocument=json.dumps(policy)),
            )


def _user(account: Account, user: BackupUser, cloud: Cloud) -> Iterator[MissingThing]:
    iam, ssm = cloud.client("iam"), cloud.client("ssm")
    ask = partial(iam.get_user_policy, UserName=user.name, PolicyName=access.ROLE)
    if not secrets.has_backup_key(ssm, user.folder) or _asked(lambda: ask()["PolicyDocument"]) != user.policy:
        yield MissingThing(
            words=f"make user {user.name} and its key, which adds backups and removes none",
            do=partial(
                access.make,
                iam,
                ssm,
                name=user.name,
                folder=user.folder,
                allowed=user.policy,
                project=account.project,
            ),
        )


def endpoint(wanted: S3Endpoint, ec2: Any) -> Iterator[MissingThing]:
    """What an S3 endpoint lacks."""
    network, alone = wanted.network, f"{' and '.join(wanted.buckets)}, no other bucket of the region"
    there = [*s3_endpoint.found(ec2, network, wanted.service)]
    if not there:
        make = partial(ec2.create_vpc_endpoint, VpcEndpointType="Gateway", VpcId=network)
        tagged = [{"ResourceType": "vpc-endpoint", "Tags": [{"Key": "project", "Value": wanted.project}]}]
        what = {"PolicyDocument": json.dumps(wanted.policy), "RouteTableIds": list(wanted.route_tables)}
        yield MissingThing(
            words=f"make S3 endpoint of {network}: everything there reaches {alone}",
            do=partial(make, ServiceName=wanted.service, TagSpecifications=tagged, **what),
        )
        return
    for each in there:
        change = partial(ec2.modify_vpc_endpoint, VpcEndpointId=each["VpcEndpointId"])
        if json.loads(each["PolicyDocument"]) != wanted.policy:
            yield MissingThing(
                words=f"change what the S3 endpoint of {network} lets through: {alone}",
                do=partial(change, PolicyDocument=json.dumps(wanted.policy)),
            )
    if apart := sorted({*wanted.route_tables} - {id for each in there for id in each["RouteTableIds"]}):
        words = f"let {', '.join(apart)} of {network} lead to its S3 endpoint"
        yield MissingThing(words=words, do=partial(change, AddRouteTableIds=apart))


def _budget(account: Account, budgets: Any) -> Iterator[MissingThing]:
    named = {"AccountId": account.id, "BudgetName": budget(account)["BudgetName"]}
    found = _asked(lambda: budgets.describe_budget(**named)["Budget"])
    told = f"{account.month} USD a month, to {account.mail}"
    if found is None:
        make = partial(budgets.create_budget, AccountId=account.id, Budget=budget(account))
        do = partial(make, NotificationsWithSubscribers=notifications(account))
        yield MissingThing(words=f"make budget alarm: {told}", do=do)
    elif float(found["BudgetLimit"]["Amount"]) != account.month:
        do = partial(budgets.update_budget, AccountId=account.id, NewBudget=budget(account))
        yield MissingThing(words=f"change budget alarm: {told}", do=do)


def _asked(ask: Callable[[], Any]) -> Any:
    """The answer; None where there is no such thing."""
    try:
        return ask()
    except Exception as error:
        if not hasattr(error, "response") or code(error) not in (
            "NoSuchEntity",
            "NotFoundException",
            "NoSuchEntityException",
        ):
            raise
        return None
