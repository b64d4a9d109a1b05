"""faults: throttling, conflicts, delays and short pages as on AWS, by counting and never at random."""

from __future__ import annotations

import collections
import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import parse_qs, urlencode

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response

from tasks.cloud.embedded.endpoints import place
from tasks.cloud.embedded.errors import Answer, json_error, xml_error
from tasks.cloud.embedded.instances import Instances, Pace

PACE = Pace(pending=3.0, shutting_down=4.0, stopping=2.0, console=120.0, latest_console=4.0)
PAGE = 5
"""Items on one page of a list, at most."""
THROTTLED = {"ec2": 7, "s3": 11, "ssm": 5}
"""Every nth request of a service is throttled."""
ROUTE53_RATE = 5
"""Requests a second that Route 53 answers to an account."""
LATE = (3, 0, 2, 1)
"""After a change, the reads of each kind show what was so many changes before; then what is."""
LATE_READS = {
    "ec2": (
        "DescribeInstances",
        "DescribeKeyPairs",
        "DescribeSecurityGroups",
        "DescribeTags",
        "DescribeVolumes",
        "DescribeSnapshots",
    ),
    "route53": ("Get",),
    "ssm": ("DescribeParameters", "GetParametersByPath"),
}
UNKNOWN = 2
"""The first requests that name what was made just now are told that there is no such thing."""
MADE = re.compile(rb"<(groupId|keyName)>([^<]+)</")
NOT_FOUND = {
    b"groupId": ("InvalidGroup.NotFound", "The security group '{}' does not exist"),
    b"keyName": ("InvalidKeyPair.NotFound", "The key pair '{}' does not exist"),
}
MAKES = ("CreateSecurityGroup", "ImportKeyPair")
YOUNG = 30
"""After a bucket's versioning is turned on, so many writes of objects ..."""
HIDDEN = 2
"""... are not found by their first reads."""
CONFLICT = 3
"""Every nth conditional write gets a conflict."""
LISTS = {
    "describe_images": "Images",
    "describe_instances": "Reservations",
    "describe_network_interfaces": "NetworkInterfaces",
    "describe_security_group_rules": "SecurityGroupRules",
    "describe_security_groups": "SecurityGroups",
    "describe_subnets": "Subnets",
    "describe_tags": "Tags",
    "describe_volumes": "Volumes",
    "describe_vpcs": "Vpcs",
}
PAGED = {"s3": "max-keys", "route53": "maxitems"}


class Rate:
    """Takes so many requests in any second."""

    def __init__(self, most: int, now: Callable[[], float] = time.monotonic) -> None:
        self.now = now
        self.taken: collections.deque[float] = collections.deque(maxlen=most)

    def takes(self) -> bool:
        """Whether one more request is within the rate. One that is not does not count."""
        now, full = self.now(), len(self.taken) == self.taken.maxlen
        if full and now - self.taken[0] < 1.0:
            return False
        self.taken.append(now)
        return True


