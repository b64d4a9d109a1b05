"""name: which bucket is the project's: names of buckets are the world's, so that the default has the account and the region."""

from __future__ import annotations

from typing import Any

from tasks.cloud.errors import code, status
from tasks.cloud.interface import Cloud
from tasks.refusal import Refusal

MOST = 63
"""Characters that S3 allows."""


class BucketTaken(Refusal):
    """Another account has a bucket of this name, or the credentials have no right to see anything of it. Nothing was written there."""

    sentence = "state: the bucket {bucket} is another account's, or these credentials may see nothing of it (pipeline.yml: bucket)"
    remedy = "$EDITOR pipeline.yml  # bucket: a name that nobody has"


def default(project: str, account: str, region: str) -> str:
    """A name that nobody else takes by accident."""
    end = f"-{account}-{region}"
    return f"{project[: MOST - len(end)].rstrip('-')}{end}"


def former(project: str) -> str:
    """The default of former versions, which a project keeps that has a bucket of this name."""
    return f"{project}-releases"


def found(cloud: Cloud, project: str) -> tuple[str, bool]:
    """The project's bucket where the settings name none, and whether it is complete. One request, if it is. Raises BucketTaken."""
    s3, ours = cloud.client("s3"), default(project, cloud.account_id(), cloud.region)
    seen = tagged(s3, ours, project)
    if seen:
        return ours, True
    if tagged(s3, former(project), project):
        return former(project), True
    if seen is None:
        raise BucketTaken(bucket=ours)
    return ours, False


def tagged(s3: Any, bucket: str, project: str) -> bool | None:
    """Whether a bucket is ours and configured: its tag is set last. None if we may not see it."""
    try:
        tags = s3.get_bucket_tagging(Bucket=bucket)["TagSet"]
    except s3.exceptions.ClientError as error:
        if code(error) in ("NoSuchBucket", "NoSuchTagSet"):
            return False
        if status(error) == 403:
            return None
        raise
    return {"Key": "project", "Value": project} in tags
