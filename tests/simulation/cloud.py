"""cloud: one bucket and one cloud that several simulated processes use at once, and what goes wrong between them.

A client has the calls of boto3's that the pipeline makes. Each call gives the turn away once, so that any other may come first; then it
takes effect as a whole. S3 shows every write at once. EC2 shows some changes late, as it says.
"""

from __future__ import annotations

import datetime
import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.utils import format_datetime
from functools import partial
from types import SimpleNamespace

from botocore.exceptions import ClientError, EndpointConnectionError

from tasks.cloud.caller import Caller
from tasks.cloud.interface import Cloud
from tasks.hosts.ansible import Recap
from tasks.hosts.playbook_events import PlaybookFailed
from tasks.release.stage import LIVE
from tests.clouds import UnreachedHosts
from tests.simulation.scheduler import BEGIN, Killed, Process, Scheduler

TAKES = 0.05
"""Seconds of a request."""
BOOTS, ENDS = 8.0, 4.0
"""Seconds until an instance runs, and until it has ended."""
FAULTS = (
    *("request lost", "answer lost", "sent twice", "conflict", "slow", "slow answer"),
    *("freeze", "freeze", "freeze", "death", "death after", "clock", "silence"),
)
ON_WAY = (0.2, 0.5, 1.5)
"""Seconds that the answer to a read may take."""
SLOW = (5.0, 25.0, 60.0, 100.0)
"""Seconds of a slow request."""
FREEZE = tuple(float(each) for each in range(20, 240, 10))
"""Seconds that a process stands still: often so long that another run takes its lease."""
SILENCE = (70.0, 100.0, 150.0)
"""Seconds for which the bucket answers a process nothing, while the rest of the cloud does."""
HOT = 4
"""A fault is so much likelier where a document is written."""
RARE = ("run_instances", "run_instances", "terminate_instances", "create_tags")
"""Requests of which a run sends one or two: a fault there would be in few histories, if not some had their weak place there."""
AT_WEAK = 0.5
"""Share of the requests that meet a fault at the weak place of a history."""
OF_ANSWER = ("answer lost", "answer lost", "request lost", "sent twice")
"""Faults there."""
JUMP = -7200.0
"""Seconds by which a wall clock jumps."""
UNLISTED = 20
"""Seconds for which EC2 does not list a new machine, at most."""
STEPS = (4.0, 4.0, 35.0)
"""Seconds of a step of a play."""


OF_BUCKET = {
    *("get_object", "put_object", "head_object", "delete_object", "delete_objects", "list_objects_v2"),
    *("head_bucket", "get_bucket_tagging"),
}


class NoSuchBucket(ClientError):
    """As S3 says it."""


class ParameterNotFound(ClientError):
    """As the parameter store says it."""


class InvalidChangeBatch(ClientError):
    """As Route 53 says it."""


EXCEPTIONS = SimpleNamespace(
    ClientError=ClientError,
    NoSuchBucket=NoSuchBucket,
    ParameterNotFound=ParameterNotFound,
    InvalidChangeBatch=InvalidChangeBatch,
)


def refused(
    code: str, status: int = 400, kind: type[ClientError] = ClientError, words: str = ""
) -> ClientError:
    """An error of the cloud's API."""
    error = {"Code": code, "Message": words}
    return kind({"Error": error, "ResponseMetadata": {"HTTPStatusCode": status}}, "call")


@dataclass
class Stored:
    """An object of the bucket."""

    body: bytes
    etag: str
    at: float


@dataclass
class Instance:
    """A machine, and what is on it. `tags`: each version with the time from which it is shown."""

    id: str
    token: str
    request: dict
    born: float
    shown: float
    tags: list[tuple[float, dict]]
    ended: float | None = None
    ended_shown: float = 0.0
    live: str = ""
    server: str = ""
    sessions: set[int] = field(default_factory=set)
    tagged: list[tuple[float, dict]] = field(default_factory=list)
    """Each version of its tags with the time of its request."""

    @property
    def truly(self) -> dict:
        """Its tags, as they are now."""
        return self.tags[-1][1]

    def there(self, now: float) -> bool:
        """Whether it runs or starts."""
        return self.ended is None

    def view(self, now: float) -> dict | None:
        """As EC2 describes it; None if it does not show it."""
        if now < self.shown:
            return None
        state = "running" if now >= self.born + BOOTS else "pending"
        if self.ended is not None and now >= self.ended_shown:
            state = "terminated" if now >= self.ended_shown + ENDS else "shutting-down"
        tags = next((each for since, each in reversed(self.tags) if since <= now), self.tags[0][1])
        return {
            "InstanceId": self.id,
            "ClientToken": self.token,
            "State": {"Name": state},
            "PrivateIpAddress": f"10.0.0.{self.id[2:]}",
            "LaunchTime": BEGIN + datetime.timedelta(seconds=self.born),
            "InstanceType": "t3.medium",
            "ImageId": "ami-1",
            "Tags": [{"Key": key, "Value": value} for key, value in tags.items()],
        }


