"""find: what an environment has in the cloud, by tag and by name. Changes nothing."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tasks.cloud.host_keys import made
from tasks.infrastructure import memory, secrets
from tasks.infrastructure.plan import Existing, Machine, Replaced, WholeRule
from tasks.infrastructure.waiting import POLL
from tasks.infrastructure.zone import zone_id

if TYPE_CHECKING:
    from tasks.cloud.interface import Cloud
    from tasks.run import Run

LONGEST_TAG = 256
READS = 10
"""How often is asked again for what was made and is not listed."""
ALIVE = ("pending", "running", "stopping", "stopped")


def everything(run: Run) -> Existing:
    """Everything that the environment has in the cloud.

    A list may be behind. What the environment's document names was made and is not removed: it is asked for again until it
    is listed, or has ended. All lists that show it are one read.
    """
    for _ in range(READS):
        found, noted = _listed(run)
        missing = set(noted.get("machines", ())) - {each.id for each in found.machines}
        ended = _ended(run.cloud.client("ec2"), missing) if missing else set()
        found = dataclasses.replace(found, ended=tuple(sorted(ended)))
        # what has ended was torn down, and with it perhaps the rest
        if not (missing - ended) and (ended or not _behind(found, noted)):
            return found
        run.threads.wait(POLL, "infrastructure")
    return dataclasses.replace(found, ended=tuple(sorted(missing)))


def _behind(found: Existing, noted: Mapping[str, Any]) -> bool:
    """Whether a list lacks what was made."""
    if "group" in noted and not (found.group and found.key):
        return True
    named = {*(each.host_name for each in found.replaced), *found.records, *found.foreign}
    return not named >= noted.get("host_names", {}).keys()


def _ended(ec2: Any, ids: Collection[str]) -> set[str]:
    """Those of the machines that have ended."""
    # by filter: asked by id, EC2 may not yet know one
    filters = [
        {"Name": "instance-id", "Values": sorted(ids)},
        {"Name": "instance-state-name", "Values": ["shutting-down", "terminated"]},
    ]
    answer = ec2.describe_instances(Filters=filters)
    return {each["InstanceId"] for reservation in answer["Reservations"] for each in reservation["Instances"]}


def _listed(run: Run) -> tuple[Existing, Mapping[str, Any]]:
    """What the cloud lists, and the environment's document. The requests run side by side."""
    ours, protects = of(run), run.environment.infrastructure.termination_protection
    with run.threads.pool(4) as pool:
        ec2 = run.cloud.client("ec2")
        asked_groups, asked_key = pool.submit(groups, ec2, ours), pool.submit(_key, ec2, run.name)
        asked_machines = pool.submit(_with_protection if protects else machines, ec2, ours)
        names = pool.submit(lambda: secrets.names(run.cloud.client("ssm"), run.secrets_folder))
        asked_document = pool.submit(memory.known, run.store, run.identity)
        asked_names = {
            name: pool.submit(_record, run.cloud, run.pipeline.dns_zone, name) for name in run.host_names
        }
        replaced = [
            Replaced(host_name=name, zone=zone, addresses=addresses)
            for name, zone in sorted(asked_document.result().get("host_names", {}).items())
            if name not in run.host_names and (addresses := _record(run.cloud, zone, name)[0])
        ]
    group = next(iter(asked_groups.result()), None)
    present = asked_machines.result()
    members = _own(run, present, asked_document.result())
    known = {each.id for each in members}
    permissions = set(_permissions(group or {}, "IpPermissions"))
    found = Existing(
        key=asked_key.result(),
        group=group["GroupId"] if group else None,
        rules=frozenset(
            (rule.first, rule.source)
            for rule in permissions
            if rule.first is not None and _could_be_ours(rule)
        ),
        hand_made=tuple(sorted(rule for rule in permissions if not _could_be_ours(rule))),
        outward=frozenset(_permissions(group or {}, "IpPermissionsEgress")),
        used=memory.ways_out(asked_document.result()) if _closes(run) else frozenset(),
        machines=tuple(members),
        strangers=tuple(each for each in present if each.id not in known),
        records={name: asked.result()[0] for name, asked in asked_names.items() if asked.result()[0]},
        foreign={name: asked.result()[1] for name, asked in asked_names.items() if asked.result()[1]},
        replaced=tuple(replaced),
        secrets=tuple(names.result()),
    )
    return found, asked_document.result()


