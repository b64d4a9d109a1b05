"""inventory: everything that the project has in the cloud and in the bucket, by environment."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from tasks.bucket import create, layout
from tasks.bucket.layout import Key
from tasks.infrastructure import memory
from tasks.infrastructure.zone import zone_id
from tasks.run import AUTHORITY, DRILL, branch_identity
from tasks.settings import Environment, load, of_pipeline, same_place

if TYPE_CHECKING:
    from tasks.run import Run

Time = datetime.datetime
Kind = Literal["instance", "volume", "key pair", "security group", "record", "secret", "image", "snapshot"]
EVERYTHING = ("",)
ENDED = ("shutting-down", "terminated")
IMAGE_BUILDER = "image"
"""The identity of the temporary host that images are made from."""


def is_throw_away(identity: str) -> bool:
    """Whether it is a host's that one job makes and removes: a bake's or a restore drill's."""
    return identity == IMAGE_BUILDER or identity.startswith(DRILL)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """A resource with the project's tag or name. `identity`: the environment, empty if unknown."""

    kind: Kind
    id: str
    identity: str = ""
    state: str = ""
    made: Time | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Facts that depend on the kind: the address of an instance, the snapshots of an image."""


@dataclass(frozen=True, kw_only=True)
class StoredObject:
    """A document or file of the bucket."""

    key: str
    size: int
    written: Time

    @cached_property
    def parsed(self) -> Key | None:
        """The parts of its key; None if the pipeline makes no such key."""
        return layout.parse(self.key)

    @property
    def identity(self) -> str:
        """The environment that it belongs to, else empty."""
        return self.parsed.identity if self.parsed else ""


@dataclass(frozen=True, kw_only=True)
class EnvironmentInventory:
    """Everything of one environment."""

    identity: str
    resources: tuple[Resource, ...] = ()
    objects: tuple[StoredObject, ...] = ()

    def all(self, kind: Kind) -> list[Resource]:
        """Its resources of a kind."""
        return [each for each in self.resources if each.kind == kind]

    @property
    def instances(self) -> list[Resource]:
        """Its machines, stopped ones too."""
        return self.all("instance")

    @property
    def tags(self) -> Mapping[str, str]:
        """The tags of its first machine."""
        return next((each.tags for each in self.instances), {})


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """Everything at the time `at`. `settings`: the environments' files, by name. `elsewhere`: those of another account, role,
    region, zone or bucket: what is seen of them here is left alone."""

    at: Time
    settings: Mapping[str, Environment]
    elsewhere: frozenset[str] = frozenset()
    resources: tuple[Resource, ...] = ()
    objects: tuple[StoredObject, ...] = ()

    @cached_property
    def environments(self) -> Mapping[str, EnvironmentInventory]:
        """Each environment that has anything, by identity."""
        names = ({each.identity for each in self.resources} | {each.identity for each in self.objects}) - {""}
        resources: dict[str, list[Resource]] = {name: [] for name in sorted(names)}
        objects: dict[str, list[StoredObject]] = {name: [] for name in names}
        for resource in self.resources:
            resources.get(resource.identity, []).append(resource)
        for each in self.objects:
            objects.get(each.identity, []).append(each)
        return {
            name: EnvironmentInventory(identity=name, resources=tuple(found), objects=tuple(objects[name]))
            for name, found in resources.items()
        }

    @cached_property
    def names(self) -> EnvironmentNames:
        """The names of the environments."""
        return EnvironmentNames(self.settings)


class EnvironmentNames:
    """The identities that the environments' files make."""

    def __init__(self, settings: Mapping[str, Environment]) -> None:
        self.settings = settings
        self.fixed = {name for name, each in settings.items() if not each.per_branch}
        self.per_branch = set(settings) - self.fixed
        self._made = re.compile(rf"({'|'.join(map(re.escape, sorted(self.per_branch)))})-[0-9a-f]{{10}}")

    def environment(self, identity: str) -> str | None:
        """The name of the environment's file; None if no file makes such an identity."""
        if identity in self.fixed:
            return identity
        found = self._made.fullmatch(identity) if self.per_branch else None
        return found[1] if found else None

    def of_branch(self, branch: str) -> set[str]:
        """The identities that a branch may have."""
        return {branch_identity(name, branch) for name in self.per_branch}

    def of_label(self, label: str) -> str | None:
        """The environment whose site has that name in the DNS zone; None if the name is not ours."""
        for name in self.fixed:
            own = self.settings[name]
            if label in {each.lower() for each in (own.host_name or name, *own.stores)}:
                return name
        # a store of a branch's environment is below it
        stores = {f"{each}.".lower() for name in self.per_branch for each in self.settings[name].stores}
        label = next((label.removeprefix(each) for each in stores if label.startswith(each)), label)
        made = {each.lower(): each for each in self.per_branch}
        name, _, mark = label.rpartition("-")
        identity = f"{made.get(name, name)}-{mark}"
        if is_throw_away(label):
            return label
        return identity if self.environment(identity) in self.per_branch else None


