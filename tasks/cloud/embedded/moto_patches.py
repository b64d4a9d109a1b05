"""moto_patches: make moto as strict as AWS."""

from __future__ import annotations

import copy
import ipaddress
import json
from typing import Any

from moto.core.responses import ActionResult
from moto.core.types import Base64EncodedString
from moto.core.utils import utcnow
from moto.ec2.exceptions import EC2ClientError, InvalidPermissionNotFoundError
from moto.ec2.models import EC2Backend
from moto.ec2.models.amis import Ami
from moto.ec2.models.elastic_network_interfaces import NetworkInterface
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.instances import Instance
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.general import General
from moto.ec2.responses.instances import InstanceResponse
from moto.iam.exceptions import NotFoundException as IamNotFoundException
from moto.route53.exceptions import Route53ClientError
from moto.route53.models import Route53Backend
from moto.s3.exceptions import PreconditionFailed
from moto.s3.models import FakeBucket
from moto.s3.responses import S3Response
from moto.servicequotas.models import ServiceQuotasBackend

from tasks.cloud.embedded.instances import Instances, made_at

VCPUS = "L-1216C47A"
"""The code of the quota of running on-demand standard instances."""
DIES = "dies"
DEBIAN_GB = 8
"""The size of Debian's own image."""
KEY_WRONG = "Client.InvalidKMSKey.InvalidState: The KMS key provided is in an incorrect state"


def install(instances: Instances) -> None:
    """Patch moto for the life of this process."""
    _network(instances)
    _launches(instances)
    _lives(instances)
    _images(instances)
    _names_and_groups()
    _outward()
    _gateways()
    _records()
    _conditions()
    _quota(instances)
    _transport()


def _network(instances: Instances) -> None:
    """The default VPC is the only network, with a subnet in each zone; an instance's private address is its public one too."""

    def create_default_vpc(backend: Any) -> Any:
        vpc = backend.create_vpc(cidr_block=str(instances.subnet), is_default=True)
        for letter, part in zip("abc", instances.subnet.subnets(prefixlen_diff=2), strict=False):
            zone = f"{backend.region_name}{letter}"
            backend.create_subnet(vpc.id, cidr_block=str(part), availability_zone=zone)
        return vpc

    def assign(interface: Any) -> None:
        automatic = str(interface.public_ip_auto_assign).lower() == "true"
        interface.public_ip = interface.private_ip_address if automatic else None

    EC2Backend.create_default_vpc = create_default_vpc
    Subnet.get_available_subnet_ip = lambda subnet, instance: instances.free_address(subnet.cidr)
    Subnet.request_ip = lambda subnet, ip, instance: _accept_address(instances, ip)
    NetworkInterface.check_auto_public_ip = assign


def _accept_address(instances: Instances, address: str) -> None:
    taken = (each.private_ip for _, each in instances.all() if each.state != "terminated")
    if address in taken:
        raise EC2ClientError("InvalidIPAddress.InUse", f"Address {address} is in use.")


def _launches(instances: Instances) -> None:
    """RunInstances: idempotent, checked before anything is made, and pending until the host runs."""
    respond, run = InstanceResponse.run_instances, EC2Backend.run_instances
    protection: list[bool] = []  # of the request that is answered now: moto does not pass it on

    def run_once(
        backend: Any, image_id: str, count: int, user_data: Any, group_names: Any, **options: Any
    ) -> Any:
        request = repr((image_id, count, str(user_data), group_names, sorted(options.items(), key=str)))
        earlier = _launched_with(backend, options["client_token"])
        if earlier:
            return _same(earlier, request)
        _accept_launch(backend, image_id, {**options, "protected": True in protection})
        if options.get("instance_market_options") != "spot":
            _accept_cpus(instances, options["instance_type"], count)
        fate = instances.fate()
        if fate and fate != DIES:
            raise EC2ClientError(fate, f"{fate}: this launch was chosen to fail.")
        if not options.get("subnet_id") and not options.get("nics"):
            options["subnet_id"] = next(iter(backend.get_default_subnets().values())).id
        reservation = run(backend, image_id, count, user_data, group_names, **options)
        reservation.request = request
        for instance in reservation.instances:
            instance.security_groups = list(instance.nics[0].group_set)  # also those that its interface names
            if fate == DIES:  # as with a disk's key that may not be used: it never runs
                instances.change(instance, "shutting-down", KEY_WRONG)
            else:
                instances.change(instance, "pending")
        return reservation

    def with_protection(response: Any) -> Any:
        protected = response._get_bool_param("DisableApiTermination", False)
        protection.append(protected)
        try:
            result = respond(response)
        except IamNotFoundException:
            name = response._get_param("IamInstanceProfile.Name")
            text = f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
            raise EC2ClientError("InvalidParameterValue", text) from None
        finally:
            protection.clear()
        for instance in result.result.instances:
            if protected:
                instance.disable_api_termination = True
        return result

    EC2Backend.run_instances = run_once
    InstanceResponse.run_instances = with_protection


