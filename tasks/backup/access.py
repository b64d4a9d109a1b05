"""access: what a host that backs up may do in the bucket: it reads and adds, and removes nothing but its own locks."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.cloud import errors
from tasks.cloud.errors import already
from tasks.infrastructure import secrets
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.infrastructure.secrets import Secrets
    from tasks.run import Run
    from tasks.settings import Environment

ROLE = "backup"
"""The role of `roles/` that backs up."""

SECRET = ("password", "key_id", "key_secret", "key_token")
"""What opens the repository, as options of the role."""
OPTIONS = ("at", "repository", "region", "host", *SECRET)
"""All that the role is told by the pipeline."""
READER = "backup-reader"
"""The role, and its policy, that reads the backups of all environments, for a host that tries whether they are whole."""


class ReaderMissing(Refusal):
    """There is no role that reads backups, or this caller may not assume it."""

    sentence = "drill: {caller} may not assume {role}, which reads backups ({problem})"
    remedy = "doit bootstrap"


class BackupKeyMissing(Refusal):
    """A host shall back up, and has no key for the bucket: an administrator of the account makes it."""

    sentence = "server: {environment} backs up (backup.at), and has no key for that; an administrator of the account makes it"
    remedy = "doit bootstrap"


def wanted(run: Run, environment: Environment | None = None) -> bool:
    """Whether the hosts of the run's environment, or of another one, back up."""
    return bool((environment or run.environment).backup.at) and ROLE in run.profile.server.roles


def user(project: str, identity: str) -> str:
    """The name of the user whose key the hosts of an environment have."""
    return f"{project}-backup-{identity}"


def policy(bucket: str, identity: str, account: str) -> dict[str, Any]:
    """What the user may do. Deleting is left out, and the bucket keeps former versions: who has a host destroys no backup."""
    prefix = f"arn:aws:s3:::{bucket}/{layout.backups(identity)}"
    add = {"Add": (["s3:GetObject", "s3:PutObject"], [f"{prefix}*"])}
    return _rules(bucket, account, {**add, "Unlock": (["s3:DeleteObject"], [f"{prefix}locks/*"])})


def reading(bucket: str, account: str, identity: str = "*") -> dict[str, Any]:
    """What a host may do that tries a backup: it reads those of the environment, or of all."""
    read = {"Read": (["s3:GetObject"], [f"arn:aws:s3:::{bucket}/{layout.backups(identity)}*"])}
    return _rules(bucket, account, read)


