"""run: one call of the pipeline: which environment, of which branch, in which cloud. It is only a value."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import secrets
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import forms, mail, network, placement, profile, settings, source
from tasks.clock import SYSTEM, Clock
from tasks.forms import is_branch, is_text
from tasks.nearest import meant, nearest, retyped
from tasks.refusal import UNKNOWN, Refusal
from tasks.version import Version

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.cloud.interface import Cloud
    from tasks.console.console import Console
    from tasks.hosts.hosts import Hosts
    from tasks.process.threads import Threads

DEFAULT_ENVIRONMENT = "testing"
DRILL = "drill-"
"""How the identity of a restore drill's throw-away host begins; behind it stands the environment's."""
AUTHORITY = "-authority"
"""How the folder of an authority ends, and no environment's."""


class UnknownEnvironment(Refusal):
    """`environment=NAME` without a file of that name in `environments/`."""

    sentence = "command line: environment={name}: there is no environments/{name}.yml ({meant}known: {known})"
    remedy = "{remedy}"
    exit_code = UNKNOWN


class HostNameTooLong(Refusal):
    """The host name of an environment is none of DNS: a part has more than 63 characters, or all have more than 253, or it has others."""

    sentence = (
        "environments/{name}.yml: {host_name} is no host name "
        "(each part 63 letters, digits and hyphens at most, 253 in all)"
    )
    remedy = "$EDITOR environments/{name}.yml  # host_name, stores, or another name of the file"
    exit_code = UNKNOWN


