"""create: the bucket that all environments share: made on first use, removed by nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.bucket.store import BucketForbidden
from tasks.cloud.errors import already, code, status
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

REPLACED_DAYS = 30
"""Days that the bucket keeps what was removed or replaced."""


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


def make_bucket(run: Run) -> None:
    """Make the bucket, or complete what an interrupted run has made of it. Raises BucketGone."""
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