def _rules(bucket: str, account: str, more: Mapping[str, tuple[list[str], list[str]]]) -> dict[str, Any]:
    ours = {"StringEquals": {"aws:ResourceAccount": account}}
    # without it, S3 says of a missing object that it is forbidden: it shows keys, and no content
    rules = {"See": (["s3:ListBucket"], [f"arn:aws:s3:::{bucket}"]), **more}
    statements = [
        {"Sid": name, "Effect": "Allow", "Action": actions, "Resource": resources, "Condition": ours}
        for name, (actions, resources) in rules.items()
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def remake(run: Run) -> None:
    """Put a second key of the user into the environment's secrets. A third one, which a rotation that was cut off has left, ends."""
    iam, name = run.cloud.client("iam"), user(run.pipeline.name, run.identity)
    end_others(run)
    _kept(run.cloud.client("ssm"), run.secrets_folder, iam.create_access_key(UserName=name)["AccessKey"])


def end_others(run: Run) -> None:
    """End the user's keys, but for the one in the environment's secrets."""
    iam, name = run.cloud.client("iam"), user(run.pipeline.name, run.identity)
    _end(iam, name, secrets.ensure(run.cloud.client("ssm"), run.secrets_folder).backup_key_id)


def _end(iam: Any, name: str, but: str = "") -> None:
    for each in iam.list_access_keys(UserName=name)["AccessKeyMetadata"]:
        if each["AccessKeyId"] != but:
            iam.delete_access_key(UserName=name, AccessKeyId=each["AccessKeyId"])


def _kept(ssm: Any, folder: str, key: Mapping[str, str]) -> None:
    values = (key["AccessKeyId"], key["SecretAccessKey"])
    secrets.settle(ssm, folder, dict(zip(secrets.BACKUP_KEY, values, strict=True)))


def make(iam: Any, ssm: Any, *, name: str, folder: str, allowed: Mapping[str, Any], project: str) -> None:
    """Make the user, and put a new key of its into the environment's secrets; keys that it had before end."""
    with already("EntityAlreadyExists"):
        iam.create_user(UserName=name, Tags=[{"Key": "project", "Value": project}])
    iam.put_user_policy(UserName=name, PolicyName=ROLE, PolicyDocument=json.dumps(allowed))
    _end(iam, name)
    _kept(ssm, folder, iam.create_access_key(UserName=name)["AccessKey"])


def reader(project: str) -> str:
    """The name of the role that reads backups."""
    return f"{project}-{READER}"


def readers(account: str) -> dict[str, Any]:
    """Who may assume that role: of this account, whom a policy of his own allows it."""
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{account}:root"},
        "Action": "sts:AssumeRole",
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def read_only(run: Run) -> dict[str, str]:
    """What the role is told on a host that only restores: a key that reads the environment's backups and ends within an hour.

    Raises ReaderMissing or BackupKeyMissing.
    """
    password = secrets.one(run.cloud.client("ssm"), run.secrets_folder, "backup_password")
    if not password:
        raise BackupKeyMissing(environment=run.environment_name)
    return _told(run, "", password, *_session(run))


def _session(run: Run) -> tuple[str, str, str]:
    """A key of the role, which reads the backups of this environment alone: id, secret and token. Raises ReaderMissing."""
    caller, account = run.cloud.caller(), run.cloud.account_id()
    role = f"arn:{caller.partition}:iam::{account}:role/{reader(run.pipeline.name)}"
    narrower = json.dumps(reading(run.bucket, account, run.identity))
    while True:
        try:
            taken = run.cloud.client("sts").assume_role(
                RoleArn=role, RoleSessionName=f"drill-{run.identity}"[:64], Policy=narrower
            )["Credentials"]
        except Exception as error:
            if not errors.denied(error):
                raise
            problem = errors.code(error)
        else:
            return taken["AccessKeyId"], taken["SecretAccessKey"], taken["SessionToken"]
        if not (run.cloud.own and _makes_reader(run)):
            raise ReaderMissing(caller=caller.arn, role=role, problem=problem)


def _makes_reader(run: Run) -> bool:
    """Whether the role was made, in a cloud of the run's own; a job's role makes nobody, and it is not made twice."""
    iam, name, account = run.cloud.client("iam"), reader(run.pipeline.name), run.cloud.account_id()
    try:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(readers(account)))
        allowed = json.dumps(reading(run.bucket, account))
        iam.put_role_policy(RoleName=name, PolicyName=READER, PolicyDocument=allowed)
    except Exception as error:
        if not errors.denied(error) and errors.code(error) != "EntityAlreadyExists":
            raise
        return False
    return True


def variables(run: Run, known: Secrets) -> dict[str, str]:
    """What the role is told: where the repository is, and the secrets; all empty where nothing is backed up.

    Raises BackupKeyMissing.
    """
    if not wanted(run):
        return {f"{ROLE}_{name}": "" for name in OPTIONS}
    if not known.backup_key_secret:
        known = _made(run)
    return _told(
        *(run, run.environment.backup.at, known.backup_password),
        *(known.backup_key_id, known.backup_key_secret, ""),
    )


def _told(run: Run, at: str, *secret: str) -> dict[str, str]:
    place = (repository(run, run.cloud.s3_endpoint), run.pipeline.region, run.identity)
    return {f"{ROLE}_{name}": value for name, value in zip(OPTIONS, (at, *place, *secret), strict=True)}


def repository(run: Run, endpoint: str) -> str:
    """The repository as restic names it."""
    return f"s3:{endpoint}/{run.bucket}/{layout.backups(run.identity).rstrip('/')}"


def names(run: Run) -> list[str]:
    """The names under which restic asks for the bucket: of AWS's endpoint it takes the one with IPv6."""
    host = urllib.parse.urlsplit(run.cloud.s3_endpoint).hostname or ""
    _, aws, country = host.partition(".amazonaws.com")
    if not aws:
        return [host]
    return [f"{run.bucket}.{each}.{run.pipeline.region}{aws}{country}" for each in ("s3", "s3.dualstack")]


def _made(run: Run) -> Secrets:
    """The secrets with a new key, where a run may make it: in a cloud of its own, as what all environments share."""
    if not run.cloud.own:
        raise BackupKeyMissing(environment=run.environment_name)
    ssm = run.cloud.client("ssm")
    allowed = policy(run.bucket, run.identity, run.cloud.account_id())
    try:
        make(
            run.cloud.client("iam"),
            ssm,
            name=user(run.pipeline.name, run.identity),
            folder=run.secrets_folder,
            allowed=allowed,
            project=run.pipeline.name,
        )
    except Exception as error:
        if not errors.denied(error):  # a job's role makes nobody
            raise
        raise BackupKeyMissing(environment=run.environment_name) from None
    return secrets.ensure(ssm, run.secrets_folder)
