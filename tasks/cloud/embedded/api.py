"""api: answers the embedded cloud's requests, one at a time, each after its changes are stored."""

from __future__ import annotations

import io
import ipaddress
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs

import moto.backends
from moto.ec2.models import ec2_backends
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import make_server

from tasks.cloud.embedded import access, calls, endpoints, vpc_endpoints
from tasks.cloud.embedded.access import WEB_IDENTITY, Access, Refused
from tasks.cloud.embedded.calls import Call
from tasks.cloud.embedded.disk import Disk
from tasks.cloud.embedded.errors import Answer, xml_error
from tasks.cloud.embedded.instances import Instances
from tasks.cloud.embedded.objects import SMALL, written_ahead
from tasks.cloud.embedded.principals import Principal
from tasks.cloud.embedded.signatures import UNSIGNED
from tasks.full_disk import DiskFull, full_disk

SERVICES = ("ec2", "s3", "route53", "ssm", "sts", "iam", "service-quotas", "budgets")
"""Imported when the server starts, so that no first request waits for them."""
OBJECT_BYTES, CALL_BYTES, TOKEN_BYTES = 256 << 20, 1 << 20, 64 << 10
"""The most bytes of an object or a part of one, which is held in memory, of any other call, and of a job's that only has a token."""
SILENT = 60.0
"""Seconds after which a connection on which nothing comes is closed."""
NOT_SERVED = ("/moto-api", "/latest/", "/favicon.ico", "/v20180820/")
"""What moto serves besides AWS's services."""
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
        self.body, self.whole = b"", False
        authorization = environ.get("HTTP_AUTHORIZATION", "")
        credential = re.search(r"Credential=([^/]+)/\d+/([^/]+)/([^/]+)/", authorization)
        presigned = self.query.get("X-Amz-Credential", [""])[0].split("/")
        self.service = credential[3] if credential else presigned[3] if len(presigned) == 5 else ""
        self.region = credential[2] if credential else presigned[2] if len(presigned) == 5 else ""
        self.former_signature = authorization.startswith("AWS ") or "AWSAccessKeyId" in self.query
        self.may_have_token = not (self.service or authorization or self.query) and self.method == "POST"
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
        self.whole = True
        environ |= {"wsgi.input": io.BytesIO(self.body), "wsgi.input_terminated": True}
        self.action = self._action(environ)

    def _most(self) -> int:
        """The most bytes that its body may have."""
        return OBJECT_BYTES if self.service == "s3" else TOKEN_BYTES if self.may_have_token else CALL_BYTES

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

    def unwrap(self, environ: dict[str, Any], content: bytes) -> None:
        """Set the content of a body that was signed in chunks."""
        if content is self.body:
            return
        self.body = content
        environ |= {"wsgi.input": io.BytesIO(content), "CONTENT_LENGTH": str(len(content))}
        environ["HTTP_X_AMZ_CONTENT_SHA256"] = UNSIGNED[0]
        environ.pop("HTTP_X_AMZ_DECODED_CONTENT_LENGTH", None)

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
        access: Access,
    ) -> None:
        self.access = access
        self.lock, self.disk, self.instances = lock, disk, instances
        self.debian_ami, self.faults = debian_ami, faults
        self.moto = DomainDispatcherApplication(create_backend_app)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a WSGI request."""
        request = Request(environ)
        try:
            answer = self._received(request, environ)
        except Refused as refused:
            answer = refused.answer(request.service or "s3")
        except BodyTooLarge:
            text = "Your proposed upload exceeds the maximum allowed size"
            answer = xml_error("400 Bad Request", "EntityTooLarge", text, root="")
        status, headers, body = answer
        if not request.whole:  # nothing reads what else comes on this connection
            headers.append(("Connection", "close"))
        start_response(status, headers)
        return body

    def _received(self, request: Request, environ: dict[str, Any]) -> Answer:
        """The answer to who has signed a request and sends it to its place. Raises Refused and BodyTooLarge."""
        caller = None if request.former_signature else self._caller(request, environ)
        if elsewhere := endpoints.refusal(request):
            return elsewhere
        request.read(environ)  # before anything is locked: an upload may be slow
        if caller:
            request.unwrap(environ, self.access.accept(caller, environ, request.body))
        elif calls.form(request.body).get("Action") == WEB_IDENTITY:
            request.service = "sts"
        else:
            raise Refused("unsigned", "Requests must be signed")
        return self.answer(request, environ, caller)

    def _caller(self, request: Request, environ: dict[str, Any]) -> Principal | None:
        """Whose request it is: other users and web pages reach loopback, and a host may run anything. Raises Refused.

        None: perhaps a job's, whose token is in the body.
        """
        if request.path.startswith(NOT_SERVED):
            raise Refused("unsigned", "There is nothing here")
        presigned = "X-Amz-Signature" in request.query and "HTTP_AUTHORIZATION" not in environ
        by_key = environ.get("cloud.hosts") and not presigned
        if by_key and request.service != "s3":
            raise Refused("unsigned", "Hosts of this cloud reach its buckets only")
        if request.may_have_token:
            return None
        with self.lock:
            caller = self.access.authenticate(environ, time.time())
        if by_key and caller.administrator:
            raise Refused("unsigned", "No host has this key")
        return caller

    def answer(self, request: Request, environ: dict[str, Any], caller: Principal | None) -> Answer:
        """Let moto answer, and store what that changed. Raises Refused."""
        if request.service == "ec2":
            self.instances.judge()
        try:
            folder = self.disk.objects
            with full_disk("cloud", folder), written_ahead(folder, request.upload), self.lock:
                return self._in_turn(request, environ, caller)
        except DiskFull as refusal:  # 507: boto3 does not retry it
            return xml_error("507 Insufficient Storage", "DiskFull", refusal.text, root="")

    def _in_turn(self, request: Request, environ: dict[str, Any], caller: Principal | None) -> Answer:
        if request.service == "ec2":
            self.instances.forget_terminated()
            if request.action == "DescribeImages":
                self.debian_ami.retry()
            self.debian_ami.register()
        if refused := endpoints.of_another(request, environ, self.instances.taken()):
            return refused
        if self.faults and (late := self.faults.before(request, environ, self.instances)):
            return late  # type: ignore[no-any-return]
        behind = self.faults.behind(request, self.disk.versions) if self.faults else 0
        with self.disk.as_of(request.service, behind):
            answer = self._judged(request, environ, caller)
        if request.changes:
            self.disk.save(request.service)
            if self.faults:
                self.faults.after(request, answer)
            if request.service == "ec2":
                self.instances.filter()
        return answer

    def _judged(self, request: Request, environ: dict[str, Any], caller: Principal | None) -> Answer:
        """moto's answer to what the caller may do. Raises Refused."""
        if caller is None:
            self.access.by_token(calls.form(request.body), time.time())
            return self._moto(request, environ)
        where = {"account": self.access.account, "region": request.region or self.access.region}
        call = access.read(environ, request.body, service=request.service, **where)
        hosts = self.instances.all() if call.service == "s3" else ()
        source = vpc_endpoints.source(hosts, str(environ.get("REMOTE_ADDR", "127.0.0.1")), call.region)
        known = access.known_of(environ, call, time.time(), source)
        if call.service == "s3" and call.method == "POST" and "delete" in call.query:
            return self._batch(request, environ, caller, call, known)
        self.access.check(caller, call, known)
        answer = self._moto(request, environ)
        lists = not answer[0].startswith("404") or caller.administrator or call.method not in ("GET", "HEAD")
        if call.service == "s3" and not lists:
            need = calls.list_bucket(call)
            if not (decision := self.access.decide(caller, need, known)).allowed:
                raise access.denied(caller, need, decision)
        return answer

    def _batch(
        self,
        request: Request,
        environ: dict[str, Any],
        caller: Principal,
        call: Call,
        known: dict[str, str],
    ) -> Answer:
        """Delete of a batch what the caller may delete, and name the rest."""
        may, may_not = self.access.allowed_in_batch(caller, call, known)
        if may_not:
            request.body = access.without(request.body, may_not)
            environ |= {"wsgi.input": io.BytesIO(request.body), "CONTENT_LENGTH": str(len(request.body))}
        nothing: Answer = "200 OK", [("Content-Type", "text/xml")], [b"<DeleteResult/>"]
        # moto takes no batch of nothing
        status, headers, chunks = nothing if may_not and not may else self._moto(request, environ)
        text = access.with_errors(b"".join(chunks), may_not)
        kept = [each for each in headers if each[0].lower() != "content-length"]
        return status, [*kept, ("Content-Length", str(len(text)))], [text]

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
        server.app = for_hosts  # hosts may use presigned URLs, and S3 with a user's key
    server.verify_request = verify_request
    server.serve_forever()
