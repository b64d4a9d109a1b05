"""client: connects to the embedded cloud, and starts it if it does not run."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.cloud.embedded.address import ACCOUNT, LOOPBACK
from tasks.cloud.interface import Cloud, Say

if TYPE_CHECKING:
    from tasks.cloud.embedded.home import CloudIdentity


class Embedded(Cloud):
    """The cloud that answers AWS's API on loopback."""

    def __init__(self, region: str, find: Callable[[], CloudIdentity]) -> None:
        super().__init__(region)
        self._find = find
        self._making = threading.Lock()

    @functools.cached_property
    def _identity(self) -> CloudIdentity:
        with self._lock:
            return self._find()

    def _told_account(self) -> str:
        return ACCOUNT

    def _address(self, instance: Mapping[str, Any]) -> str:
        return str(instance["PrivateIpAddress"])  # of a running host: podman has confirmed it

    def url(self, host_name: str) -> str:
        """The name and the forwarder's port; `*.localhost` is loopback to every browser."""
        return f"http://{host_name}:{self._identity.forward_port}/"

    def http_address(self, host_name: str) -> tuple[str, int]:
        """The forwarder."""
        return LOOPBACK, self._identity.forward_port

    def _prepare(self, session: Any) -> None:
        """Take nothing from the user's AWS files and variables: they are about another cloud."""
        from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES, ConstantProvider

        settings = session.get_component("config_store")
        defaults = {name: default for name, (_, _, default, _) in BOTOCORE_DEFAUT_SESSION_VARIABLES.items()}
        ours = {"region": self.region, "config_file": os.devnull, "credentials_file": os.devnull}
        for name, value in (defaults | ours).items():
            settings.set_config_provider(name, ConstantProvider(value=value))

    def _connect(self, service: str) -> Any:
        key, secret = self._identity.key or "nobody", self._identity.secret or "nobody"
        return self._client_at(LOOPBACK, service, key, secret)

    def _signer(self) -> Any:
        return self._client_at(self._identity.gateway, "s3", *self._identity.presigning)

    def _client_at(self, address: str, service: str, key: str, secret: str) -> Any:
        with self._making:
            session = self._session  # first: it decides what botocore loads
            from botocore.config import Config

            return session.client(
                service,
                endpoint_url=f"http://{address}:{self._identity.port}",
                config=Config(
                    retries={"mode": "standard", "total_max_attempts": 6},
                    # as over HTTPS: a CRC covers the payload; a SHA-256 in the signature would be a second checksum
                    s3={"addressing_style": "path", "payload_signing_enabled": False},
                    signature_version="v4" if service != "s3" else "s3v4",
                    proxies={},  # this machine's proxy does not lead to this machine
                ),
                aws_access_key_id=key,
                aws_secret_access_key=secret,
            )


def connect(region: str, say: Say, environ: Mapping[str, str] = os.environ) -> Embedded:
    """The user's cloud. Its first use starts it if it does not run."""
    return Embedded(region, lambda: _running(say, environ))


def _running(say: Say, environ: Mapping[str, str]) -> CloudIdentity:
    from tasks.cloud.embedded import home  # 3 ms to import, and `doit list` asks no cloud

    place = home.of(environ)
    if not place.running():
        from tasks.cloud.embedded import lifecycle  # 20 ms to import, and mostly the cloud runs

        lifecycle.start(say, environ)
    return place.load()
