"""apply: makes the changes of a plan, each kind in a function of its own, and waits until the cloud has made them."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, assert_never

import yaml

from tasks.cloud.errors import already, code
from tasks.infrastructure import find, images, launches, machine, memory, plan, secrets, zone
from tasks.infrastructure.gone import unless_gone
from tasks.infrastructure.waiting import POLL, patience
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run

Say = Callable[[str], None]
Baked = Callable[["Run"], str | None]
"""Chooses the baked image of a new machine; returns None where the machine starts from the image of the settings."""
NOT_FOUND_YET = (
    *("InvalidInstanceID.NotFound", "InvalidKeyPair.NotFound"),
    *("InvalidGroup.NotFound", "InvalidGroupId.NotFound"),
)
TTL = 60
"""Seconds that a resolver caches an address."""


class ChangeRefused(Refusal):
    """The cloud refuses a change."""

    sentence = "infrastructure: {change}: {problem}"
    remedy = "doit infrastructure"


class LaunchRefused(Refusal):
    """The account may not have this machine now: a limit, no capacity, a verification or an agreement that is missing."""

    sentence = "infrastructure: {change}: {meaning} ({code})"
    remedy = "{remedy}"


class MachineDied(Refusal):
    """A new machine ended before it ran: its disk's key, the capacity, a limit. The next run makes another one."""

    sentence = "infrastructure: {id} ended while it was {state}: {reason}"
    remedy = "doit infrastructure"


LAUNCHES = {
    "VcpuLimitExceeded": (
        "the account may not have so many vCPUs of this kind in this region: ask for more, or end other machines",
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-1216C47A --desired-value 32",
    ),
    "InsufficientInstanceCapacity": (
        "AWS has no machine of this type free now: try again later, or take another instance_type",
        "doit infrastructure",
    ),
    "MaxSpotInstanceCountExceeded": (
        "the account may not have so many spot instances in this region: ask for more, or set infrastructure.spot: false",
        "aws service-quotas request-service-quota-increase --service-code ec2 --quota-code L-34B43A08 --desired-value 32",
    ),
    "AuthFailure.ServiceLinkedRoleCreationNotPermitted": (
        "the account has never had a spot instance, and this role may not make the role that they need",
        "aws iam create-service-linked-role --aws-service-name spot.amazonaws.com",
    ),
    "PendingVerification": (
        "AWS still verifies the account for this region, which takes up to four hours, and writes a mail when it is done",
        "doit infrastructure",
    ),
    "OptInRequired": (
        "the account has not accepted what this needs: the region, the service or the image's terms on the Marketplace",
        "aws account get-region-opt-status --region-name {region}",
    ),
}
"""What a refused launch means, and what to do."""


def apply(run: Run, change: plan.Change, *, baked: Baked | None = None) -> str | None:
    """Make one change; a new machine starts from the image that `baked` chooses. The id of a machine or group that was made.

    Raises ChangeRefused.
    """
    ec2 = run.cloud.client("ec2")
    try:
        for _ in range(find.READS):  # what was made just now is not known everywhere yet
            try:
                return _make(run, ec2, change, baked)
            except ec2.exceptions.ClientError as error:
                if code(error) not in NOT_FOUND_YET:
                    raise
            run.threads.wait(POLL, "infrastructure")
        if isinstance(change, plan.EndMachine | plan.DeleteGroup):  # somebody was faster
            return None
        return _make(run, ec2, change, baked)
    except ec2.exceptions.ClientError as error:
        if code(error) in LAUNCHES:
            meaning, remedy = LAUNCHES[code(error)]
            remedy = remedy.format(region=run.pipeline.region)
            raise LaunchRefused(
                change=str(change), meaning=meaning, code=code(error), remedy=remedy
            ) from None
        problem = error.response["Error"].get("Message") or code(error)
        raise ChangeRefused(change=str(change), problem=problem) from None