def survey(run: Run, prefixes: Sequence[str] = EVERYTHING) -> Inventory:
    """Find everything of the project, with parallel requests; in the bucket, what is below the prefixes."""
    settings = files(run)
    names = EnvironmentNames(settings)
    looks: list[Callable[[], Iterator[Resource]]] = [
        lambda: _instances(run),
        lambda: _volumes(run),
        lambda: _keys(run),
        lambda: _groups(run),
        lambda: _images(run),
        lambda: _snapshots(run),
        lambda: _records(run, names, objects.result()),
        lambda: _secrets(run),
    ]
    with run.threads.pool(len(looks) + 1) as pool:
        objects = pool.submit(lambda: tuple(_objects(run, prefixes)))
        resources = list(pool.map(lambda look: list(look()), looks))
    return Inventory(
        at=run.clock.now(),
        settings=settings,
        elsewhere=elsewhere(run, settings),
        resources=tuple(each for found in resources for each in found),
        objects=objects.result(),
    )


def files(run: Run) -> dict[str, Environment]:
    """The environments' files, by name."""
    found = sorted((run.root / "environments").glob("*.yml"))
    return {path.stem: load(Environment, path, run.root, run.profile.settings) for path in found}


def elsewhere(run: Run, found: Mapping[str, Environment]) -> frozenset[str]:
    """The environments of another account, role, region, zone or bucket than the run's."""
    if not any(any(each.place) for each in found.values()):
        return frozenset()
    pipeline = of_pipeline(run.root)
    return frozenset(name for name, each in found.items() if not same_place(pipeline, each, run.environment))


def own(run: Run) -> EnvironmentInventory:
    """The machines of the run's environment. One request."""
    found = tuple(each for each in _instances(run) if each.identity == run.identity)
    return EnvironmentInventory(identity=run.identity, resources=found)


def running(run: Run) -> list[str]:
    """The environments of the run's name that have a running machine, by identity: those of branches too. One request."""
    names = EnvironmentNames({run.environment_name: run.environment})
    found = {each.identity for each in _instances(run) if each.state == "running"}
    return sorted(each for each in found if names.environment(each))


def _instances(run: Run) -> Iterator[Resource]:
    for each in _pages(run, "describe_instances", "Reservations", "Instances"):
        if each["State"]["Name"] not in ENDED:
            yield _tagged(
                "instance",
                each["InstanceId"],
                each,
                state=each["State"]["Name"],
                made=each["LaunchTime"],
                more={
                    "type": each["InstanceType"],
                    "image": each["ImageId"],
                    "address": each.get("PublicIpAddress") or each.get("PrivateIpAddress"),
                },
            )


def _volumes(run: Run) -> Iterator[Resource]:
    for each in _pages(run, "describe_volumes", "Volumes"):
        more = {"gb": each["Size"], "of": [at["InstanceId"] for at in each.get("Attachments", ())]}
        yield _tagged(
            "volume", each["VolumeId"], each, state=each["State"], made=each["CreateTime"], more=more
        )


def _keys(run: Run) -> Iterator[Resource]:
    for each in run.cloud.client("ec2").describe_key_pairs(Filters=_ours(run))["KeyPairs"]:
        yield _tagged("key pair", each["KeyName"], each, made=each.get("CreateTime"))


def _groups(run: Run) -> Iterator[Resource]:
    for each in _pages(run, "describe_security_groups", "SecurityGroups"):
        yield _tagged("security group", each["GroupId"], each, more={"name": each["GroupName"]})