class World:
    """The bucket, the cloud and the hosts. `rate`: share of the requests that meet a fault; `left`: faults that may still come.

    `weak`: the request that meets one often. `behind`: share of the changes that EC2 shows late.
    `jitter`: share of the documents whose answer takes a while.
    """

    def __init__(self, scheduler: Scheduler, truth, *, rate: float = 0.0, left: int = 0) -> None:
        self.scheduler, self.truth, self.rate, self.left = scheduler, truth, rate, left
        self.weak, self.behind, self.jitter = "", 0.3, 0.0
        self.objects: dict[str, Stored] = {}
        self.instances: dict[str, Instance] = {}
        self.groups: dict[str, dict] = {}
        self.keys: dict[str, dict] = {}
        self.records: dict[str, tuple[str, ...]] = {}
        self.parameters: dict[str, str] = {}
        self.numbers = itertools.count(1)
        self.branches = {"main": str(9), "feature": str(8)}
        truth.world = self

    # --- a request ---

    def call(self, process: Process, name: str, effect, *, changes: bool = False):
        """Send a request: its effect comes after others have had their turns, and now and then not, or not heard of."""
        scheduler = self.scheduler
        fault = self._fault_of(name)
        if fault:
            scheduler.note(f"{name}: {fault}")
        self._freeze(process, fault)
        if fault == "silence":
            process.silent = scheduler.now + SILENCE[scheduler.decisions.one_of(len(SILENCE))]
        if scheduler.now < process.silent and name in OF_BUCKET:
            scheduler.pause(process.silent - scheduler.now)
            raise EndpointConnectionError(endpoint_url=name)
        scheduler.pause(self._slow() if fault == "slow" else TAKES)
        if fault == "death":
            scheduler.kill(process)
            raise Killed
        if fault == "request lost" or (fault == "answer lost" and not changes):
            raise EndpointConnectionError(endpoint_url=name)
        if fault == "conflict" and name == "put_object":
            raise refused("ConditionalRequestConflict", 409)
        answer = effect()
        if changes and not name.endswith("_object"):
            process.acted = scheduler.now
        if changes:
            scheduler.note(name)
        if fault == "sent twice" and changes:
            answer = effect()
        if fault == "death after":
            scheduler.kill(process)
            raise Killed
        if fault == "answer lost":
            raise EndpointConnectionError(endpoint_url=name)
        if fault == "slow answer":
            scheduler.pause(self._slow())
        if name == "get_object" and (seconds := self._on_way()):
            scheduler.pause(seconds)
        return answer

    def stumble(self, process: Process, seconds: float) -> None:
        """Time passes in a process, in which it may stand still or die."""
        fault = self._fault(self.rate, FAULTS)
        if "death" in fault:
            self.scheduler.note(fault)
            self.scheduler.kill(process)
            raise Killed
        self._freeze(process, fault)
        self.scheduler.pause(seconds)

    def _freeze(self, process: Process, fault: str) -> None:
        if fault == "clock":
            process.ahead += JUMP
        if fault == "freeze":
            process.frozen = self.scheduler.now + FREEZE[self.scheduler.decisions.one_of(len(FREEZE))]
            self.scheduler.note(f"freezes until {process.frozen:.0f}")

    def _slow(self) -> float:
        return SLOW[self.scheduler.decisions.one_of(len(SLOW))]

    def _on_way(self) -> float:
        number = self.scheduler.decisions.chance(self.jitter, len(ON_WAY)) if self.jitter and self.left else 0
        return ON_WAY[number - 1] if number else 0.0

    def _fault_of(self, name: str) -> str:
        """What goes wrong at a request."""
        if name == self.weak:
            return self._fault(AT_WEAK, OF_ANSWER)
        return self._fault(
            self.rate * (HOT if name in ("put_object", "delete_object", "run_instances") else 1), FAULTS
        )

    def _fault(self, share: float, kinds: Sequence[str]) -> str:
        if self.left <= 0:
            return ""
        number = self.scheduler.decisions.chance(share, len(kinds))
        self.left -= number > 0
        return kinds[number - 1] if number else ""

    def late(self, most: int = 8) -> float:
        """Seconds until EC2 shows a change."""
        return float(self.scheduler.decisions.chance(self.behind, most)) if self.left else 0.0

    # --- looks at the truth, for checks ---

    def value(self, key: str) -> dict | None:
        """A document."""
        return json.loads(self.objects[key].body) if key in self.objects else None

    def hosts(self, identity: str) -> list[Instance]:
        """An environment's machines, as they are."""
        return [
            each
            for each in self.instances.values()
            if each.ended is None and each.truly.get("environment") == identity
        ]


