"""machine: what a new machine is: its size and image, its place in the network, its disk. Each as `RunInstances` takes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tasks import demands
from tasks.infrastructure import images
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run
    from tasks.settings import Infrastructure

SPOT = {
    "MarketType": "spot",
    "SpotOptions": {"SpotInstanceType": "one-time", "InstanceInterruptionBehavior": "terminate"},
}


class SubnetMissing(Refusal):
    """A subnet of the settings is not in this account and region."""

    sentence = "infrastructure: no subnet {missing} in {region} (environments/{environment}.yml: infrastructure.subnets)"
    remedy = "aws ec2 describe-subnets --region {region}"


class NetworksDiffer(Refusal):
    """The subnets of the settings are not all in the same network, or not in the one of the environment's security group."""

    sentence = "infrastructure: the subnets of {environment} are not in one network (VPC): {found}"
    remedy = "$EDITOR environments/{environment}.yml  # infrastructure.subnets"


def size(run: Run) -> str:
    """The instance type of the environment's machines."""
    return run.environment.infrastructure.instance_type or run.pipeline.instance_type


def memory(run: Run, ids: Sequence[str] = ()) -> int:
    """The MiB of memory of the smallest of these machines, and of those that are to be made. Raises TypeUnknown or what `demands` refuses."""
    ec2 = run.cloud.client("ec2")
    filters = [{"Name": "instance-id", "Values": list(ids)}]  # a list may not have a new one yet
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters) if ids else ()
    found = [one for page in pages for each in page["Reservations"] for one in each["Instances"]]
    types = {str(each["InstanceType"]) for each in found} if len(found) == len(ids) > 0 else {size(run)}
    known = {each: images.memory(ec2, each, run.pipeline.region) for each in sorted(types)}
    smallest = min(known, key=known.__getitem__)
    demands.accept(run, known[smallest], smallest)
    return known[smallest]


def request(
    settings: Infrastructure, image: images.Described, type: str, group: str, number: int
) -> dict[str, Any]:
    """What a new machine is, the environment's `number`th, counted from 1. `group`: its security group."""
    ends = settings.ends_itself or settings.spot  # a spot instance cannot be stopped
    return {
        "ImageId": image.id,
        "InstanceType": type,
        **_network(settings, group, number),
        "BlockDeviceMappings": [_disk(settings, image)],
        "DisableApiTermination": settings.termination_protection,
        "InstanceInitiatedShutdownBehavior": "terminate" if ends else "stop",
        "MetadataOptions": {"HttpTokens": "required"},
        **({"IamInstanceProfile": {"Name": settings.instance_profile}} if settings.instance_profile else {}),
        **({"InstanceMarketOptions": SPOT} if settings.spot else {}),
    }


def network(run: Run, ec2: Any) -> str | None:
    """The VPC of the subnets in the settings; None for the region's default one. Raises SubnetMissing or NetworksDiffer."""
    wanted = run.environment.infrastructure.subnets
    if not wanted:
        return None
    # by filter: asked by id, one unknown subnet would hide the others
    filters = [{"Name": "subnet-id", "Values": sorted(set(wanted))}]
    found = {each["SubnetId"]: each["VpcId"] for each in ec2.describe_subnets(Filters=filters)["Subnets"]}
    words = {"environment": run.environment_name, "region": run.pipeline.region}
    if missing := sorted(set(wanted) - found.keys()):
        raise SubnetMissing(missing=", ".join(missing), **words)
    if len(set(found.values())) > 1:
        raise NetworksDiffer(found=", ".join(f"{id} in {vpc}" for id, vpc in sorted(found.items())), **words)
    return str(found[wanted[0]])


def _network(settings: Infrastructure, group: str, number: int) -> dict[str, Any]:
    if not settings.subnets:  # the cloud chooses a zone that has such machines, and gives a public address
        return {"SecurityGroupIds": [group]}
    interface = {
        "DeviceIndex": 0,
        "SubnetId": settings.subnets[(number - 1) % len(settings.subnets)],
        "Groups": [group],
        "AssociatePublicIpAddress": settings.public_address,
        "DeleteOnTermination": True,
    }
    return {"NetworkInterfaces": [interface]}


def _disk(settings: Infrastructure, image: images.Described) -> dict[str, Any]:
    key = {"KmsKeyId": settings.disk_key} if settings.disk_key else {}
    disk = {
        "VolumeSize": max(settings.disk_gb, image.gb),
        "VolumeType": settings.disk_type,
        "Encrypted": True,
        "DeleteOnTermination": True,
        **key,
    }
    # another name than the image's would be a second disk
    return {"DeviceName": image.disk, "Ebs": disk}
