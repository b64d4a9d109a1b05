"""name: which bucket is the project's: names of buckets are the world's, so that the default has the account and the region."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any

from tasks.cloud.errors import code, forbidden
from tasks.cloud.interface import Cloud
from tasks.refusal import Refusal

MOST = 63
"""Characters that S3 allows."""
VERSIONED = "versioned"
"""The tag that says since when the bucket is versioned, by its own clock."""
SETTLES = 900.0
"""Seconds after that in which S3 may not find an object that it has, as AWS says."""


class BucketTaken(Refusal):
    """Another account has a bucket of this name, or the credentials have no right to see anything of it. Nothing was written there."""

    sentence = "state: the bucket {bucket} is another account's, or these credentials may see nothing of it (pipeline.yml: bucket)"
    remedy = "$EDITOR pipeline.yml  # bucket: a name that nobody has"


@dataclass(frozen=True, kw_only=True)
class BucketSeen:
    """A bucket as its tags show it. `complete`: ours and configured. `young`: a read may not find what is there."""

    name: str
    complete: bool
    young: bool


def default(project: str, account: str, region: str) -> str:
    """A name that nobody else takes by accident."""
    end = f"-{account}-{region}"
    return f"{project[: MOST - len(end)].rstrip('-')}{end}"


def former(project: str) -> str:
    """The default of former versions, which a project keeps that has a bucket of this name."""
    return f"{project}-releases"


def found(cloud: Cloud, project: str) -> BucketSeen:
    """The project's bucket where the settings name none. One request, if it is complete. Raises BucketTaken."""
    s3, ours = cloud.client("s3"), default(project, cloud.account_id(), cloud.region)
    seen = look(s3, ours, project)
    if seen and seen.complete:
        return seen
    if (kept := look(s3, former(project), project)) and kept.complete:
        return kept
    if seen is None:
        raise BucketTaken(bucket=ours)
    return seen


def look(s3: Any, bucket: str, project: str) -> BucketSeen | None:
    """What the bucket's tags say: they are set last. None if we may not see them."""
    try:
        answer = s3.get_bucket_tagging(Bucket=bucket)
    except s3.exceptions.ClientError as error:
        if code(error) in ("NoSuchBucket", "NoSuchTagSet"):
            return BucketSeen(name=bucket, complete=False, young=code(error) == "NoSuchTagSet")
        if forbidden(error):
            return None
        raise
    tags = {each["Key"]: each["Value"] for each in answer["TagSet"]}
    since = tags.get(VERSIONED)
    young = bool(since) and (date(answer) - datetime.fromisoformat(str(since))).total_seconds() < SETTLES
    return BucketSeen(name=bucket, complete=tags.get("project") == project, young=young)


def date(answer: Any) -> datetime:
    """The bucket's time: the clocks of the machines may be wrong."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
