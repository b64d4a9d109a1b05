"""status: the state of the user's cloud and of what it runs."""

from __future__ import annotations

import os
from collections.abc import Mapping

from tasks.cloud.embedded import home, nft
from tasks.cloud.embedded.client import Embedded
from tasks.cloud.embedded.home import described


def lines(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Lines that say what the cloud is and what it runs."""
    place = home.of(environ)
    identity = place.identity()
    if not identity:
        return ["cloud: there is none (doit cloud start)"]
    if not place.running():
        return [f"cloud: stopped, its data lies in {place.folder} (doit cloud start)"]
    lines = [*described(place), *filter(None, [nft.problem()])]
    ec2 = Embedded("eu-central-1", lambda: identity).client("ec2")
    for each in ec2.describe_images(Owners=["self", "136693071363"])["Images"]:
        why = f" ({reason})" if (reason := each.get("StateReason", {}).get("Message")) else ""
        lines.append(f"image  {each['ImageId']}  {each['Name']}  {each['State']}{why}")
    for reservation in ec2.describe_instances()["Reservations"]:
        for each in reservation["Instances"]:
            tags = {tag["Key"]: tag["Value"] for tag in each.get("Tags", [])}
            address = each.get("PrivateIpAddress", "")
            state, name = each["State"]["Name"], tags.get("Name", "")
            lines.append(f"host   {each['InstanceId']}  {name}  {state}  {address}")
    return lines
