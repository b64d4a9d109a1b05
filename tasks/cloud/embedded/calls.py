"""calls: which actions on which resources a call to the API is, with the condition keys that AWS knows of it.

AWS's own list is the service authorization reference. What is not here is its action on `*`: so a policy that names
resources does not allow it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.etree import ElementTree

from moto.ec2.models import ec2_backends

from tasks.cloud.embedded import principals

Values = str | list[str]


@dataclass(frozen=True, kw_only=True)
class Call:
    """A request as a service reads it."""

    service: str
    action: str
    """As the client names it; empty for S3 and Route 53, where method and path say it."""
    method: str = "POST"
    path: str = "/"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """By lower-case names."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of a form or of JSON."""
    body: bytes = b""
    account: str
    region: str

    def arn(self, rest: str, *, service: str = "", region: bool = True, account: bool = True) -> str:
        """An ARN of this account and region."""
        places = (self.region if region else "", self.account if account else "")
        return ":".join(("arn", "aws", service or self.service, *places, rest))


@dataclass(frozen=True, kw_only=True)
class Need:
    """One action on one resource."""

    action: str
    resource: str = "*"
    context: Mapping[str, Values] = field(default_factory=dict)


def form(body: bytes) -> dict[str, str]:
    """The parameters of a form."""
    return {
        name: values[0]
        for name, values in parse_qs(body.decode("utf-8", "replace"), keep_blank_values=True).items()
    }


def needs(call: Call) -> list[Need]:
    """What the caller must be allowed to do."""
    known = {"s3": _s3, "ec2": _ec2, "route53": _route53, "ssm": _ssm, "iam": _iam, "sts": _sts}
    found = known.get(call.service, _unknown)(call)
    return list(found)


def _unknown(call: Call) -> Iterable[Need]:
    return [Need(action=f"{call.service}:{call.action}")]


# --- S3 -------------------------------------------------------------------------------------------

OF_BUCKET = {
    "versioning": "BucketVersioning",
    "tagging": "BucketTagging",
    "policy": "BucketPolicy",
    "encryption": "EncryptionConfiguration",
    "lifecycle": "LifecycleConfiguration",
    "publicAccessBlock": "BucketPublicAccessBlock",
    "ownershipControls": "BucketOwnershipControls",
    "location": "BucketLocation",
    "acl": "BucketAcl",
    "cors": "BucketCORS",
    "object-lock": "BucketObjectLockConfiguration",
    "notification": "BucketNotification",
    "logging": "BucketLogging",
}
"""What is asked of a bucket by a word in the query."""
OF_OBJECT = {"tagging": "ObjectTagging", "acl": "ObjectAcl", "retention": "ObjectRetention"}
VERBS = {"GET": "Get", "HEAD": "Get", "PUT": "Put", "DELETE": "Delete"}
ASKED = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys"}
SENT = {"x-amz-acl": "s3:x-amz-acl", "x-amz-server-side-encryption": "s3:x-amz-server-side-encryption"}
DELETED_BY_PUT = ("lifecycle", "encryption", "publicAccessBlock", "ownershipControls", "tagging", "cors")
"""Removing these needs the right to put them."""


def bucket_and_key(path: str) -> tuple[str, str]:
    """Both parts of a path."""
    bucket, _, key = unquote(path).lstrip("/").partition("/")
    return bucket, key


def xml(body: bytes) -> ElementTree.Element:
    """A body of XML, from somebody who has a key of this cloud."""
    return ElementTree.fromstring(body)  # noqa: S314


def batch(body: bytes) -> list[str]:
    """The keys of a batch delete."""
    return [each.text or "" for each in xml(body).iterfind("./{*}Object/{*}Key")]


def list_bucket(call: Call) -> Need:
    """The right without which a missing object is a denied one."""
    return Need(action="s3:ListBucket", resource=f"arn:aws:s3:::{bucket_and_key(call.path)[0]}")


def delete_object(bucket: str, key: str) -> Need:
    """The right to delete one object of a batch."""
    return Need(action="s3:DeleteObject", resource=f"arn:aws:s3:::{bucket}/{key}")


