"""principals: who signs a request: the administrator of this cloud, a user, or a session of a role; and what each may do."""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from tasks.cloud.embedded.judge import Policy

ROOT = "root"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """A caller. `names`: the ARNs by which the policy of a resource may name it."""

    secret: str = field(repr=False)
    arn: str
    names: tuple[str, ...]
    context: Mapping[str, str]
    """Condition keys that it brings."""
    token: str = field(default="", repr=False)
    ends: datetime.datetime | None = None
    policies: tuple[Policy, ...] = ()
    session_policy: Policy | None = None
    administrator: bool = False
    """Whether everything is allowed that no resource's policy denies."""


def administrator(account: str, secret: str) -> Principal:
    """Whoever has the key of the cloud's own file: as the root user of an account."""
    arn = f"arn:aws:iam::{account}:{ROOT}"
    context = {"aws:PrincipalArn": arn, "aws:PrincipalAccount": account, "aws:PrincipalType": "Account"}
    return Principal(secret=secret, arn=arn, names=(arn,), context=context, administrator=True)


def find(account: str, key: str) -> Principal | None:
    """The user or session that has an access key."""
    return _user(account, key) or _session(account, key)


def role(account: str, arn: str) -> Any | None:
    """moto's role of that ARN."""
    return next((each for each in _iam(account).roles.values() if each.arn == arn), None)


def provider(account: str, issuer: str) -> Any | None:
    """moto's identity provider of that URL."""
    url = issuer.removeprefix("https://")
    return next((each for each in _iam(account).open_id_providers.values() if each.url == url), None)


def profile_roles(account: str, name_or_arn: str) -> list[str]:
    """The ARNs of an instance profile's roles."""
    name = name_or_arn.rpartition("/")[2]
    return [
        each.arn
        for profile in _iam(account).instance_profiles.values()
        if profile.name == name
        for each in profile.roles
    ]


def forget_ended(account: str, now: datetime.datetime) -> None:
    """Drop the sessions that ended an hour ago: until then they are told that they have."""
    sts = sts_backends[account]["aws"]
    kept = now - datetime.timedelta(hours=1)
    sts.assumed_roles = [each for each in sts.assumed_roles if _aware(each.expiration) > kept]


def _iam(account: str) -> Any:
    return iam_backends[account]["aws"]


def _user(account: str, key: str) -> Principal | None:
    for user in _iam(account).users.values():
        for each in user.access_keys:
            if each.access_key_id == key and each.status == "Active":
                context = {
                    "aws:PrincipalArn": user.arn,
                    "aws:PrincipalAccount": account,
                    "aws:PrincipalType": "User",
                    "aws:userid": user.id,
                    "aws:username": user.name,
                    **_tags(_iam(account).list_user_tags(user.name)),
                }
                groups = _iam(account).get_groups_for_user(user.name)
                policies = tuple(policy for holder in (user, *groups) for policy in _policies(holder))
                secret = each.secret_access_key
                return Principal(
                    secret=secret, arn=user.arn, names=(user.arn,), context=context, policies=policies
                )
    return None


def _session(account: str, key: str) -> Principal | None:
    found = sts_backends[account]["aws"].get_assumed_role_from_access_key(key)
    held = role(account, found.role_arn) if found else None
    if not found or not held:  # the sessions of a deleted role end with it
        return None
    context = {
        "aws:PrincipalArn": held.arn,
        "aws:PrincipalAccount": account,
        "aws:PrincipalType": "AssumedRole",
        "aws:userid": found.user_id,
        **_tags(held.tags),
    }
    return Principal(
        secret=found.secret_access_key,
        arn=found.arn,
        names=(found.arn, held.arn),
        context=context,
        token=found.session_token,
        ends=_aware(found.expiration),
        policies=tuple(_policies(held)),
        session_policy=json.loads(found.policy) if found.policy else None,
    )


def _tags(tags: Any) -> dict[str, str]:
    """moto keeps tags as a list, or by their names."""
    listed = tags.values() if isinstance(tags, Mapping) else tags or ()
    return {f"aws:PrincipalTag/{each['Key']}": each["Value"] for each in listed}


def _policies(holder: Any) -> Iterable[Policy]:
    for document in holder.policies.values():
        yield json.loads(document)
    for managed in holder.managed_policies.values():
        yield json.loads(managed.document)


def _aware(at: datetime.datetime) -> datetime.datetime:
    return at if at.tzinfo else at.replace(tzinfo=datetime.UTC)
