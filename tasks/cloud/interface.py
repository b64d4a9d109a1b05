"""interface: the only place that knows on what a release runs: AWS, or the embedded cloud that stands in for it."""

from __future__ import annotations

import functools
import re
import sys
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, Literal

from tasks.process import children
from tasks.refusal import CloudSaysNo, CloudUnreachable, HostDown, HostKeysMissing, Refusal

Say = Callable[[str], None]
LOGIN_USER = "deploy"
KEYS = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
KEYS_WITHIN = 300
"""Seconds in which a new host's console shows its keys; AWS refreshes consoles reluctantly."""
SERVICES = ["ec2", "route53", "s3", "ssm", "sts"]
"""The services that are used."""


class Cloud(ABC):
    """What the stages ask of a cloud. Clients are boto3's, made once, and may be used from any thread."""

    login_user = LOGIN_USER
    """The user that the deploy key logs in as; the stages' user data makes it."""

    def __init__(self, region: str) -> None:
        self.region = region
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The boto3 client of a service."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._connect(service)
            return self._clients[service]

    def presigned_url(self, bucket: str, key: str, seconds: int) -> str:
        """A URL by which a host may fetch an object for some time."""
        parameters = {"Bucket": bucket, "Key": key}
        url: str = self._signer().generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        return url

    def host_keys(self, instance_id: str, say: Say) -> list[str]:
        """The public SSH host keys that a new host has printed on its console, as `type key` lines.

        Raises HostKeysMissing.
        """
        for second in range(KEYS_WITHIN * 2):
            answer = self.client("ec2").get_console_output(InstanceId=instance_id)
            found = KEYS.findall(answer.get("Output", "").replace("\r", ""))
            if found:
                lines = (line.split() for line in found[-1].strip().splitlines())
                return [" ".join(words[:2]) for words in lines if len(words) >= 2]
            if second % 10 == 4:
                say(f"waiting for the host keys of {instance_id}")
            children.wait(0.5, stage="infrastructure")
        raise HostKeysMissing(host=instance_id, seconds=KEYS_WITHIN)

    def reachable_at(self, instance: Mapping[str, Any]) -> str:
        """The address to log in at, of the running instance that has this `InstanceId`. Raises HostDown."""
        id = instance["InstanceId"]
        # by filter: asked by id, EC2 may not know yet what it lists already
        found = self.client("ec2").describe_instances(Filters=[{"Name": "instance-id", "Values": [id]}])
        for now in (each for reservation in found["Reservations"] for each in reservation["Instances"]):
            if now["State"]["Name"] != "running":
                raise HostDown(host=id, state=now["State"]["Name"])
            return self._address(now)
        raise HostDown(host=id, state="unknown")

    @functools.cached_property
    def _session(self) -> Any:
        """boto3's session, for one thread at a time; its clients are for all."""
        import boto3
        import botocore.loaders
        import botocore.session

        class Loader(botocore.loaders.Loader):
            """The services are known: botocore would look through the folders of four hundred, once for each kind of file."""

            def list_available_services(self, type_name: str) -> list[str]:
                return SERVICES

        session = botocore.session.Session()
        session.register_component("data_loader", Loader())
        self._prepare(session)
        return boto3.Session(botocore_session=session, region_name=self.region)

    def _prepare(self, session: Any) -> None:  # noqa: B027  nothing, mostly
        """What a cloud needs of its session."""

    @abstractmethod
    def _address(self, instance: Mapping[str, Any]) -> str: ...

    @abstractmethod
    def url(self, host_name: str) -> str:
        """What a person types to see the site."""

    @abstractmethod
    def http_address(self, host_name: str) -> tuple[str, int]:
        """Where to connect for that URL, with the name as Host header."""

    @abstractmethod
    def _connect(self, service: str) -> Any: ...

    def _signer(self) -> Any:
        return self.client("s3")


def refusal_of(error: BaseException) -> Refusal | None:
    """What an error of the cloud's API is to a person; None if it is no such error."""
    if "botocore.exceptions" not in sys.modules:
        return None
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ClientError):
        said = error.response.get("Error", {})
        problem = f"{said.get('Code')}: {said.get('Message')}"
        return CloudSaysNo(action=error.operation_name, problem=problem)
    return CloudUnreachable(problem=str(error)) if isinstance(error, BotoCoreError) else None


def connect(*, name: Literal["embedded", "aws"], region: str, say: Say) -> Cloud:
    """The cloud that a project's settings name; the embedded one is started if it does not run.

    Raises a refusal of the embedded cloud's start.
    """
    if name == "embedded":
        from tasks.cloud.embedded import client

        return client.connect(region, say)
    from tasks.cloud import aws

    return aws.Aws(region)