def _make(run: Run, ec2: Any, change: plan.Change, baked: Baked | None) -> str | None:
    match change:
        case plan.CreateKey():
            _create_key(run, ec2, change)
        case plan.DeleteKey():
            with unless_gone(run, "key pair", change.name):
                ec2.delete_key_pair(KeyName=change.name)
        case plan.CreateGroup():
            return _create_group(run, ec2, change)
        case plan.DeleteGroup():
            _delete_group(run, ec2, change)
        case plan.OpenPort():
            _open_port(run, ec2, change)
        case plan.ClosePort():
            _close_port(run, ec2, change)
        case plan.CloseRule():
            _close_rule(run, ec2, change)
        case plan.LetOut():
            _change_outward(run, ec2.authorize_security_group_egress, "Duplicate", change)
        case plan.HoldBack():
            _change_outward(run, ec2.revoke_security_group_egress, "NotFound", change)
        case plan.CreateMachine():
            return _create_machine(run, ec2, change, baked)
        case plan.StartMachine():
            ec2.start_instances(InstanceIds=[change.id])
        case plan.EndMachine():
            _end_machine(run, ec2, change)
        case plan.TagMachine() | plan.RetagMachine():
            ec2.create_tags(Resources=[change.id], Tags=find.tag_list(change.tags))
        case plan.ProtectMachine():
            ec2.modify_instance_attribute(InstanceId=change.id, DisableApiTermination={"Value": True})
        case plan.Point() | plan.Repoint():
            memory.keep_host_name(run.store, run.identity, change.host_name, change.zone)
            _change_record(run, "UPSERT", change)
        case plan.Unpoint():
            _delete_record(run, change)
        case plan.DeleteSecret():
            _delete_secret(run.cloud.client("ssm"), change)
        case _:
            assert_never(change)
    return None


# --- the key pair and the firewall --------------------------------------------------------------


def _create_key(run: Run, ec2: Any, change: plan.CreateKey) -> None:
    mark = plan.key_mark(change.public_key)
    with already("InvalidKeyPair.Duplicate"):
        ec2.import_key_pair(
            KeyName=change.name,
            PublicKeyMaterial=change.public_key.encode(),
            TagSpecifications=_tagged("key-pair", {**find.tags(run), "mark": mark}),
        )


def _create_group(run: Run, ec2: Any, change: plan.CreateGroup) -> str:
    network, id = machine.network(run, ec2), ""
    with already("InvalidGroup.Duplicate"):
        id = ec2.create_security_group(
            **({"VpcId": network} if network else {}),
            GroupName=change.name,
            Description=f"{run.pipeline.name}: {run.identity}",
            TagSpecifications=_tagged("security-group", find.tags(run)),
        )["GroupId"]
    id = id or _listed_group(run, ec2)  # another run was faster
    memory.enter(run.store, run.identity, group=id)
    return id


def _delete_group(run: Run, ec2: Any, change: plan.DeleteGroup) -> None:
    for _ in patience(run, "the security group still in use"):
        try:
            with unless_gone(run, "security group", change.id):
                ec2.delete_security_group(GroupId=change.id)
            return
        except ec2.exceptions.ClientError as error:
            if code(error) != "DependencyViolation":  # a terminated machine still uses it for a while
                raise


def _open_port(run: Run, ec2: Any, change: plan.OpenPort) -> None:
    with already("InvalidPermission.Duplicate"):
        ec2.authorize_security_group_ingress(**_rule(run, ec2, change))


def _close_port(run: Run, ec2: Any, change: plan.ClosePort) -> None:
    with already("InvalidPermission.NotFound"):
        ec2.revoke_security_group_ingress(**_rule(run, ec2, change))


def _close_rule(run: Run, ec2: Any, change: plan.CloseRule) -> None:
    rule = find.permission(change.rule.protocol, change.rule.first, change.rule.last, change.rule.source)
    with already("InvalidPermission.NotFound"):
        ec2.revoke_security_group_ingress(GroupId=_group_id(run, ec2), IpPermissions=[rule])


