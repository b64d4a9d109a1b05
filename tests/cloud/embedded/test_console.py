"""The console: late, and with the host's keys after the first start only, as on AWS."""

from __future__ import annotations

import datetime
import time

import pytest

from tasks.cloud.host_keys import HostKeysMissing
from tests.cloud.embedded.conftest import until
from tests.cloud.embedded.test_api import code, launch, state

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIA"
PRINTED = f"-----BEGIN SSH HOST KEY KEYS-----\n{KEY} root@ip\n-----END SSH HOST KEY KEYS-----\n"


def printed(server, cloud, *, ago: float = 0.0, **more) -> dict:
    """A machine whose host printed its keys so many seconds ago."""
    made = launch(cloud, **more)
    until(lambda: state(cloud, made) == "running")
    at = (datetime.datetime.now(datetime.UTC) - datetime.timedelta(seconds=ago)).isoformat()
    console = server.home.hosts / made["InstanceId"] / "console"
    console.write_text("".join(f"{at} stdout F {line}\n" for line in PRINTED.splitlines()))
    return made


def shown(cloud, made, **more) -> str:
    answer = cloud.client("ec2").get_console_output(InstanceId=made["InstanceId"], **more)
    return answer.get("Output", "")


@pytest.mark.promise("host-keys-of-the-first-start")
def test_the_console_shows_at_once_only_to_who_asks_for_the_latest(server, cloud):
    made = printed(server, cloud)
    assert KEY not in shown(cloud, made)
    assert KEY in shown(cloud, made, Latest=True)
    assert cloud.host_keys(made["InstanceId"], print) == [KEY]


def test_a_type_without_it_shows_it_later(server, cloud):
    made = printed(server, cloud, ago=61, InstanceType="t2.medium")
    ec2 = cloud.client("ec2")
    assert code(ec2.get_console_output, InstanceId=made["InstanceId"], Latest=True) == "UnsupportedOperation"
    assert cloud.host_keys(made["InstanceId"], print) == [KEY]


@pytest.mark.promise("host-keys-of-the-first-start")
@pytest.mark.parametrize("restart", ["reboot", "stop and start"])
def test_a_restart_empties_it_and_the_sentence_names_both_ways(server, cloud, restart):
    made = printed(server, cloud)
    id, ec2 = made["InstanceId"], cloud.client("ec2")
    if restart == "reboot":
        ec2.reboot_instances(InstanceIds=[id])
        until(lambda: KEY not in shown(cloud, made, Latest=True))
    else:
        ec2.stop_instances(InstanceIds=[id])
        until(lambda: state(cloud, made) == "stopped")
        time.sleep(1.1)  # times have whole seconds
        ec2.start_instances(InstanceIds=[id])
        until(lambda: state(cloud, made) == "running")
    cloud.keys_within = 1.0
    with pytest.raises(HostKeysMissing) as caught:
        cloud.host_keys(id, print)
    assert f"doit pin {id}" in caught.value.text
    assert "infrastructure.host_keys" in caught.value.text


def test_a_start_renews_the_launch_time_but_not_when_the_machine_was_made(server, cloud):
    made = printed(server, cloud)
    time.sleep(1.1)
    cloud.client("ec2").stop_instances(InstanceIds=[made["InstanceId"]])
    until(lambda: state(cloud, made) == "stopped")
    cloud.client("ec2").start_instances(InstanceIds=[made["InstanceId"]])
    until(lambda: state(cloud, made) == "running")
    found = cloud.client("ec2").describe_instances(InstanceIds=[made["InstanceId"]])
    (now,) = found["Reservations"][0]["Instances"]
    assert now["LaunchTime"] > made["LaunchTime"]
    (interface,) = now["NetworkInterfaces"]
    assert interface["Attachment"]["AttachTime"].replace(microsecond=0) <= made["LaunchTime"]
