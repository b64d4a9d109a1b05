"""create: what all environments share: the bucket and the DNS zone, made on first use, removed by nobody."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from tasks.bucket.store import BucketForbidden
from tasks.cloud.errors import already, code, status
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

REPLACED_DAYS = 30
"""Days that the bucket keeps what was removed or replaced."""


class ZoneMissing(Refusal):
    """The DNS zone does not exist and is not ours to make."""

    sentence = "infrastructure: no hosted zone {zone} in this account (pipeline.yml: dns_zone)"
    remedy = "aws route53 create-hosted-zone --name {zone} --caller-reference first"


class BucketGone(Refusal):
    """The bucket is missing although machines of the project run: a new, empty one would forget what they are."""

    sentence = "state: the bucket {bucket} is gone, and {machines} of {project} are still there"
    remedy = "aws s3api head-bucket --bucket {bucket}"


def bucket_exists(run: Run) -> bool:
    """Whether the bucket is there and whole: its tag is the last thing that it gets."""
    s3 = run.cloud.client("s3")
    try:
        tags = s3.get_bucket_tagging(Bucket=run.bucket)["TagSet"]
    except s3.exceptions.ClientError as error:
        if code(error) in ("NoSuchBucket", "NoSuchTagSet"):
            return False
        raise
    return {"Key": "project", "Value": run.pipeline.name} in tags


def zone_id(run: Run) -> str | None:
    """The id of the DNS zone."""
    zone = f"{run.pipeline.dns_zone}."
    route53 = run.cloud.client("route53")
    for each in route53.list_hosted_zones_by_name(DNSName=zone, MaxItems="1")["HostedZones"]:
        if each["Name"] == zone:
            return str(each["Id"].rpartition("/")[2])
    return None


def make_shared(run: Run) -> list[str]:
    """Make the bucket and the zone where they are missing. Returns what was made. Raises ZoneMissing."""

    made = []
    if not bucket_exists(run):
        _make_bucket(run)
        made.append(f"bucket {run.bucket}")
    if not zone_id(run):
        # names below .localhost belong to the machine that uses them (RFC 6761); others have an owner
        if not f".{run.pipeline.dns_zone}".endswith(".localhost"):
            raise ZoneMissing(zone=run.pipeline.dns_zone)
        run.cloud.client("route53").create_hosted_zone(
            Name=run.pipeline.dns_zone, CallerReference=f"{run.pipeline.name}-{uuid.uuid4().hex}"
        )
        made.append(f"zone {run.pipeline.dns_zone}")
    return made


def create_bucket(run: Run) -> None:
    """Make the bare bucket; of several that do so at once, all find it made. Raises BucketGone."""
    s3 = run.cloud.client("s3")
    try:
        s3.head_bucket(Bucket=run.bucket)
        return
    except s3.exceptions.ClientError as error:
        if status(error) == 403:
            raise BucketForbidden(bucket=run.bucket, verb="see", key="it", problem=code(error)) from None
        if status(error) != 404:
            raise
    machines = _machines_of_the_project(run)
    if machines:  # they were recorded somewhere: an empty bucket would make everything anew beside them
        raise BucketGone(bucket=run.bucket, machines=", ".join(machines), project=run.pipeline.name)
    place = {"CreateBucketConfiguration": {"LocationConstraint": run.pipeline.region}}
    with already("BucketAlreadyOwnedByYou", "OperationAborted"):
        s3.create_bucket(Bucket=run.bucket, **(place if run.pipeline.region != "us-east-1" else {}))


def _machines_of_the_project(run: Run) -> list[str]:
    ours = [
        {"Name": "tag:project", "Values": [run.pipeline.name]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = run.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=ours)
    return [
        each["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]


def _make_bucket(run: Run) -> None:
    create_bucket(run)
    s3, bucket = run.cloud.client("s3"), run.bucket
    s3.put_public_access_block(
        Bucket=bucket,
        PublicAccessBlockConfiguration={
            "BlockPublicAcls": True,
            "IgnorePublicAcls": True,
            "BlockPublicPolicy": True,
            "RestrictPublicBuckets": True,
        },
    )
    encrypted = {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": [encrypted]})
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    abort = {
        "ID": "abort-unfinished-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }
    # what was removed or replaced can be had back for a while, and then takes no more room
    replaced = {
        "ID": "forget-replaced-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": REPLACED_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [abort, replaced]})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "project", "Value": run.pipeline.name}]})
