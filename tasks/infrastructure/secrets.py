"""secrets: made on first use, kept encrypted in the cloud's parameter store, and nowhere else."""

from __future__ import annotations

import base64
import datetime
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tasks.cloud.errors import already
from tasks.infrastructure.waiting import POLL
from tasks.process import children
from tasks.refusal import Refusal


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """One environment's secrets; their `repr` does not show them."""

    deploy_key: str = field(repr=False)
    deploy_key_public: str
    database_password: str = field(default="", repr=False)
    crypt_key: str = field(default="", repr=False)
    administrator_password: str = field(default="", repr=False)
    administrator_secret: str = field(default="", repr=False)
    search_password: str = field(default="", repr=False)
    backup_password: str = field(default="", repr=False)
    site_password: str = field(default="", repr=False)
    backup_key_id: str = ""
    backup_key_secret: str = field(default="", repr=False)
    mail_password: str = field(default="", repr=False)
    relay_password: str = field(default="", repr=False)
    certificate: str = field(default="", repr=False)
    own_certificate: str = field(default="", repr=False)
    database_password_before: str = field(default="", repr=False)
    backup_password_next: str = field(default="", repr=False)
    deploy_key_next: str = field(default="", repr=False)
    deploy_key_before: str = ""
    others: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What somebody has brought for services elsewhere, by the names that roles give it (meta/network.yml)."""

    def value(self, name: str) -> str:
        """The secret of that name; empty where there is none."""
        return str(self.others.get(name, "") or getattr(self, name, ""))


def _deploy_key() -> str:
    # costs start-up time, and is needed only to make a key
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return private.decode()


class SecretNotListed(Refusal):
    """The parameter store has a secret, and does not list it."""

    sentence = "infrastructure: the parameter {name} exists and is not listed"
    remedy = "doit infrastructure"


class SecretExists(Refusal):
    """A secret with which data is encrypted is there already, and another one is brought."""

    sentence = "secrets: {name} exists, and data may be encrypted with it: another one is not taken"
    remedy = "doit history  # a new environment takes another one before its first release"


Made = Mapping[str, str]
READS = 20
"""Lists that a secret of another run may be missing from."""
SURE = 2
"""Lists in a row that show what was written: the one after the first may be behind again."""
MAKE: dict[str, Callable[[Made], str]] = {
    "deploy_key": lambda made: _deploy_key(),
    # stored as well, so that reading it does not load a library for keys
    "deploy_key_public": lambda made: public_key(made["deploy_key"]),
    "database_password": lambda made: secrets.token_urlsafe(24),
    "crypt_key": lambda made: secrets.token_hex(16),
    # with a letter and a digit, which an application may ask for
    "administrator_password": lambda made: f"{secrets.token_urlsafe(24)}a1",
    # base32: the codes of six digits are computed from it
    "administrator_secret": lambda made: base64.b32encode(secrets.token_bytes(20)).decode(),
    "backup_password": lambda made: secrets.token_urlsafe(32),
    "site_password": lambda made: secrets.token_urlsafe(18),
    "mail_password": lambda made: secrets.token_urlsafe(24),
}
"""How each secret is made; it may use those before it."""
ALWAYS = ("deploy_key", "deploy_key_public")
OF_ROLES = {
    "database": ("database_password",),
    "shared": ("crypt_key",),
    "release": ("administrator_password", "administrator_secret"),
    "backup": ("backup_password",),
    "nginx": ("site_password",),
    "mail": ("mail_password",),
}
"""The secrets that a role is told; `release` only where the application is installed, `backup` where it backs up, `nginx` where visitors
are asked for a password, `mail` where it catches."""
BACKUP_KEY = ("backup_key_id", "backup_key_secret")
"""The access key with which a host backs up: `tasks/backup` makes it, or an administrator."""
BROUGHT = ("crypt_key", "search_password", "relay_password", "certificate")
"""Secrets that a person may bring: `doit secrets set NAME`. The pipeline makes a crypt key where nobody has brought one."""
RENEWED = ("own_certificate",)
"""Those that `tasks/server/certificates.py` makes, and makes anew before they expire."""
AUTHORITY = "certificate_authority"
"""What it makes once for all environments of a name, in a folder of its own."""
ORDERED = "acme_certificate"
"""What an ACME authority has issued for all environments of a name, beside that."""
ONCE = ("crypt_key",)
"""Secrets with which data is encrypted: another one would make the data useless."""
ROTATING = ("database_password_before", "backup_password_next", "deploy_key_next", "deploy_key_before")
"""Those that are there as long as a rotation is not finished: the value that ends, or the one that comes; of a deploy key that ends, its public half."""
NAMES = tuple(dict.fromkeys((*MAKE, *BROUGHT, *BACKUP_KEY, *RENEWED, *ROTATING)))


def ensure(ssm: Any, folder: str, roles: Iterable[str] = ()) -> Secrets:
    """The secrets in a folder of the parameter store; makes those that do not exist, and the roles that are given need."""
    found = _read(ssm, folder)
    wanted = {*ALWAYS, *(name for each in roles for name in OF_ROLES.get(each, ()))}
    for name, make in MAKE.items():
        if name in wanted - found.keys():
            found[name] = _put(ssm, folder, name, make(found))
    return _secrets(found)


def made(name: str) -> str:
    """Another value of a secret that needs no other one."""
    return MAKE[name]({})


def _put(ssm: Any, folder: str, name: str, value: str, *, overwrite: bool = False) -> str:
    """Write a secret, and return the one that counts: what was written, as a list shows it late, or another run's."""
    with already("ParameterAlreadyExists"):
        more: dict[str, Any] = {"Overwrite": True} if overwrite else {}
        if name == ORDERED:  # a chain may be longer than the 4096 characters that cost nothing
            more["Tier"] = "Intelligent-Tiering"
        ssm.put_parameter(Name=f"{folder}/{name}", Value=value, Type="SecureString", **more)
        return value
    for _ in range(READS):  # another run was faster
        if other := _read(ssm, folder).get(name):
            return other
        children.wait(POLL, stage="infrastructure")
    raise SecretNotListed(name=f"{folder}/{name}")


