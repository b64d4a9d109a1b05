"""client: connects to the embedded cloud, and starts it if it does not run."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.cloud import assumed_role
from tasks.cloud.embedded.address import ACCOUNT, LOOPBACK
from tasks.cloud.interface import Cloud, Say

if TYPE_CHECKING:
    from tasks.cloud.embedded.home import CloudIdentity


OWN_ROLES = "arn:aws:iam::123456789012:role/"
"""Roles of the embedded cloud's account, which no account of AWS is."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A CI job that has a role of this cloud: it assumes it with its provider's token, as on AWS."""

    role: str
    token: Path
    session: str


def job_of(environ: Mapping[str, str]) -> Job | None:
    """The job that the environment says this is; None for everybody else, who is the cloud's administrator."""
    role, token = environ.get("AWS_ROLE_ARN", ""), environ.get("AWS_WEB_IDENTITY_TOKEN_FILE", "")
    if not role.startswith(OWN_ROLES) or not token:
        return None
    return Job(role=role, token=Path(token), session=environ.get("AWS_ROLE_SESSION_NAME", "job"))


class Embedded(Cloud):
    """The cloud that answers AWS's API on loopback."""

    def __init__(self, region: str, find: Callable[[], CloudIdentity], job: Job | None = None) -> None:
        super().__init__(region)
        self._find, self._job = find, job
        self._making = threading.Lock()

    @functools.cached_property
    def _identity(self) -> CloudIdentity:
        with self._lock:
            return self._find()

    @property
    def bucket_port(self) -> int:  # type: ignore[override]
        """The cloud's own, at the network's gateway."""
        return self._identity.port

    def _told_account(self) -> str:
        return ACCOUNT

    def _address(self, instance: Mapping[str, Any]) -> str:
        return str(instance["PrivateIpAddress"])  # of a running host: podman has confirmed it

    def url(self, host_name: str, *, https: bool) -> str:
        """The name and the forwarder's port; `*.localhost` is loopback to every browser."""
        return f"{'https' if https else 'http'}://{host_name}:{self._identity.forward_port}/"

    def http_address(self, host_name: str, *, https: bool) -> tuple[str, int]:
        """The forwarder, whose port takes either."""
        return LOOPBACK, self._identity.forward_port

    def _prepare(self, session: Any) -> None:
        """Take nothing from the user's AWS files and variables: they are about another cloud."""
        from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider

        settings = session.get_component("config_store")
        defaults = {name: default for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()}
        ours = {"region": self.region, "config_file": os.devnull, "credentials_file": os.devnull}
        for name, value in (defaults | ours).items():
            settings.set_config_provider(name, ConstantProvider(value=value))

    def _sign_in(self, session: Any) -> None:
        if job := self._job:
            assumed_role.register(session, "assume-role-with-web-identity", lambda: self._by_token(job))

    def _by_token(self, job: Job) -> Mapping[str, Any]:
        """A session of the job's role."""
        import botocore
        from botocore.config import Config

        unsigned = Config(signature_version=botocore.UNSIGNED, proxies={})
        sts = self._session.client("sts", endpoint_url=self._endpoint(LOOPBACK), config=unsigned)
        taken: Mapping[str, Any] = sts.assume_role_with_web_identity(
            RoleArn=job.role, RoleSessionName=job.session, WebIdentityToken=job.token.read_text()
        )
        return taken

    def _endpoint(self, address: str) -> str:
        return f"http://{address}:{self._identity.port}"

    def _keys(self, key: str, secret: str) -> dict[str, str]:
        """The administrator's; whoever has a role signs everything with its own, as on AWS."""
        return {} if self._job or self.role else {"aws_access_key_id": key, "aws_secret_access_key": secret}

    def credentials(self) -> dict[str, str]:
        """The administrator's, or those of the role."""
        keys = self._keys(self._identity.key, self._identity.secret)
        return {name.upper(): value for name, value in keys.items()} or super().credentials()

    def _connect(self, service: str) -> Any:
        identity = self._identity
        keys = self._keys(identity.key or "nobody", identity.secret or "nobody")
        return self._client_at(LOOPBACK, service, keys)

    def _signer(self) -> Any:
        return self._client_at(self._identity.gateway, "s3", self._keys(*self._identity.presigning))

    def _client_at(self, address: str, service: str, keys: Mapping[str, str]) -> Any:
        with self._making:
            session = self._session  # first: it decides what botocore loads
            from botocore.config import Config

            return session.client(
                service,
                endpoint_url=self._endpoint(address),
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 6},
                    # as over HTTPS: a CRC covers the payload; a SHA-256 in the signature would be a second checksum
                    s3={"addressing_style": "path", "payload_signing_enabled": False},
                    signature_version="v4" if service != "s3" else "s3v4",
                    proxies={},  # this machine's proxy does not lead to this machine
                ),
                **keys,
            )


def connect(region: str, say: Say, environ: Mapping[str, str] = os.environ) -> Embedded:
    """The user's cloud. Its first use starts it if it does not run."""
    return Embedded(region, lambda: _running(say, environ), job_of(environ))


def _running(say: Say, environ: Mapping[str, str]) -> CloudIdentity:
    from tasks.cloud.embedded import home  # 3 ms to import, and `doit list` asks no cloud

    place = home.of(environ)
    if not place.running():
        from tasks.cloud.embedded import lifecycle  # 20 ms to import, and mostly the cloud runs

        lifecycle.start(say, environ)
    return place.load()