class Pages:
    """A paginator of one page."""

    def __init__(self, ask):
        self.ask = ask

    def paginate(self, **request):
        request.pop("PaginationConfig", None)
        yield self.ask(**request)


class Client:
    """What every service has."""

    meta = SimpleNamespace(events=SimpleNamespace(register=lambda *_: None))

    exceptions = EXCEPTIONS

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    def get_paginator(self, operation: str) -> Pages:
        return Pages(getattr(self, operation))

    def _call(self, name, effect, *, changes=False):
        return self.world.call(self.process, name, effect, changes=changes)


class S3(Client):
    """One bucket, which shows every write at once."""

    def _of(self, key: str) -> Stored:
        if key not in self.world.objects:
            raise refused("NoSuchKey", 404)
        return self.world.objects[key]

    def get_object(self, Bucket, Key):  # noqa: N803
        def effect():
            found = self._of(Key)
            self.world.truth.read(self.process, Key, found.body)
            return {
                "Body": SimpleNamespace(read=lambda: found.body),
                "ETag": found.etag,
                "LastModified": self._at(found.at),
                "ResponseMetadata": {"HTTPHeaders": {"date": format_datetime(self._at(), usegmt=True)}},
            }

        return self._call("get_object", effect)

    def put_object(self, Bucket, Key, Body, IfMatch=None, IfNoneMatch=None, ContentType=""):  # noqa: N803
        def effect():
            before = self.world.objects.get(Key)
            if IfNoneMatch and before:
                raise refused("PreconditionFailed", 412)
            if IfMatch and not before:
                raise refused("NoSuchKey", 404)
            if IfMatch and before.etag != IfMatch:
                raise refused("PreconditionFailed", 412)
            etag = f"v{next(self.world.numbers)}"
            self.world.objects[Key] = Stored(Body, etag, self.world.scheduler.now)
            self.world.truth.written(self.process, Key, before, Body)
            return {"ETag": etag}

        return self._call("put_object", effect, changes=True)

    def head_object(self, Bucket, Key):  # noqa: N803
        def effect():
            found = self._of(Key)
            return {"ContentLength": len(found.body), "ETag": found.etag}

        return self._call("head_object", effect)

    def delete_object(self, Bucket, Key, IfMatch=None):  # noqa: N803
        def effect():
            before = self.world.objects.get(Key)
            if IfMatch and before and before.etag != IfMatch:
                raise refused("PreconditionFailed", 412)
            if before:
                self._remove(Key)

        return self._call("delete_object", effect, changes=True)

    def delete_objects(self, Bucket, Delete):  # noqa: N803
        def effect():
            for each in Delete["Objects"]:
                if each["Key"] in self.world.objects:
                    self._remove(each["Key"])
            return {}

        return self._call("delete_objects", effect, changes=True)

    def _remove(self, key):
        before = self.world.objects.pop(key)
        self.world.truth.written(self.process, key, before, None)

    def list_objects_v2(self, Bucket, Prefix=""):  # noqa: N803
        def effect():
            found = sorted(each for each in self.world.objects.items() if each[0].startswith(Prefix))
            return {
                "Contents": [
                    {"Key": key, "Size": len(each.body), "LastModified": self._at(each.at)}
                    for key, each in found
                ]
            }

        return self._call("list_objects_v2", effect)

    def head_bucket(self, Bucket):  # noqa: N803
        return self._call("head_bucket", dict)

    def get_bucket_tagging(self, Bucket):  # noqa: N803
        return self._call("get_bucket_tagging", lambda: {"TagSet": [{"Key": "project", "Value": "shop"}]})

    def _at(self, seconds: float | None = None) -> datetime.datetime:
        now = self.world.scheduler.now if seconds is None else seconds
        return BEGIN + datetime.timedelta(seconds=int(now))


