"""api: answers the embedded cloud's requests, one at a time, each after its changes are stored."""

from __future__ import annotations

import calendar
import hmac
import io
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs, quote, urlencode

import moto.backends
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tasks.cloud.embedded import endpoints
from tasks.cloud.embedded.disk import Disk
from tasks.cloud.embedded.errors import Answer, xml_error
from tasks.cloud.embedded.home import CloudIdentity
from tasks.cloud.embedded.instances import Instances
from tasks.cloud.embedded.objects import SMALL, written_ahead
from tasks.full_disk import DiskFull, full_disk

SERVICES = ("ec2", "s3", "route53", "ssm", "sts", "iam")
"""Imported when the server starts, so that no first request waits for them."""
OBJECT_BYTES, CALL_BYTES = 256 << 20, 1 << 20
"""The most bytes of an object or a part of one, which is held in memory, and of any other call."""
SILENT = 60.0
"""Seconds after which a connection on which nothing comes is closed."""
READS = re.compile(r"(Describe|Get|List|Head)")


def region(account: str, name: str) -> None:
    """Create moto's backends of a region."""
    for service in SERVICES:
        moto.backends.get_backend(service)
    ec2_backends[account][name]


class BodyTooLarge(Exception):
    """A request's body has more bytes than the cloud takes."""


