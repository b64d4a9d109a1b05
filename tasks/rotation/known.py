"""known: the secrets of an environment as people name them: who uses each, how old it is, how it gets another value."""

from __future__ import annotations

import datetime
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks import endpoints
from tasks.clock import stamped
from tasks.cloud.errors import denied
from tasks.infrastructure import memory, secrets
from tasks.tarball import signature

if TYPE_CHECKING:
    from tasks.run import Run

ROTATED = "doit secrets rotate"
"""What gives most of them another value."""


@dataclass(frozen=True, kw_only=True)
class KeptSecret:
    """One secret. `parameters`: where it is kept; `users`: who has its value; `way`: how it gets another one, or why it does not."""

    name: str
    parameters: tuple[str, ...]
    users: str
    way: str = ROTATED


SIGNING, HOST_KEYS = "signing_key", "host_keys"
KNOWN = (
    KeptSecret(
        name="database_password",
        parameters=("database_password",),
        users="the role database, and the application's configuration (shared)",
    ),
    KeptSecret(
        name="backup_password",
        parameters=("backup_password",),
        users="the role backup, doit backup --forget and doit drill",
    ),
    KeptSecret(name="backup_key", parameters=secrets.BACKUP_KEY, users="the role backup, for the bucket"),
    KeptSecret(
        name="own_certificate",
        parameters=secrets.RENEWED,
        users="the role certificates, and whoever trusts the environment's authority",
    ),
    KeptSecret(
        name="mail_password",
        parameters=("mail_password",),
        users="the role mail, and who reads caught mail (doit secrets show mail)",
    ),
    KeptSecret(
        name="site_password",
        parameters=("site_password",),
        users="the role nginx, and visitors (doit secrets show site)",
    ),
    KeptSecret(
        name="deploy_key", parameters=secrets.ALWAYS, users="the pipeline, which logs in to the hosts"
    ),
    KeptSecret(name=HOST_KEYS, parameters=(), users="sshd on the hosts, which keep them"),
    KeptSecret(name=SIGNING, parameters=(), users="the job that builds, and doit key"),
    KeptSecret(
        name="crypt_key",
        parameters=("crypt_key",),
        users="the application's configuration (shared)",
        way="not here: what the database has is encrypted with it (docs/handover.md)",
    ),
    KeptSecret(
        name="administrator",
        parameters=("administrator_password", "administrator_secret"),
        users="the first installation (release)",
        way="in the application's admin: doit open admin",
    ),
    KeptSecret(
        name="search_password",
        parameters=("search_password",),
        users="the role search, and the application's configuration (shared)",
        way="doit secrets set search_password",
    ),
    KeptSecret(
        name="relay_password",
        parameters=("relay_password",),
        users="the role mail, for the relay",
        way="doit secrets set relay_password",
    ),
    KeptSecret(
        name="certificate",
        parameters=("certificate",),
        users="the role certificates",
        way="doit secrets set certificate",
    ),
)
"""In the order in which `rotate --all` takes them: what hosts are told first, then how they are logged in to."""
ROTATABLE = tuple(each.name for each in KNOWN if each.way == ROTATED)


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A line of `doit secrets`. `changed`: None where nobody knows; `by`: who has rotated it last; `unfinished`: a rotation of it."""

    name: str
    changed: datetime.datetime | None
    users: str
    way: str
    by: str = ""
    stale: bool = False
    unfinished: bool = False


def listed(run: Run) -> list[Listed]:
    """Every secret that the environment has. No value is asked for."""
    ssm, kept = run.cloud.client("ssm"), memory.known(run.store, run.identity)
    changed = secrets.changed(ssm, run.secrets_folder)
    signed = _signing(run)
    hosts = kept.get("host_keys", {})
    rotated: Mapping[str, Mapping[str, str]] = kept.get("rotated", {})
    found = {
        each.name: _oldest(changed, each.parameters)
        for each in KNOWN
        if any(name in changed for name in each.parameters)
    }
    found |= {SIGNING: signed} if signed else {}
    found |= {HOST_KEYS: _at(rotated, HOST_KEYS)} if hosts else {}
    brought = endpoints.brought(run)
    ways = {name: endpoints.way(each) for name, each in brought.items()}
    halfway = unfinished(changed)
    days = run.environment.secrets.days
    oldest = run.clock.now() - datetime.timedelta(days=days)
    lines = [
        Listed(
            name=each.name,
            changed=found[each.name],
            users=each.users,
            way=ways.get(each.name, each.way),
            by=rotated.get(each.name, {}).get("by", ""),
            stale=bool(days and (at := found[each.name]) and at < oldest),
            unfinished=each.name in halfway,
        )
        for each in KNOWN
        if each.name in found
    ]
    of_known = {name for each in KNOWN for name in each.parameters} | {*secrets.ROTATING}
    others = [
        Listed(
            name=name,
            changed=changed[name],
            users=_users(name, brought),
            way=ways.get(name, "aws ssm put-parameter"),
            stale=bool(days and changed[name] < oldest),
        )
        for name in sorted(changed.keys() - of_known)
    ]
    return [*lines, *others]


def unfinished(kept: Collection[str]) -> list[str]:
    """The secrets whose rotation was cut off, by the names of what is kept."""
    begun = tuple(each for each in secrets.ROTATING if each in kept)
    return [name for name in ROTATABLE if any(each.startswith(f"{name}_") for each in begun)]


def _users(name: str, brought: Mapping[str, object]) -> str:
    if name in brought:
        return f"who connects to {brought[name]}"
    return "docs/news.md" if name.startswith("news/") else "nothing of the pipeline"


def _oldest(changed: Mapping[str, datetime.datetime], names: Collection[str]) -> datetime.datetime | None:
    return min((changed[name] for name in names if name in changed), default=None)


def _at(rotated: Mapping[str, Mapping[str, str]], name: str) -> datetime.datetime | None:
    stamp = rotated.get(name, {}).get("at")
    return stamped(stamp) if stamp else None


def _signing(run: Run) -> datetime.datetime | None:
    """When the signing key was made, as far as this role may see it."""
    ssm = run.cloud.client("ssm")
    folder, _, name = signature.parameter(run).rpartition("/")
    try:
        return secrets.changed(ssm, folder).get(name)
    except ssm.exceptions.ClientError as error:
        if not denied(error):
            raise
        return None