def _launched_with(backend: Any, token: str) -> Any:
    return next(
        (
            reservation
            for reservation in backend.reservations.values()
            if token != "ABCDE"  # moto's token for none  # noqa: S105
            and any(each.client_token == token for each in reservation.instances)
        ),
        None,
    )


def _same(reservation: Any, request: str) -> Any:
    if reservation.request != request:
        raise EC2ClientError(
            "IdempotentParameterMismatch", "The client token was used with other parameters."
        )
    if all(each.state in ("shutting-down", "terminated") for each in reservation.instances):
        raise EC2ClientError(
            "IdempotentInstanceTerminated", "The instance of this client token was terminated."
        )
    return reservation


def _accept_launch(backend: Any, image_id: str, options: dict[str, Any]) -> None:
    ami = backend.amis.get(image_id)
    if not ami:
        raise EC2ClientError("InvalidAMIID.NotFound", f"The image id '[{image_id}]' does not exist")
    if ami.state != "available":
        raise EC2ClientError("InvalidAMIID.Unavailable", f"The image {image_id} is {ami.state}")
    if options["instance_type"] not in INSTANCE_TYPES:
        raise EC2ClientError(
            "InvalidParameterValue", f"Invalid value '{options['instance_type']}' for InstanceType."
        )
    _accept_kind(backend, ami, options)
    if options.get("nics") and options["security_group_ids"]:
        text = "Network interfaces and an instance-level security groups may not be specified on the same request"
        raise EC2ClientError("InvalidParameterCombination", text)
    if options.get("key_name"):
        backend.describe_key_pairs(key_names=[options["key_name"]])
    subnets = {options.get("subnet_id"), *(each.get("SubnetId") for each in options.get("nics", ()))}
    if subnets - {None, *(each.id for each in backend.get_default_subnets().values())}:
        raise EC2ClientError("Unsupported", "Instances of this cloud are in its default subnets.")


def _accept_kind(backend: Any, ami: Any, options: dict[str, Any]) -> None:
    """Type and image have one architecture, the disk holds the image, and a spot instance has no protection."""
    known = INSTANCE_TYPES[options["instance_type"]]["ProcessorInfo"]["SupportedArchitectures"]
    if ami.architecture and ami.architecture not in known:  # moto notes none of an image that is registered
        text = (
            f"The architecture '{known[0]}' of the specified instance type does not match the architecture "
            f"'{ami.architecture}' of the specified AMI."
        )
        raise EC2ClientError("InvalidParameterValue", text)
    for each in options.get("block_device_mappings", ()):
        size = int(each["Ebs"]["VolumeSize"] or disk_gb(ami))
        if each["DeviceName"] == ami.root_device_name and size < disk_gb(ami):
            text = f"Volume of size {size}GB is smaller than snapshot '{ami.ebs_snapshot.id}', expect size >= {disk_gb(ami)}GB"
            raise EC2ClientError("InvalidBlockDeviceMapping", text)
    if options.get("instance_market_options") == "spot" and options["protected"]:
        text = "You can't specify DisableApiTermination for Spot Instances."
        raise EC2ClientError("InvalidParameterCombination", text)


def disk_gb(ami: Any) -> int:
    """The size of the disk that an image was made from."""
    return int(getattr(ami, "disk_gb", DEBIAN_GB))


def _accept_cpus(instances: Instances, kind: str, count: int) -> None:
    """The on-demand instances that would then run are within the quota."""
    there = [each for _, each in instances.all() if each.state in ("pending", "running")]
    alive = [each for each in there if each.lifecycle != "spot"]
    cpus = [
        INSTANCE_TYPES[each]["VCpuInfo"]["DefaultVCpus"]
        for each in (*(each.instance_type for each in alive), *count * [kind])
    ]
    if sum(cpus) > instances.quota():
        text = f"You have requested more vCPU capacity than your current vCPU limit of {instances.quota()} allows"
        raise EC2ClientError("VcpuLimitExceeded", text)


