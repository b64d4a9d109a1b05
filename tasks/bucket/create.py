"""create: the bucket that all environments share. The pipeline makes it on first use, and never removes it."""

from __future__ import annotations

from tasks.bucket.store import BucketForbidden, Store
from tasks.cloud.errors import already, code, status
from tasks.refusal import Refusal

REPLACED_DAYS = 30
"""Days that the bucket keeps deleted objects and replaced versions."""


class BucketGone(Refusal):
    """The bucket is missing, but machines of the project exist: a new, empty bucket would have no records of them."""

    sentence = "state: the bucket {bucket} is gone, and {machines} of {project} are still there"
    remedy = "aws s3api head-bucket --bucket {bucket}"


def bucket_exists(store: Store, project: str) -> bool:
    """Whether the bucket exists and is complete: `make_bucket` sets its tag last."""
    try:
        tags = store.client.get_bucket_tagging(Bucket=store.bucket)["TagSet"]
    except store.client.exceptions.ClientError as error:
        if code(error) in ("NoSuchBucket", "NoSuchTagSet"):
            return False
        raise
    return {"Key": "project", "Value": project} in tags


def make_bucket(store: Store, project: str, region: str) -> None:
    """Make and configure the bucket, or complete one that an interrupted run has begun. Raises BucketGone."""
    create_bucket(store, project, region)
    s3, bucket = store.client, store.bucket
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
    # deleted and replaced objects can be restored for a while, and then cost nothing
    replaced = {
        "ID": "forget-replaced-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": REPLACED_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    }
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration={"Rules": [abort, replaced]})
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": [{"Key": "project", "Value": project}]})


def create_bucket(store: Store, project: str, region: str) -> None:
    """Make the bucket without any configuration. Several runs may do so at once. Raises BucketGone."""
    s3 = store.client
    try:
        s3.head_bucket(Bucket=store.bucket)
        return
    except s3.exceptions.ClientError as error:
        if status(error) == 403:
            raise BucketForbidden(bucket=store.bucket, verb="see", key="it", problem=code(error)) from None
        if status(error) != 404:
            raise
    machines = _machines_of_the_project(store, project)
    if machines:  # with an empty bucket, a run would make everything again beside them
        raise BucketGone(bucket=store.bucket, machines=", ".join(machines), project=project)
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}}
    with already("BucketAlreadyOwnedByYou", "OperationAborted"):
        s3.create_bucket(Bucket=store.bucket, **(place if region != "us-east-1" else {}))


def _machines_of_the_project(store: Store, project: str) -> list[str]:
    filters = [
        {"Name": "tag:project", "Values": [project]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = store.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return [
        each["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]