def _change_outward(
    run: Run, change_rules: Callable[..., Any], done: str, change: plan.LetOut | plan.HoldBack
) -> None:
    """All rules in one request; one by one where some of them are changed already, which EC2 refuses as a whole."""
    group = _group_id(run, run.cloud.client("ec2"))
    rules = [find.permission(each.protocol, each.first, each.last, each.source) for each in change.rules]
    with already(f"InvalidPermission.{done}"):
        change_rules(GroupId=group, IpPermissions=rules)
        return
    for each in rules:
        with already(f"InvalidPermission.{done}"):
            change_rules(GroupId=group, IpPermissions=[each])


def _rule(run: Run, ec2: Any, change: plan.OpenPort | plan.ClosePort) -> dict[str, Any]:
    permission = find.permission("tcp", change.port, change.port, change.network)
    return {"GroupId": _group_id(run, ec2), "IpPermissions": [permission]}


def _group_id(run: Run, ec2: Any) -> str:
    """The environment's group: the one that was made for it, or one from before such were remembered."""
    return str(memory.known(run.store, run.identity).get("group") or _listed_group(run, ec2))


def _listed_group(run: Run, ec2: Any) -> str:
    for _ in patience(run, "the new security group not listed"):
        for group in find.groups(ec2, find.of(run)):
            return str(group["GroupId"])
    raise AssertionError("CloudTooSlow was raised")


# --- machines -----------------------------------------------------------------------------------


def _create_machine(run: Run, ec2: Any, change: plan.CreateMachine, baked: Baked | None) -> str:
    number, request = str(change.number), _request(run, ec2, change, baked)
    token = launches.token(run.store, run.identity, number)
    try:
        launched = ec2.run_instances(MinCount=1, MaxCount=1, ClientToken=token, **request)
    except ec2.exceptions.ClientError as error:
        # the machine of this token was terminated, or was requested with other settings: launch a new one
        if code(error) not in ("IdempotentInstanceTerminated", "IdempotentParameterMismatch"):
            raise
        token = launches.token(run.store, run.identity, number, renew=True)
        launched = ec2.run_instances(MinCount=1, MaxCount=1, ClientToken=token, **request)
    id = str(launched["Instances"][0]["InstanceId"])
    memory.enter(run.store, run.identity, machine=id)
    return id


def _request(run: Run, ec2: Any, change: plan.CreateMachine, baked: Baked | None) -> dict[str, Any]:
    """The parameters of a new machine, for `RunInstances`."""
    tags, type = {**find.tags(run), **run.placement.tags(change.name)}, machine.size(run)
    image = images.described(ec2, (baked(run) if baked else None) or _bare_image(run, ec2, type))
    return {
        **machine.request(run.environment.infrastructure, image, type, _group_id(run, ec2), change.number),
        "KeyName": run.name,
        "UserData": _user_data(run.cloud.login_user, _deploy_key(run)),
        "TagSpecifications": [*_tagged("instance", tags), *_tagged("volume", tags)],
    }


def _bare_image(run: Run, ec2: Any, type: str) -> str:
    return images.named(run, ec2, type, say=run.console.say("infrastructure"))


def _deploy_key(run: Run) -> str:
    return secrets.ensure(run.cloud.client("ssm"), run.secrets_folder).deploy_key_public


def _user_data(name: str, public_key: str) -> str:
    user = {
        "name": name,
        "groups": "sudo",
        "sudo": "ALL=(ALL) NOPASSWD:ALL",
        "shell": "/bin/bash",
        "ssh_authorized_keys": [public_key],
    }
    return "#cloud-config\n" + yaml.safe_dump({"users": [user]})


def _end_machine(run: Run, ec2: Any, change: plan.EndMachine) -> None:
    with unless_gone(run, "instance", change.id):
        ec2.terminate_instances(InstanceIds=[change.id])
    for _ in patience(run, f"{change.id} not terminated"):
        try:
            answer = ec2.describe_instances(InstanceIds=[change.id])
        except ec2.exceptions.ClientError as error:
            if code(error) in NOT_FOUND_YET:
                return
            raise
        states = {each["State"]["Name"] for found in answer["Reservations"] for each in found["Instances"]}
        if states <= {"terminated"}:
            return


