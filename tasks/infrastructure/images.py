"""images: the image that the settings name, and images made from a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.cloud.errors import already, code
from tasks.infrastructure import find
from tasks.infrastructure.gone import unless_gone
from tasks.infrastructure.waiting import POLL_IMAGE, patience
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

DEBIAN = "136693071363"
"""The account that publishes Debian's images (https://wiki.debian.org/Cloud/AmazonEC2Image)."""
DEBIAN_S = {"x86_64": "amd64", "arm64": "arm64"}
"""Debian's names of the processors, in the names of its images."""


class ImageMissing(Refusal):
    """The cloud has no image of the name in the settings."""

    sentence = "infrastructure: no image named {image} in {region} (pipeline.yml: image)"
    remedy = "$EDITOR pipeline.yml"


class ImageUnfit(Refusal):
    """The image of the settings is for another processor than the machines' type has."""

    sentence = "infrastructure: {image} is an image for {found}, and {type} has {wanted} (instance_type)"
    remedy = "$EDITOR pipeline.yml"


class TypeUnknown(Refusal):
    """The region has no machines of the type in the settings."""

    sentence = "infrastructure: no machines of type {type} in {region} (instance_type)"
    remedy = "aws ec2 describe-instance-type-offerings --region {region}"


@dataclass(frozen=True, kw_only=True)
class Described:
    """An image: what its disk is called, and how large that is at least."""

    id: str
    disk: str
    gb: int


def architecture(ec2: Any, type: str, region: str) -> str:
    """The processor of a type of machines, as images name it: x86_64 or arm64. Raises TypeUnknown."""
    known = _of_type(ec2, type, region)["ProcessorInfo"]["SupportedArchitectures"]
    return "arm64" if "arm64" in known else "x86_64"


def memory(ec2: Any, type: str, region: str) -> int:
    """The MiB of memory of a type of machines. Raises TypeUnknown."""
    return int(_of_type(ec2, type, region)["MemoryInfo"]["SizeInMiB"])


def _of_type(ec2: Any, type: str, region: str) -> dict[str, Any]:
    try:
        (found,) = ec2.describe_instance_types(InstanceTypes=[type])["InstanceTypes"]
    except ec2.exceptions.ClientError as error:
        if code(error) not in ("InvalidInstanceType", "InvalidParameterValue"):
            raise
        raise TypeUnknown(type=type, region=region) from None
    return dict(found)


def named(run: Run, ec2: Any, type: str, say: Callable[[str], None]) -> str:
    """The newest image of the name in the settings that machines of a type start from; its id.

    Waits for an image that is still being made. Raises ImageMissing, ImageUnfit or TypeUnknown.
    """
    name, region = run.pipeline.image, run.pipeline.region
    wanted = architecture(ec2, type, region)
    for _ in patience(run, f"the image {name} not ready", pause=POLL_IMAGE):
        fitting = called(ec2, name, type=type, wanted=wanted, region=region)
        if ready := [each for each in fitting if each["State"] == "available"]:
            return str(newest(ready)["ImageId"])
        say(f"waits for the image {name}")
    raise ImageMissing(image=name, region=region)


def called(ec2: Any, name: str, *, type: str, wanted: str, region: str) -> list[dict[str, Any]]:
    """The images of a name, ours and Debian's, for a type's processor, that can be used or will be soon: at least one.

    Raises ImageMissing or ImageUnfit.
    """
    filters = [{"Name": "name", "Values": [name, *(f"{name}-{each}-*" for each in DEBIAN_S.values())]}]
    images = ec2.describe_images(Owners=["self", DEBIAN], Filters=filters)["Images"]
    fitting = [each for each in images if each["Architecture"] == wanted]
    if usable := [each for each in fitting if each["State"] in ("available", "pending")]:
        return usable
    if others := {each["Architecture"] for each in images} - {wanted}:
        raise ImageUnfit(image=name, found=" and ".join(sorted(others)), type=type, wanted=wanted)
    raise ImageMissing(image=name, region=region)


def newest(images: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """The newest of some images."""
    return max(images, key=lambda each: str(each["CreationDate"]))


def described(ec2: Any, id: str) -> Described:
    """An image by its id."""
    (image,) = ec2.describe_images(ImageIds=[id])["Images"]
    disks = {each["DeviceName"]: each.get("Ebs", {}) for each in image.get("BlockDeviceMappings", ())}
    disk = image["RootDeviceName"]
    return Described(
        id=id,
        disk=disk,
        gb=int(disks.get(disk, {}).get("VolumeSize", 0)),
    )


def create(ec2: Any, machine: str, *, name: str, tags: Mapping[str, str]) -> str:
    """Start to make an image from a machine. Returns the image's id."""
    tagged = [{"ResourceType": kind, "Tags": find.tag_list(tags)} for kind in ("image", "snapshot")]
    return str(ec2.create_image(InstanceId=machine, Name=name, TagSpecifications=tagged)["ImageId"])


def in_use(ec2: Any, ids: list[str]) -> set[str]:
    """Those of the images that any machine of the account runs on."""
    filters = [
        {"Name": "image-id", "Values": ids},
        {"Name": "instance-state-name", "Values": [*find.ALIVE, "shutting-down"]},
    ]
    pages = ec2.get_paginator("describe_instances")
    return {
        each["ImageId"]
        for page in (pages.paginate(Filters=filters) if ids else ())
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    }


def remove(run: Run, image: str, snapshots: Iterable[str]) -> None:
    """Remove an image and its snapshots. An earlier run may have removed some of them."""
    with already("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"), unless_gone(run, "image", image):
        run.cloud.client("ec2").deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    for each in snapshots:  # of an image that a former version has removed
        remove_snapshot(run, each)


def remove_snapshot(run: Run, id: str) -> None:
    """Remove a snapshot. In use: AWS is still at it, by the request that removes its image."""
    with (
        already("InvalidSnapshot.NotFound", "InvalidSnapshot.InUse"),
        unless_gone(run, "snapshot", id),
    ):
        run.cloud.client("ec2").delete_snapshot(SnapshotId=id)
