"""host_keys: how often the console of a new host is looked at."""

from __future__ import annotations

import dataclasses
import datetime

import pytest

from tasks.clock import Clock
from tasks.cloud import host_keys

BEGAN = datetime.datetime(2026, 11, 29, tzinfo=datetime.UTC)
PRINTED = "-----BEGIN SSH HOST KEY KEYS-----\nssh-ed25519 AAAA root@ip\n-----END SSH HOST KEY KEYS-----\n"


@dataclasses.dataclass
class Printing:
    """An EC2 whose only host prints its keys after so many seconds. Its time passes where somebody waits."""

    after: float
    now: float = 0.0
    looks: int = 0

    def get_console_output(self, InstanceId, Latest):  # noqa: N803
        self.looks += 1
        return {"Output": PRINTED if self.now >= self.after else ""}

    def describe_instances(self, Filters):  # noqa: N803
        return {"Reservations": [{"Instances": [{"LaunchTime": BEGAN}]}]}

    def wait(self, seconds, *, stage):
        self.now += seconds


@pytest.fixture
def printing(monkeypatch):
    def made(after):
        ec2 = Printing(after)
        moment = Clock(monotonic=lambda: ec2.now, now=lambda: BEGAN + datetime.timedelta(seconds=ec2.now))
        monkeypatch.setattr(host_keys, "SYSTEM", moment)
        monkeypatch.setattr(host_keys.children, "wait", ec2.wait)
        return ec2

    return made


@pytest.mark.promise("console-is-looked-at-often-at-first")
@pytest.mark.parametrize("after", [0.2, 3.6, 7.6, 19.0, 200.0])
def test_nobody_waits_much_longer_than_the_host_takes(printing, after):
    ec2 = printing(after)
    assert host_keys.read(ec2, "i-1", print, host_keys.WITHIN) == ["ssh-ed25519 AAAA"]
    assert ec2.now <= after + max(0.5, min(5.0, after / 4))
    assert ec2.looks <= 16 + after / 5


@pytest.mark.promise("host-keys-of-the-first-start")
def test_a_host_that_prints_none_is_given_up_ten_minutes_after_it_was_made(printing):
    ec2 = printing(10_000.0)
    with pytest.raises(host_keys.HostKeysMissing):
        host_keys.read(ec2, "i-1", print, host_keys.WITHIN)
    assert 600.0 <= ec2.now <= 605.0
