"""signatures: reads and verifies signatures of version 4, in a header or in a presigned URL. Pure."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, quote

ALGORITHM = "AWS4-HMAC-SHA256"
STAMP = "%Y%m%dT%H%M%SZ"
SKEW = 900
"""Seconds that a signer's clock may differ."""
UNSIGNED = ("UNSIGNED-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
"""Bodies that S3 takes without their digest in the signature."""
STREAMED = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
"""A body in chunks, each with a signature: what S3 clients such as restic send over plain HTTP."""
LONGEST = 7 * 24 * 3600
"""Seconds that a presigned URL may last."""


@dataclass(frozen=True, kw_only=True)
class Signature:
    """What a request says of its signature."""

    key: str
    scope: str
    """Date, region, service and `aws4_request`."""
    stamp: str
    headers: tuple[str, ...]
    """The names of the headers that it covers."""
    value: str
    token: str = ""
    lasts: int | None = None
    """Seconds, of a presigned URL."""

    @property
    def service(self) -> str:
        """The service that it is for."""
        return self.scope.split("/")[2]

    @property
    def at(self) -> float:
        """When it was made, in seconds since 1970."""
        return float(calendar.timegm(time.strptime(self.stamp, STAMP)))


def of(environ: Mapping[str, Any]) -> Signature | None:
    """The signature of a WSGI request; None for a request without a readable one of version 4."""
    try:
        return _in_header(environ) or _in_query(environ)
    except (LookupError, ValueError):
        return None


def _in_header(environ: Mapping[str, Any]) -> Signature | None:
    kind, _, rest = str(environ.get("HTTP_AUTHORIZATION", "")).partition(" ")
    if kind != ALGORITHM:
        return None
    said = dict(each.strip().split("=", 1) for each in rest.split(","))
    return _signature(
        said["Credential"],
        stamp=environ["HTTP_X_AMZ_DATE"],
        headers=said["SignedHeaders"],
        value=said["Signature"],
        token=environ.get("HTTP_X_AMZ_SECURITY_TOKEN", ""),
    )


def _in_query(environ: Mapping[str, Any]) -> Signature | None:
    said = dict(parse_qsl(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    if said.get("X-Amz-Algorithm") != ALGORITHM:
        return None
    lasts = int(said["X-Amz-Expires"])
    return _signature(
        said["X-Amz-Credential"],
        stamp=said["X-Amz-Date"],
        headers=said["X-Amz-SignedHeaders"],
        value=said["X-Amz-Signature"],
        token=said.get("X-Amz-Security-Token", ""),
        lasts=lasts,
    )


def _signature(credential: str, *, stamp: str, headers: str, **more: Any) -> Signature | None:
    key, _, scope = credential.partition("/")
    names = tuple(headers.split(";"))
    if scope.count("/") != 3 or not scope.endswith("/aws4_request") or "host" not in names:
        return None
    if not re.fullmatch(r"\d{8}T\d{6}Z", stamp) or scope.split("/")[0] != stamp[:8]:
        return None
    return Signature(key=key, scope=scope, stamp=stamp, headers=names, **more)


def expired(signature: Signature, now: float) -> bool:
    """Whether its time is over, or has not come."""
    if signature.lasts is None:
        return abs(now - signature.at) > SKEW
    lasts = signature.lasts if signature.lasts <= LONGEST else -1
    return now > signature.at + lasts or now < signature.at - SKEW


def verified(signature: Signature, environ: Mapping[str, Any], digest: str, secret: str) -> bool:
    """Whether this secret signed this request: method, path, query, headers and the body's digest."""
    canonical = "\n".join(
        (
            str(environ["REQUEST_METHOD"]),
            _path(signature, environ),
            "&".join(_query(environ)),
            *(f"{name}:{_header(environ, name)}" for name in signature.headers),
            "",
            ";".join(signature.headers),
            digest,
        )
    )
    request = hashlib.sha256(canonical.encode("utf-8", "surrogateescape")).hexdigest()
    text = "\n".join((ALGORITHM, signature.stamp, signature.scope, request))
    return hmac.compare_digest(_signed(signature, text, secret), signature.value)


def _signed(signature: Signature, text: str, secret: str) -> str:
    """The signature of a text, for the same day, region and service."""
    key = f"AWS4{secret}".encode()
    for part in signature.scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, text.encode(), "sha256").hex()


def joined(signature: Signature, body: bytes, secret: str) -> bytes | None:
    """The content of a body in chunks; None if one is missing, changed or not signed: each signature covers the one before."""
    chunks, former, at = list[bytes](), signature.value, 0
    while head := re.compile(rb"([0-9a-fA-F]{1,8});chunk-signature=([0-9a-f]{64})\r\n").match(body, at):
        chunk = body[head.end() : head.end() + int(head[1], 16)]
        at = head.end() + int(head[1], 16) + 2
        text = (
            f"{ALGORITHM}-PAYLOAD",
            signature.stamp,
            signature.scope,
            former,
            digest_of(b""),
            digest_of(chunk),
        )
        former = _signed(signature, "\n".join(text), secret)
        if body[at - 2 : at] != b"\r\n" or not hmac.compare_digest(former, head[2].decode()):
            return None
        if not chunk:  # the last one
            return b"".join(chunks) if at == len(body) else None
        chunks.append(chunk)
    return None


def _path(signature: Signature, environ: Mapping[str, Any]) -> str:
    """The path as it was sent; only S3 does not encode it once more."""
    raw = str(environ.get("RAW_URI", environ.get("PATH_INFO", "/"))).partition("?")[0]
    path = raw.encode("latin-1", "replace").decode("utf-8", "replace") or "/"
    return path if signature.service == "s3" else quote(path, safe="/~")


def _query(environ: Mapping[str, Any]) -> Iterator[str]:
    """The sorted parameters, without a presigned URL's signature."""
    given = parse_qsl(str(environ.get("QUERY_STRING", "")), keep_blank_values=True)
    own = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in given)
    return (f"{name}={value}" for name, value in own if name != "X-Amz-Signature")


def _header(environ: Mapping[str, Any], name: str) -> str:
    known = name.upper().replace("-", "_")
    value = environ.get(known if known in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{known}", "")
    return " ".join(str(value).split())


def digest_said(signature: Signature, environ: Mapping[str, Any]) -> str:
    """The body's digest, or that the body is unsigned, as a request to S3 says before its body."""
    if signature.lasts is not None:
        return "UNSIGNED-PAYLOAD"
    return str(environ.get("HTTP_X_AMZ_CONTENT_SHA256", ""))


def fits(said: str, body: bytes) -> bool:
    """Whether this is the body of which a request to S3 has said something."""
    return said in UNSIGNED or said == digest_of(body)


def digest_of(body: bytes) -> str:
    """The digest that a signature covers."""
    return hashlib.sha256(body).hexdigest()