def _tags(specifications) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in specifications[0]["Tags"]}


def _listed(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _fits(filters, tags: dict[str, str], **facts: str) -> bool:
    for each in filters:
        kind, _, name = each["Name"].partition(":")
        found = tags.get(name) if kind == "tag" else facts.get(each["Name"].replace("-", "_"))
        if found not in each["Values"]:
            return False
    return True


WAYS = IN, OUT = "IpPermissions", "IpPermissionsEgress"
SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}
"""Where a permission lists its sources, and what each is called by."""

Rule = tuple[str, int, int, str, str]
"""A rule of a group: protocol, first and last port (-1: all), and where its source is listed, and which."""

EVERYTHING: Rule = ("-1", -1, -1, "IpRanges", "0.0.0.0/0")
"""What a new group lets out."""


def _rules(permissions: list[dict]) -> set[Rule]:
    return {
        (each["IpProtocol"], each.get("FromPort", -1), each.get("ToPort", -1), kind, source[name])
        for each in permissions
        for kind, name in SOURCES.items()
        for source in each.get(kind, ())
    }


def _permissions(rules: set[Rule]) -> list[dict]:
    """As EC2 describes them: rules of the same ports together."""
    found = []
    for (protocol, first, last), same in itertools.groupby(sorted(rules), key=lambda rule: rule[:3]):
        ports = {} if protocol == "-1" else {"FromPort": first, "ToPort": last}
        sources: dict[str, list] = {kind: [] for kind in SOURCES}
        for *_, kind, source in same:
            sources[kind].append({SOURCES[kind]: source})
        found.append({"IpProtocol": protocol, **ports, **sources})
    return found


