"""endpoints: S3's answers to a request for another region's endpoint, or with a former kind of signature."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from moto.s3.models import s3_backends

from tasks.cloud.embedded.errors import Answer, xml_error

NAMED = re.compile(
    r"(?:(?P<bucket>.+)\.)?s3(?:[.-](?P<region>[a-z0-9-]+))?(?P<rest>\.amazonaws\.com(?:\.cn)?)(?::\d+)?"
)
"""S3's host names: the global endpoint has no region."""

ANOTHER = "210987654321"
"""An account that is not this cloud's."""


def place(request: Any) -> tuple[str, str]:
    """The bucket and the key that a request is about; the key is empty where the bucket itself is meant."""
    named = NAMED.fullmatch(request.host.lower())
    if named and named["bucket"]:
        return named["bucket"], request.path.lstrip("/")
    bucket, _, key = request.path.lstrip("/").partition("/")
    return bucket, key


def refusal(request: Any) -> Answer | None:
    """What S3 answers in place of the object; None where the request is at its place."""
    if request.former_signature:
        text = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."
        return xml_error("400 Bad Request", "InvalidRequest", text, root="")
    if request.service != "s3":
        return None
    named, (bucket, _) = NAMED.fullmatch(request.host.lower()), place(request)
    region = _region(bucket)
    if not region:
        return None
    if named and named["region"] != region:  # the global endpoint as well: it does not know a new bucket yet
        return _redirect(request, bucket if named["bucket"] else "", region, named["rest"])
    if request.region != region:
        text = f"The authorization header is malformed; the region '{request.region}' is wrong; expecting '{region}'"
        return xml_error("400 Bad Request", "AuthorizationHeaderMalformed", text, root="")
    return None


def of_another(request: Any, environ: Mapping[str, str], taken: Iterable[str]) -> Answer | None:
    """The refusal of a request that names another owner of the bucket than it has. Such buckets may let everybody in.

    `taken`: names of buckets that another account has.
    """
    for each in taken:
        if each not in s3_backends.bucket_accounts:
            s3_backends[ANOTHER]["aws"].create_bucket(each, "eu-central-1")
    expected = environ.get("HTTP_X_AMZ_EXPECTED_BUCKET_OWNER")
    bucket, _ = place(request)
    owner = s3_backends.bucket_accounts.get(bucket, ("", expected))[1]
    if request.service != "s3" or not expected or owner == expected:
        return None
    return xml_error("403 Forbidden", "AccessDenied", "Access Denied", root="")


def _region(bucket: str) -> str | None:
    """The region of a bucket; None if there is no such bucket."""
    # moto's own table of buckets is empty after a restart
    backends = [each for account in list(s3_backends.values()) for each in list(account.values())]
    found = [each.buckets[bucket].region_name for each in backends if bucket in each.buckets]
    return str(found[0]) if found else None


def _redirect(request: Any, bucket: str, region: str, rest: str) -> Answer:
    text = "Please re-send this request to the specified temporary endpoint."
    status, headers, body = xml_error("307 Temporary Redirect", "TemporaryRedirect", text, root="")
    there = f"https://{f'{bucket}.' if bucket else ''}s3.{region}{rest}{request.path}"
    return status, [*headers, ("Location", there), ("x-amz-bucket-region", region)], body
