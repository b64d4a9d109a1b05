"""s3_endpoint: the gateway by which a network (VPC) with machines whose egress is listed reaches our buckets, and no others."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.bucket import name as bucket_name
from tasks.infrastructure import machine
from tasks.refusal import Refusal
from tasks.run import elsewhere
from tasks.settings import at, of_pipeline, same_place

if TYPE_CHECKING:
    from tasks.run import Run


class DefaultNetworkMissing(Refusal):
    """An S3 endpoint is wanted where the machines of an environment are: it names no subnets, and the region has no default network."""

    sentence = "bootstrap: {region} has no default network (VPC), and environments/{environment}.yml names no other (infrastructure.subnets)"
    remedy = "aws ec2 create-default-vpc --region {region}"


class S3EndpointForeign(Refusal):
    """A network has an S3 endpoint that the pipeline did not make. Nothing was changed: neither it nor anything else."""

    sentence = (
        "bootstrap: {network}, where the machines of {environment} are, has an S3 endpoint of somebody else: {endpoint}; "
        "it is left alone, and a route table leads to one only"
    )
    remedy = "$EDITOR environments/{environment}.yml  # infrastructure.subnets: of a network without one"


@dataclass(frozen=True, kw_only=True)
class S3Endpoint:
    """What a network shall have, for all of its route tables. `buckets`: the names of those that it lets through."""

    project: str
    network: str
    service: str
    route_tables: tuple[str, ...]
    buckets: tuple[str, ...]
    policy: Mapping[str, Any]


def wanted(run: Run) -> list[S3Endpoint]:
    """One for each network of this place in which environments have listed egress, if the settings want any.

    Raises S3EndpointForeign, DefaultNetworkMissing or what `machine.network` raises.
    """
    if not run.pipeline.s3_endpoint.enabled:
        return []
    ec2, pipeline = run.cloud.client("ec2"), of_pipeline(run.root)
    every = [elsewhere(run, path.stem) for path in sorted((run.root / "environments").glob("*.yml"))]
    here = [each for each in every if same_place(pipeline, each.environment, run.environment)]
    listed = [each for each in here if each.environment.egress == "listed"]
    near = [at(pipeline, each.environment) for each in every]
    place = (run.pipeline.region, run.pipeline.account)
    own = {
        run.bucket,
        *(each.bucket for each in near if each.bucket and (each.region, each.account) == place),
    }
    kept = [each.tarballs for each in listed]
    away = {_bucket(each) for each in kept if not same_place(pipeline, each.environment, run.environment)}
    others = {*run.pipeline.s3_endpoint.buckets, *away} - own
    networks = {machine.network(each, ec2) or _default(each, ec2): each for each in listed}
    for network, one in networks.items():
        _accept(one, network, ec2)
    return [
        S3Endpoint(
            project=run.pipeline.name,
            network=network,
            service=_service(run),
            route_tables=tuple(_route_tables(ec2, network)),
            buckets=tuple(sorted({*own, *others})),
            policy=policy(own, others, run.cloud.account_id()),
        )
        for network in sorted(networks)
    ]


def policy(own: Collection[str], others: Collection[str], account: str) -> dict[str, Any]:
    """Lets requests through to these buckets. Ours are ours only while this account has them."""
    ours = {"Condition": {"StringEquals": {"aws:ResourceAccount": account}}}
    statements = [
        {
            "Sid": sid,
            "Effect": "Allow",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": [f"arn:aws:s3:::{each}{keys}" for each in sorted(buckets) for keys in ("", "/*")],
            **more,
        }
        for sid, buckets, more in (("Own", own, ours), ("Others", others, {}))
        if buckets
    ]
    return {"Version": "2012-10-17", "Statement": statements}


def found(ec2: Any, network: str, service: str) -> Iterator[dict[str, Any]]:
    """The gateways to a service that a network has."""
    filters = [{"Name": "vpc-id", "Values": [network]}, {"Name": "service-name", "Values": [service]}]
    for page in ec2.get_paginator("describe_vpc_endpoints").paginate(Filters=filters):
        for each in page["VpcEndpoints"]:
            if each["VpcEndpointType"] == "Gateway" and each["State"].lower() in ("pending", "available"):
                yield each


def _accept(one: Run, network: str, ec2: Any) -> None:
    tag = {"Key": "project", "Value": one.pipeline.name}
    for each in found(ec2, network, _service(one)):
        if tag not in each.get("Tags", ()):
            raise S3EndpointForeign(
                network=network, environment=one.environment_name, endpoint=each["VpcEndpointId"]
            )


def _service(run: Run) -> str:
    return f"com.amazonaws.{run.pipeline.region}.s3"


def _route_tables(ec2: Any, network: str) -> list[str]:
    filters = [{"Name": "vpc-id", "Values": [network]}]
    pages = ec2.get_paginator("describe_route_tables").paginate(Filters=filters)
    return sorted(each["RouteTableId"] for page in pages for each in page["RouteTables"])


def _default(one: Run, ec2: Any) -> str:
    """The region's default network."""
    for each in ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]:
        return str(each["VpcId"])
    raise DefaultNetworkMissing(region=one.pipeline.region, environment=one.environment_name)


def _bucket(kept: Run) -> str:
    """The bucket of an environment in another place, whose cloud is not asked."""
    there = kept.pipeline
    return there.bucket or bucket_name.default(there.name, kept.cloud.account_id(), there.region)