class Ec2(Client):
    """Machines, groups and keys."""

    def describe_images(self, Owners=(), Filters=(), ImageIds=()):  # noqa: N803
        found = {
            "ImageId": "ami-1",
            "State": "available",
            "Architecture": "x86_64",
            "CreationDate": "2026-01-01T00:00:00Z",
            "RootDeviceName": "/dev/xvda",
        }
        return self._call("describe_images", lambda: {"Images": [] if Owners == ["self"] else [found]})

    def describe_instance_types(self, InstanceTypes):  # noqa: N803
        told = {"ProcessorInfo": {"SupportedArchitectures": ["x86_64"]}, "MemoryInfo": {"SizeInMiB": 4096}}
        found = [told for _ in InstanceTypes]
        return self._call("describe_instance_types", lambda: {"InstanceTypes": found})

    def describe_snapshots(self, Filters, OwnerIds):  # noqa: N803
        return self._call("describe_snapshots", lambda: {"Snapshots": []})

    def describe_volumes(self, Filters):  # noqa: N803
        return self._call("describe_volumes", lambda: {"Volumes": []})

    def describe_key_pairs(self, Filters):  # noqa: N803
        def effect():
            found = [
                {"KeyName": name, "Tags": _listed(tags)}
                for name, tags in self.world.keys.items()
                if _fits(Filters, tags, key_name=name)
            ]
            return {"KeyPairs": found}

        return self._call("describe_key_pairs", effect)

    def import_key_pair(self, KeyName, PublicKeyMaterial, TagSpecifications):  # noqa: N803
        def effect():
            if KeyName in self.world.keys:
                raise refused("InvalidKeyPair.Duplicate")
            self.world.keys[KeyName] = _tags(TagSpecifications)
            self._made(_tags(TagSpecifications))

        return self._call("import_key_pair", effect, changes=True)

    def delete_key_pair(self, KeyName):  # noqa: N803
        return self._call(
            "delete_key_pair", lambda: self._gone(self.world.keys.pop(KeyName, None)), changes=True
        )

    def describe_security_groups(self, Filters):  # noqa: N803
        def effect():
            found = [each for each in self.world.groups.values() if _fits(Filters, each["tags"])]
            return {
                "SecurityGroups": [
                    {
                        "GroupId": each["id"],
                        "GroupName": each["name"],
                        "Tags": _listed(each["tags"]),
                        **{way: _permissions(each[way]) for way in WAYS},
                    }
                    for each in found
                ]
            }

        return self._call("describe_security_groups", effect)

    def create_security_group(self, GroupName, Description, TagSpecifications):  # noqa: N803
        def effect():
            if any(each["name"] == GroupName for each in self.world.groups.values()):
                raise refused("InvalidGroup.Duplicate")
            id, tags = f"sg-{next(self.world.numbers)}", _tags(TagSpecifications)
            rules = dict(zip(WAYS, (set(), {EVERYTHING}), strict=True))
            self.world.groups[id] = {"id": id, "name": GroupName, "tags": tags, **rules}
            self._made(tags)
            return {"GroupId": id}

        return self._call("create_security_group", effect, changes=True)

    def authorize_security_group_ingress(self, GroupId, IpPermissions):  # noqa: N803
        effect = partial(self._authorize, GroupId, IN, _rules(IpPermissions))
        return self._call("authorize_security_group_ingress", effect, changes=True)

    def revoke_security_group_ingress(self, GroupId, IpPermissions):  # noqa: N803
        effect = partial(self._revoke, GroupId, IN, _rules(IpPermissions))
        return self._call("revoke_security_group_ingress", effect, changes=True)

    def authorize_security_group_egress(self, GroupId, IpPermissions):  # noqa: N803
        effect = partial(self._authorize, GroupId, OUT, _rules(IpPermissions))
        return self._call("authorize_security_group_egress", effect, changes=True)

    def revoke_security_group_egress(self, GroupId, IpPermissions):  # noqa: N803
        effect = partial(self._revoke, GroupId, OUT, _rules(IpPermissions))
        return self._call("revoke_security_group_egress", effect, changes=True)

    def _authorize(self, group: str, way: str, rules: set[Rule]) -> None:
        """EC2 adds all of them, or none where one is there already."""
        present = self._rules_of(group, way)
        if rules & present:
            raise refused("InvalidPermission.Duplicate")
        present |= rules

    def _revoke(self, group: str, way: str, rules: set[Rule]) -> None:
        """EC2 removes all of them, or none where one is not there."""
        present = self._rules_of(group, way)
        if rules - present:
            raise refused("InvalidPermission.NotFound")
        present -= rules

    def _rules_of(self, group: str, way: str) -> set[Rule]:
        if group not in self.world.groups:
            raise refused("InvalidGroup.NotFound")
        return self.world.groups[group][way]

    def delete_security_group(self, GroupId):  # noqa: N803
        def effect():
            now = self.world.scheduler.now
            for each in self.world.instances.values():
                used = GroupId in each.request["SecurityGroupIds"]
                if used and (each.ended is None or now < each.ended + ENDS):
                    raise refused("DependencyViolation")
            if GroupId not in self.world.groups:
                raise refused("InvalidGroup.NotFound")
            self._gone(self.world.groups.pop(GroupId)["tags"])

        return self._call("delete_security_group", effect, changes=True)

    def run_instances(self, MinCount, MaxCount, ClientToken, TagSpecifications, **request):  # noqa: N803
        def effect():
            now = self.world.scheduler.now
            for each in self.world.instances.values():
                if each.token == ClientToken:
                    if each.ended is not None:
                        raise refused("IdempotentInstanceTerminated")
                    if each.request != request:
                        raise refused("IdempotentParameterMismatch")
                    return {"Instances": [{"InstanceId": each.id}]}
            if any(each not in self.world.groups for each in request["SecurityGroupIds"]):
                raise refused("InvalidGroup.NotFound")
            if request["KeyName"] not in self.world.keys:
                raise refused("InvalidKeyPair.NotFound")
            id, tags = f"i-{next(self.world.numbers)}", _tags(TagSpecifications)
            made = Instance(id, ClientToken, request, now, now + self.world.late(UNLISTED), [(now, tags)])
            made.tagged.append((now, tags))
            self.world.instances[id] = made
            self.world.truth.launched(self.process, tags["environment"])
            self._made(tags)
            return {"Instances": [{"InstanceId": id}]}

        return self._call("run_instances", effect, changes=True)

    def describe_instances(self, Filters=(), InstanceIds=None):  # noqa: N803
        def effect():
            now = self.world.scheduler.now
            seen = [view for each in self.world.instances.values() if (view := each.view(now))]
            if InstanceIds:
                seen = [each for each in seen if each["InstanceId"] in InstanceIds]
                if not seen:
                    raise refused("InvalidInstanceID.NotFound")
            found = [
                each
                for each in seen
                if _fits(
                    Filters,
                    {tag["Key"]: tag["Value"] for tag in each["Tags"]},
                    instance_state_name=each["State"]["Name"],
                    instance_id=each["InstanceId"],
                )
            ]
            return {"Reservations": [{"Instances": found}]}

        return self._call("describe_instances", effect)

    def terminate_instances(self, InstanceIds):  # noqa: N803
        def effect():
            for id in InstanceIds:
                each = self.world.instances.get(id)
                if not each:
                    raise refused("InvalidInstanceID.NotFound")
                if each.ended is None:
                    self.world.truth.ends(self.process, each)
                    each.ended = self.world.scheduler.now
                    each.ended_shown = each.ended + self.world.late()
                    self._gone(each.truly)

        return self._call("terminate_instances", effect, changes=True)

    def create_tags(self, Resources, Tags):  # noqa: N803
        def effect():
            now, new = self.world.scheduler.now, {each["Key"]: each["Value"] for each in Tags}
            for each in Resources:
                found = self.world.instances[each]
                found.tags.append((now + self.world.late(), {**found.truly, **new}))
                found.tagged.append((now, found.truly))

        return self._call("create_tags", effect, changes=True)

    def _made(self, tags: dict[str, str]) -> None:
        self.world.truth.made(self.process, tags["environment"])

    def _gone(self, tags: dict[str, str] | None) -> None:
        if tags:
            self.world.truth.removed(self.process, tags["environment"])


