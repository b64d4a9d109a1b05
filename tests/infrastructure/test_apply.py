"""Each kind of change is one call to the cloud; a no is a sentence."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from botocore.exceptions import ClientError

from tasks.infrastructure import find, plan
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.apply import ChangeRefused, LaunchRefused, MachineDied, apply
from tests.infrastructure.conftest import instances


def test_a_refusal_of_the_cloud_names_the_change(run):
    with pytest.raises(ChangeRefused, match=r"^infrastructure: start machine i-0123456789abcdef0: "):
        apply(run, plan.StartMachine(id="i-0123456789abcdef0"))


def test_a_value_that_is_no_change_is_a_bug():
    ec2 = SimpleNamespace(exceptions=SimpleNamespace(ClientError=ClientError))
    run = SimpleNamespace(cloud=SimpleNamespace(client=lambda service: ec2))
    with pytest.raises(AssertionError):
        apply(run, "create_machine")


def test_a_new_machine_starts_from_the_image_that_is_handed_in(run):
    ec2, asked = run.cloud.client("ec2"), []
    other = ec2.register_image(Name="other", RootDeviceName="/dev/xvda")["ImageId"]

    def baked(of):
        asked.append(of)
        return other

    infrastructure.converge(run, baked=baked)
    (machine,) = instances(run)
    assert machine["ImageId"] == other
    infrastructure.converge(run, baked=baked)
    assert asked == [run], "only who makes a machine asks"


def test_without_a_baked_image_it_is_the_one_of_the_settings(run):
    infrastructure.converge(run, baked=lambda of: None)
    (machine,) = instances(run)
    (image,) = run.cloud.client("ec2").describe_images(ImageIds=[machine["ImageId"]])["Images"]
    assert image["Name"] == run.pipeline.image


@pytest.mark.promise("the-cloud-is-asked-each-time")
def test_a_port_is_opened_and_closed_and_a_tag_written(run):
    infrastructure.converge(run)
    (machine,) = find.everything(run).machines
    apply(run, plan.OpenPort(port=21, network="10.0.0.0/8"))
    apply(run, plan.RetagMachine(id=machine.id, tags={"owner": "kim"}))
    found = find.everything(run)
    assert (21, "10.0.0.0/8") in found.rules
    assert found.machines[0].tags["owner"] == "kim"
    assert infrastructure.differences(run) == [
        "close port 21 for 10.0.0.0/8",
        f"retag machine {machine.id}",
    ]
    apply(run, plan.ClosePort(port=21, network="10.0.0.0/8"))
    assert (21, "10.0.0.0/8") not in find.everything(run).rules


@pytest.mark.promise("refused-launches-say-what-to-do")
@pytest.mark.parametrize(
    ("code", "meaning", "remedy"),
    [
        (
            "VcpuLimitExceeded",
            "may not have so many vCPUs",
            "aws service-quotas request-service-quota-increase",
        ),
        ("InsufficientInstanceCapacity", "another instance_type", "doit infrastructure"),
        ("PendingVerification", "up to four hours", "doit infrastructure"),
        ("OptInRequired", "has not accepted", "aws account get-region-opt-status --region-name eu-central-1"),
    ],
)
def test_a_refused_launch_says_what_to_do(run, server, code, meaning, remedy):
    (server.home.folder / "launches").write_text(code)
    with pytest.raises(LaunchRefused, match=meaning) as caught:
        infrastructure.converge(run)
    assert code in caught.value.text
    assert remedy in caught.value.text
    infrastructure.converge(run)


@pytest.mark.promise("a-machine-that-dies-says-why")
def test_a_machine_that_dies_while_pending_says_why_at_once(run, server):
    (server.home.folder / "launches").write_text("dies")
    with pytest.raises(
        MachineDied, match=r"ended while it was pending: .*KMS key provided is in an incorrect state"
    ):
        infrastructure.converge(run)
    infrastructure.converge(run)
    assert len(instances(run)) == 1
