"""aws: Amazon's cloud, with the credentials that the AWS CLI uses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tasks.cloud.interface import Cloud
from tasks.refusal import Refusal

METADATA = {"metadata_service_timeout": 1, "metadata_service_num_attempts": 1}
"""Off EC2 the metadata address does not answer: ask once, for a second."""

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


class Aws(Cloud):
    """An AWS account and region."""

    def _address(self, instance: Mapping[str, Any]) -> str:
        return str(instance.get("PublicIpAddress") or instance["PrivateIpAddress"])

    def url(self, host_name: str) -> str:
        """The name alone: DNS resolves it."""
        return f"http://{host_name}/"

    def http_address(self, host_name: str) -> tuple[str, int]:
        """Port 80 of the name."""
        return host_name, 80

    def _prepare(self, session: Any) -> None:
        import botocore.exceptions

        for name, value in METADATA.items():
            session.set_config_variable(name, value)
        try:
            if session.get_credentials() is None:
                raise CredentialsMissing(problem="neither environment, AWS files nor a role has any")
        except botocore.exceptions.BotoCoreError as error:
            raise CredentialsMissing(problem=str(error)) from None

    def _connect(self, service: str) -> Any:
        from botocore.config import Config

        return self._session.client(
            service, config=Config(retries=RETRIES, **(S3 if service == "s3" else {}))
        )
