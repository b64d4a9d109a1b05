"""apply: what infrastructure's plans are made of: finding by tag, and one function for each kind of change."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import yaml

from tasks.bucket import create
from tasks.cloud.errors import already, code
from tasks.infrastructure import launches, secrets
from tasks.process import children
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.infrastructure.stage import Change, Existing, Machine
    from tasks.run import Run

    Say = Callable[[str], None]

ALIVE = ("pending", "running", "stopping", "stopped")
DEBIAN = "136693071363"
"""The account that publishes Debian's images (https://wiki.debian.org/Cloud/AmazonEC2Image)."""
PATIENCE = 300.0
"""Seconds for anything that the cloud does after it has said yes."""
POLL = 0.5
POLL_IMAGE = 1.0
NOT_FOUND_YET = ("InvalidInstanceID.NotFound", "InvalidGroup.NotFound", "InvalidGroupId.NotFound")
TTL = 60
"""Seconds that a resolver keeps an address."""


class ImageMissing(Refusal):
    """The image of the settings is not known to the cloud."""

    sentence = "infrastructure: no image named {image} in {region} (pipeline.yml: image)"
    remedy = "$EDITOR pipeline.yml"


class CloudRefused(Refusal):
    """The cloud said no to a change."""

    sentence = "infrastructure: {change}: {problem}"
    remedy = "doit infrastructure"


class CloudTooSlow(Refusal):
    """The cloud did not do in time what it had accepted."""

    sentence = "infrastructure: {what} after {seconds} s"
    remedy = "doit infrastructure"


# --- finding --------------------------------------------------------------------------------


def find(run: Run) -> Existing:
    """Everything of the environment that the cloud has. One question does not wait for another's answer."""
    from tasks.infrastructure.stage import Existing

    with ThreadPoolExecutor(max_workers=4) as pool:
        groups, key = pool.submit(_groups, run), pool.submit(_key, run)
        found, names = pool.submit(_protections, run), pool.submit(secrets.names, run)
        record = _record(run)
    group = next(iter(groups.result()), None)
    return Existing(
        key=key.result(),
        group=group["GroupId"] if group else None,
        rules=frozenset(
            (rule["FromPort"], network["CidrIp"])
            for rule in (group["IpPermissions"] if group else ())
            for network in rule.get("IpRanges", ())
        ),
        machines=tuple(found.result()),
        record=record,
        secrets=tuple(names.result()),
    )


def _key(run: Run) -> str | None:
    filters = [{"Name": "key-name", "Values": [_name(run)]}]
    keys = run.cloud.client("ec2").describe_key_pairs(Filters=filters)["KeyPairs"]
    return _tags(keys[0]).get("mark", "unknown") if keys else None


def _machines(run: Run) -> list[Machine]:
    from tasks.infrastructure.stage import Machine

    filters = [*_ours(run), {"Name": "instance-state-name", "Values": list(ALIVE)}]
    pages = run.cloud.client("ec2").get_paginator("describe_instances").paginate(Filters=filters)
    return [
        Machine(
            id=each["InstanceId"],
            state=each["State"]["Name"],
            address=each.get("PublicIpAddress") or each.get("PrivateIpAddress"),
            tags=_tags(each),
        )
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    ]


def _protections(run: Run) -> list[Machine]:
    """The machines; where the settings protect them, each with whether the cloud refuses to end it."""
    found = _machines(run)
    if not run.environment.infrastructure.termination_protection:
        return found
    ask = run.cloud.client("ec2").describe_instance_attribute
    return [
        dataclasses.replace(
            each,
            protected=ask(InstanceId=each.id, Attribute="disableApiTermination")["DisableApiTermination"][
                "Value"
            ],
        )
        for each in found
    ]


def _groups(run: Run) -> list[dict[str, Any]]:
    pages = run.cloud.client("ec2").get_paginator("describe_security_groups")
    return [group for page in pages.paginate(Filters=_ours(run)) for group in page["SecurityGroups"]]


