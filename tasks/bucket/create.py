"""create: the bucket that all environments share. The pipeline makes it on first use, and never removes it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from tasks.bucket import name
from tasks.bucket.store import Store
from tasks.cloud.errors import already, code, denied, forbidden, status
from tasks.refusal import Refusal

REPLACED_DAYS = 30
"""Days that the bucket keeps deleted objects and replaced versions."""
LIFECYCLE: list[dict[str, Any]] = [
    {
        "ID": "abort-unfinished-uploads",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
    {  # deleted and replaced objects can be restored for a while, and then cost nothing
        "ID": "forget-replaced-versions",
        "Status": "Enabled",
        "Filter": {"Prefix": ""},
        "NoncurrentVersionExpiration": {"NoncurrentDays": REPLACED_DAYS},
        "Expiration": {"ExpiredObjectDeleteMarker": True},
    },
]
CLOSED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
ENCRYPTED = {"SSEAlgorithm": "AES256"}
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between two tries to make or configure the bucket."""


class BucketGone(Refusal):
    """The bucket is missing, but machines of the project exist: a new, empty bucket would have no records of them."""

    sentence = "state: the bucket {bucket} is gone, and {machines} of {project} are still there"
    remedy = "aws s3api head-bucket --bucket {bucket}"


class NotBootstrapped(Refusal):
    """The account has no bucket, or one that was never completed. An administrator makes it."""

    sentence = "state: there is no bucket {bucket}, or it was never completed; an administrator of the account makes it"
    remedy = "doit bootstrap"


def bucket_exists(store: Store, project: str) -> bool:
    """Whether the bucket exists and is complete: `make_bucket` sets its tags last."""
    if store.was_complete:
        return True
    seen = name.look(store.client, store.bucket, project)
    return seen is not None and seen.complete


def make_bucket(store: Store, project: str, region: str) -> None:
    """Make and configure the bucket, or complete one that an interrupted run has begun. Raises BucketGone or BucketTaken."""
    create_bucket(store, project, region)
    s3, versioned = store.client, {"Status": "Enabled"}
    answer = _patiently(
        store, s3.put_bucket_versioning, Bucket=store.bucket, VersioningConfiguration=versioned
    )
    tags = {"project": project, name.VERSIONED: name.date(answer).isoformat()}
    for call, request in _configuration(s3, store.bucket, tags):
        _patiently(store, call, Bucket=store.bucket, **request)


def _configuration(
    s3: Any, bucket: str, tags: Mapping[str, str]
) -> list[tuple[Callable[..., Any], dict[str, Any]]]:
    """What makes a new bucket ours, in order: the tags are last, as they say that the rest is done."""
    tag_set = [{"Key": key, "Value": value} for key, value in tags.items()]
    encrypted = {"ApplyServerSideEncryptionByDefault": ENCRYPTED}
    return [
        (s3.put_public_access_block, {"PublicAccessBlockConfiguration": dict.fromkeys(CLOSED, True)}),
        (s3.put_bucket_encryption, {"ServerSideEncryptionConfiguration": {"Rules": [encrypted]}}),
        (s3.put_bucket_lifecycle_configuration, {"LifecycleConfiguration": {"Rules": LIFECYCLE}}),
        (s3.put_bucket_policy, {"Policy": json.dumps(policy(bucket))}),
        (s3.put_bucket_tagging, {"Tagging": {"TagSet": tag_set}}),
    ]


def policy(bucket: str) -> dict[str, Any]:
    """The bucket's own policy: nothing without TLS, whoever asks."""
    arns = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
    rule = {"Effect": "Deny", "Principal": "*", "Action": "s3:*", "Resource": arns}
    plain = {"Bool": {"aws:SecureTransport": "false"}}
    return {"Version": "2012-10-17", "Statement": [{"Sid": "PlainHttp", **rule, "Condition": plain}]}


def denies_plain_http(store: Store) -> bool:
    """Whether the bucket has a policy. One that somebody else has made is left as it is."""
    try:
        store.client.get_bucket_policy(Bucket=store.bucket)
    except store.client.exceptions.ClientError as error:
        if code(error) != "NoSuchBucketPolicy":
            raise
        return False
    return True


def deny_plain_http(store: Store) -> None:
    """Give a bucket of a former version its policy."""
    _patiently(
        store, store.client.put_bucket_policy, Bucket=store.bucket, Policy=json.dumps(policy(store.bucket))
    )


def accept_making(store: Store) -> None:
    """Raises NotBootstrapped where only an administrator makes the bucket."""
    if not store.cloud.own:
        raise NotBootstrapped(bucket=store.bucket)


def create_bucket(store: Store, project: str, region: str) -> None:
    """Make the bucket without any configuration. Several runs may do so at once. Raises BucketGone or BucketTaken."""
    s3, seen = store.client, 403
    try:
        s3.head_bucket(Bucket=store.bucket)
        return
    except s3.exceptions.ClientError as error:
        seen = status(error)
        if seen != 404 and not forbidden(error):
            raise
    machines = _machines_of_the_project(store, project) if seen == 404 else []
    if machines:  # with an empty bucket, a run would make everything again beside them
        raise BucketGone(bucket=store.bucket, machines=", ".join(machines), project=project)
    place = {"CreateBucketConfiguration": {"LocationConstraint": region}} if region != "us-east-1" else {}
    try:
        with already("BucketAlreadyOwnedByYou"):
            _patiently(store, s3.create_bucket, Bucket=store.bucket, **place)
    except s3.exceptions.ClientError as error:
        if code(error) == "BucketAlreadyExists" or (seen == 403 and denied(error)):
            raise name.BucketTaken(bucket=store.bucket) from None
        raise


def _patiently(store: Store, call: Callable[..., Any], **request: Any) -> Any:
    """Ask again while another request for the bucket is under way, or a new bucket is not known everywhere yet."""
    for pause in (*PAUSES, None):
        try:
            return call(**request)
        except store.client.exceptions.ClientError as error:
            if code(error) not in ("OperationAborted", "NoSuchBucket") or pause is None:
                raise
            store.pause(pause)
    raise AssertionError  # the last try returns or raises


def _machines_of_the_project(store: Store, project: str) -> list[str]:
    name = store.environment
    filters = [
        {"Name": "tag:project", "Values": [project]},
        *([{"Name": "tag:environment", "Values": [name, f"{name}-*"]}] if name else []),
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    pages = store.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return [
        each["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]
