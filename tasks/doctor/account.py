"""account: looks for what a first release needs of the account: each check is told what it needs, and changes nothing."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from tasks import endpoints, mail, search
from tasks.bootstrap import s3_endpoint, steps
from tasks.bucket import create
from tasks.bucket.store import Store
from tasks.cloud.caller import Caller
from tasks.cloud.errors import code
from tasks.cloud.interface import AccountWrong, Cloud
from tasks.doctor.finding import Finding
from tasks.infrastructure import images, machine, secrets, zone
from tasks.infrastructure.delegation import missing
from tasks.infrastructure.plan import Machine
from tasks.nearest import meant
from tasks.settings import is_local
from tasks.tarball import signature

if TYPE_CHECKING:
    from tasks.run import Run

STANDARD = ("a", "c", "d", "h", "i", "im", "is", "m", "r", "t", "z")
"""The families of instances that share one quota, which a release mostly meets; a type begins with its family's letters."""
QUOTA = {"ServiceCode": "ec2", "QuotaCode": "L-1216C47A"}
"""Service Quotas' name of it: running on-demand standard instances, in vCPUs, for a region."""


def region(name: str, known: Collection[str]) -> str | Finding:
    """Whether there is such a region."""
    if not known or name in known:
        return name
    sentence = f"pipeline.yml: region: {name} is none that the SDK knows ({meant(name, known)}".rstrip()
    return Finding(sentence=f"{sentence})".replace(" ()", ""), remedy="$EDITOR pipeline.yml")


def credentials(ask: Callable[[], Caller], region: str) -> str | Finding:
    """Who the credentials are for."""
    try:
        return ask().arn
    except Exception as error:
        if not hasattr(error, "response") or code(error) not in ("InvalidClientTokenId", "OptInRequired"):
            raise
        return Finding(
            sentence=f"AWS does not accept these credentials in {region}: they are wrong, or the account has not enabled the region",
            remedy="aws sts get-caller-identity --region us-east-1",
        )


def pinned(caller: Caller, account: str) -> str | Finding:
    """Whether the settings name the account. Raises AccountWrong."""
    if not account:
        return Finding(
            sentence=f"the settings name no account (account), so that credentials for another one than {caller.account} would change that",
            remedy=f"echo \"account: '{caller.account}'\" >> pipeline.yml",
        )
    if account != caller.account:
        raise AccountWrong(found=caller.account, wanted=account)
    return account


def dns_zone(cloud: Cloud, name: str, *, made_at_first_use: bool) -> str | Finding:
    """Whether the account has the public zone. Raises ZoneMissing for one that the pipeline does not make."""
    if id := zone.zone_id(cloud, name):
        return f"{name} ({id})"
    if not (made_at_first_use and is_local(name)):
        raise zone.ZoneMissing(zone=name)
    return f"{name}, which the first release makes"


def delegation(cloud: Cloud, name: str, ask: Callable[[str], Collection[str]]) -> str | Finding:
    """Whether the parent of the zone names its name servers. `ask`: the name servers that DNS has for a name."""
    if is_local(name):
        return f"{name} needs none: every machine resolves it by itself"
    try:
        lacks = missing(cloud, name, ask)
    except OSError as error:
        return Finding(sentence=f"DNS does not answer, of {name}: {error}", remedy=f"dig NS {name}")
    if lacks:
        return Finding(sentence=lacks, remedy=f"dig NS {name}")
    return ", ".join(zone.name_servers(cloud, name))


def bucket(store: Store, project: str, *, made_at_first_use: bool) -> str | Finding:
    """Whether the bucket is there and configured. Raises BucketForbidden for a name that somebody else has."""
    if create.bucket_exists(store, project):
        return store.bucket
    if made_at_first_use:
        return f"{store.bucket}, which the first release makes"
    raise create.NotBootstrapped(bucket=store.bucket)


def search_password(run: Run, ssm: Any, user: str) -> str:
    """Whether the password of the search engine's user was brought. Raises SearchPasswordMissing."""
    name = f"{run.secrets_folder}/search_password"
    search.password(run, name if name in secrets.names(ssm, run.secrets_folder) else "")
    return f"of {user}"


def relay_password(run: Run, ssm: Any, user: str) -> str:
    """Whether the password of the user who logs in to the relay of mail was brought. Raises RelayPasswordMissing."""
    name = f"{run.secrets_folder}/relay_password"
    mail.relay_password(run, name if name in secrets.names(ssm, run.secrets_folder) else "")
    return f"of {user}"


def endpoint_passwords(run: Run, ssm: Any) -> str:
    """Whether the passwords of services elsewhere were brought. Raises EndpointPasswordMissing."""
    known = secrets.names(ssm, run.secrets_folder)
    endpoints.passwords(run, lambda name: name if f"{run.secrets_folder}/{name}" in known else "")
    return f"of {', '.join(map(str, endpoints.of(run)))}"