class Route53(Client):
    """One zone."""

    def list_hosted_zones_by_name(self, DNSName, MaxItems):  # noqa: N803
        zone = {"Name": "shop.localhost.", "Id": "/hostedzone/Z1"}
        return self._call("list_hosted_zones_by_name", lambda: {"HostedZones": [zone]})

    def list_resource_record_sets(self, HostedZoneId, StartRecordName="", **_):  # noqa: N803
        def effect():
            found = sorted(each for each in self.world.records.items() if each[0] >= StartRecordName)
            return {
                "ResourceRecordSets": [
                    {
                        "Name": f"{name}.",
                        "Type": "A",
                        "ResourceRecords": [{"Value": each} for each in addresses],
                    }
                    for name, addresses in found
                ]
            }

        return self._call("list_resource_record_sets", effect)

    def change_resource_record_sets(self, HostedZoneId, ChangeBatch):  # noqa: N803
        def effect():
            change = ChangeBatch["Changes"][0]
            record = change["ResourceRecordSet"]
            name, addresses = record["Name"], tuple(each["Value"] for each in record["ResourceRecords"])
            identity = name.removesuffix(".shop.localhost")
            if change["Action"] == "DELETE":
                if self.world.records.get(name) != addresses:
                    known = name in self.world.records
                    why = (
                        "the values provided do not match the current values" if known else "it was not found"
                    )
                    words = f"[Tried to delete resource record set [name='{name}.', type='A'] but {why}]"
                    raise refused("InvalidChangeBatch", kind=InvalidChangeBatch, words=words)
                del self.world.records[name]
                self.world.truth.removed(self.process, identity)
            else:
                self.world.records[name] = addresses
                self.world.truth.made(self.process, identity)
            return {"ChangeInfo": {"Id": "C1"}}

        return self._call("change_resource_record_sets", effect, changes=True)

    def get_change(self, Id):  # noqa: N803
        return {"ChangeInfo": {"Status": "INSYNC"}}