def _record(run: Run) -> tuple[str, ...]:
    zone = create.zone_id(run)
    if not zone:
        return ()
    page = run.cloud.client("route53").list_resource_record_sets(
        HostedZoneId=zone, StartRecordName=run.host_name, StartRecordType="A", MaxItems="1"
    )
    for each in page["ResourceRecordSets"]:
        if each["Name"].rstrip(".") == run.host_name and each["Type"] == "A":
            return tuple(sorted(value["Value"] for value in each["ResourceRecords"]))
    return ()


def _ours(run: Run) -> list[dict[str, Any]]:
    return [
        {"Name": "tag:project", "Values": [run.pipeline.name]},
        {"Name": "tag:environment", "Values": [run.identity]},
    ]


def _name(run: Run) -> str:
    return f"{run.pipeline.name}-{run.identity}"


def _tags(resource: dict[str, Any]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in resource.get("Tags", ())}


def _tag_list(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _specification(run: Run, kind: str, **more: str) -> list[dict[str, Any]]:
    from tasks.infrastructure.stage import tags

    return [{"ResourceType": kind, "Tags": _tag_list({**tags(run), **more})}]


# --- changing --------------------------------------------------------------------------------


def apply(run: Run, change: Change) -> None:
    """Make one change. Raises CloudRefused when the cloud says no."""
    ec2 = run.cloud.client("ec2")
    try:
        _VERBS[change.verb](run, ec2, change)
    except ec2.exceptions.ClientError as error:
        problem = error.response["Error"].get("Message") or code(error)
        raise CloudRefused(change=str(change), problem=problem) from None


def _create_key(run: Run, ec2: Any, change: Change) -> None:
    from tasks.infrastructure.stage import key_mark

    public_key = str(change.facts["public_key"])
    mark = key_mark(public_key)
    with already("InvalidKeyPair.Duplicate"):
        ec2.import_key_pair(
            KeyName=change.what,
            PublicKeyMaterial=public_key.encode(),
            TagSpecifications=_specification(run, "key-pair", mark=mark),
        )


def _delete_key(run: Run, ec2: Any, change: Change) -> None:
    ec2.delete_key_pair(KeyName=change.what)


def _create_group(run: Run, ec2: Any, change: Change) -> None:
    with already("InvalidGroup.Duplicate"):
        ec2.create_security_group(
            GroupName=change.what,
            Description=f"{run.pipeline.name}: {run.identity}",
            TagSpecifications=_specification(run, "security-group"),
        )


def _delete_group(run: Run, ec2: Any, change: Change) -> None:
    group = next(iter(_groups(run)), None)
    for _ in patience("the security group still in use"):
        try:
            if group:
                ec2.delete_security_group(GroupId=group["GroupId"])
            return
        except ec2.exceptions.ClientError as error:
            if code(error) == "InvalidGroup.NotFound":
                return
            if code(error) != "DependencyViolation":  # an ended machine holds it for a while
                raise


def _open_port(run: Run, ec2: Any, change: Change) -> None:
    with already("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(**_rule(run, change))


def _close_port(run: Run, ec2: Any, change: Change) -> None:
    ec2.revoke_security_group_ingress(**_rule(run, change))


def _rule(run: Run, change: Change) -> dict[str, Any]:
    rule: tuple[int, str] = change.facts["rule"]  # type: ignore[assignment]
    port, network = rule
    permission = {
        "IpProtocol": "tcp",
        "FromPort": port,
        "ToPort": port,
        "IpRanges": [{"CidrIp": network}],
    }
    return {"GroupId": _group_id(run), "IpPermissions": [permission]}


def _group_id(run: Run) -> str:
    for _ in patience("the new security group not to be seen"):
        for group in _groups(run):
            return str(group["GroupId"])
    raise AssertionError("CloudTooSlow was raised")


def _create_machine(run: Run, ec2: Any, change: Change) -> None:
    settings, number = run.environment.infrastructure, str(change.facts["number"])
    wish = {
        "ImageId": _image_id(run),
        "InstanceType": settings.instance_type or run.pipeline.instance_type,
        "KeyName": _name(run),
        "SecurityGroupIds": [_group_id(run)],
        "DisableApiTermination": settings.termination_protection,
        "InstanceInitiatedShutdownBehavior": "terminate" if settings.ends_itself else "stop",
        "MetadataOptions": {"HttpTokens": "required"},
        "UserData": _user_data(run),
        "TagSpecifications": [
            *_specification(run, "instance"),
            *_specification(run, "volume"),
        ],
    }
    try:
        launched = ec2.run_instances(
            MinCount=1, MaxCount=1, ClientToken=launches.launch_token(run, number), **wish
        )
    except ec2.exceptions.ClientError as error:
        # the token's machine has ended since, or was asked for with other settings: a new one, then
        if code(error) not in ("IdempotentInstanceTerminated", "IdempotentParameterMismatch"):
            raise
        token = launches.launch_token(run, number, renew=True)
        launched = ec2.run_instances(MinCount=1, MaxCount=1, ClientToken=token, **wish)
    id = launched["Instances"][0]["InstanceId"]
    for _ in patience(f"{id} not to be seen"):
        if id in {each.id for each in _machines(run)}:
            return


def _user_data(run: Run) -> str:
    user = {
        "name": run.cloud.login_user,
        "groups": "sudo",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "ssh_authorized_keys": [secrets.ensure(run).deploy_key_public],
    }
    return "#cloud-config\n" + yaml.safe_dump({"users": [user]})


def _image_id(run: Run) -> str:
    """The baked image of what the checkout says, else the one of the settings: as before, slower."""
    from tasks import image  # which is made with this module

    return image.start(run) or _settings_image(run)


def _settings_image(run: Run) -> str:
    ec2, say = run.cloud.client("ec2"), run.console.say("infrastructure")
    filters = [{"Name": "name", "Values": [run.pipeline.image, f"{run.pipeline.image}-amd64-*"]}]
    for _ in patience(f"the image {run.pipeline.image} not ready", pause=POLL_IMAGE):
        images = ec2.describe_images(Owners=["self", DEBIAN], Filters=filters)["Images"]
        ready = [each for each in images if each["State"] == "available"]
        if ready:
            return str(max(ready, key=lambda each: each["CreationDate"])["ImageId"])
        if not any(each["State"] == "pending" for each in images):
            break
        say(f"waits for the image {run.pipeline.image}")
    raise ImageMissing(image=run.pipeline.image, region=run.pipeline.region)


def _start_machine(run: Run, ec2: Any, change: Change) -> None:
    ec2.start_instances(InstanceIds=[change.what])


def _end_machine(run: Run, ec2: Any, change: Change) -> None:
    ec2.terminate_instances(InstanceIds=[change.what])
    for _ in patience(f"{change.what} not terminated"):
        try:
            answer = ec2.describe_instances(InstanceIds=[change.what])
        except ec2.exceptions.ClientError as error:
            if code(error) in NOT_FOUND_YET:
                return
            raise
        if answer["Reservations"][0]["Instances"][0]["State"]["Name"] == "terminated":
            return


def _protect_machine(run: Run, ec2: Any, change: Change) -> None:
    ec2.modify_instance_attribute(InstanceId=change.what, DisableApiTermination={"Value": True})


def _tag_machine(run: Run, ec2: Any, change: Change) -> None:
    tags: dict[str, str] = change.facts["tags"]  # type: ignore[assignment]
    ec2.create_tags(Resources=[change.what], Tags=_tag_list(tags))


def _point(run: Run, ec2: Any, change: Change) -> None:
    _change_record(run, "UPSERT", change.facts["addresses"])  # type: ignore[arg-type]


def _unpoint(run: Run, ec2: Any, change: Change) -> None:
    _change_record(run, "DELETE", change.facts["addresses"])  # type: ignore[arg-type]


def _change_record(run: Run, action: str, addresses: Iterable[str]) -> None:
    route53 = run.cloud.client("route53")
    record = {
        "Name": run.host_name,
        "Type": "A",
        "TTL": TTL,
        "ResourceRecords": [{"Value": address} for address in addresses],
    }
    change = route53.change_resource_record_sets(
        HostedZoneId=create.zone_id(run),
        ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]},
    )["ChangeInfo"]
    # wait for INSYNC, or the first visitor is sent to a stale address
    for _ in patience(f"{run.host_name} not in sync", pause=POLL):
        if route53.get_change(Id=change["Id"])["ChangeInfo"]["Status"] == "INSYNC":
            return


