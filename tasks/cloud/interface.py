"""interface: what a cloud offers to the stages, be it AWS or the embedded one."""

from __future__ import annotations

import copy
import functools
import sys
import threading
import types
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, cast

from tasks.cloud import assumed_role, host_keys
from tasks.cloud.caller import Caller
from tasks.process import children
from tasks.refusal import Refusal

Say = Callable[[str], None]
LOGIN_USER = "deploy"
DNS_POLL = 0.5
LOOKS, LOOK_EVERY = 6, 0.5
"""How often an instance is looked for that is not listed or not running yet, and the seconds between two looks."""
READS = ("Describe", "Get", "List", "Head")
"""How the names of operations begin that change nothing."""


class HostDown(Refusal):
    """A host is not running, so its address may belong to another one."""

    sentence = "cloud: {host} is {state}, not running"
    remedy = "doit cloud status"


class AccountWrong(Refusal):
    """The credentials are for another account than the settings name. Nothing was changed."""

    sentence = "cloud: the credentials are for the account {found}, and the settings name {wanted} (account)"
    remedy = "aws sts get-caller-identity"


class Cloud(ABC):
    """What a cloud offers. Its clients are boto3's; each is made once and may be used from any thread."""

    own = True
    """Whether it belongs to this user alone: no account is pinned, and a run makes what all environments share."""
    login_user = LOGIN_USER
    """The user that the deploy key logs in as; the instances' user data creates it."""
    bucket_port = 443
    """The port at which hosts fetch from the bucket."""
    keys_within = host_keys.WITHIN
    """Seconds from its making until a host's console must show its keys."""

    def __init__(self, region: str) -> None:
        self.region = region
        self.account = ""
        """The id of the only account that may be changed; empty: any."""
        self.role = ""
        """Name or ARN of the role that is assumed; empty: none, the caller's own credentials are used."""
        self._own: Cloud = self
        """The cloud with the caller's own credentials, which may assume the role."""
        self._others: dict[tuple[str, str, str], Cloud] = {}
        self._disconnect()

    def _disconnect(self) -> None:
        self._clients: dict[str, Any] = {}
        self._lock = threading.RLock()
        self.zones: dict[str, str] = {}
        """The ids of the DNS zones that were asked for, by name."""
        self.zones_lock = threading.Lock()
        self._accepted = False
        for name in ("_session", "_caller"):
            self.__dict__.pop(name, None)

    def at(self, *, region: str, role: str, account: str) -> Cloud:
        """The same cloud in another region, role or account, each connected once; asks nothing. Empty: the caller's own region,
        no role, any account."""
        own = self._own
        region = region or own.region
        for known in (self, own):
            if (known.region, known.role) == (region, role) and account in ("", known.account):
                return known
        with own._lock:
            if (region, role, account) not in own._others:
                made = copy.copy(own)
                made.region, made.role, made.account = region, role, account
                made._disconnect()
                own._others[region, role, account] = made
            return own._others[region, role, account]

    def client(self, service: str) -> Any:
        """The boto3 client of a service."""
        with self._lock:
            if service not in self._clients:
                made = self._connect(service)
                if self.account and service != "sts":
                    made.meta.events.register("before-call", self._accept_account)
                if service == "s3":
                    made.meta.events.register("provide-client-params.s3", self._name_owner)
                self._clients[service] = made
            return self._clients[service]

    def caller(self) -> Caller:
        """The identity of this process. It is asked once."""
        return self._caller

    def person(self) -> Caller:
        """The identity of the caller's own credentials, whatever role is assumed with them."""
        return self._own.caller() if self.role else self.caller()

    @functools.cached_property
    def _caller(self) -> Caller:
        return Caller(arn=str(self.client("sts").get_caller_identity()["Arn"]))

    def account_id(self) -> str:
        """The id of the account. It is asked only where neither settings nor credentials have it."""
        if self.role:
            return self.account or self._own.account_id()
        return self.account or self._told_account() or self.caller().account

    def _told_account(self) -> str:
        """The account that the credentials name; mostly nothing, where they are a key."""
        return ""

    def _name_owner(self, params: dict[str, Any], model: Any, context: Mapping[str, Any], **_: Any) -> None:
        """Whose bucket is meant: a name that somebody else has taken is refused, whatever his policy allows."""
        if context.get("is_presign_request"):  # the host that fetches would have to send it
            return
        if "ExpectedBucketOwner" in model.input_shape.members:
            params.setdefault("ExpectedBucketOwner", self.account_id())

    def regions(self) -> list[str]:
        """The regions that there are, of every partition; known without asking."""
        import botocore.session

        session = botocore.session.Session()
        partitions = session.get_available_partitions()
        return [
            name for each in partitions for name in session.get_available_regions("ec2", partition_name=each)
        ]

    def _accept_account(self, model: Any, **_: Any) -> None:
        """Before the first request that may change something: whose account is it? Raises AccountWrong."""
        if self._accepted or model.name.startswith(READS):
            return
        found = self.caller().account
        if found != self.account:
            raise AccountWrong(found=found, wanted=self.account)
        self._accepted = True

    @property
    def connected(self) -> bool:
        """Whether a client was asked for."""
        return bool(self._clients)

    def presigned_url(self, bucket: str, key: str, seconds: int) -> str:
        """A URL that lets a host fetch an object for so many seconds."""
        parameters = {"Bucket": bucket, "Key": key}
        url: str = self._signer().generate_presigned_url("get_object", Params=parameters, ExpiresIn=seconds)
        return url

    @property
    def s3_endpoint(self) -> str:
        """Where hosts reach S3, as a URL."""
        return str(self._signer().meta.endpoint_url)

    def credentials(self) -> dict[str, str]:
        """The variables by which another program asks as this run does, while its session lasts."""
        found = self._session.get_credentials().get_frozen_credentials()
        keys = (found.access_key, found.secret_key, found.token or "")
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        return {name: value for name, value in zip(names, keys, strict=True) if value}

    def dns_poll(self) -> float:
        """Seconds between two looks whether a name is in sync."""
        return DNS_POLL

    def host_keys(self, instance_id: str, say: Say) -> list[str]:
        """The public SSH host keys that a new host has printed on its console, as `type key` lines.

        Raises HostKeysMissing.
        """
        return host_keys.read(self.client("ec2"), instance_id, say, self.keys_within)

    def reachable_at(self, instance: Mapping[str, Any]) -> str:
        """The address of a running instance, which is given by its `InstanceId`. Raises HostDown."""
        id, state = instance["InstanceId"], "unknown"
        for number in range(LOOKS):  # a list may be behind, and lack it or show it as it was
            if number:
                children.wait(LOOK_EVERY, stage="cloud")
            # by filter: asked by id, EC2 may not yet know an instance that it lists
            found = self.client("ec2").describe_instances(Filters=[{"Name": "instance-id", "Values": [id]}])
            for now in (each for reservation in found["Reservations"] for each in reservation["Instances"]):
                state = now["State"]["Name"]
                if state == "running":
                    return self._address(now)
            if state not in ("unknown", "pending"):
                break
        raise HostDown(host=id, state=state)

    @functools.cached_property
    def _session(self) -> Any:
        """boto3's session, for one thread at a time; its clients are thread-safe."""
        if not self._needs_crt():
            sys.modules.setdefault("awscrt", cast(types.ModuleType, None))  # 45 ms to import, if it is found
        # botocore would take it where it finds it, as it is there for ACME
        sys.modules.setdefault("urllib3.contrib.pyopenssl", cast(types.ModuleType, None))
        import boto3
        import botocore.session

        from tasks.cloud import loader  # start-up time: it loads botocore

        session = botocore.session.Session()
        session.register_component("data_loader", loader.shared())
        self._prepare(session)
        if self.role:
            assumed_role.register(session, "assume-role", self._assume)
        else:
            self._sign_in(session)
        return boto3.Session(botocore_session=session, region_name=self.region)

    def _assume(self) -> Mapping[str, Any]:
        caller = self._own.caller()
        return assumed_role.assume(self._own.client("sts"), self._role_arn(caller), caller)

    def _role_arn(self, caller: Caller) -> str:
        if self.role.startswith("arn:"):
            return self.role
        return f"arn:{caller.partition}:iam::{self.account_id()}:role/{self.role}"

    def _needs_crt(self) -> bool:
        """Whether boto3 must load AWS's library in C."""
        return False

    def _prepare(self, session: Any) -> None:  # noqa: B027  optional
        """Configure boto3's session."""

    def _sign_in(self, session: Any) -> None:  # noqa: B027  optional
        """Give boto3's session the caller's own credentials."""

    @abstractmethod
    def _address(self, instance: Mapping[str, Any]) -> str: ...

    @abstractmethod
    def url(self, host_name: str, *, https: bool) -> str:
        """The URL of a site."""

    @abstractmethod
    def http_address(self, host_name: str, *, https: bool) -> tuple[str, int]:
        """Address and port behind that URL; the name goes into the Host header."""

    @abstractmethod
    def _connect(self, service: str) -> Any: ...

    def _signer(self) -> Any:
        return self.client("s3")
