"""host_keys: reads a host's public SSH keys from its console, where it prints them at its first start, and then never again."""

from __future__ import annotations

import datetime
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

from tasks.clock import SYSTEM
from tasks.cloud.errors import code
from tasks.process import children
from tasks.refusal import Refusal

KEYS = re.compile(r"-----BEGIN SSH HOST KEY KEYS-----(.*?)-----END SSH HOST KEY KEYS-----", re.DOTALL)
WITHIN = 600.0
"""Seconds from its making until a host's console must show its keys; AWS shows a console minutes after it was written."""
SOONEST, EVERY = 0.5, 5.0
"""Seconds between two looks: at first, and at most. In between it is a quarter of what has passed, so that nobody waits much longer than the host takes."""


class HostKeysMissing(Refusal):
    """A host's console does not show its SSH keys, and none are pinned: it started again before they were read, or was adopted."""

    sentence = (
        "cloud: the console of {host} shows no SSH host keys, as after its first start: pin what it offers, "
        "or list its fingerprints in the environment's file (infrastructure.host_keys)"
    )
    remedy = "doit pin {host}"


def read(ec2: Any, host: str, say: Callable[[str], None], within: float) -> list[str]:
    """The keys of a host, as `type key` lines. Waits for the console of a new host only. Raises HostKeysMissing."""
    begun, look, left = SYSTEM.monotonic(), _Console(ec2, host), within
    for number in itertools.count():
        if found := KEYS.findall(look.text()):
            lines = (line.split() for line in found[-1].strip().splitlines())
            return [" ".join(words[:2]) for words in lines if len(words) >= 2]
        if not number:
            left = min(within, within - _age(ec2, host))
        waited = SYSTEM.monotonic() - begun
        if waited >= left:
            raise HostKeysMissing(host=host)
        if number:
            say(f"waiting for the host keys of {host}")
        children.wait(min(EVERY, max(SOONEST, waited / 4)), stage="infrastructure")
    raise AssertionError("count does not end")


def made(described: Mapping[str, Any]) -> datetime.datetime:
    """When an instance was made. A start renews its launch time, not the attachment of its first network interface."""
    attached = [each.get("Attachment", {}) for each in described.get("NetworkInterfaces", ())]
    times = [each["AttachTime"] for each in attached if each.get("DeviceIndex") == 0 and "AttachTime" in each]
    at: datetime.datetime = min([described["LaunchTime"], *times])
    return at


class _Console:
    """Asks for the latest text, where the instance's type has that; else for what AWS has posted."""

    def __init__(self, ec2: Any, host: str) -> None:
        self.ec2, self.host, self.latest = ec2, host, {"Latest": True}

    def text(self) -> str:
        try:
            answer = self.ec2.get_console_output(InstanceId=self.host, **self.latest)
        except self.ec2.exceptions.ClientError as error:
            if code(error) == "UnsupportedOperation" and self.latest:
                self.latest = {}
                return self.text()
            if (
                code(error) == "InvalidInstanceID.NotFound"
            ):  # EC2 does not know everywhere yet what it has made
                return ""
            raise
        return str(answer.get("Output", "")).replace("\r", "")


def _age(ec2: Any, host: str) -> float:
    """Seconds since an instance was made; 0 for one that EC2 does not list yet."""
    found = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [host]}])
    instances = [each for reservation in found["Reservations"] for each in reservation["Instances"]]
    return max(((SYSTEM.now() - made(each)).total_seconds() for each in instances), default=0.0)