def _s3(call: Call) -> Iterator[Need]:
    bucket, key = bucket_and_key(call.path)
    if not bucket:
        yield Need(action="s3:ListAllMyBuckets")
        return
    arn = f"arn:aws:s3:::{bucket}"
    if key:
        yield from _of_object(call, f"{arn}/{key}")
        return
    if call.method == "POST" and "delete" in call.query:
        return  # each object is judged by itself
    yield Need(action=f"s3:{_on_bucket(call)}", resource=arn, context=_said(call))


def _on_bucket(call: Call) -> str:
    for word, name in OF_BUCKET.items():
        if word in call.query:
            verb = VERBS.get(call.method, call.method)
            return f"{'Put' if verb == 'Delete' and word in DELETED_BY_PUT else verb}{name}"
    if call.method in ("PUT", "DELETE"):
        return {"PUT": "CreateBucket", "DELETE": "DeleteBucket"}[call.method]
    listed = {"versions": "ListBucketVersions", "uploads": "ListBucketMultipartUploads"}
    return next((name for word, name in listed.items() if word in call.query), "ListBucket")


def _of_object(call: Call, arn: str) -> Iterator[Need]:
    version = "Version" if "versionId" in call.query else ""
    context = _said(call)
    for word, name in OF_OBJECT.items():
        if word in call.query:
            verb = VERBS.get(call.method, call.method)
            named = name.replace("Object", f"Object{version}")
            yield Need(action=f"s3:{verb}{named}", resource=arn, context=context)
            return
    if "uploadId" in call.query and call.method in ("GET", "DELETE"):
        name = "ListMultipartUploadParts" if call.method == "GET" else "AbortMultipartUpload"
        yield Need(action=f"s3:{name}", resource=arn)
        return
    if call.method in ("PUT", "POST"):
        yield Need(action="s3:PutObject", resource=arn, context=context)
        if "x-amz-tagging" in call.headers:
            yield Need(action="s3:PutObjectTagging", resource=arn)
        if source := call.headers.get("x-amz-copy-source"):
            path = unquote(source).lstrip("/").partition("?")[0]
            yield Need(action="s3:GetObject", resource=f"arn:aws:s3:::{path}")
        return
    yield Need(
        action=f"s3:{VERBS.get(call.method, call.method)}Object{version}", resource=arn, context=context
    )


def _said(call: Call) -> dict[str, Values]:
    asked = {key: call.query[name] for name, key in ASKED.items() if name in call.query}
    sent = {key: call.headers[name] for name, key in SENT.items() if name in call.headers}
    version = {"s3:VersionId": call.query["versionId"]} if "versionId" in call.query else {}
    return {**asked, **sent, **version}


# --- EC2 ------------------------------------------------------------------------------------------

KINDS = {
    "i": "instance",
    "sg": "security-group",
    "key": "key-pair",
    "vol": "volume",
    "ami": "image",
    "snap": "snapshot",
    "subnet": "subnet",
    "vpc": "vpc",
    "eni": "network-interface",
    "lt": "launch-template",
}
"""Kinds of resources, by the beginning of their ids."""
WITHOUT_ACCOUNT = ("image", "snapshot")
ON = {
    # an action: the parameters that name what it is done to
    "TerminateInstances": ("InstanceId",),
    "StartInstances": ("InstanceId",),
    "StopInstances": ("InstanceId",),
    "RebootInstances": ("InstanceId",),
    "GetConsoleOutput": ("InstanceId",),
    "DescribeInstanceAttribute": ("InstanceId",),
    "ModifyInstanceAttribute": ("InstanceId",),
    "ModifyInstanceMetadataOptions": ("InstanceId",),
    "AuthorizeSecurityGroupIngress": ("GroupId", "GroupName"),
    "RevokeSecurityGroupIngress": ("GroupId", "GroupName"),
    "AuthorizeSecurityGroupEgress": ("GroupId",),
    "RevokeSecurityGroupEgress": ("GroupId",),
    "DeleteSecurityGroup": ("GroupId", "GroupName"),
    "DeleteKeyPair": ("KeyPairId", "KeyName"),
    "DeleteVolume": ("VolumeId",),
    "DeregisterImage": ("ImageId",),
    "DeleteSnapshot": ("SnapshotId",),
}
MAKES = {
    # an action: what it makes, which the request may tag
    "RunInstances": ("instance", "volume", "network-interface"),
    "CreateSecurityGroup": ("security-group",),
    "ImportKeyPair": ("key-pair",),
    "CreateKeyPair": ("key-pair",),
    "CreateVolume": ("volume",),
    "CreateImage": ("image", "snapshot"),
}