def _new_id() -> str:
    return secrets.token_hex(6)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a stage may know of the call that it is a part of.

    `id`: names the run in its lease, records and processes. `who`: the person who runs it, for display. `variables`: the
    `name=value` on the command line. `began`: the clock's monotonic time at the start. `named_identity`: of an environment
    whose branch is not known. `expires`: of a throw-away host, when it may be ended by anybody.
    """

    root: Path
    pipeline: settings.Pipeline
    environment: settings.Environment
    environment_name: str
    profile: profile.Profile
    cloud: Cloud
    store: Store
    hosts: Hosts
    console: Console
    threads: Threads
    who: str
    named_branch: str | None = None
    named_identity: str | None = None
    variables: tuple[str, ...] = ()
    clock: Clock = SYSTEM
    id: str = field(default_factory=_new_id)
    began: float = 0.0
    expires: str = ""

    @cached_property
    def branch(self) -> str:
        """The branch that is released."""
        branch: str = self.named_branch or source.branch(self.root, os.environ)
        if not (is_text(branch) and is_branch(branch)):
            raise source.BranchWrong(branch=branch)
        return branch

    @cached_property
    def on_default_branch(self) -> bool | None:
        """Whether the checked-out commit is on the default branch, whatever name was typed; None if that is unknown."""
        default = self.pipeline.default_branch
        return self.branch == default and source.on_branch(self.root, default, os.environ)

    @cached_property
    def network(self) -> network.Network:
        """Who talks to whom on the environment's hosts. Raises SettingWrong."""
        said, over = self.profile.server.roles, self.environment.server.roles
        options = {name: {**told, **over.get(name, {})} for name, told in said.items()}
        if mail.ROLE in options:
            options[mail.ROLE]["catch"] = mail.caught(self)
        return network.of(self.root, options, self.profile.file, self.environment.egress)

    @cached_property
    def placement(self) -> placement.Placement:
        """Which machines the environment has, and which roles each of them."""
        server = self.profile.server
        roles = [each for each in server.roles if each not in self.network.absent]
        return placement.of(roles, server.groups, self.environment.infrastructure.placement)

    @cached_property
    def upstream(self) -> Run:
        """The run in the environment that this one takes tarballs from; this run, if it takes none."""
        name = self.environment.takes_from
        return elsewhere(self, name) if name else self

    @cached_property
    def tarballs(self) -> Run:
        """The run in the environment whose bucket has this one's tarballs: the one that builds them."""
        run, seen = self, set[str]()
        while not run.environment.has("tarball") and run.upstream.environment_name not in seen:
            seen.add(run.environment_name)
            run = run.upstream
        return run

    @cached_property
    def identity(self) -> str:
        """The environment's unique name: `testing-` and ten hex digits of the branch's hash, or `staging`."""
        if self.named_identity:
            return self.named_identity
        if not self.environment.per_branch:
            return self.environment_name
        return branch_identity(self.environment_name, self.branch)

    @property
    def name(self) -> str:
        """The name of the environment's resources in the cloud: `shop-testing-0d6e4079e3`."""
        return f"{self.pipeline.name}-{self.identity}"

    @property
    def secrets_folder(self) -> str:
        """The folder of the parameter store that holds the environment's secrets."""
        return f"/{self.pipeline.name}/{self.identity}"

    @property
    def host_name(self) -> str:
        """The site's full host name."""
        return full_host_name(self.environment, self.identity, self.pipeline.dns_zone)

    @property
    def stores(self) -> Mapping[str, settings.NamedStore]:
        """The stores that have a full host name of their own, by that name."""
        return full_store_names(self.environment, self.identity, self.pipeline.dns_zone)

    @property
    def host_names(self) -> tuple[str, ...]:
        """Every full host name of the site, its own first."""
        return (self.host_name, *self.stores)

    @property
    def https(self) -> bool:
        """Whether visitors come over TLS."""
        return over_https(self.profile, self.environment)

    @property
    def protected(self) -> bool:
        """Whether visitors are asked for a password."""
        return bool(web_server(self.profile, self.environment).get("protected"))

    @property
    def url(self) -> str:
        """The address of the site."""
        return self.url_of(self.host_name)

    def url_of(self, host_name: str) -> str:
        """The address under one of its host names."""
        return self.cloud.url(host_name, https=self.https)

    @property
    def authority_folder(self) -> str:
        """The folder of the parameter store that holds the authority of every environment of this name, whatever its branch."""
        return authority_folder(self.pipeline, self.environment_name)

    @property
    def accounts_folder(self) -> str:
        """The folder that holds the keys of the accounts with ACME authorities. It is no branch's to read: who has one has what it has proved."""
        return f"/{self.pipeline.name}-acme"

    @property
    def bucket(self) -> str:
        """The name of the bucket for tarballs and records."""
        return self.store.bucket

    @cached_property
    def commit(self) -> Version:
        """The checked-out commit, as tags and records name it."""
        return source.snapshot(self.root).version

    @property
    def origin(self) -> str:
        """The address of the remote whose branches say when environments end; empty if there is none."""
        return source.origin(self.root)

    @property
    def pushed(self) -> bool:
        """Whether the clone has seen the branch on that remote."""
        return source.pushed(self.root, self.branch)

    @property
    def reason(self) -> source.Reason:
        """Why it is released: what the commit says of itself."""
        return source.reason(self.root, self.commit.commit)

    def contains(self, old: Version) -> bool | None:
        """Whether the history of the checked-out commit has another one; None if the clone cannot say."""
        return source.contains(self.root, self.commit, old)

    @property
    def logs(self) -> Path:
        """The folder with the logs of this environment's runs."""
        return self.root / ".run" / "logs" / self.identity

    def log(self, stage: str) -> Path:
        """The file for the whole output of a stage."""
        return self.console.logs(self.logs) / f"{stage}.log"


def web_server(said: profile.Profile, found: settings.Environment) -> dict[str, object]:
    """What profile and environment tell the web server. Empty where there is none."""
    return {**said.server.roles.get("nginx", {}), **found.server.roles.get("nginx", {})}


def over_https(said: profile.Profile, found: settings.Environment) -> bool:
    """Whether visitors of an environment come over TLS, which its hosts end, or the load balancers before them."""
    told = web_server(said, found)
    return bool(told.get("tls") or told.get("proxies"))


def authority_folder(project: settings.Pipeline, environment_name: str) -> str:
    """Beside the environments' own: the rights to `testing-*`, `staging*` and `production*` count for it."""
    return f"/{project.name}/{environment_name}{AUTHORITY}"


def branch_identity(environment: str, branch: str) -> str:
    """The name of a branch's environment. Ten hex digits (40 bits) tell the branches of a project apart."""
    return f"{environment}-{hashlib.sha256(branch.encode()).hexdigest()[:10]}"