class Request:
    """A request as it is before moto sees it: its service, its action, its body, which is read last."""

    def __init__(self, environ: dict[str, Any]) -> None:
        self.method = str(environ["REQUEST_METHOD"])
        self.path = str(environ["PATH_INFO"])
        self.query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        self.body = b""
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        credential = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", authorization)
        presigned = self.query.get("X-Amz-Credential", [""])[0].split("/")
        self.service = credential[3] if credential else presigned[3] if len(presigned) == 5 else ""
        self.region = credential[2] if credential else presigned[2] if len(presigned) == 5 else ""
        self.key = credential[1] if credential else ""
        self.former_signature = authorization.startswith("AWS ") or "AWSAccessKeyId" in self.query
        self.host = str(environ.get("HTTP_HOST", ""))
        self.action = self._action(environ)

    def read(self, environ: dict[str, Any]) -> None:
        """Read the body, once it is known who sends it. Raises BodyTooLarge before it has read more than is allowed."""
        length, stream, most = environ.get("CONTENT_LENGTH"), environ["wsgi.input"], self._most()
        if length:
            size = int(length) if length.isdecimal() else most + 1
        else:
            size = most + 1 if environ.get("wsgi.input_terminated") else 0
        if length and size > most:
            raise BodyTooLarge
        self.body = bytes(stream.read(size)) if size else b""
        if len(self.body) > most:
            raise BodyTooLarge
        environ |= {"wsgi.input": io.BytesIO(self.body), "wsgi.input_terminated": True}
        self.action = self._action(environ)

    def _most(self) -> int:
        """The most bytes that its body may have."""
        return OBJECT_BYTES if self.service == "s3" else CALL_BYTES

    def _action(self, environ: dict[str, Any]) -> str:
        if target := environ.get("HTTP_X_AMZ_TARGET"):
            return str(target).rpartition(".")[2]
        if self.service in ("s3", "route53"):
            return {"GET": "Get", "HEAD": "Head"}.get(self.method, self.method)
        found = re.match(rb"(?:.*&)?Action=(\w+)", self.body)
        return found[1].decode() if found else ""

    @property
    def changes(self) -> bool:
        """Whether it may change something."""
        return not READS.match(self.action)

    @property
    def upload(self) -> bytes:
        """The content of an S3 object or of a part of one."""
        return self.body if (self.service, self.method) == ("s3", "PUT") else b""

    @property
    def expired(self) -> bool:
        """Whether its presigned URL has expired."""
        if "X-Amz-Expires" not in self.query:
            return False
        signed = time.strptime(self.query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
        return time.time() > calendar.timegm(signed) + int(self.query["X-Amz-Expires"][0])

    def signed_with(self, key: str, secret: str) -> bool:
        """Whether it is a GET or HEAD by a presigned URL with a valid signature.

        botocore signs it again for the date in the URL; both signatures must be equal.
        """
        if "X-Amz-Signature" not in self.query or self.method not in ("GET", "HEAD"):
            return False
        own = [(name, values[0]) for name, values in self.query.items() if not name.startswith("X-Amz-")]
        address = f"http://{self.host}{quote(self.path)}" + (f"?{urlencode(own)}" if own else "")
        request = AWSRequest(method=self.method, url=address)
        request.context["timestamp"] = self.query["X-Amz-Date"][0]
        signer = S3SigV4QueryAuth(
            Credentials(key, secret),
            "s3",
            self.query["X-Amz-Credential"][0].split("/")[2],
            int(self.query["X-Amz-Expires"][0]),
        )
        signer._modify_request_before_signing(request)
        text = signer.string_to_sign(request, signer.canonical_request(request))
        return hmac.compare_digest(signer.signature(text, request), self.query["X-Amz-Signature"][0])

    def replace(self, environ: dict[str, Any], **values: object) -> None:
        """Set values in a JSON body."""
        self.body = json.dumps({**json.loads(self.body), **values}).encode()
        environ.update({"wsgi.input": io.BytesIO(self.body), "CONTENT_LENGTH": str(len(self.body))})


class WsgiApplication:
    """The WSGI application around moto's."""

    def __init__(
        self,
        *,
        lock: threading.RLock,
        disk: Disk,
        instances: Instances,
        debian_ami: Any,
        faults: Any,
        identity: CloudIdentity,
    ) -> None:
        self.key = identity.key or "nobody"
        self.presigning = identity.presigning
        self.lock, self.disk, self.instances = lock, disk, instances
        self.debian_ami, self.faults = debian_ami, faults
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        request = Request(environ)
        refused = self._refused(request, environ)
        if not refused:
            try:
                request.read(environ)  # before anything is locked: an upload may be slow
            except BodyTooLarge:
                text = "Your proposed upload exceeds the maximum allowed size"
                refused = xml_error("400 Bad Request", "EntityTooLarge", text, root="")
        if refused:  # with the connection: nothing reads what else comes on it
            refused[1].append(("Connection", "close"))
        status, headers, body = refused or self.answer(request, environ)
        start_response(status, headers)
        return body

    def _refused(self, request: Request, environ: dict[str, Any]) -> Answer | None:
        """The refusal of a request that nobody of this cloud has signed, or that is in the wrong place."""
        if request.former_signature:
            return endpoints.refusal(request)
        # other users and web pages reach loopback, and a host may run anything
        own = request.key and request.key == self.key and not environ.get("cloud.hosts")
        presigned = not own and request.signed_with(*self.presigning)
        if not (own or presigned) or request.path.startswith("/moto-api"):
            return xml_error("403 Forbidden", "AccessDenied", "Requests must be signed", root="")
        if request.expired:
            return xml_error("403 Forbidden", "AccessDenied", "Request has expired", root="")
        return endpoints.refusal(request)

    def answer(self, request: Request, environ: dict[str, Any]) -> Answer:
        """Let moto answer, and store what that changed."""
        if request.service == "ec2":
            self.instances.judge()
        try:
            folder = self.disk.objects
            with full_disk("cloud", folder), written_ahead(folder, request.upload), self.lock:
                return self._in_turn(request, environ)
        except DiskFull as refusal:  # 507: boto3 does not retry it
            return xml_error("507 Insufficient Storage", "DiskFull", refusal.text, root="")

    def _in_turn(self, request: Request, environ: dict[str, Any]) -> Answer:
        if request.service == "ec2":
            self.instances.forget_terminated()
            if request.action == "DescribeImages":
                self.debian_ami.retry()
            self.debian_ami.register()
        refused: Answer | None = self.faults.before(request, environ, self.instances) if self.faults else None
        if refused:
            return refused
        answer = self._moto(request, environ)
        if request.changes:
            self.disk.save(request.service)
            if request.service == "ec2":
                self.instances.filter()
        return answer

    def _moto(self, request: Request, environ: dict[str, Any]) -> Answer:
        answered: list[Any] = []
        chunks = self.moto(environ, lambda status, headers, *_: answered.extend((status, headers)))
        status, headers = answered
        length = next((value for name, value in headers if name.lower() == "content-length"), 0)
        if request.service == "s3" and request.method == "GET" and int(length) > SMALL:
            return status, headers, chunks  # from a file: sent after the lock is released
        try:
            return status, headers, [b"".join(chunks)]
        finally:
            chunks.close()


class _Handler(MotoRequestHandler):
    timeout = SILENT

    def log_request(self, *_: Any) -> None:
        """Log nothing: the log would grow with each request."""


def serve(application: WsgiApplication, listener: socket.socket, allowed: ipaddress.IPv4Network) -> None:
    """Serve on a socket, to this machine and to the cloud's own hosts. Never returns."""
    address, port = listener.getsockname()
    server = make_server(
        address, port, application, threaded=True, request_handler=_Handler, fd=listener.fileno()
    )

    def verify_request(_: Any, client: tuple[str, int]) -> bool:
        peer = ipaddress.ip_address(client[0])
        return peer.is_loopback or peer in allowed

    def for_hosts(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        environ["cloud.hosts"] = True
        return application(environ, start_response)

    if not ipaddress.ip_address(address).is_loopback:
        server.app = for_hosts  # hosts may use presigned URLs and nothing else
    server.verify_request = verify_request
    server.serve_forever()