def _ec2(call: Call) -> Iterator[Need]:
    action, backend = call.action, ec2_backends[call.account][call.region]
    if action in ("CreateTags", "DeleteTags"):
        named = _tag_context(_tags_at(call.values, ""))
        for id in _listed(call.values, "ResourceId"):
            yield _on(call, backend, action, id, named)
    elif action in MAKES:
        yield from _makes(call, backend)
    elif action in ON:
        context = _attribute(call) if action == "ModifyInstanceAttribute" else {}
        for id in _named(call.values, ON[action]):
            yield _on(call, backend, action, id, context)
    else:
        yield Need(action=f"ec2:{action}")


def _makes(call: Call, backend: Any) -> Iterator[Need]:
    asked = _specifications(call.values)
    for kind in MAKES[call.action]:
        name = call.values.get("KeyName", "*") if kind == "key-pair" else "*"
        own = _machine(call, kind) if call.action == "RunInstances" else {}
        context = {**_tag_context(asked.get(kind, {})), **own}
        yield Need(action=f"ec2:{call.action}", resource=_arn(call, kind, name), context=context)
    for id in _used(call, backend):
        yield _on(call, backend, call.action, id)
    for kind, tags in asked.items():
        context = {**_tag_context(tags), "ec2:CreateAction": call.action}
        yield Need(action="ec2:CreateTags", resource=_arn(call, kind, "*"), context=context)
    if profile := call.values.get("IamInstanceProfile.Arn") or call.values.get("IamInstanceProfile.Name"):
        passed: dict[str, Values] = {"iam:PassedToService": "ec2.amazonaws.com"}
        roles = principals.profile_roles(call.account, profile) or ["*"]
        for arn in roles:
            yield Need(action="iam:PassRole", resource=arn, context=passed)


def _machine(call: Call, kind: str) -> dict[str, Values]:
    """What is known of a machine before it is made."""
    if kind != "instance":
        return {}
    told = {
        "ec2:InstanceType": call.values.get("InstanceType", "m1.small"),
        "ec2:MetadataHttpTokens": call.values.get("MetadataOptions.HttpTokens", "optional"),
    }
    profile = call.values.get("IamInstanceProfile.Arn")
    return {**told, **({"ec2:InstanceProfile": profile} if profile else {})}


def _used(call: Call, backend: Any) -> Iterator[str]:
    """What exists and is used by what is made: by ids, a key pair by its name."""
    values = call.values
    if call.action == "CreateImage":
        yield values.get("InstanceId", "")
    elif call.action == "CreateSecurityGroup":
        yield values.get("VpcId") or next(
            (each.id for each in backend.vpcs.values() if each.is_default), "vpc-"
        )
    elif call.action == "RunInstances":
        yield values.get("ImageId", "")
        if "KeyName" in values:
            yield f"key-pair/{values['KeyName']}"
        if template := values.get("LaunchTemplate.LaunchTemplateId"):
            yield template
        interfaces = {name: each for name, each in values.items() if name.startswith("NetworkInterface.")}
        subnets = [each for name, each in interfaces.items() if name.endswith(".SubnetId")]
        groups = [each for name, each in interfaces.items() if ".SecurityGroupId" in name]
        default = [each.id for each in backend.get_default_subnets().values()][:1]
        yield from [values["SubnetId"]] if "SubnetId" in values else subnets or default
        groups += [*_listed(values, "SecurityGroupId"), *_listed(values, "SecurityGroup")]
        yield from groups or ["default"]


def _on(call: Call, backend: Any, action: str, id: str, context: Mapping[str, Values] | None = None) -> Need:
    """An action on something that exists, or is said to, with its tags."""
    kind, name, tags = _known(backend, action, id)
    held: dict[str, Values] = {}
    for key, value in tags.items():
        held |= {f"aws:ResourceTag/{key}": value, f"ec2:ResourceTag/{key}": value}
    if kind == "image" and (ami := backend.amis.get(id)):
        held |= {"ec2:Owner": ami.owner_id, "ec2:Public": str(bool(ami.is_public)).lower()}
    if kind == "instance" and (instance := backend.get_instance_by_id(id)):
        held["ec2:InstanceType"] = instance.instance_type
    return Need(action=f"ec2:{action}", resource=_arn(call, kind, name), context={**held, **(context or {})})