def _closes(run: Run) -> bool:
    """Whether the pipeline takes from the group what it has let out, so that it may do that later."""
    return run.environment.infrastructure.manage == "all" and run.environment.has("server")


def machines(ec2: Any, ours: list[dict[str, Any]]) -> list[Machine]:
    """The machines, without those that are terminated."""
    filters = [*ours, {"Name": "instance-state-name", "Values": list(ALIVE)}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return [
        Machine(
            id=each["InstanceId"],
            state=each["State"]["Name"],
            address=each.get("PublicIpAddress") or each.get("PrivateIpAddress"),
            tags=_tags_of(each),
            launched=made(each).isoformat(),
            token=each.get("ClientToken", ""),
            private=each.get("PrivateIpAddress"),
        )
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]


def own(run: Run) -> list[Machine]:
    """The environment's own machines."""
    present = machines(run.cloud.client("ec2"), of(run))
    shared = present and not run.environment.per_branch
    return _own(run, present, memory.known(run.store, run.identity) if shared else {})


def _own(run: Run, present: list[Machine], document: Mapping[str, Any]) -> list[Machine]:
    """Those of the machines with the environment's tags that are its own.

    In an environment that all branches share that is what the settings list, and what its records know; no branch writes either.
    """
    present = named(run, present)
    if run.environment.per_branch:
        return present
    listed, is_own = run.environment.infrastructure.machines, memory.is_own(document)
    return [each for each in present if each.id in listed or is_own(each.id, each.token)]


def named(run: Run, machines: Sequence[Machine]) -> list[Machine]:
    """The machines with their names in the placement."""
    return [dataclasses.replace(each, name=run.placement.named(each.tags)) for each in machines]


def groups(ec2: Any, ours: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The security groups, as the cloud describes them."""
    pages = ec2.get_paginator("describe_security_groups")
    return [group for page in pages.paginate(Filters=ours) for group in page["SecurityGroups"]]


SOURCES = {
    "IpRanges": "CidrIp",
    "Ipv6Ranges": "CidrIpv6",
    "PrefixListIds": "PrefixListId",
    "UserIdGroupPairs": "GroupId",
}
"""Where a permission lists those whom it admits, and what each entry is called by. A description is not a part of the rule."""


def _permissions(group: Mapping[str, Any], way: str) -> Iterator[WholeRule]:
    """Every rule of a group in or out, one for each source: EC2 puts rules of the same ports together."""
    for each in group.get(way, ()):
        for kind, name in SOURCES.items():
            for source in each.get(kind, ()):
                yield WholeRule(
                    protocol=each["IpProtocol"],
                    first=each.get("FromPort"),
                    last=each.get("ToPort"),
                    source=source[name],
                )


def _could_be_ours(rule: WholeRule) -> bool:
    return rule.protocol == "tcp" and rule.first == rule.last and "/" in rule.source


def permission(protocol: str, first: int | None, last: int | None, source: str) -> dict[str, Any]:
    """A rule in the form of the cloud's API."""
    prefixes = {"pl-": "PrefixListIds", "sg-": "UserIdGroupPairs"}
    kind = prefixes.get(source[:3], "Ipv6Ranges" if ":" in source else "IpRanges")
    ports = {} if first is None or last is None else {"FromPort": first, "ToPort": last}
    return {"IpProtocol": protocol, **ports, kind: [{SOURCES[kind]: source}]}


def of(run: Run) -> list[dict[str, Any]]:
    """The filters that select the environment's machines and groups."""
    return [
        {"Name": "tag:project", "Values": [run.pipeline.name]},
        {"Name": "tag:environment", "Values": [run.identity]},
    ]


def tags(run: Run) -> dict[str, str]:
    """The tags of the environment's resources: they say whose a resource is, and who pays for it."""
    return {
        "Name": run.name,
        "project": run.pipeline.name,
        "environment": run.identity,
        "branch": fitted(run.branch if run.environment.per_branch else run.pipeline.default_branch),
        "owner": run.environment.infrastructure.owner,
        "cost_centre": run.environment.infrastructure.cost_centre,
        **(_judge(run) if run.environment.per_branch else {}),
        **({"expires": run.expires} if run.expires else {}),
    }


def _judge(run: Run) -> dict[str, str]:
    """`remote`: whose branches say when the environment ends. `pushed`: the remote that had its branch."""
    origin = run.origin
    pushed = {"pushed": origin} if origin and run.pushed else {}
    return {"remote": origin, **pushed}


def fitted(value: str) -> str:
    """A value as a tag: AWS takes 256 characters. The end of a longer one is replaced by a digest, so that it stays apart."""
    if len(value) <= LONGEST_TAG:
        return value
    mark = f"~{hashlib.sha256(value.encode()).hexdigest()[:10]}"
    return f"{value[: LONGEST_TAG - len(mark)]}{mark}"


def tag_list(values: Mapping[str, str]) -> list[dict[str, str]]:
    """Tags in the form of the cloud's API."""
    return [{"Key": key, "Value": value} for key, value in values.items()]


def _key(ec2: Any, name: str) -> str | None:
    keys = ec2.describe_key_pairs(Filters=[{"Name": "key-name", "Values": [name]}])["KeyPairs"]
    return _tags_of(keys[0]).get("mark", "unknown") if keys else None


def _with_protection(ec2: Any, ours: list[dict[str, Any]]) -> list[Machine]:
    """The machines, each with its termination protection, which takes one more request for each."""

    def protected(id: str) -> bool:
        answer = ec2.describe_instance_attribute(InstanceId=id, Attribute="disableApiTermination")
        return bool(answer["DisableApiTermination"]["Value"])

    return [dataclasses.replace(each, protected=protected(each.id)) for each in machines(ec2, ours)]


def addresses(cloud: Cloud, dns_zone: str, host_name: str) -> tuple[str, ...]:
    """The addresses of a name; none where there is no record such as the pipeline makes."""
    return _record(cloud, dns_zone, host_name)[0]


def _record(cloud: Cloud, dns_zone: str, host_name: str) -> tuple[tuple[str, ...], str]:
    """The addresses of a name's A record, and what else stands under the name in words; each may be empty."""
    id = zone_id(cloud, dns_zone)
    if not id:
        return (), ""
    page = cloud.client("route53").list_resource_record_sets(
        HostedZoneId=id, StartRecordName=host_name, StartRecordType="A", MaxItems="10"
    )
    under = [each for each in page["ResourceRecordSets"] if each["Name"].rstrip(".") == host_name]
    foreign = next((words for each in under if (words := _foreign(each))), "")
    plain = [each for each in under if each["Type"] == "A" and not _foreign(each)]
    return tuple(sorted(value["Value"] for each in plain for value in each["ResourceRecords"])), foreign


def _foreign(record: Mapping[str, Any]) -> str:
    """What a record is if the pipeline makes none like it: an alias, a CNAME, one of several that share a name. Else empty."""
    if record["Type"] not in ("A", "CNAME"):
        return ""
    if "AliasTarget" in record:
        return f"an alias of {record['AliasTarget']['DNSName'].rstrip('.')}"
    if record["Type"] == "CNAME":
        return f"a CNAME of {record['ResourceRecords'][0]['Value'].rstrip('.')}"
    return f"a record with a routing policy ({record['SetIdentifier']})" if "SetIdentifier" in record else ""


def _tags_of(resource: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in resource.get("Tags", ())}