class Faults:
    """Refuses some requests, and returns lists in pages."""

    def __init__(self) -> None:
        self.count: collections.Counter[str] = collections.Counter()
        self.route53 = Rate(ROUTE53_RATE)
        self.reads: dict[tuple[str, str], tuple[int, int]] = {}
        """For each kind of read, the version of its service and how many reads there were of that."""
        self.new: dict[bytes, tuple[bytes, int]] = {}
        """What was made, with how many more requests do not know it."""
        self.aborted: set[tuple[str, ...]] = set()
        """The requests for a bucket that have met another one."""
        self.young: dict[str, int] = {}
        """For each bucket that is versioned, how many more writes are hidden at first."""
        self.hidden: dict[tuple[str, str], int] = {}
        """For each object, how many more reads do not find it."""
        for method, items in LISTS.items():
            setattr(EC2Response, method, _paged(getattr(EC2Response, method), items))

    def behind(self, request: Any, versions: Mapping[str, int]) -> int:
        """How many changes of its service a read does not show yet."""
        late = request.action in LATE_READS.get(request.service, ())
        if request.service == "route53":  # a zone's records; neither zones nor the state of a change
            late = late and request.path.endswith("/rrset")
        if not late:
            return 0
        kind, now = (request.service, request.action), versions[request.service]
        seen, number = self.reads.get(kind, (0, len(LATE)))
        following = b"NextToken" in request.body  # a list's next page is of the same version
        number = 0 if seen != now and not following else min(number + (not following), len(LATE))
        self.reads[kind] = now, number
        return LATE[number] if number < len(LATE) else 0

    def after(self, request: Any, answer: Answer) -> None:
        """Note what a request has made."""
        if request.service == "ec2" and request.action in MAKES and answer[0].startswith("200"):
            for kind, name in MADE.findall(b"".join(answer[2])):
                self.new.setdefault(name, (kind, UNKNOWN))
        if request.service == "s3" and answer[0].startswith("200"):
            self._written(request)

    def _written(self, request: Any) -> None:
        bucket, key = place(request)
        if not key and request.method == "PUT" and "versioning" in request.query:
            self.young[bucket] = YOUNG
        whole = (request.method == "PUT" and not request.query) or "uploadId" in request.query
        if key and whole and request.method in ("PUT", "POST") and self.young.get(bucket):
            self.young[bucket] -= 1
            self.hidden[bucket, key] = HIDDEN

    def _aborted(self, request: Any) -> Answer | None:
        """What the first request gets that makes a bucket or turns its versioning on: another one is under way."""
        bucket, key = place(request)
        kind = (bucket, *request.query)
        if (request.service, request.method, key) != ("s3", "PUT", "") or kind in self.aborted:
            return None
        if set(request.query) - {"versioning"}:
            return None
        self.aborted.add(kind)
        text = (
            "A conflicting conditional operation is currently in progress against this resource. Try again."
        )
        return xml_error("409 Conflict", "OperationAborted", text, root="")

    def _hidden(self, request: Any) -> Answer | None:
        """What a read of an object gets that was written soon after versioning was turned on."""
        if request.service != "s3" or request.method not in ("GET", "HEAD"):
            return None
        if not (left := self.hidden.get(place(request), 0)):
            return None
        self.hidden[place(request)] = left - 1
        return xml_error("404 Not Found", "NoSuchKey", "The specified key does not exist.", root="")

    def _unknown(self, request: Any) -> Answer | None:
        """What a change gets that names something new, as not all of EC2 knows it yet."""
        if request.service != "ec2" or not request.changes or request.action in MAKES:
            return None
        named = {value.encode() for values in parse_qs(request.body.decode()).values() for value in values}
        for name in sorted(named & self.new.keys()):
            kind, left = self.new[name]
            if left:
                self.new[name] = kind, left - 1
                code, text = NOT_FOUND[kind]
                return xml_error("400 Bad Request", code, text.format(name.decode()))
        return None

    def before(self, request: Any, environ: dict[str, Any], instances: Instances) -> Answer | None:
        """The error that a request gets, or None; called for one request at a time."""
        if refusal := (
            self._throttled(request.service)
            or self._aborted(request)
            or self._hidden(request)
            or self._conflict(request, environ)
            or self._unknown(request)
        ):
            return refusal
        if request.action == "DescribeInstances" and (unseen := _unseen(request, instances)):
            text = f"The instance ID '{unseen}' does not exist"
            return xml_error("400 Bad Request", "InvalidInstanceID.NotFound", text)
        _shorten(request, environ)
        return None

    def _throttled(self, service: str) -> Answer | None:
        over = service == "route53" and not self.route53.takes()
        if not over and not self._every(service, THROTTLED.get(service, 0)):
            return None
        if service == "ec2":
            text = "Request limit exceeded."
            return xml_error("503 Service Unavailable", "RequestLimitExceeded", text)
        if service == "s3":
            text = "Please reduce your request rate."
            return xml_error("503 Slow Down", "SlowDown", text, root="")
        if service == "route53":
            return xml_error("400 Bad Request", "Throttling", "Rate exceeded", root="ErrorResponse")
        return json_error("400 Bad Request", "ThrottlingException", "Rate exceeded")

    def _conflict(self, request: Any, environ: dict[str, Any]) -> Answer | None:
        conditional = "HTTP_IF_MATCH" in environ or "HTTP_IF_NONE_MATCH" in environ
        if request.service != "s3" or request.method not in ("PUT", "POST") or not conditional:
            return None
        if not self._every("conditional", CONFLICT):
            return None
        text = "The conditional request cannot succeed due to a conflicting operation."
        return xml_error("409 Conflict", "ConditionalRequestConflict", text, root="")

    def _every(self, what: str, times: int) -> bool:
        self.count[what] += 1
        return bool(times) and self.count[what] % times == 0


def _unseen(request: Any, instances: Instances) -> str | None:
    """A new instance that is asked for by its id for the first time."""
    asked = set(re.findall(rb"InstanceId\.\d+=(i-\w+)", request.body))
    for _, instance in instances.all():
        if instance.id.encode() in asked and not getattr(instance, "seen", False):
            instance.seen = True
            return str(instance.id)
    return None


def _shorten(request: Any, environ: dict[str, Any]) -> None:
    """Ask moto for a short page where moto itself pages."""
    if request.method == "GET" and (name := PAGED.get(request.service)):
        query = parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True)
        listing = request.service == "route53" or request.path.strip("/").count("/") == 0
        asked = int(query.get(name, ["1000"])[0])
        if listing and asked > PAGE:
            query[name] = [str(PAGE)]
            environ["QUERY_STRING"] = urlencode(query, doseq=True)
    elif request.action in ("GetParametersByPath", "DescribeParameters"):
        request.replace(environ, MaxResults=PAGE)


def _paged(method: Any, items: str) -> Any:
    def page(response: Any) -> Any:
        result = method(response)
        if any(name.endswith("Ids") for name in response.data):
            return result
        start = int(response._get_param("NextToken") or 0)
        whole = list(result.result[items])
        following = str(start + PAGE) if len(whole) > start + PAGE else None
        return ActionResult({items: whole[start : start + PAGE], "NextToken": following})

    return page
