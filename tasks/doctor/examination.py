"""examination: everything that a first release to an environment needs, in the order in which it would be missed."""

from __future__ import annotations

import contextlib
import functools
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import TYPE_CHECKING

from tasks import endpoints, mail, search
from tasks.doctor import account, machine
from tasks.doctor.finding import Examined, examine
from tasks.infrastructure import find, zone
from tasks.infrastructure.machine import size
from tasks.refusal import Refusal
from tasks.run import elsewhere
from tasks.tarball import compatibility, signature

if TYPE_CHECKING:
    from tasks.run import Run


def of(
    run: Run, environ: Mapping[str, str], name_servers: Callable[[str], Collection[str]]
) -> Iterator[Examined]:
    """Look for each thing. What the account has can only be asked with credentials, in a region that exists."""
    yield examine("tools", lambda: machine.tools(_tools(run), machine.version))
    yield examine("versions", lambda: compatibility.accept(run))
    if run.environment.has("server"):
        yield examine("search", lambda: search.found(run))
    cloud, settings = run.cloud, run.pipeline
    if not cloud.own:
        yield examine("CI", lambda: machine.variables(environ))
    first = [
        examine("region", lambda: account.region(settings.region, cloud.regions())),
        examine("credentials", lambda: account.credentials(cloud.caller, settings.region)),
    ]
    for each in first:
        yield each
        if not each.found:
            return
    if not cloud.own:
        yield (pinned := examine("account", lambda: account.pinned(cloud.caller(), cloud.account)))
        if pinned.missing and cloud.account:
            return  # whatever this account has, it is another one
    yield from _of_account(run, name_servers)


def _of_account(run: Run, name_servers: Callable[[str], Collection[str]]) -> Iterator[Examined]:
    cloud, settings = run.cloud, run.pipeline
    ec2, ssm = cloud.client("ec2"), cloud.client("ssm")
    made = {"made_at_first_use": cloud.own}
    found = examine("zone", lambda: account.dns_zone(cloud, settings.dns_zone, **made))
    yield found
    if found.found and zone.zone_id(cloud, settings.dns_zone):
        yield examine("delegation", lambda: account.delegation(cloud, settings.dns_zone, name_servers))
    yield examine("bucket", lambda: account.bucket(run.store, settings.name, **made))
    machines = functools.cache(lambda: find.machines(ec2, find.of(run)))
    quotas = functools.partial(cloud.client, "service-quotas")
    yield (known := examine("type", lambda: account.instance_type(ec2, size(run), settings.region)))
    if not known.missing:
        yield examine(
            "quota", lambda: account.quota(ec2, quotas(), settings.region, _wanted(run, len(machines())))
        )
        yield examine("image", lambda: account.image(ec2, settings.image, size(run), settings.region))
    yield examine("subnet", lambda: account.subnet(run, ec2))
    if settings.s3_endpoint.enabled and run.environment.egress == "listed":
        yield examine("S3 endpoint", lambda: account.endpoint_for_s3(run, ec2))
    if run.environment.has("server") and (user := _search_user(run)):
        yield examine("search password", lambda: account.search_password(run, ssm, user))
    if run.environment.has("server") and (user := mail.relay_user(run)):
        yield examine("relay password", lambda: account.relay_password(run, ssm, user))
    if run.environment.has("server") and endpoints.of(run):
        yield examine("endpoint passwords", lambda: account.endpoint_passwords(run, ssm))
    parameter, keys, needs = signature.parameter(run), settings.public_keys, _signed(run)
    yield examine("signing key", lambda: account.signing_key(ssm, parameter, keys, needs))
    yield examine("deploy key", lambda: account.deploy_key(ssm, run.secrets_folder, machines()))


def _search_user(run: Run) -> str:
    """Who logs in to the search engine; nobody where there is none, which was told already."""
    with contextlib.suppress(Refusal):
        return search.user(run)
    return ""


def _tools(run: Run) -> dict[str, tuple[str, ...]]:
    builds = run.environment.has("tarball")
    used = {name for layer in run.profile.layers for name in layer.tools}
    return machine.TOOLS | {name: run.profile.tools[name] for name in used if builds}


def _wanted(run: Run, existing: int) -> Counter[str]:
    """The machines that the settings ask for and nobody has made, by type."""
    settings = run.environment.infrastructure
    if settings.manage == "plan" or settings.spot:  # spot instances have a quota of their own
        return Counter()
    return Counter({size(run): max(0, settings.instances * len(run.placement.groups) - existing)})


def _signed(run: Run) -> list[str]:
    """The environments that take signed tarballs only, and that this one is or leads to."""
    names = sorted(each.stem for each in (run.root / "environments").glob("*.yml"))
    settings = {name: elsewhere(run, name).environment for name in names}
    reached = {run.environment_name}
    for _ in names:
        reached |= {name for name, each in settings.items() if each.takes_from in reached}
    return [name for name in names if name in reached and settings[name].signatures == "required"]
