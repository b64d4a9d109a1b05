"""zone: the DNS zone that all environments share. The pipeline makes a zone below .localhost on first use, and removes none."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

from tasks.refusal import Refusal
from tasks.settings import is_local

if TYPE_CHECKING:
    from tasks.cloud.interface import Cloud


class ZoneMissing(Refusal):
    """The DNS zone does not exist, and the pipeline does not make a zone of this name."""

    sentence = (
        "infrastructure: no public hosted zone {zone} in this account (pipeline.yml: dns_zone); "
        "the parent zone must name the name servers of the new one"
    )
    remedy = "doit bootstrap"


def zone_id(cloud: Cloud, name: str) -> str | None:
    """The id of the public zone of that name, or None. It is asked once: Route 53 answers few requests of an account."""
    with cloud.zones_lock:
        if name not in cloud.zones and (found := _zone_id(cloud.client("route53"), name)):
            cloud.zones[name] = found
        return cloud.zones.get(name)


def _zone_id(route53: Any, name: str) -> str | None:
    zone = f"{name}."
    for each in route53.list_hosted_zones_by_name(DNSName=zone, MaxItems="100")["HostedZones"]:
        # a private zone of the same name is seen within its network only
        if each["Name"] == zone and not each.get("Config", {}).get("PrivateZone"):
            return str(each["Id"].rpartition("/")[2])
    return None


def name_servers(cloud: Cloud, name: str) -> list[str]:
    """The name servers of the zone, which the parent zone must name; none where there is no zone."""
    id = zone_id(cloud, name)
    if not id:
        return []
    # by record: this is a right that every role has
    asked = {"HostedZoneId": id, "StartRecordName": name, "StartRecordType": "NS", "MaxItems": "1"}
    found = cloud.client("route53").list_resource_record_sets(**asked)["ResourceRecordSets"]
    own = [each for each in found if (each["Type"], each["Name"].rstrip(".")) == ("NS", name)]
    return [value["Value"].rstrip(".").lower() for each in own for value in each["ResourceRecords"]]


def make(route53: Any, name: str, project: str, *, anywhere: bool = False) -> None:
    """Make the zone. Raises ZoneMissing for a name that another owner must delegate, unless an administrator makes it (`anywhere`)."""
    if not (anywhere or is_local(name)):
        raise ZoneMissing(zone=name)
    route53.create_hosted_zone(Name=name, CallerReference=f"{project}-{secrets.token_hex(16)}")