def _lives(instances: Instances) -> None:
    """Start, stop, reboot, terminate: only from the states that EC2 allows, and carried out on the host."""
    end = Instance.terminate

    def start(instance: Any) -> Any:
        previous = copy.copy(instance._state)
        if instance.state not in ("pending", "running"):
            _demand(instance, "started", "stopped")
            for interface in instance.nics.values():
                interface.start()
            instance.made_at, instance.launch_time = made_at(instance), utcnow()
            instances.change(instance, "pending")
        return previous

    def stop(instance: Any) -> Any:
        previous = copy.copy(instance._state)
        if instance.state not in ("stopping", "stopped"):
            _demand(instance, "stopped", "running")
            if instance.lifecycle == "spot":
                text = (
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated with a "
                    "one-time Spot Instance request. You can only stop Spot Instances associated with persistent ones."
                )
                raise EC2ClientError("UnsupportedOperation", text)
            for interface in instance.nics.values():
                interface.stop()
            instances.change(instance, "stopping", "Client.UserInitiatedShutdown: User initiated")
        return previous

    def terminate(instance: Any) -> Any:
        previous = copy.copy(instance._state)
        if instance.state not in ("shutting-down", "terminated"):
            end(instance)
            for interface in instance.nics.values():  # moto would keep them for ever
                instance.ec2_backend.enis.pop(interface.id, None)
            instances.change(instance, "shutting-down", "Client.UserInitiatedShutdown: User initiated")
        return previous

    def reboot(instance: Any) -> None:
        _demand(instance, "rebooted", "running")
        instances.reboot(instance)

    def console(response: Any) -> ActionResult:
        instance = response.ec2_backend.get_instance(response._get_param("InstanceId"))
        latest = response._get_bool_param("Latest", False)
        if latest and INSTANCE_TYPES[instance.instance_type].get("Hypervisor") != "nitro":
            text = "This instance type does not support retrieving the latest console logs."
            raise EC2ClientError("UnsupportedOperation", text)
        output = Base64EncodedString.from_raw_string(instances.console(instance.id, latest=latest)[-65536:])
        return ActionResult({"InstanceId": instance.id, "Timestamp": utcnow(), "Output": output})

    Instance.start, Instance.stop, Instance.reboot = start, stop, reboot
    Instance.terminate = terminate
    General.get_console_output = console


def _demand(instance: Any, verb: str, state: str) -> None:
    if instance.state != state:
        raise EC2ClientError(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is {instance.state} and cannot be {verb}.",
        )


def _images(instances: Instances) -> None:
    """CreateImage commits the host; DeregisterImage removes what it made."""
    create, deregister = EC2Backend.create_image, EC2Backend.deregister_image
    delete, respond = EC2Backend.delete_snapshot, AmisResponse.deregister_image
    described = Ami.block_device_mappings

    def create_image(
        backend: Any, instance_id: str, name: str, description: str, tag_specifications: Any
    ) -> Any:
        instance = backend.get_instance(instance_id)
        if instance.state not in ("running", "stopped"):
            _demand(instance, "imaged", "running")
        if any(ami.name == name for ami in backend.amis.values()):
            raise EC2ClientError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use")
        tags = {each["ResourceType"]: each["Tags"] for each in tag_specifications}
        of_image = [each for each in tag_specifications if each["ResourceType"] != "snapshot"]
        ami = create(backend, instance_id, name, description, of_image)
        for tag in tags.get("snapshot", ()):
            ami.ebs_snapshot.add_tag(tag["Key"], tag["Value"])
        ami.root_device_type = "ebs"
        ami.disk_gb = max(
            (volume.size for volume in _disks(backend, instance) if volume.size), default=DEBIAN_GB
        )
        instances.create_image(ami, instance_id)
        return ami

    def deregister_image(backend: Any, ami_id: str) -> None:
        if ami_id == instances.debian_ami:
            raise EC2ClientError("AuthFailure", f"Not authorized for image {ami_id}")
        deregister(backend, ami_id)
        instances.forget_image(ami_id)

    def with_snapshots(response: Any) -> Any:
        ami = response.ec2_backend.amis.get(response._get_param("ImageId"))
        result = respond(response)
        if ami and response._get_bool_param("DeleteAssociatedSnapshots", False):
            response.ec2_backend.snapshots.pop(ami.ebs_snapshot.id, None)
        return result

    def delete_snapshot(backend: Any, snapshot_id: str) -> Any:
        users = [ami.id for ami in backend.amis.values() if ami.ebs_snapshot.id == snapshot_id]
        if users:
            text = f"The snapshot {snapshot_id} is currently in use by {users[0]}"
            raise EC2ClientError("InvalidSnapshot.InUse", text)
        return delete(backend, snapshot_id)

    def mappings(ami: Any) -> Any:
        (root,) = described.fget(ami)
        return [{**root, "Ebs": {**root["Ebs"], "VolumeSize": disk_gb(ami)}}]

    Ami.block_device_mappings = property(mappings)
    EC2Backend.create_image, EC2Backend.deregister_image = create_image, deregister_image
    EC2Backend.delete_snapshot, AmisResponse.deregister_image = delete_snapshot, with_snapshots


