"""secrets: made on first use, kept encrypted in the cloud's parameter store, and nowhere else."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.aws_error import already

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.run import Run


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """One environment's secrets. Their text never shows in a representation."""

    deploy_key: str = field(repr=False)
    database_password: str = field(repr=False)
    crypt_key: str = field(repr=False)


def _deploy_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return private.decode()


MAKE: dict[str, Callable[[], str]] = {
    "deploy_key": _deploy_key,
    "database_password": lambda: secrets.token_urlsafe(24),
    "crypt_key": lambda: secrets.token_hex(16),
}


def folder(run: Run) -> str:
    """The parameters' common path."""
    return f"/{run.pipeline.name}/{run.identity}"


def find(run: Run) -> Secrets | None:
    """The environment's secrets if all of them exist."""
    found = _read(run.cloud.client("ssm"), folder(run))
    return Secrets(**{name: found[name] for name in MAKE}) if MAKE.keys() <= found.keys() else None


def ensure(run: Run) -> Secrets:
    """The environment's secrets; those that do not exist yet are made."""
    ssm = run.cloud.client("ssm")
    known = find(run)
    while not known:
        for name in MAKE:
            with already("ParameterAlreadyExists"):  # an earlier run made it, or another one was faster
                ssm.put_parameter(Name=f"{folder(run)}/{name}", Value=MAKE[name](), Type="SecureString")
        known = find(run)
    return known


def names(run: Run) -> list[str]:
    """Full names of all parameters of the environment."""
    return [f"{folder(run)}/{name}" for name in sorted(_read(run.cloud.client("ssm"), folder(run)))]


def public_key(deploy_key: str) -> str:
    """The OpenSSH line of the public half."""
    from cryptography.hazmat.primitives import serialization

    public = serialization.load_ssh_private_key(deploy_key.encode(), password=None).public_key()
    return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()


def _read(ssm: Any, path: str) -> dict[str, str]:
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path=path, WithDecryption=True)
    return {each["Name"].rpartition("/")[2]: each["Value"] for page in pages for each in page["Parameters"]}
