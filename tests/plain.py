"""plain: moto in the test's own process, which is fast and counts every call."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Mapping
from email.utils import formatdate
from typing import Any

import boto3
from botocore.exceptions import ClientError
from moto.core import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from tasks.cloud.interface import Cloud


class Plain(Cloud):
    """For use within `moto.mock_aws`, where each role's account is one of its own. `calls` counts each operation; `dies_after` interrupts after so many changes;
    `later`: seconds by which S3's clock is ahead."""

    def __init__(self, region: str) -> None:
        super().__init__(region)
        self.calls: Counter[str] = Counter()
        self.turn = threading.RLock()
        self.dies_after: int | None = None
        self.later = 0.0

    def url(self, host_name: str, *, https: bool) -> str:
        return f"{'https' if https else 'http'}://{host_name}/"

    def http_address(self, host_name: str, *, https: bool) -> tuple[str, int]:
        return host_name, 443 if https else 80

    def _address(self, instance: Mapping[str, Any]) -> str:
        return str(instance["PrivateIpAddress"])

    def _connect(self, service: str) -> Any:
        client = (self._session if self.role else boto3).client(service, region_name=self.region)
        client.meta.events.register("before-call", self._count)
        client.meta.events.register("after-call.s3", self._date)
        client.meta.events.register("provide-client-params.s3.PutBucketPolicy", _without_conditions)
        call = client._make_api_call

        def one_at_a_time(*arguments: Any) -> Any:
            if service == "s3":
                self._refuse_another_s(*arguments)
            with self.turn:  # moto's models are no more than dictionaries
                return call(*arguments)

        client._make_api_call = one_at_a_time
        return client

    def _refuse_another_s(self, operation: str, parameters: Mapping[str, Any]) -> None:
        """As S3 without a bucket's policy: moto lets every account into every bucket."""
        owner = s3_backends.bucket_accounts.get(parameters.get("Bucket", ""))
        who = self.role.split(":")[4] if self.role.startswith("arn:") else DEFAULT_ACCOUNT_ID
        if owner and {owner[1], parameters.get("ExpectedBucketOwner", owner[1])} != {who}:
            said = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}
            raise ClientError(said, operation)

    def _count(self, model: Any, **_: Any) -> None:
        self.calls[model.name] += 1
        changes = not model.name.startswith(("Get", "List", "Describe", "Head"))
        if self.dies_after is not None and changes:
            self.dies_after -= 1
            if self.dies_after < 0:
                raise KeyboardInterrupt

    def _date(self, parsed: Mapping[str, Any], **_: Any) -> None:
        """S3 says what time it is; moto does not, unless it is a server."""
        now = formatdate(time.time() + self.later, usegmt=True)
        parsed["ResponseMetadata"]["HTTPHeaders"].setdefault("date", now)


def _without_conditions(params: dict[str, Any], **_: Any) -> None:
    """moto takes a statement that has a condition for one that has none."""
    policy = json.loads(params["Policy"])
    policy["Statement"] = [each for each in policy["Statement"] if "Condition" not in each]
    params["Policy"] = json.dumps(policy)