def settle(run: Run, say: Say, started: Collection[str] = ()) -> list[plan.Machine]:
    """Wait until no machine changes its state and those that were `started` run; then forget the launch tokens.

    Returns the machines. Raises MachineDied.
    """
    before = dict.fromkeys(started, "pending")
    for _ in patience(run, "machines still starting or stopping"):
        found = find.own(run)
        for gone in sorted(before.keys() - {each.id for each in found}):
            _alive(run.cloud.client("ec2"), gone, before[gone])
        before |= {each.id: each.state for each in found if each.state == "pending"}
        running = {each.id for each in found if each.state == "running"}
        moving = [each for each in found if each.state not in ("running", "stopped")]
        if not moving and running >= set(started):
            break
        for each in moving[:1]:
            say(f"waits for {each.id}: {each.state}")
    launches.forget(run.store, run.identity)
    return found


def _alive(ec2: Any, id: str, was: str) -> None:
    """Raise MachineDied if the cloud says that a machine has ended, and why."""
    # by filter: asked by id, EC2 may not yet know it
    answer = ec2.describe_instances(Filters=[{"Name": "instance-id", "Values": [id]}])
    for each in (each for reservation in answer["Reservations"] for each in reservation["Instances"]):
        if each["State"]["Name"] in ("shutting-down", "terminated"):
            reason = each.get("StateReason", {}).get("Message") or "the cloud gives no reason"
            raise MachineDied(id=id, state=was, reason=reason)


def stop(run: Run, id: str) -> None:
    """Stop a machine, and wait until it has stopped."""
    ec2 = run.cloud.client("ec2")
    ec2.stop_instances(InstanceIds=[id])
    for _ in patience(run, f"{id} not stopped"):
        found = find.machines(ec2, find.of(run))
        if any(each.id == id and each.state == "stopped" for each in found):
            return


def tag(run: Run, ids: Collection[str], tags: Mapping[str, str]) -> None:
    """Write tags to machines of the environment."""
    run.cloud.client("ec2").create_tags(Resources=sorted(ids), Tags=find.tag_list(tags))


# --- the name and the secrets -------------------------------------------------------------------


def _change_record(run: Run, action: str, change: plan.Point | plan.Repoint | plan.Unpoint) -> None:
    route53 = run.cloud.client("route53")
    record = {
        "Name": change.host_name,
        "Type": "A",
        "TTL": TTL,
        "ResourceRecords": [{"Value": address} for address in change.addresses],
    }
    # the limits of Route 53 are the account's, a few requests a second: ask seldom, and not all at once
    accepted = route53.change_resource_record_sets(
        HostedZoneId=zone.zone_id(run.cloud, change.zone),
        ChangeBatch={"Changes": [{"Action": action, "ResourceRecordSet": record}]},
    )["ChangeInfo"]
    # wait for INSYNC, or the first visitor gets a stale address
    for _ in patience(run, f"{change.host_name} not in sync", pause=run.cloud.dns_poll()):
        if route53.get_change(Id=accepted["Id"])["ChangeInfo"]["Status"] == "INSYNC":
            return


def _delete_record(run: Run, change: plan.Unpoint) -> None:
    """Route 53 deletes a record only with the addresses that it has: they may have changed since they were listed."""
    route53 = run.cloud.client("route53")
    for _ in patience(run, f"{change.host_name} not deleted"):
        try:
            return _change_record(run, "DELETE", change)
        except route53.exceptions.InvalidChangeBatch as error:
            if "not found" in str(error):
                return None
        if addresses := find.addresses(run.cloud, change.zone, change.host_name):
            change = dataclasses.replace(change, addresses=addresses)
    return None


def _delete_secret(ssm: Any, change: plan.DeleteSecret) -> None:
    with contextlib.suppress(ssm.exceptions.ParameterNotFound):
        ssm.delete_parameter(Name=change.name)


def _tagged(kind: str, tags: Mapping[str, str]) -> list[dict[str, Any]]:
    """The tags of a new resource, set as it is created: without them no later run would find it."""
    return [{"ResourceType": kind, "Tags": find.tag_list(tags)}]