class Ssm(Client):
    """The parameter store."""

    def get_parameters_by_path(self, Path, WithDecryption):  # noqa: N803
        def effect():
            found = [each for each in self.world.parameters.items() if each[0].startswith(f"{Path}/")]
            return {"Parameters": [{"Name": name, "Value": value} for name, value in found]}

        return self._call("get_parameters_by_path", effect)

    def describe_parameters(self, ParameterFilters):  # noqa: N803
        return self._call(
            "describe_parameters", lambda: {"Parameters": [{"Name": each} for each in self.world.parameters]}
        )

    def put_parameter(self, Name, Value, Type, Overwrite=False):  # noqa: N803
        def effect():
            if Name in self.world.parameters and not Overwrite:
                raise refused("ParameterAlreadyExists")
            self.world.parameters[Name] = Value
            self.world.truth.made(self.process, Name.split("/")[2])

        return self._call("put_parameter", effect, changes=True)

    def delete_parameter(self, Name):  # noqa: N803
        def effect():
            if Name not in self.world.parameters:
                raise refused("ParameterNotFound", kind=ParameterNotFound)
            del self.world.parameters[Name]
            self.world.truth.removed(self.process, Name.split("/")[2])

        return self._call("delete_parameter", effect, changes=True)


SERVICES = {"s3": S3, "ec2": Ec2, "route53": Route53, "ssm": Ssm}


class SimulatedCloud(Cloud):
    """The cloud, as one process sees it."""

    def __init__(self, world: World, process: Process) -> None:
        super().__init__("eu-central-1")
        self.world, self.process = world, process

    def caller(self):
        return Caller(arn=f"arn:aws:iam::123456789012:user/{self.process.name}")

    def host_keys(self, instance_id, say):
        return [f"ssh-ed25519 {instance_id}"]

    def presigned_url(self, bucket, key, seconds):
        return key

    def url(self, host_name, *, https):
        return f"{'https' if https else 'http'}://{host_name}/"

    def http_address(self, host_name, *, https):
        return host_name, 443 if https else 80

    def _address(self, instance):
        return str(instance["PrivateIpAddress"])

    def _connect(self, service):
        return SERVICES[service](self.world, self.process)


class SimulatedHosts(UnreachedHosts):
    """The hosts, over SSH. A play or a release takes a while, and its sessions may be ended meanwhile."""

    def __init__(self, world: World, process: Process) -> None:
        self.world, self.process = world, process

    def play(self, playbook, *, hosts, variables, **_):
        scheduler, session = self.world.scheduler, next(self.world.numbers)
        scheduler.pause(TAKES)
        there = [self.world.instances[each.name] for each in hosts]
        for each in there:
            if each.ended is None:
                each.sessions.add(session)
            if playbook == "release" and str(variables["release_url"]) not in self.world.objects:
                raise PlaybookFailed(
                    stage=playbook, host=each.id, role="release", task="fetch", message="404"
                )
        identity = there[0].truly["environment"]
        self.world.truth.begins(self.process, identity, playbook)
        if playbook == "server":
            for each in there:
                each.server = ""
        scheduler.note(f"play {playbook} begins")
        step = STEPS[scheduler.decisions.one_of(len(STEPS))]
        for _ in range(3):
            self.world.stumble(self.process, step)
            if not all(session in each.sessions and each.ended is None for each in there):
                raise PlaybookFailed(stage=playbook, host=there[0].id, role="ssh", task="", message="gone")
        for each in there:
            if playbook != "server":
                self.world.truth.goes_live(self.process, identity, variables["release_sha256"])
                each.live = str(variables["release_sha256"])
            else:
                each.server = variables["commit"]
        scheduler.note(f"play {playbook} done")
        self.world.stumble(self.process, 1.0)
        for each in there:
            each.sessions.discard(session)
        return Recap(changed=1, ok=1, seconds=5.0)

    def phases(self, program, phases, *, stage, hosts, plan, **_):
        if "live" not in phases:
            return []
        told = {f"release_{name}": plan[name] for name in ("url", "sha256")}
        self.play(stage, hosts=hosts, variables=told)
        return []

    def python(self, host, stage, program):
        self.world.scheduler.pause(TAKES)
        assert program == LIVE.format(name="shop")
        return self.world.instances[host.name].live

    def end_sessions(self, hosts) -> None:
        """What `kill_stale_sessions` does."""
        for each in hosts:
            self.world.scheduler.pause(TAKES)
            self.world.instances[each.id].sessions.clear()