def bring(ssm: Any, folder: str, name: str, value: str) -> None:
    """Keep a secret that a person has. Raises SecretExists for another crypt key than the one that is there."""
    if _put(ssm, folder, name, value, overwrite=name not in ONCE) != value:
        raise SecretExists(name=name)


def keep(ssm: Any, folder: str, values: Mapping[str, str]) -> None:
    """Write secrets that were made elsewhere, in place of those that are there."""
    for name, value in values.items():
        _put(ssm, folder, name, value, overwrite=True)


def authority(ssm: Any, folder: str) -> str:
    """The authority in a folder; empty where there is none yet."""
    return _read(ssm, folder).get(AUTHORITY, "")


def found_authority(ssm: Any, folder: str, value: str, *, instead: bool) -> str:
    """Write an authority, and return the one that counts: several branches may make the first one at once.

    Raises SecretNotListed.
    """
    if instead:
        settle(ssm, folder, {AUTHORITY: value})
        return value
    return _put(ssm, folder, AUTHORITY, value)


def ordered(ssm: Any, folder: str) -> str:
    """What an ACME authority has issued, with what the run has noted of it; empty where there is none yet."""
    return _read(ssm, folder).get(ORDERED, "")


def account_key(ssm: Any, folder: str, name: str, make: Callable[[], str]) -> str:
    """The key of the account that an environment's name has with ACME authorities; it is made at first use. Raises SecretNotListed."""
    return _read(ssm, folder).get(name) or _put(ssm, folder, name, make())


def settle(ssm: Any, folder: str, values: Mapping[str, str | None]) -> None:
    """Write these, remove those of None, and wait until a list shows all of it: who reads an old one would act on it.

    Raises SecretNotListed.
    """
    keep(ssm, folder, {name: value for name, value in values.items() if value is not None})
    for name in (name for name, value in values.items() if value is None):
        with already("ParameterNotFound"):
            ssm.delete_parameter(Name=f"{folder}/{name}")
    seen = 0
    for _ in range(READS):
        found = _read(ssm, folder)
        seen = seen + 1 if all(found.get(name) == value for name, value in values.items()) else 0
        if seen == SURE:
            return
        if not seen:
            children.wait(POLL, stage="secrets")
    raise SecretNotListed(name=f"{folder}/{', '.join(values)}")


def one(ssm: Any, folder: str, name: str) -> str:
    """A secret of a folder of which the caller may read no other one; empty where there is none."""
    with already("ParameterNotFound"):
        return str(ssm.get_parameter(Name=f"{folder}/{name}", WithDecryption=True)["Parameter"]["Value"])
    return ""


def changed(ssm: Any, folder: str) -> dict[str, datetime.datetime]:
    """When each parameter of a folder, and of those below it, was written last; its value is not asked for."""
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=folder, Recursive=True)
    return {
        each["Name"].removeprefix(f"{folder}/"): each["LastModifiedDate"]
        for page in pages
        for each in page["Parameters"]
    }


def has_backup_key(ssm: Any, folder: str) -> bool:
    """Whether the folder has the access key with which a host backs up."""
    return _read(ssm, folder).keys() >= set(BACKUP_KEY)


def known(ssm: Any, folder: str) -> Secrets | None:
    """The secrets in a folder, or None if there is no deploy key yet. Makes none."""
    found = _read(ssm, folder)
    return _secrets(found) if found.keys() >= set(ALWAYS) else None


def _secrets(found: Made) -> Secrets:
    known = {name: found[name] for name in NAMES if name in found}
    return Secrets(**known, others={name: each for name, each in found.items() if name not in NAMES})


def names(ssm: Any, folder: str) -> list[str]:
    """The full names of all parameters in a folder."""
    return [f"{folder}/{name}" for name in sorted(_read(ssm, folder))]


def expected(folder: str, listed: Iterable[str]) -> tuple[str, ...]:
    """The full names of the parameters that a folder may have: those that are listed, and all that the pipeline knows."""
    return tuple(sorted({*listed, *(f"{folder}/{name}" for name in NAMES)}))


def public_key(deploy_key: str) -> str:
    """The public key as a line of OpenSSH."""
    # costs start-up time, as above
    from cryptography.hazmat.primitives import serialization

    public = serialization.load_ssh_private_key(deploy_key.encode(), password=None).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _read(ssm: Any, path: str) -> dict[str, str]:
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=path, WithDecryption=True)
    return {each["Name"].rpartition("/")[2]: each["Value"] for page in pages for each in page["Parameters"]}
