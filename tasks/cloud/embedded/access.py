"""access: lets a request through if its signature is right and the policies allow it."""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl
from xml.etree import ElementTree

from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from moto.s3.utils import bucket_name_from_url

from tasks.cloud.embedded import calls, principals, signatures, tokens, vpc_endpoints
from tasks.cloud.embedded.calls import Call, Need
from tasks.cloud.embedded.errors import Answer, json_error, xml_error
from tasks.cloud.embedded.judge import AccessRequest, Decision, NotJudged, Policy, judge
from tasks.cloud.embedded.principals import Principal
from tasks.cloud.embedded.signatures import Signature

EVERYTHING: Policy = {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
WEB_IDENTITY = "AssumeRoleWithWebIdentity"
FORBIDDEN, BAD, UNAUTHORIZED = "403 Forbidden", "400 Bad Request", "401 Unauthorized"
CODES: dict[str, dict[str, tuple[str, str]]] = {
    # what is wrong, and how each service says so; "" is any other service
    "unsigned": {"s3": (FORBIDDEN, "AccessDenied"), "": (FORBIDDEN, "MissingAuthenticationToken")},
    "key": {
        "s3": (FORBIDDEN, "InvalidAccessKeyId"),
        "ec2": (UNAUTHORIZED, "AuthFailure"),
        "ssm": (BAD, "UnrecognizedClientException"),
        "": (FORBIDDEN, "InvalidClientTokenId"),
    },
    "signature": {
        "ec2": (UNAUTHORIZED, "AuthFailure"),
        "ssm": (BAD, "InvalidSignatureException"),
        "": (FORBIDDEN, "SignatureDoesNotMatch"),
    },
    "skewed": {
        "s3": (FORBIDDEN, "RequestTimeTooSkewed"),
        "ec2": (BAD, "RequestExpired"),
        "ssm": (BAD, "InvalidSignatureException"),
        "": (FORBIDDEN, "SignatureDoesNotMatch"),
    },
    "ended": {
        "s3": (BAD, "ExpiredToken"),
        "ec2": (BAD, "RequestExpired"),
        "ssm": (BAD, "ExpiredTokenException"),
        "": (FORBIDDEN, "ExpiredToken"),
    },
    "denied": {
        "ec2": (FORBIDDEN, "UnauthorizedOperation"),
        "ssm": (BAD, "AccessDeniedException"),
        "": (FORBIDDEN, "AccessDenied"),
    },
    "body": {"": (BAD, "XAmzContentSHA256Mismatch")},
    "unclear": {"": (BAD, "ValidationError")},
    "token": {"": (BAD, "InvalidIdentityToken")},
    "token ended": {"": (BAD, "ExpiredTokenException")},
}
ROOTS = {"s3": "", "ec2": "Response"}
"""The outermost element of an error, where it is not ErrorResponse."""


class Refused(Exception):
    """Why a request is not carried out."""

    def __init__(self, what: str, words: str) -> None:
        super().__init__(words)
        self.what = what

    def answer(self, service: str) -> Answer:
        """What the service says then."""
        status, code = CODES[self.what].get(service) or CODES[self.what][""]
        if service == "ssm":
            return json_error(status, code, str(self))
        return xml_error(status, code, str(self), root=ROOTS.get(service, "ErrorResponse"))


class Access:
    """Who may do what in one cloud. `issuers`: the keys of identity providers, by their URL."""

    def __init__(
        self,
        *,
        key: str,
        secret: str,
        presigning: tuple[str, str],
        account: str,
        region: str,
        issuers: Callable[[], Mapping[str, Sequence[Mapping[str, str]]]],
    ) -> None:
        self.key, self.account, self.region, self.issuers = key, account, region, issuers
        self.presigning_key, presigning_secret = presigning
        self.administrator = principals.administrator(account, secret)
        self.presigner = principals.administrator(account, presigning_secret)

    def authenticate(self, environ: dict[str, Any], now: float) -> Principal:
        """Whose signature a request has, before its body is read: `accept` looks at that. Raises Refused."""
        signature = _signature(environ)
        presigned = signature.lasts is not None
        if presigned and (environ["REQUEST_METHOD"] not in ("GET", "HEAD") or signature.service != "s3"):
            raise Refused("unsigned", "Only fetches may be presigned")
        caller = self._presigner(signature.key) if presigned else self._owner(signature.key)
        if signature.service == "s3":
            _verify(signature, environ, signatures.digest_said(signature, environ), caller)
        if caller.token != signature.token:
            raise Refused("key", "The security token included in the request is invalid.")
        if signatures.expired(signature, now):
            words = "Request has expired" if presigned else "The difference between the clocks is too large."
            raise Refused("denied" if presigned else "skewed", words)
        if caller.ends and now > caller.ends.timestamp():
            raise Refused("ended", "The security token included in the request is expired")
        if presigned:  # a fetch from S3 has neither, and moto would take them for another service's
            environ.pop("CONTENT_TYPE", None)
            environ.pop("HTTP_X_AMZ_TARGET", None)
        return caller

    def accept(self, caller: Principal, environ: Mapping[str, Any], body: bytes) -> bytes:
        """The content of the body, if it is the one that the caller has signed. Raises Refused."""
        signature = _signature(environ)
        said = signatures.digest_said(signature, environ)
        if signature.service != "s3":
            _verify(signature, environ, signatures.digest_of(body), caller)
        elif said == signatures.STREAMED:
            content = signatures.joined(signature, body, caller.secret)
            if content is None:
                raise Refused("signature", "The signature of a chunk does not match.")
            return content
        elif not signatures.fits(said, body):
            words = "The provided 'x-amz-content-sha256' header does not match what was computed."
            raise Refused("body", words)
        return body

    def _presigner(self, key: str) -> Principal:
        """The administrator has a key for URLs alone: the hosts' logs show it."""
        if key == self.presigning_key:
            return self.presigner
        if key == self.key:
            raise Refused("unsigned", "This key signs no URLs")
        return self._owner(key)

    def _owner(self, key: str) -> Principal:
        if key == self.key:
            return self.administrator
        found = principals.find(self.account, key)
        if not found:
            raise Refused("key", "The access key ID you provided does not exist in our records.")
        return found

    def check(self, caller: Principal, call: Call, context: Mapping[str, str]) -> None:
        """Raises Refused unless everything that a call needs is allowed. `context`: what is known of every request."""
        if caller.administrator and call.service not in ("s3", "sts"):
            return  # his own policies allow everything, and only these have policies of resources
        try:
            for need in calls.needs(call):
                self._require(caller, need, context)
        except (NotJudged, ElementTree.ParseError) as error:
            raise Refused("unclear", f"not judged by the embedded cloud: {error}") from None

    def _require(self, caller: Principal, need: Need, context: Mapping[str, str]) -> None:
        decision = self.decide(caller, need, context)
        if not decision.allowed:
            raise denied(caller, need, decision)

    def decide(self, caller: Principal, need: Need, context: Mapping[str, str]) -> Decision:
        """What the policies say to one action on one resource."""
        request = AccessRequest(
            action=need.action,
            resource=need.resource,
            context={**context, **caller.context, **need.context},
            principal=caller.names,
        )
        trust = self._trust(need.resource) if need.action == "sts:AssumeRole" else None
        decision = judge(
            [EVERYTHING] if caller.administrator else caller.policies,
            request,
            resource_policy=trust or self._bucket_policy(need.resource),
            session_policy=caller.session_policy,
            must_admit=need.action == "sts:AssumeRole",
        )
        if decision.allowed and (passed := vpc_endpoints.policy(self.account, context)):
            return judge([EVERYTHING], request, resource_policy=passed, must_admit=True)
        return decision

    def allowed_in_batch(
        self, caller: Principal, call: Call, context: Mapping[str, str]
    ) -> tuple[list[str], list[str]]:
        """The keys of a batch delete that the caller may delete, and the others."""
        bucket, _ = calls.bucket_and_key(call.path)
        may, may_not = list[str](), list[str]()
        for key in calls.batch(call.body):
            decision = self.decide(caller, calls.delete_object(bucket, key), context)
            (may if decision.allowed else may_not).append(key)
        return may, may_not

    def _bucket_policy(self, resource: str) -> Policy | None:
        if not resource.startswith("arn:aws:s3:::"):
            return None
        name = resource.split(":", 5)[5].partition("/")[0]
        buckets = s3_backends[self.account]["aws"].buckets
        text = buckets[name].policy if name in buckets else None
        return json.loads(text) if text else None

    def _trust(self, arn: str) -> Policy:
        held = principals.role(self.account, arn)
        if not held:
            return {"Statement": []}
        return json.loads(held.assume_role_policy_document)  # type: ignore[no-any-return]

    def by_token(self, values: Mapping[str, str], now: float) -> None:
        """Let a job assume a role with its provider's token. Raises Refused."""
        principals.forget_ended(self.account, datetime.datetime.fromtimestamp(now, datetime.UTC))
        try:
            said = tokens.claims(values.get("WebIdentityToken", ""), self.issuers(), now)
        except tokens.TokenExpired as error:
            raise Refused("token ended", str(error)) from None
        except tokens.TokenInvalid as error:
            raise Refused("token", str(error)) from None
        provider = principals.provider(self.account, said["iss"])
        if not provider:
            raise Refused("token", "No OpenIDConnect provider found in your account for this issuer")
        if said.get("aud") not in provider.client_id_list:
            raise Refused("token", "Incorrect token audience")
        context = {
            f"{provider.url}:aud": str(said["aud"]),
            f"{provider.url}:sub": str(said.get("sub", "")),
            "sts:RoleSessionName": values.get("RoleSessionName", ""),
        }
        arn = values.get("RoleArn", "")
        request = AccessRequest(
            action=f"sts:{WEB_IDENTITY}", resource=arn, context=context, principal=(provider.arn,)
        )
        if not judge([], request, resource_policy=self._trust(arn), must_admit=True).allowed:
            raise Refused("denied", f"Not authorized to perform sts:{WEB_IDENTITY}")


def _signature(environ: Mapping[str, Any]) -> Signature:
    signature = signatures.of(environ)
    if signature is None:
        raise Refused("unsigned", "Requests must be signed")
    return signature


def _verify(signature: Signature, environ: Mapping[str, Any], digest: str, caller: Principal) -> None:
    if not signatures.verified(signature, environ, digest, caller.secret):
        words = "The request signature we calculated does not match the signature you provided."
        raise Refused("signature", words)


def denied(caller: Principal, need: Need, decision: Decision) -> Refused:
    """The sentence of AWS."""
    why = (
        f"with an explicit deny in a policy ({decision.by})"
        if decision.effect == "denied"
        else f"because no policy allows the {need.action} action"
    )
    words = (
        f"User: {caller.arn} is not authorized to perform: {need.action} on resource: {need.resource} {why}"
    )
    return Refused("denied", words)


def read(environ: Mapping[str, Any], body: bytes, *, service: str, account: str, region: str) -> Call:
    """A request as moto will read it. Raises Refused where it could be read in two ways."""
    query = str(environ.get("QUERY_STRING", ""))
    target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
    kind = str(environ.get("CONTENT_TYPE", ""))
    values: Mapping[str, Any] = {}
    action = ""
    if service in ("ec2", "iam", "sts"):
        if (query and body) or target:
            raise Refused("unclear", "an action is in the query or in the body")
        values = calls.form(query.encode() or body)
        action = str(values.get("Action", ""))
    elif service not in ("s3", "route53"):
        if query or "json" not in kind or not target:
            raise Refused("unclear", "an action is named by X-Amz-Target")
        action, values = target.rpartition(".")[2], _json(body)
    host = str(environ.get("HTTP_HOST", ""))
    path = str(environ["PATH_INFO"])
    if service == "s3" and (bucket := _bucket_of(host)):
        path = f"/{bucket}{path}"
    return Call(
        service=service,
        action=action,
        method=str(environ["REQUEST_METHOD"]),
        path=path.encode("latin-1", "replace").decode("utf-8", "replace"),
        query=dict(parse_qsl(query, keep_blank_values=True)),
        headers={
            name.removeprefix("HTTP_").replace("_", "-").lower(): str(value)
            for name, value in environ.items()
            if name.startswith("HTTP_")
        },
        values=values,
        body=body,
        account=account,
        region=region,
    )


def known_of(environ: Mapping[str, Any], call: Call, now: float, source: Mapping[str, str]) -> dict[str, str]:
    """The condition keys of every request. `source`: those of where it comes from, which stands for TLS."""
    at = datetime.datetime.fromtimestamp(now, datetime.UTC)
    return {
        **source,
        "aws:SecureTransport": "true",
        "aws:ResourceAccount": call.account,
        "s3:ResourceAccount": call.account,
        "aws:RequestedRegion": call.region,
        "aws:CurrentTime": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "aws:EpochTime": str(int(now)),
        "aws:UserAgent": str(environ.get("HTTP_USER_AGENT", "")),
    }


def _bucket_of(host: str) -> str:
    """The bucket that the host's name has, as moto reads it."""
    if not S3Response.subdomain_based_buckets(SimpleNamespace(headers={"host": host})):
        return ""
    return bucket_name_from_url(f"http://{host}/") or ""


def _json(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Refused("unclear", "the body is no JSON object")
    return found


def without(body: bytes, keys: Iterable[str]) -> bytes:
    """A batch delete without some keys."""
    root = calls.xml(body)
    gone = set(keys)
    for each in root.findall("./{*}Object"):
        if (each.findtext("./{*}Key") or "") in gone:
            root.remove(each)
    space = root.tag[1:].partition("}")[0] if root.tag.startswith("{") else None
    return ElementTree.tostring(root, default_namespace=space)


def with_errors(text: bytes, keys: Iterable[str]) -> bytes:
    """The answer to a batch delete, with the keys that were denied."""
    errors = b"".join(
        b"<Error><Key>%b</Key><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        % ElementTree.tostring(_element(key))[3:-4]
        for key in keys
    )
    found = re.sub(rb"<DeleteResult([^>]*)/>", rb"<DeleteResult\1></DeleteResult>", text)
    return found.replace(b"</DeleteResult>", errors + b"</DeleteResult>")


def _element(text: str) -> ElementTree.Element:
    made = ElementTree.Element("k")
    made.text = text
    return made