def _known(backend: Any, action: str, id: str) -> tuple[str, str, dict[str, str]]:
    """Kind, name and tags of a resource, which is named by its id or, of some kinds, by its name."""
    if id.startswith("key-pair/") or "KeyPair" in action:
        pairs = backend.key_pairs.values()
        found = next(
            (each for each in pairs if id.removeprefix("key-pair/") in (each.key_name, each.id)), None
        )
        name = found.key_name if found else id.removeprefix("key-pair/")
        return "key-pair", name, _tags_of(backend, found.id) if found else {}
    kind = KINDS.get(id.partition("-")[0], "") if "-" in id else ""
    if kind == "key-pair":
        found = next((each for each in backend.key_pairs.values() if each.id == id), None)
        return kind, found.key_name if found else id, _tags_of(backend, id)
    if not kind or (kind == "security-group" and not re.fullmatch(r"sg-[0-9a-f]+", id)):
        found = backend.get_security_group_by_name_or_id(id)
        return "security-group", found.id if found else id, _tags_of(backend, found.id) if found else {}
    return kind, id, _tags_of(backend, id) if _exists(backend, kind, id) else {}


def _exists(backend: Any, kind: str, id: str) -> bool:
    """Whether a resource is there still: moto keeps the tags of some that are not."""
    kept = {"image": backend.amis, "snapshot": backend.snapshots, "volume": backend.volumes}
    if kind == "security-group":
        return backend.get_security_group_from_id(id) is not None
    return id in kept.get(kind, (id,))


def _tags_of(backend: Any, id: str) -> dict[str, str]:
    return dict(backend.tags.get(id, {}))


def _arn(call: Call, kind: str, name: str) -> str:
    return call.arn(f"{kind}/{name}", account=kind not in WITHOUT_ACCOUNT)


def _attribute(call: Call) -> dict[str, Values]:
    """The attribute that is changed, and its new value."""
    found: dict[str, Values] = {}
    for name, value in call.values.items():
        attribute = name.removesuffix(".Value")
        if attribute != name:
            found |= {"ec2:Attribute": attribute, f"ec2:Attribute/{attribute}": value}
    if "Attribute" in call.values:
        attribute = call.values["Attribute"][:1].upper() + call.values["Attribute"][1:]
        found |= {"ec2:Attribute": attribute, f"ec2:Attribute/{attribute}": call.values.get("Value", "")}
    return found


def _named(values: Mapping[str, str], names: Iterable[str]) -> list[str]:
    """What the first of the parameters names that is given; a resource of no name if none is."""
    for name in names:
        if found := _listed(values, name):
            return found
    return [""]


def _listed(values: Mapping[str, str], name: str) -> list[str]:
    """A parameter's values: `Name`, or `Name.1`, `Name.2` ..."""
    numbered = re.compile(rf"{re.escape(name)}(\.\d+)?")
    return [value for each, value in values.items() if numbered.fullmatch(each)]


