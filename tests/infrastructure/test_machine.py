"""Where machines live: subnets and zones, public addresses, disks, processors, instance profiles, spot."""

from __future__ import annotations

import dataclasses

import boto3
import pytest
from botocore.exceptions import ClientError

from tasks import image, teardown
from tasks.environments import sleep
from tasks.infrastructure import find, images, machine
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.apply import ChangeRefused
from tests.cloud.embedded.test_api import code, launch
from tests.infrastructure.conftest import instances
from tests.infrastructure.test_stage import with_settings


def subnets(run):
    found = run.cloud.client("ec2").describe_subnets()["Subnets"]
    return [each["SubnetId"] for each in sorted(found, key=lambda each: each["AvailabilityZone"])]


def disks(run):
    filters = [{"Name": "tag:environment", "Values": [run.identity]}]
    return run.cloud.client("ec2").describe_volumes(Filters=filters)["Volumes"]


# --- what the cloud refuses, as AWS does -------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"InstanceType": "t4g.medium"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-00000000"}, "Unsupported"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/sda1", "Ebs": {"VolumeSize": 4}}]}, "InvalidBlockDeviceMapping"),
        ({"IamInstanceProfile": {"Name": "unknown"}}, "InvalidParameterValue"),
        ({"InstanceMarketOptions": {"MarketType": "spot"}, "DisableApiTermination": True}, "InvalidParameterCombination"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(run, asked, refused):
    with pytest.raises(ClientError) as caught:
        launch(run.cloud, **asked)
    assert caught.value.response["Error"]["Code"] == refused


def test_a_group_beside_an_interface_is_refused(run):
    ec2 = run.cloud.client("ec2")
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    interface = {"DeviceIndex": 0, "Groups": [group]}
    with pytest.raises(ClientError) as caught:
        launch(run.cloud, SecurityGroupIds=[group], NetworkInterfaces=[interface])
    assert caught.value.response["Error"]["Code"] == "InvalidParameterCombination"


# --- the network -------------------------------------------------------------------------------------


@pytest.mark.promise("machines-in-their-subnets")
def test_machines_are_spread_over_the_subnets_in_their_order(run):
    (first, _, third) = subnets(run)
    told = with_settings(run, instances=3, subnets=(third, first))
    infrastructure.converge(told)
    places = sorted((each["SubnetId"], each["Placement"]["AvailabilityZone"]) for each in instances(told))
    assert places == sorted([(third, "eu-central-1c"), (first, "eu-central-1a"), (third, "eu-central-1c")])
    assert all("PublicIpAddress" in each for each in instances(told))
    assert not infrastructure.converge(told).changed
    teardown.tear_down(told)


@pytest.mark.promise("no-public-address")
def test_a_machine_without_a_public_address_is_named_by_its_private_one(run):
    told = with_settings(run, public_address=False, subnets=(subnets(run)[1],))
    facts = infrastructure.converge(told).facts
    (made,) = instances(told)
    assert "PublicIpAddress" not in made
    assert facts["hosts"][0]["address"] == made["PrivateIpAddress"]
    assert find.everything(told).records == {told.host_name: (made["PrivateIpAddress"],)}
    teardown.tear_down(told)


def test_a_subnet_that_is_not_there_is_named(run):
    told = with_settings(run, subnets=(subnets(run)[0], "subnet-0123456789abcdef0"))
    with pytest.raises(machine.SubnetMissing, match="no subnet subnet-0123456789abcdef0 in eu-central-1"):
        infrastructure.converge(told)
    assert instances(told) == []


class TwoNetworks:
    """EC2 with a subnet in each of two networks."""

    def describe_subnets(self, Filters):  # noqa: N803
        return {"Subnets": [{"SubnetId": id, "VpcId": f"vpc-{id[-1]}"} for id in Filters[0]["Values"]]}


def test_subnets_of_two_networks_are_refused(run):
    told = with_settings(run, subnets=("subnet-00000001", "subnet-00000002"))
    with pytest.raises(machine.NetworksDiffer, match="subnet-00000001 in vpc-1, subnet-00000002 in vpc-2"):
        machine.network(told, TwoNetworks())


# --- the disk ----------------------------------------------------------------------------------------


@pytest.mark.promise("disks-are-encrypted")
def test_a_disk_is_encrypted_gp3_of_30_gb_and_goes_with_its_machine(run):
    infrastructure.converge(run)
    (disk,) = disks(run)
    assert (disk["Size"], disk["VolumeType"], disk["Encrypted"]) == (30, "gp3", True)
    (made,) = instances(run)
    assert [each["Ebs"]["DeleteOnTermination"] for each in made["BlockDeviceMappings"]] == [True]
    assert [each["DeviceName"] for each in made["BlockDeviceMappings"]] == [made["RootDeviceName"]]
    teardown.tear_down(run)


def test_a_disk_is_as_the_settings_say(run):
    told = with_settings(run, disk_gb=50, disk_type="gp2", disk_key="alias/disks")
    infrastructure.converge(told)
    (disk,) = disks(told)
    assert (disk["Size"], disk["VolumeType"], disk["KmsKeyId"]) == (50, "gp2", "alias/disks")
    teardown.tear_down(told)


def test_a_disk_is_never_smaller_than_that_of_its_image(run):
    baked = images.Described(id="ami-1", disk="/dev/xvda", gb=40)
    request = machine.request(run.environment.infrastructure, baked, "t3.medium", "sg-1", 1)
    assert request["BlockDeviceMappings"][0]["DeviceName"] == "/dev/xvda"
    assert request["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 40


# --- what it is --------------------------------------------------------------------------------------


@pytest.mark.promise("imds-v2-only")
def test_a_machine_answers_for_its_metadata_by_version_2_only(run):
    infrastructure.converge(run)
    assert [each["MetadataOptions"]["HttpTokens"] for each in instances(run)] == ["required"]
    teardown.tear_down(run)


def test_a_type_for_another_processor_than_the_image_s_is_refused_before_the_launch(run):
    with pytest.raises(
        images.ImageUnfit, match=r"debian-12 is an image for x86_64, and t4g\.medium has arm64"
    ):
        infrastructure.converge(with_settings(run, instance_type="t4g.medium"))
    assert "RunInstances" not in run.cloud.calls


def test_a_type_that_the_region_has_not_is_named(run):
    with pytest.raises(images.TypeUnknown, match=r"no machines of type t9\.medium in eu-central-1"):
        infrastructure.converge(with_settings(run, instance_type="t9.medium"))


@pytest.mark.promise("instance-profile")
def test_a_machine_gets_its_instance_profile(run):
    told = with_settings(run, instance_profile="shop-machine-testing")
    with pytest.raises(ChangeRefused, match="shop-machine-testing"):
        infrastructure.converge(told)
    ec2 = run.cloud.client("ec2")
    iam = boto3.client(
        "iam", region_name="us-east-1", endpoint_url=ec2.meta.endpoint_url,
        aws_access_key_id="key", aws_secret_access_key="secret",
    )  # fmt: skip
    iam.create_instance_profile(InstanceProfileName="shop-machine-testing")
    infrastructure.converge(told)
    assert [each["IamInstanceProfile"]["Arn"].rpartition("/")[2] for each in instances(told)] == [
        "shop-machine-testing"
    ]
    teardown.tear_down(told)


@pytest.mark.promise("spot-instances")
def test_a_spot_instance_is_one_and_ends_by_its_own_shutdown(run):
    told = with_settings(run, spot=True, ends_itself=False)
    infrastructure.converge(told)
    (made,) = instances(told)
    assert made["InstanceLifecycle"] == "spot"
    ask = run.cloud.client("ec2").describe_instance_attribute
    said = ask(InstanceId=made["InstanceId"], Attribute="instanceInitiatedShutdownBehavior")
    assert said["InstanceInitiatedShutdownBehavior"]["Value"] == "terminate"
    assert (
        code(run.cloud.client("ec2").stop_instances, InstanceIds=[made["InstanceId"]])
        == "UnsupportedOperation"
    )
    with pytest.raises(sleep.SpotCannotSleep, match="sleep: the machines of"):
        sleep.sleep(told)
    teardown.tear_down(told)


def test_an_image_is_baked_on_demand_and_on_a_small_disk(run):
    builder = image._builder(with_settings(run, spot=True, disk_gb=200))
    assert (builder.environment.infrastructure.spot, builder.environment.infrastructure.disk_gb) == (
        False,
        10,
    )
    assert dataclasses.replace(builder.environment.infrastructure).subnets == ()