def _delete_secret(run: Run, ec2: Any, change: Change) -> None:
    ssm = run.cloud.client("ssm")
    with contextlib.suppress(ssm.exceptions.ParameterNotFound):
        ssm.delete_parameter(Name=change.what)


_VERBS: dict[str, Callable[[Run, Any, Change], None]] = {
    "create_group": _create_group,
    "create_key": _create_key,
    "create_machine": _create_machine,
    "close_port": _close_port,
    "delete_group": _delete_group,
    "delete_key": _delete_key,
    "delete_secret": _delete_secret,
    "end_machine": _end_machine,
    "open_port": _open_port,
    "point": _point,
    "protect_machine": _protect_machine,
    "repoint": _point,
    "retag_machine": _tag_machine,
    "start_machine": _start_machine,
    "tag_machine": _tag_machine,
    "unpoint": _unpoint,
}


def settle(run: Run, say: Say) -> None:
    """Wait until no machine is on its way to another state; then the launch tokens have done their work."""
    for _ in patience("machines still starting or stopping"):
        found = _machines(run)
        if all(each.state in ("running", "stopped") for each in found):
            break
        moving = next(each for each in found if each.state not in ("running", "stopped"))
        say(f"waits for {moving.id}: {moving.state}")
    launches.forget_launches(run)


