"""What botocore has signed is verified; whatever is changed afterwards is refused, and so is what another secret has signed."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tasks.cloud.embedded import signatures

REGION, SECRET, BODY = "eu-central-1", "secret", b"Action=DescribeVpcs"
PATHS = ("/", "/shop/a b+c~d(e)", "/shop/é", "/shop/a%2Fb", "/2013-04-01/hostedzone/Z1/rrset")
QUERIES = ("", "list-type=2&prefix=a%2Fb", "b=2&a=1&a=0", "acl", "name=%C3%A9%20x")
SIGNERS = {
    "ec2": lambda who: SigV4Auth(who, "ec2", REGION),
    "s3": lambda who: S3SigV4Auth(who, "s3", REGION),
    "url": lambda who: S3SigV4QueryAuth(who, "s3", REGION, 60),
}


def environ_of(kind, path="/", query="", secret=SECRET, token=None):
    """A request as a WSGI server gives it, signed by botocore."""
    method = "GET" if kind == "url" else "POST"
    request = AWSRequest(
        method=method,
        url=f"http://cloud{_encoded(path)}" + (f"?{query}" if query else ""),
        data=b"" if kind == "url" else BODY,
        headers={"X-Custom": "one  two", "Content-Type": "text/plain"} if kind != "url" else {},
    )
    SIGNERS[kind](Credentials("key", secret, token)).add_auth(request)
    sent, parts = request.prepare(), urlsplit(request.prepare().url)
    headers = {
        f"HTTP_{name.upper().replace('-', '_')}": value if isinstance(value, str) else value.decode()
        for name, value in sent.headers.items()
    }
    return {
        "REQUEST_METHOD": method,
        "RAW_URI": f"{parts.path}?{parts.query}",
        "QUERY_STRING": parts.query,
        "HTTP_HOST": "cloud",
        "CONTENT_TYPE": headers.pop("HTTP_CONTENT_TYPE", ""),
        **headers,
    }


def _encoded(path):
    return path.replace(" ", "%20").replace("é", "%C3%A9")


def is_verified(kind, environ, body=BODY, secret=SECRET):
    """As `access` asks."""
    signature = signatures.of(environ)
    if signature is None:
        return False
    if kind == "ec2":
        return signatures.verified(signature, environ, signatures.digest_of(body), secret)
    said = signatures.digest_said(signature, environ)
    return signatures.verified(signature, environ, said, secret) and signatures.fits(said, body)


@pytest.mark.parametrize("kind", SIGNERS)
@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
@pytest.mark.promise("every-signature-is-verified")
def test_what_botocore_signs_is_verified(kind, path, query):
    assert is_verified(kind, environ_of(kind, path, query))


CHANGES = {
    "the method": {"REQUEST_METHOD": "DELETE"},
    "the path": {"RAW_URI": "/other"},
    "the query": {"QUERY_STRING": "a=2"},
    "a header": {"HTTP_X_CUSTOM": "three"},
    "the kind of its body": {"CONTENT_TYPE": "text/html"},
    "the host": {"HTTP_HOST": "elsewhere"},
    "the time": {"HTTP_X_AMZ_DATE": "20000101T000000Z"},
    "the digest": {"HTTP_X_AMZ_CONTENT_SHA256": "UNSIGNED-PAYLOAD"},
    "the token": {"HTTP_X_AMZ_SECURITY_TOKEN": "another"},
}


def admitted(kind):
    """What may be changed after signing, of what must not."""
    environ = environ_of(kind, query="a=1", token="token")
    if kind == "url":
        kept = ("the method", "the path", "the host")
        changes = {name: change for name, change in CHANGES.items() if name in kept}
        query = environ["QUERY_STRING"]
        for old, new in {"a=1": "a=2", "Expires=60": "Expires=600", "Token=token": "Token=other"}.items():
            changes[new] = {"QUERY_STRING": query.replace(old, new)}
            assert changes[new]["QUERY_STRING"] != query
    else:
        changes = {name: change for name, change in CHANGES.items() if kind == "s3" or name != "the digest"}
    found = [name for name, change in changes.items() if is_verified(kind, {**environ, **change})]
    if is_verified(kind, environ, secret="another"):
        found.append("the secret")
    if kind != "url" and is_verified(kind, environ, body=b"Action=TerminateInstances"):
        found.append("the body")
    return found


@pytest.mark.parametrize("kind", SIGNERS)
@pytest.mark.promise("every-signature-is-verified")
def test_what_is_changed_after_signing_is_refused(kind):
    assert admitted(kind) == []


# the example of AWS's page on signatures of chunks
SEED = signatures.Signature(
    key="AKIAIOSFODNN7EXAMPLE",
    scope="20130524/us-east-1/s3/aws4_request",
    stamp="20130524T000000Z",
    headers=("host",),
    value="4f232c4386841ef735655705268965c44a0e4690baa4adea153f7db9fa80a0a9",
)
CHUNKS = [
    b"10000;chunk-signature=ad80c730a21e5b8d04586a2213dd63b9a0e99e0e2307b0ade35a65485a288648\r\n" + b"a" * 65536 + b"\r\n",
    b"400;chunk-signature=0055627c9e194cb4542bae2aa5492e3c1575bbb81b612b7d234b86a503ef5497\r\n" + b"a" * 1024 + b"\r\n",
    b"0;chunk-signature=b6c6ea8a5354eaf15b3cb7646744f4275b71ea724fed81ceb9323e279d449df9\r\n\r\n",
]  # fmt: skip
BROKEN = {
    "a changed byte": b"".join(CHUNKS).replace(b"aa\r\n0;", b"ab\r\n0;"),
    "no last chunk": b"".join(CHUNKS[:2]),
    "a missing chunk": CHUNKS[0] + CHUNKS[2],
    "another order": CHUNKS[1] + CHUNKS[0] + CHUNKS[2],
    "more behind the last": b"".join(CHUNKS) + CHUNKS[2],
    "no chunk": b"",
}


def joined(body, secret="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"):
    return signatures.joined(SEED, body, secret)


def chunks_admitted():
    """Bodies in chunks that are taken, of those that were changed after signing."""
    return [name for name, body in BROKEN.items() if joined(body) is not None]


@pytest.mark.promise("every-signature-is-verified")
def test_a_body_in_chunks_is_the_one_that_was_signed():
    assert joined(b"".join(CHUNKS)) == b"a" * 66560
    assert joined(b"".join(CHUNKS), secret="another") is None
    assert chunks_admitted() == []


UNREADABLE = (
    "",
    "AWS key:signature",
    "AWS4-HMAC-SHA256 Credential=key",
    "AWS4-HMAC-SHA256 Credential=key/20261127/eu-central-1/ec2, SignedHeaders=host, Signature=0",
    "AWS4-HMAC-SHA256 Credential=key/20261127/eu-central-1/ec2/aws4_request, SignedHeaders=x-amz-date, Signature=0",
    "AWS4-HMAC-SHA256 Credential=key/20261126/eu-central-1/ec2/aws4_request, SignedHeaders=host, Signature=0",
)


@pytest.mark.parametrize("said", UNREADABLE)
def test_what_is_no_whole_signature_of_version_4_is_none(said):
    environ = {"HTTP_AUTHORIZATION": said, "HTTP_X_AMZ_DATE": "20261127T000000Z", "HTTP_HOST": "cloud"}
    assert signatures.of(environ) is None


def test_a_url_ends_and_a_header_is_of_now():
    header = signatures.of(environ_of("ec2"))
    assert [signatures.expired(header, header.at + seconds) for seconds in (-901, -899, 899, 901)] == [
        True, False, False, True,
    ]  # fmt: skip
    url = signatures.of(environ_of("url"))
    assert [signatures.expired(url, url.at + seconds) for seconds in (-901, 0, 59, 61)] == [
        True, False, False, True,
    ]  # fmt: skip
    long = dataclasses.replace(url, lasts=signatures.LONGEST + 1)
    assert signatures.expired(long, long.at)