def _disks(backend: Any, instance: Any) -> list[Any]:
    return [backend.volumes[each.volume_id] for each in instance.block_device_mapping.values()]


def _names_and_groups() -> None:
    delete, create = EC2Backend._delete_security_group, Route53Backend.create_hosted_zone
    make_rule = SecurityGroupRule.__init__
    of_instance = EC2Backend.modify_instance_security_groups
    of_interface = EC2Backend.modify_network_interface_attribute

    def delete_group(backend: Any, vpc_id: str | None, group_id: str) -> None:
        for reservation in backend.reservations.values():
            for instance in reservation.instances:
                groups = {group.id for group in instance.security_groups}
                if instance.state != "terminated" and group_id in groups:
                    text = f"resource {group_id} has a dependent object"
                    raise EC2ClientError("DependencyViolation", text)
        delete(backend, vpc_id, group_id)

    def create_zone(backend: Any, *arguments: Any, **named: Any) -> Any:
        reference = named.get("caller_reference")
        if any(reference == zone.caller_reference for zone in backend.zones.values()):
            raise Route53ClientError("HostedZoneAlreadyExists", "The hosted zone already exists.")
        return create(backend, *arguments, **named)

    def canonical(rule: Any, *arguments: Any, **named: Any) -> None:
        make_rule(rule, *arguments, **named)
        for kind in {"CidrIp", "CidrIpv6"} & rule.ip_range.keys():
            network = str(ipaddress.ip_network(rule.ip_range[kind], strict=False))
            rule.ip_range = {**rule.ip_range, kind: network}

    def modify_instance(backend: Any, instance_id: str, groups: list[str]) -> Any:
        instance = of_instance(backend, instance_id, groups)
        for interface in instance.nics.values():
            interface._group_set = list(instance.security_groups)
        return instance

    def modify_interface(
        backend: Any, eni_id: str, group_ids: list[str], *arguments: Any, **named: Any
    ) -> None:
        of_interface(backend, eni_id, group_ids, *arguments, **named)
        interface = backend.get_network_interface(eni_id)
        if group_ids and interface.instance:
            interface.instance.security_groups = list(interface._group_set)

    EC2Backend.modify_instance_security_groups = modify_instance
    EC2Backend.modify_network_interface_attribute = modify_interface
    EC2Backend._delete_security_group = delete_group
    SecurityGroupRule.__init__ = canonical
    Route53Backend.create_hosted_zone = create_zone


def _outward() -> None:
    """What a group lets out by IPv6 is held back too, where the network has none."""
    revoke = EC2Backend.revoke_security_group_egress

    def hold_back(
        backend: Any, *, group_name_or_id: str, ip_ranges: list[dict[str, str]], **named: Any
    ) -> None:
        group = backend.get_security_group_by_name_or_id(group_name_or_id)
        six = [each for each in ip_ranges if "CidrIpv6" in each]
        where = [named["ip_protocol"], group.group_id, named["from_port"], named["to_port"]]
        asked = list(backend._iterate_security_rules(*where, six, [], [], is_egress=True))
        ids = [each.id for each in group.egress_rules if each in asked]
        if len(ids) < len(six):
            raise InvalidPermissionNotFoundError
        rest = [each for each in ip_ranges if each not in six]
        revoke(backend, group_name_or_id=group_name_or_id, ip_ranges=rest, **named)
        if ids:
            revoke(
                backend,
                group_name_or_id=group_name_or_id,
                ip_ranges=[],
                **{**named, "security_rule_ids": ids},
            )

    EC2Backend.revoke_security_group_egress = hold_back