def _specifications(values: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags that are asked for, by the kind of what will have them."""
    found: dict[str, dict[str, str]] = {}
    for name, kind in values.items():
        if number := re.fullmatch(r"TagSpecification\.(\d+)\.ResourceType", name):
            found.setdefault(kind, {}).update(_tags_at(values, f"TagSpecification.{number[1]}."))
    return found


def _tags_at(values: Mapping[str, str], prefix: str) -> dict[str, str]:
    keys = re.compile(rf"{re.escape(prefix)}Tag\.(\d+)\.Key")
    return {
        value: values.get(f"{prefix}Tag.{number[1]}.Value", "")
        for name, value in values.items()
        if (number := keys.fullmatch(name))
    }


def _tag_context(tags: Mapping[str, str]) -> dict[str, Values]:
    asked: dict[str, Values] = {f"aws:RequestTag/{key}": value for key, value in tags.items()}
    return {**asked, "aws:TagKeys": [*tags]} if tags else asked


# --- Route 53, Systems Manager, IAM, STS ------------------------------------------------------------

ROUTES = (
    # a path, and the action of each method
    (r"/hostedzonesbyname", {"GET": "ListHostedZonesByName"}),
    (r"/hostedzone", {"GET": "ListHostedZones", "POST": "CreateHostedZone"}),
    (r"/hostedzone/([^/]+)/rrset", {"GET": "ListResourceRecordSets", "POST": "ChangeResourceRecordSets"}),
    (r"/hostedzone/([^/]+)", {"GET": "GetHostedZone", "DELETE": "DeleteHostedZone", "POST": "UpdateHostedZoneComment"}),
    (r"/change/([^/]+)", {"GET": "GetChange"}),
    (r"/tags/hostedzone/([^/]+)", {"GET": "ListTagsForResource", "POST": "ChangeTagsForResource"}),
)  # fmt: skip


def _route53(call: Call) -> Iterator[Need]:
    path = call.path.partition("/2013-04-01")[2].rstrip("/")
    for pattern, actions in ROUTES:
        found = re.fullmatch(pattern, path)
        if found and call.method in actions:
            kind = "change" if path.startswith("/change/") else "hostedzone"
            resource = f"arn:aws:route53:::{kind}/{found[1]}" if found.groups() else "*"
            action = actions[call.method]
            context = _records(call.body) if action == "ChangeResourceRecordSets" else {}
            yield Need(action=f"route53:{action}", resource=resource, context=context)
            return
    yield Need(action=f"route53:{call.method}{path}")


def _records(body: bytes) -> dict[str, Values]:
    """The names, kinds and actions of a batch of changes."""
    changes = xml(body)
    texts: dict[str, Sequence[str]] = {
        name: [each.text or "" for each in changes.iterfind(f".//{{*}}Change/{path}")]
        for name, path in {
            "Names": "{*}ResourceRecordSet/{*}Name",
            "Types": "{*}ResourceRecordSet/{*}Type",
            "Actions": "{*}Action",
        }.items()
    }
    names = [each.lower().removesuffix(".").replace("*", r"\052") for each in texts["Names"]]
    key = "route53:ChangeResourceRecordSets"
    return {
        f"{key}NormalizedRecordNames": list(dict.fromkeys(names)),
        f"{key}RecordTypes": list(dict.fromkeys(texts["Types"])),
        f"{key}Actions": list(dict.fromkeys(texts["Actions"])),
    }


def _ssm(call: Call) -> Iterator[Need]:
    values = call.values
    names = [values[name] for name in ("Name", "Path", "ResourceId") if isinstance(values.get(name), str)]
    names += values.get("Names", ())
    tags = {each["Key"]: each["Value"] for each in values.get("Tags", ())}
    for name in [] if call.action == "DescribeParameters" else names:
        resource = call.arn(f"parameter/{name.lstrip('/')}")
        yield Need(action=f"ssm:{call.action}", resource=resource, context=_tag_context(tags))
        if tags and call.action == "PutParameter":
            yield Need(action="ssm:AddTagsToResource", resource=resource, context=_tag_context(tags))
    if call.action == "DescribeParameters" or not names:
        yield Need(action=f"ssm:{call.action}")


def _iam(call: Call) -> Iterator[Need]:
    named = {
        "RoleName": "role",
        "UserName": "user",
        "GroupName": "group",
        "InstanceProfileName": "instance-profile",
    }
    for name, kind in named.items():
        if name in call.values:
            arn = f"arn:aws:iam::{call.account}:{kind}/{call.values[name]}"
            yield Need(action=f"iam:{call.action}", resource=arn)
            return
    arns = [call.values[name] for name in ("PolicyArn", "OpenIDConnectProviderArn") if name in call.values]
    yield Need(action=f"iam:{call.action}", resource=arns[0] if arns else "*")


def _sts(call: Call) -> Iterator[Need]:
    if call.action != "GetCallerIdentity":  # nobody needs a right to be told who he is
        resource = call.values.get("RoleArn", "*")
        context: dict[str, Values] = {}
        if "RoleSessionName" in call.values:
            context["sts:RoleSessionName"] = call.values["RoleSessionName"]
        if "ExternalId" in call.values:
            context["sts:ExternalId"] = call.values["ExternalId"]
        yield Need(action=f"sts:{call.action}", resource=resource, context=context)