def quota(ec2: Any, quotas: Any, region: str, wanted: Mapping[str, int]) -> str | Finding:
    """Whether the machines that are still to be made are within the account's limit. `wanted`: their number by type."""
    cpus = _cpus(ec2, wanted)
    more = sum(number * cpus[kind] for kind, number in wanted.items() if is_standard(kind))
    if not more:
        return "no machine is to be made that counts"
    used = _running(ec2)
    now = sum(number * each for kind, each in _cpus(ec2, used).items() if (number := used[kind]))
    most = int(quotas.get_service_quota(**QUOTA)["Quota"]["Value"])
    if now + more <= most:
        return f"{more} more vCPUs, {now} of {most} in use"
    return Finding(
        sentence=f"{more} more vCPUs are wanted, and {now} of {most} are in use in {region} ({QUOTA['QuotaCode']})",
        remedy=f"aws service-quotas request-service-quota-increase --region {region} --service-code ec2 "
        f"--quota-code {QUOTA['QuotaCode']} --desired-value {now + more}",
    )


def is_standard(kind: str) -> bool:
    """Whether instances of a type count for the quota."""
    family = re.match(r"[a-z]+", kind)
    return bool(family) and family[0] in STANDARD  # type: ignore[index]


def _cpus(ec2: Any, kinds: Iterable[str]) -> dict[str, int]:
    """The vCPUs of each type."""
    if not (names := sorted(kinds)):
        return {}
    pages = ec2.get_paginator("describe_instance_types").paginate(InstanceTypes=names)
    return {
        each["InstanceType"]: each["VCpuInfo"]["DefaultVCpus"]
        for page in pages
        for each in page["InstanceTypes"]
    }


def _running(ec2: Any) -> Counter[str]:
    """The account's machines that count, by type."""
    filters = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
    pages = ec2.get_paginator("describe_instances").paginate(Filters=filters)
    return Counter(
        each["InstanceType"]
        for page in pages
        for reservation in page["Reservations"]
        for each in reservation["Instances"]
        if is_standard(each["InstanceType"]) and "InstanceLifecycle" not in each
    )


def instance_type(ec2: Any, type: str, region: str) -> str:
    """Whether the region has such machines. Raises TypeUnknown."""
    return f"{type} ({images.architecture(ec2, type, region)})"


def image(ec2: Any, name: str, type: str, region: str) -> str:
    """Whether there is the image that machines of a type start from. Raises ImageMissing or ImageUnfit."""
    wanted = images.architecture(ec2, type, region)
    found = images.newest(images.called(ec2, name, type=type, wanted=wanted, region=region))
    return f"{found['Name']} ({found['ImageId']}{', pending' if found['State'] == 'pending' else ''})"


def subnet(run: Run, ec2: Any) -> str | Finding:
    """Whether machines have a subnet to be in: those of the settings, or the region's. Raises SubnetMissing or NetworksDiffer."""
    if vpc := machine.network(run, ec2):
        return f"{', '.join(run.environment.infrastructure.subnets)} in {vpc}"
    region, filters = run.pipeline.region, [{"Name": "default-for-az", "Values": ["true"]}]
    found = ec2.describe_subnets(Filters=filters)["Subnets"]
    if found:
        return ", ".join(sorted(each["SubnetId"] for each in found))
    return Finding(
        sentence=f"{region} has no default subnet, and environments/{run.environment_name}.yml names none (infrastructure.subnets)",
        remedy=f"aws ec2 create-default-vpc --region {region}",
    )


def endpoint_for_s3(run: Run, ec2: Any) -> str | Finding:
    """Whether the networks of machines with listed egress have the S3 endpoint of the settings. Raises what `wanted` raises."""
    wanted = s3_endpoint.wanted(run)
    if lacks := [step.words for each in wanted for step in steps.endpoint(each, ec2)]:
        return Finding(sentence=f"an administrator has yet to {'; '.join(lacks)}", remedy="doit bootstrap")
    return ", ".join(f"of {each.network}, to {' and '.join(each.buckets)}" for each in wanted)


def signing_key(
    ssm: Any, parameter: str, named: Collection[str], required_by: Collection[str]
) -> str | Finding:
    """Whether tarballs can be signed, where an environment requires that. `named`: the public keys of the settings."""
    if not required_by:
        return "no environment that this one leads to requires signatures"
    if not named:
        return Finding(
            sentence=f"{', '.join(required_by)}: signed tarballs only, and pipeline.yml names no public key",
            remedy="doit key | tail -n 1 >> pipeline.yml",
        )
    public = signature.public_of(ssm, parameter)
    if public in named:
        return public
    told = f"is {public}, which pipeline.yml does not name (public_keys)" if public else "is missing"
    return Finding(
        sentence=f"{', '.join(required_by)}: signed tarballs only, and the private key at {parameter} {told}",
        remedy="$EDITOR pipeline.yml" if public else "doit key | tail -n 1 >> pipeline.yml",
    )


def deploy_key(ssm: Any, folder: str, machines: Collection[Machine]) -> str | Finding:
    """Whether the key that machines accept is there. It is made with an environment's first machine."""
    if secrets.known(ssm, folder):
        return f"{folder}/deploy_key"
    if not machines:
        return f"{folder}/deploy_key, which the first release makes"
    names = ", ".join(sorted(each.id for each in machines))
    return Finding(
        sentence=f"{names} accepts a deploy key that is no longer at {folder}/deploy_key",
        remedy=f"aws ssm get-parameter-history --name {folder}/deploy_key",
    )
