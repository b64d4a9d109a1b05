"""zone: the DNS zone that all environments share: made on first use where it is ours to make, removed by nobody."""

from __future__ import annotations

import uuid
from typing import Any

from tasks.refusal import Refusal


class ZoneMissing(Refusal):
    """The DNS zone does not exist and is not ours to make."""

    sentence = "infrastructure: no hosted zone {zone} in this account (pipeline.yml: dns_zone)"
    remedy = "aws route53 create-hosted-zone --name {zone} --caller-reference first"


def zone_id(route53: Any, name: str) -> str | None:
    """The id of the zone; None where there is none of that name."""
    zone = f"{name}."
    for each in route53.list_hosted_zones_by_name(DNSName=zone, MaxItems="1")["HostedZones"]:
        if each["Name"] == zone:
            return str(each["Id"].rpartition("/")[2])
    return None


def make(route53: Any, name: str, project: str) -> None:
    """Make the zone. Raises ZoneMissing where that is somebody else's to do."""
    # names below .localhost belong to the machine that uses them (RFC 6761); others have an owner
    if not f".{name}".endswith(".localhost"):
        raise ZoneMissing(zone=name)
    route53.create_hosted_zone(Name=name, CallerReference=f"{project}-{uuid.uuid4().hex}")