def tag(run: Run, tags: dict[str, str]) -> None:
    """Write tags to the environment's machines."""
    found = [each.id for each in _machines(run)]
    run.cloud.client("ec2").create_tags(Resources=found, Tags=_tag_list(tags))


# --- images ---------------------------------------------------------------------------------


def stop(run: Run, id: str) -> None:
    """Stop a machine and wait until it has."""
    run.cloud.client("ec2").stop_instances(InstanceIds=[id])
    for _ in patience(f"{id} not stopped"):
        if any(each.id == id and each.state == "stopped" for each in _machines(run)):
            return


def create_image(run: Run, id: str, *, name: str, tags: dict[str, str]) -> str:
    """Have an image made of a machine; the image's id."""
    tagged = [{"ResourceType": kind, "Tags": _tag_list(tags)} for kind in ("image", "snapshot")]
    client = run.cloud.client("ec2")
    return str(client.create_image(InstanceId=id, Name=name, TagSpecifications=tagged)["ImageId"])


def images_in_use(run: Run, images: list[str]) -> set[str]:
    """Those of the images that a machine runs on, whoever's it is."""
    filters = [
        {"Name": "image-id", "Values": images},
        {"Name": "instance-state-name", "Values": [*ALIVE, "shutting-down"]},
    ]
    pages = run.cloud.client("ec2").get_paginator("describe_instances")
    return {
        each["ImageId"]
        for page in (pages.paginate(Filters=filters) if images else ())
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
    }


def remove_image(run: Run, id: str, snapshots: Iterable[str]) -> None:
    """Remove an image and what it was made of. An earlier run may have begun."""
    client = run.cloud.client("ec2")
    with already("InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"):
        client.deregister_image(ImageId=id)
    for each in snapshots:
        with already("InvalidSnapshot.NotFound"):
            client.delete_snapshot(SnapshotId=each)


# --- waiting --------------------------------------------------------------------------------


def patience(what: str, pause: float = POLL, seconds: float = PATIENCE) -> Iterator[None]:
    """Tries, some time apart, until CloudTooSlow is raised."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        yield
        children.wait(pause, "infrastructure")
    raise CloudTooSlow(what=what, seconds=round(seconds))