def full_host_name(found: settings.Environment, identity: str, zone: str) -> str:
    """The host name of an environment's site. DNS knows no upper case."""
    return f"{found.host_name or identity}.{zone}".lower()


def full_store_names(found: settings.Environment, identity: str, zone: str) -> dict[str, settings.NamedStore]:
    """The stores of an environment by their full host names. Those of a branch are below the name of its environment."""
    below = full_host_name(found, identity, zone) if found.per_branch else zone
    return {f"{name}.{below}".lower(): each for name, each in found.stores.items()}


def accept_names(project: settings.Pipeline, found: settings.Environment, name: str) -> None:
    """Raises HostNameTooLong for a file whose name, or host name, is none of DNS; all other names are shorter."""
    identity = branch_identity(name, "") if found.per_branch else name
    for host_name in {
        full_host_name(found, identity, project.dns_zone),
        *full_store_names(found, identity, project.dns_zone),
        f"{identity.replace('_', '-').replace('.', '-')}.x".lower(),  # of its key pair, its group and its records
    }:
        if not forms.DNS_NAME.holds(host_name):
            raise HostNameTooLong(name=name, host_name=host_name)


def elsewhere(run: Run, name: str) -> Run:
    """The same call in another environment, where that is: its account, region, zone and bucket. Asks no cloud.

    Raises UnknownEnvironment or a setting's refusal.
    """
    found = environment(run.root, name, run.profile.settings, run.profile.server.groups)
    there = dataclasses.replace(run, environment=found, environment_name=name)
    return there if found.place == run.environment.place else moved(there, settings.of_pipeline(run.root))


def moved(run: Run, pipeline: settings.Pipeline) -> Run:
    """The run with the settings, the connection and the bucket of its environment. `pipeline`: pipeline.yml."""
    here, own = settings.at(pipeline, run.environment), run.environment
    cloud = run.cloud.at(region=own.region, role=own.role, account=here.account)
    store = run.store
    if cloud is not run.cloud or here.bucket != store.chosen:
        alone = run.environment_name if own.bucket else ""
        store = dataclasses.replace(store, cloud=cloud, chosen=here.bucket, environment=alone)
    return dataclasses.replace(run, pipeline=here, cloud=cloud, store=store)


def without_role(run: Run) -> Run:
    """The run with the caller's own credentials, whatever role the environment's file names: an administrator's."""
    cloud = run.cloud.at(region=run.cloud.region, role="", account=run.cloud.account)
    return dataclasses.replace(run, cloud=cloud, store=dataclasses.replace(run.store, cloud=cloud))


def environment(
    root: Path, name: str, roles: settings.RoleSettings, groups: placement.Groups = types.MappingProxyType({})
) -> settings.Environment:
    """The settings of an environment, with those of the roles that its machines have, and the profile's groups of them.

    Raises UnknownEnvironment or a setting's refusal."""
    known = sorted(each.stem for each in (root / "environments").glob("*.yml"))
    if name not in known:
        correct = nearest(name, known)
        again = retyped(f"environment={name}", correct and f"environment={correct}")
        remedy = f"doit {again}" if again else "ls environments"
        raise UnknownEnvironment(name=name, meant=meant(name, known), known=", ".join(known), remedy=remedy)
    file = settings.read(settings.Environment, root / "environments" / f"{name}.yml", root, roles)
    upstream = file.said.takes_from
    if upstream and upstream not in (others := [each for each in known if each != name]):
        raise file.wrong("takes_from", upstream, "another environment", others)
    beside = [root / "environments" / f"{each}.yml" for each in known if each != name]
    settings.accept_environment(file, roles, beside)
    pipeline = settings.of_pipeline(root)
    placement.accept(file, groups, settings.elsewhere(file.said, roles))
    if any(file.said.place):
        settings.accept_place(file, pipeline)
    settings.accept_ssh_from(file, pipeline)
    beside = [root / "environments" / f"{each}.yml" for each in known if each != name]
    settings.accept_certificates(file, pipeline, beside)
    return file.said