def _images(run: Run) -> Iterator[Resource]:
    for each in _pages(run, "describe_images", "Images", Owners=["self"]):
        disks = [disk.get("Ebs", {}) for disk in each.get("BlockDeviceMappings", ())]
        yield _tagged(
            "image",
            each["ImageId"],
            each,
            state=each["State"],
            made=_time(each["CreationDate"]),
            more={
                "architecture": each.get("Architecture", "x86_64"),
                "snapshots": [disk["SnapshotId"] for disk in disks if "SnapshotId" in disk],
            },
        )


def _snapshots(run: Run) -> Iterator[Resource]:
    for each in _pages(run, "describe_snapshots", "Snapshots", OwnerIds=["self"]):
        yield _tagged("snapshot", each["SnapshotId"], each, state=each["State"], made=each["StartTime"])


def _records(run: Run, names: EnvironmentNames, objects: Sequence[StoredObject]) -> Iterator[Resource]:
    route53, made = run.cloud.client("route53"), _host_names(run, objects)
    zone = zone_id(run.cloud, run.pipeline.dns_zone)
    pages = route53.get_paginator("list_resource_record_sets")
    for page in pages.paginate(HostedZoneId=zone) if zone else ():
        for each in page["ResourceRecordSets"]:
            name = each["Name"].rstrip(".")
            identity = made.get(name) or names.of_label(name.removesuffix(f".{run.pipeline.dns_zone}"))
            ours = "ResourceRecords" in each and "SetIdentifier" not in each  # an alias is somebody else's
            if each["Type"] == "A" and identity and ours:
                addresses = tuple(sorted(value["Value"] for value in each["ResourceRecords"]))
                yield Resource(kind="record", id=name, identity=identity, more={"addresses": addresses})


def _host_names(run: Run, objects: Sequence[StoredObject]) -> dict[str, str]:
    """The names that were made for each environment, also if its settings have another one by now; with its identity."""
    identities = [each.identity for each in objects if each.parsed and each.parsed.kind == "machines"]
    with run.threads.pool(8) as pool:
        found = pool.map(lambda identity: memory.host_names(run.store, identity), identities)
        return {name: identity for identity, names in zip(identities, found, strict=True) for name in names}


def _secrets(run: Run) -> Iterator[Resource]:
    # describe_parameters, not get_parameters: the inventory needs no secret values
    pages = run.cloud.client("ssm").get_paginator("describe_parameters")
    below = {"Key": "Path", "Option": "Recursive", "Values": [f"/{run.pipeline.name}"]}
    for page in pages.paginate(ParameterFilters=[below], PaginationConfig={"PageSize": 50}):
        for each in page["Parameters"]:
            identity = each["Name"].split("/")[2] if each["Name"].count("/") > 2 else ""
            if identity.endswith(AUTHORITY):
                identity = ""  # many environments have it
            yield Resource(
                kind="secret", id=each["Name"], identity=identity, made=each.get("LastModifiedDate")
            )


def _objects(run: Run, prefixes: Sequence[str]) -> Iterator[StoredObject]:
    if not create.bucket_exists(run.store, run.pipeline.name):
        return
    pages = run.cloud.client("s3").get_paginator("list_objects_v2")
    for prefix in prefixes:
        for page in pages.paginate(Bucket=run.bucket, Prefix=prefix):
            for each in page.get("Contents", ()):
                yield StoredObject(key=each["Key"], size=each["Size"], written=each["LastModified"])


def _pages(run: Run, operation: str, *fields: str, **more: Any) -> Iterator[dict[str, Any]]:
    pages = run.cloud.client("ec2").get_paginator(operation)
    size = {} if operation == "describe_images" else {"PaginationConfig": {"PageSize": 1000}}
    for page in pages.paginate(Filters=_ours(run), **more, **size):
        found = page[fields[0]]
        yield from found if len(fields) == 1 else (each for outer in found for each in outer[fields[1]])


def _ours(run: Run) -> list[dict[str, Any]]:
    return [{"Name": "tag:project", "Values": [run.pipeline.name]}]


def _tagged(kind: Kind, id: str, found: Mapping[str, Any], **facts: Any) -> Resource:
    tags = {each["Key"]: each["Value"] for each in found.get("Tags", ())}
    return Resource(kind=kind, id=id, identity=tags.get("environment", ""), tags=tags, **facts)


def _time(text: str) -> Time:
    return datetime.datetime.fromisoformat(text)
