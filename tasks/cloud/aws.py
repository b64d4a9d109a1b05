"""aws: Amazon's cloud, with the credentials that the AWS CLI uses."""

from __future__ import annotations

import contextlib
import functools
import os
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tasks.cloud import web_identity
from tasks.cloud.interface import Cloud
from tasks.refusal import Refusal

METADATA = {"metadata_service_timeout": 1, "metadata_service_num_attempts": 1}
"""Off EC2 the metadata address does not answer: ask once, for a second."""

DNS_POLL = 5.0
RETRIES = {"mode": "adaptive", "total_max_attempts": 8}
"""Adaptive: a client that is throttled slows down, because the limits are shared with the whole account."""
S3 = {
    # else presigned URLs name the global endpoint, which redirects for a new bucket: the signature fits no longer
    "signature_version": "s3v4",
    "s3": {"addressing_style": "virtual", "us_east_1_regional_endpoint": "regional"},
}


class CredentialsMissing(Refusal):
    """`cloud: aws`, and no credentials in the environment, the AWS files or the instance's role."""

    sentence = "cloud: no credentials for AWS ({problem})"
    remedy = "aws configure"


class CredentialsRefused(Refusal):
    """AWS, or the program or provider that a profile names, gives no credentials: a login is over, or a role may not be assumed."""

    sentence = "cloud: AWS gives this user or job no credentials ({problem})"
    remedy = "{remedy}"


LOGINS = {"sso": "aws sso login", "login": "aws login"}
"""How a person renews the credentials of such a profile."""


class Aws(Cloud):
    """An AWS account and region."""

    own = False

    def __init__(self, region: str, environ: Mapping[str, str] = os.environ) -> None:
        super().__init__(region)
        self._environ = environ

    def dns_poll(self) -> float:
        """Five seconds and a random part: the limit is the account's, and releases run side by side."""
        return DNS_POLL + random.uniform(0.0, DNS_POLL / 5)  # noqa: S311

    def _address(self, instance: Mapping[str, Any]) -> str:
        return str(instance.get("PublicIpAddress") or instance["PrivateIpAddress"])

    def url(self, host_name: str, *, https: bool) -> str:
        """The name alone: DNS resolves it."""
        return f"{'https' if https else 'http'}://{host_name}/"

    def http_address(self, host_name: str, *, https: bool) -> tuple[str, int]:
        """The scheme's own port of the name."""
        return host_name, 443 if https else 80

    def _needs_crt(self) -> bool:
        """Only the profiles of `aws login` need it."""
        file = Path(self._environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
        with contextlib.suppress(OSError, RuntimeError):  # no such file; no home
            return b"login_session" in file.expanduser().read_bytes()
        return False

    def _told_account(self) -> str:
        """Those of a role or of Identity Center do."""
        credentials = self._session.get_credentials()
        return str(getattr(credentials, "account_id", "") or "") if credentials else ""

    def _prepare(self, session: Any) -> None:
        # the region also of the requests for credentials: a token of the global endpoint is not valid in every region
        for name, value in {**METADATA, "region": self.region}.items():
            session.set_config_variable(name, value)

    def _sign_in(self, session: Any) -> None:
        import botocore.exceptions

        try:
            _ask_for_new_tokens(session, self._environ)
            credentials = session.get_credentials()
        except botocore.exceptions.BotoCoreError as error:
            raise CredentialsMissing(problem=str(error)) from None
        if credentials is None:
            raise CredentialsMissing(problem="neither environment, AWS files nor a role has any")
        try:
            # at once: a CI job's token lives for minutes. From then on botocore renews them before they end
            credentials.get_frozen_credentials()
        except (
            *(botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError),
            *(OSError, ValueError, KeyError),  # of the file or the provider with the job's token
        ) as error:
            remedy = LOGINS.get(credentials.method, "aws sts get-caller-identity")
            raise CredentialsRefused(problem=str(error), remedy=remedy) from None

    def _connect(self, service: str) -> Any:
        session = self._session  # first: it decides what botocore loads
        from botocore.config import Config

        return session.client(service, config=Config(retries=RETRIES, **(S3 if service == "s3" else {})))


def _ask_for_new_tokens(session: Any, environ: Mapping[str, str]) -> None:
    """Let botocore get a CI job's token from `web_identity`, each time that it assumes the role anew."""
    from botocore.credentials import AssumeRoleWithWebIdentityProvider

    profile = session.get_config_variable("profile")
    session.get_component("credential_provider").insert_before(
        AssumeRoleWithWebIdentityProvider.METHOD,
        AssumeRoleWithWebIdentityProvider(
            load_config=lambda: session.full_config,
            client_creator=functools.partial(
                session.create_client, region_name=session.get_config_variable("region")
            ),
            profile_name=profile or "default",
            disable_env_vars=session.instance_variables().get("profile") is not None,
            token_loader_cls=web_identity.loader(environ),
        ),
    )
