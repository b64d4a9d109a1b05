"""images: the image that the settings name, and images made from a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tasks.cloud.errors import already
from tasks.infrastructure import find
from tasks.infrastructure.waiting import POLL_IMAGE, patience
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

DEBIAN = "136693071363"
"""The account that publishes Debian's images (https://wiki.debian.org/Cloud/AmazonEC2Image)."""


class ImageMissing(Refusal):
    """The cloud has no image of the name in the settings."""

    sentence = "infrastructure: no image named {image} in {region} (pipeline.yml: image)"
    remedy = "$EDITOR pipeline.yml"


def named(run: Run, ec2: Any, say: Callable[[str], None]) -> str:
    """The id of the newest image of the name in the settings. Waits for an image that is still being made. Raises ImageMissing."""
    name = run.pipeline.image
    for _ in patience(run, f"the image {name} not ready", pause=POLL_IMAGE):
        images = called(ec2, name)
        ready = [each for each in images if each["State"] == "available"]
        if ready:
            return str(max(ready, key=lambda each: each["CreationDate"])["ImageId"])
        if not any(each["State"] == "pending" for each in images):
            break
        say(f"waits for the image {name}")
    raise ImageMissing(image=name, region=run.pipeline.region)


def called(ec2: Any, name: str) -> list[dict[str, Any]]:
    """The images of a name, of ours and Debian's, that can be used or will be soon."""
    filters = [{"Name": "name", "Values": [name, f"{name}-amd64-*"]}]
    found = ec2.describe_images(Owners=["self", DEBIAN], Filters=filters)["Images"]
    return [each for each in found if each["State"] in ("available", "pending")]


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


def remove(ec2: Any, image: str, snapshots: Iterable[str]) -> None:
    """Remove an image and its snapshots. An earlier run may have removed some of them."""
    with already("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
        ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)
    for each in (
        snapshots
    ):  # of an image that a former version has removed; in use: AWS is still at it, by the request above
        with already("InvalidSnapshot.NotFound", "InvalidSnapshot.InUse"):
            ec2.delete_snapshot(SnapshotId=each)
