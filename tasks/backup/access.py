"""access: what a host that backs up may do in the bucket: it reads and adds, and removes nothing but its own locks."""

from __future__ import annotations

import json
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

SECRET = ("password", "key_id", "key_secret")
"""What opens the repository, as options of the role."""


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
    arn, ours = f"arn:aws:s3:::{bucket}", {"StringEquals": {"aws:ResourceAccount": account}}
    prefix = f"{arn}/{layout.backups(identity)}"
    rules = {
        # without it, S3 says of a missing object that it is forbidden: it shows keys, and no content
        "See": (["s3:ListBucket"], [arn]),
        "Add": (["s3:GetObject", "s3:PutObject"], [f"{prefix}*"]),
        "Unlock": (["s3:DeleteObject"], [f"{prefix}locks/*"]),
    }
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


def variables(run: Run, known: Secrets) -> dict[str, str]:
    """What the role is told: where the repository is, and the secrets; all empty where nothing is backed up.

    Raises BackupKeyMissing.
    """
    names = ("at", "repository", "region", "host", *SECRET)
    if not wanted(run):
        return {f"{ROLE}_{name}": "" for name in names}
    if not known.backup_key_secret:
        known = _made(run)
    values = (
        run.environment.backup.at,
        *(repository(run, run.cloud.s3_endpoint), run.pipeline.region, run.identity),
        *(known.backup_password, known.backup_key_id, known.backup_key_secret),
    )
    return {f"{ROLE}_{name}": value for name, value in zip(names, values, strict=True)}


def repository(run: Run, endpoint: str) -> str:
    """The repository as restic names it."""
    return f"s3:{endpoint}/{run.bucket}/{layout.backups(run.identity).rstrip('/')}"


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
