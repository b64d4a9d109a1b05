"""vpc_endpoints: the gateway by which a host's requests go to S3, and the policy that they pass there."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from moto.ec2.models import ec2_backends

from tasks.cloud.embedded.judge import Policy

ID = "aws:SourceVpce"


def source(hosts: Iterable[tuple[Any, Any]], address: str, region: str) -> dict[str, str]:
    """The condition keys that say from where a request comes to S3 in a region: its address, or a host's way there.

    `hosts`: every instance with its backend.
    """
    for backend, host in hosts:
        if host.private_ip == address and host.state != "terminated" and backend.region_name == region:
            for each in backend.vpc_end_points.values():
                if _is_open(each) and _route_table(backend, host) in each.route_table_ids:
                    return {ID: each.id, "aws:SourceVpc": each.vpc_id, "aws:VpcSourceIp": address}
    return {"aws:SourceIp": address}


def policy(account: str, context: Mapping[str, str]) -> Policy | None:
    """The policy of the endpoint by which a request comes, if it comes by one."""
    for backend in ec2_backends[account].values():
        if found := backend.vpc_end_points.get(context.get(ID)):
            return json.loads(found.policy_document)  # type: ignore[no-any-return]
    return None


def _is_open(endpoint: Any) -> bool:
    kind = endpoint.vpc_endpoint_type or "Gateway"
    return kind == "Gateway" and endpoint.service_name.endswith(".s3") and endpoint.state == "available"


def _route_table(backend: Any, host: Any) -> str:
    """The route table of the host's subnet: its own, or the main one of the network."""
    tables = [each for each in backend.route_tables.values() if each.vpc_id == host.vpc_id]
    own = [each.id for each in tables if host.subnet_id in each._associations.values()]
    return str((own or [each.id for each in tables if each.main_association_id])[0])