def _gateways() -> None:
    """A route table leads to one endpoint of a service."""
    create, modify = EC2Backend.create_vpc_endpoint, EC2Backend.modify_vpc_endpoint

    def accept(backend: Any, id: str, service: str, tables: list[str]) -> None:
        for each in backend.vpc_end_points.values():
            there = each.id != id and each.service_name == service and each.state == "available"
            if there and (twice := {*each.route_table_ids} & {*tables}):
                text = (
                    f"route table {min(twice)} already has a route with destination-prefix-list-id {service}"
                )
                raise EC2ClientError("RouteAlreadyExists", text)

    def create_one(backend: Any, **named: Any) -> Any:
        accept(backend, "", named["service_name"], named["route_table_ids"])
        return create(backend, **named)

    def modify_one(backend: Any, **named: Any) -> None:
        (found,) = backend.describe_vpc_endpoints([named["vpc_id"]])
        accept(backend, found.id, found.service_name, named["add_route_tables"])
        modify(backend, **named)

    EC2Backend.create_vpc_endpoint, EC2Backend.modify_vpc_endpoint = create_one, modify_one


def _records() -> None:
    """A record is deleted only with what it has, and a CNAME is alone at its name."""
    change = Route53Backend.change_resource_record_sets

    def judged(backend: Any, zone_id: str, changes: list[dict[str, Any]]) -> None:
        zone = backend.get_hosted_zone(zone_id)
        there = {(each.name, each.type): each for each in zone.rrsets}
        for each in changes:
            record = each["ResourceRecordSet"]
            name, kind = f"{record['Name'].rstrip('.')}.", record["Type"]
            found, wrong = there.get((name, kind)), ""
            if each["Action"] == "DELETE":
                values = {value["Value"] for value in record.get("ResourceRecords", ())}
                said = f"Tried to delete resource record set [name='{name}', type='{kind}'] but"
                if not found:
                    wrong = f"{said} it was not found"
                elif (str(found.ttl), set(found.records)) != (str(record.get("TTL")), values):
                    wrong = f"{said} the values provided do not match the current values"
            elif any(at == name and "CNAME" in (kind, one) and kind != one for at, one in there):
                other = next(one for at, one in there if at == name)
                wrong = f"RRSet of type {kind} with DNS name {name} is not permitted because a conflicting RRSet of type {other}"
            if wrong:
                raise Route53ClientError("InvalidChangeBatch", f"[{wrong}]")
        change(backend, zone_id, changes)

    Route53Backend.change_resource_record_sets = judged


def _conditions() -> None:
    """If-Match and If-None-Match hold for copies and finished uploads too."""
    copy_object, post = S3Response.copy_object, S3Response._key_response_post

    def copy_checked(response: Any) -> Any:
        present = response.backend.get_object(response.bucket_name, response.parse_key_name())
        _match(response, present)
        if response.headers.get("If-None-Match") == "*" and present is not None:
            raise PreconditionFailed("If-None-Match")
        return copy_object(response)

    def post_checked(response: Any, request: Any, body: Any, bucket: str, query: Any, key: str) -> Any:
        present = response.backend.get_object(response.bucket_name, key)
        finished = present and present.multipart and [present.multipart.id] == query.get("uploadId")
        if not finished:  # a finished one is the same request again
            _match(response, present)
        return post(response, request, body, bucket, query, key)

    S3Response.copy_object, S3Response._key_response_post = copy_checked, post_checked


def _quota(instances: Instances) -> None:
    """The limit that launches are held to is the one that is told."""
    get = ServiceQuotasBackend.get_service_quota

    def told(backend: Any, service_code: str, quota_code: str) -> dict[str, Any]:
        if (service_code, quota_code) != ("ec2", VCPUS):
            return dict(get(backend, service_code, quota_code))
        return {"ServiceCode": "ec2", "QuotaCode": VCPUS, "Value": float(instances.quota()), "Unit": "None"}

    ServiceQuotasBackend.get_service_quota = told


def _transport() -> None:
    """A rule about plain HTTP does not hold: loopback stands for TLS. moto, which knows no conditions, would deny everything."""
    judge = FakeBucket.get_permission

    def permission(bucket: Any, action: str, resource: str) -> Any:
        told = json.loads(bucket.policy or "{}").get("Statement", [])
        rules = [each for each in told if each.get("Condition") != {"Bool": {"aws:SecureTransport": "false"}}]
        judged = copy.copy(bucket)
        judged.policy = json.dumps({"Version": "2012-10-17", "Statement": rules}).encode() if rules else None
        return judge(judged, action, resource)

    FakeBucket.get_permission = permission


def _match(response: Any, present: Any) -> None:
    wanted = response.headers.get("If-Match")
    if wanted and (present is None or wanted.strip('"') != present.etag.strip('"')):
        raise PreconditionFailed("If-Match")
