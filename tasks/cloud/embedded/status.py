"""status: the state of the user's cloud and of what it runs."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping

from tasks.cloud.embedded import home
from tasks.cloud.embedded.address import LOOPBACK
from tasks.cloud.embedded.client import Embedded
from tasks.cloud.embedded.home import described
from tasks.refusal import Refusal

REGION = "eu-central-1"
"""The region of its subnet and its image."""


class CloudStopped(Refusal):
    """The address and keys of the embedded cloud are asked for, and it does not run."""

    sentence = "cloud: the embedded cloud does not run"
    remedy = "doit cloud start"


def variables(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Lines for a shell: with these the AWS command line, or any SDK, asks this cloud as its administrator. Raises CloudStopped."""
    place = home.of(environ)
    identity = place.identity()
    if not identity or not place.running():
        raise CloudStopped
    told = {
        "AWS_ENDPOINT_URL": f"http://{LOOPBACK}:{identity.port}",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": identity.key,
        "AWS_SECRET_ACCESS_KEY": identity.secret,
        "AWS_CONFIG_FILE": os.devnull,  # what the user has there is about another cloud
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
        "NO_PROXY": LOOPBACK,
        "no_proxy": LOOPBACK,
    }
    return [
        "unset AWS_PROFILE AWS_SESSION_TOKEN AWS_ROLE_ARN AWS_WEB_IDENTITY_TOKEN_FILE",
        *(f"export {name}={shlex.quote(value)}" for name, value in told.items()),
    ]


def lines(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Lines that say what the cloud is and what it runs."""
    place = home.of(environ)
    identity = place.identity()
    if not identity:
        return ["cloud: there is none (doit cloud start)"]
    if not place.running():
        return [f"cloud: stopped, its data lies in {place.folder} (doit cloud start)"]
    lines = [*described(place)]
    ec2 = Embedded(REGION, lambda: identity).client("ec2")
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
