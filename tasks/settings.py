"""settings: what the repository decides: type, default, help and error of each setting, declared once."""

# without `annotations` of __future__: types that are texts are read again by each dataclass, at every start

import contextlib
import dataclasses
import functools
import json
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Literal, NewType, TypeVar

import yaml

from tasks import forms
from tasks.forms import Form
from tasks.nearest import meant
from tasks.refusal import UNKNOWN, Refusal

T = TypeVar("T")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same loader, in C where PyYAML has it."""
NULL = "tag:yaml.org,2002:null"
TEXT = "tag:yaml.org,2002:str"
Options = Mapping[str, tuple[str, ...]]
Describe = Callable[[str, str], tuple[str, Form | None]]


class SettingsMissing(Refusal):
    """A settings file that must exist does not."""

    sentence = "{path}: is missing"
    remedy = "git checkout -- {path}"
    exit_code = UNKNOWN


class SettingsBroken(Refusal):
    """A settings file that is not YAML, or not a mapping."""

    sentence = "{path}:{line}: {problem}"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingUnknown(Refusal):
    """A key that no setting declares."""

    sentence = "{path}:{line}: {key}: unknown key ({meant}known: {known})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingMissing(Refusal):
    """A setting without a default is missing from its section, which begins in that line."""

    sentence = "{path}:{line}: {key}: is missing ({help})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingWrong(Refusal):
    """A value of the wrong type, or not one of those known, or the name of what is not declared."""

    sentence = "{path}:{line}: {key}: should be {expected}, not {value}"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class RoleUnlisted(Refusal):
    """A setting of a role that the profile does not list: no machine has that role."""

    sentence = "{path}:{line}: {key}: is a role that the profile does not list (listed: {known})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


def setting(help: str, default: Any = dataclasses.MISSING, *, form: Form | None = None) -> Any:
    """Declare a setting; without a default it must be given. `form`: bounds, for a list those of each entry."""
    if default == {}:
        return field(default_factory=dict, metadata={"help": help, "form": form})
    return field(default=default, metadata={"help": help, "form": form})


OF_ROLES = "of roles"
"""Marks the field that holds what roles declare: in a file, each role is a key beside the other fields."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is declared of a key: in a section's class, or by a role."""

    type: Any
    help: str
    default: Any = dataclasses.MISSING
    form: Form | None = None

    @property
    def expected(self) -> str:
        """What a value should be, in words."""
        return _expected(self.type, self.form)


class Section(dict[str, Setting]):
    """The type of a section whose keys a role declares."""


class Undeclared(Section):
    """The type of a section whose keys nobody here declares: what a role of others is told."""


RoleSettings = Mapping[str, Mapping[str, Setting]]
"""What the roles declare, by role and name."""
RolesTold = NewType("RolesTold", Mapping[str, Mapping[str, Any]])
"""The type of the mapping of roles that a profile lists, each with what it tells the role."""


def section(of: type[T]) -> T:
    """Declare a group of settings that all have defaults."""
    made: T = field(default_factory=of, metadata={"help": (of.__doc__ or "").rstrip(".")})
    return made


@dataclass(frozen=True, kw_only=True)
class Application:
    """What is released."""

    path: str = setting(
        "folder of the application, from the pipeline's; `.` if it is the same", "app", form=forms.FILLED
    )
    exclude: tuple[str, ...] = setting("paths in that folder that are not the application's", ())
    keep: tuple[str, ...] = setting(
        "paths in that folder that are the application's, though they are excluded or called like the pipeline's own",
        (),
    )
    profile: str = setting("its kind: a folder in applications/", form=forms.FOLDER)
    options: Options = setting("what the profile can be told, such as themes and locales", {})
    commands: Options = setting("commands of layers, in place of the profile's", {})
    build_minutes: int = setting(
        "minutes that each command of the build may take; then it is ended", 60, form=forms.at_least(1)
    )


@dataclass(frozen=True, kw_only=True)
class Ci:
    """Where CI runs: `doit trust` says by these which jobs may assume which role."""

    provider: Literal["none", "github", "gitlab", "bitbucket"] = setting("the CI provider", "none")
    repository: str = setting(
        "the repository as the tokens name it: OWNER/NAME, of Bitbucket its UUID with braces",
        "",
        form=forms.or_empty(forms.REPOSITORY),
    )
    gitlab: str = setting("the host of GitLab", "gitlab.com", form=forms.DNS_NAME)
    workspace: str = setting("Bitbucket's workspace", "", form=forms.or_empty(forms.REPOSITORY))
    workspace_id: str = setting(
        "the UUID of Bitbucket's workspace, without braces", "", form=forms.or_empty(forms.UUID)
    )
    environments: Mapping[str, tuple[str, ...]] = setting(
        "for a role, the provider's environments of its jobs: names on GitHub, UUIDs with braces on Bitbucket",
        {},
    )


@dataclass(frozen=True, kw_only=True)
class Spending:
    """Who is told when the account costs too much: `doit bootstrap` makes the alarm."""

    month: int = setting("USD that the account may cost in a month", 100, form=forms.at_least(1))
    mail: str = setting("address that is told; empty: there is no alarm", "", form=forms.or_empty(forms.MAIL))


@dataclass(frozen=True, kw_only=True)
class S3Gateway:
    """The endpoint for S3 of networks (VPC) in which environments have `egress: listed`: `doit bootstrap` makes it."""

    enabled: bool = setting(
        "whether there is one: everything in such a network then reaches these buckets of its region alone, also what is not the pipeline's",
        False,
    )
    buckets: tuple[str, ...] = setting(
        "buckets that it lets through beside the project's own, of any account", (), form=forms.BUCKET
    )


@dataclass(frozen=True, kw_only=True)
class Acme:
    """The authority of environments whose file has `certificates: acme`; who names one accepts its terms."""

    directory: str = setting(
        "address of its directory", "https://acme-v02.api.letsencrypt.org/directory", form=forms.URL
    )
    contact: str = setting(
        "mail address to which it may write; empty: none", "", form=forms.or_empty(forms.MAIL)
    )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """When orphans and old objects are deleted."""

    grace_hours: int = setting(
        "hours from the first sight of an orphan to its deletion", 24, form=forms.at_least(0)
    )
    share: int = setting("percent of everything that one sweep may delete", 50, form=forms.between(0, 100))
    tarballs: int = setting(
        "newest tarballs kept of the default branch, and as many of the other branches",
        100,
        form=forms.at_least(1),
    )
    tarball_days: int = setting("days that a tarball is kept", 60, form=forms.at_least(1))
    layer_days: int = setting("days that a layer is kept", 30, form=forms.at_least(1))
    record_days: int = setting(
        "days that records of commits, builds and runs are kept", 365, form=forms.at_least(1)
    )


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """pipeline.yml: this project."""

    name: str = setting("name of the project, part of the names of what it creates", form=forms.PROJECT)
    default_branch: str = setting("the branch that goes to staging and production", "main", form=forms.BRANCH)
    application: Application = setting("what is released")
    dns_zone: str = setting("zone of the environments' host names", "shop.localhost", form=forms.DNS_NAME)
    cloud: Literal["embedded", "aws"] = setting("where machines come from", "embedded")
    account: str = setting(
        "id of the account that may be changed; another one is refused; empty: whichever the credentials are for",
        "",
        form=forms.or_empty(forms.ACCOUNT),
    )
    region: str = setting("region of the cloud", "eu-central-1", form=forms.CLOUD_NAME)
    bucket: str = setting(
        "bucket for tarballs and records; empty: NAME-ACCOUNT-REGION, or NAME-releases where the account has that from a former version",
        "",
        form=forms.or_empty(forms.BUCKET),
    )
    public_keys: tuple[str, ...] = setting(
        "minisign keys that tarballs may be signed with: `doit key`", (), form=forms.PUBLIC_KEY
    )
    image: str = setting("name of the image that machines start from", "debian-12", form=forms.FILLED)
    image_days: int = setting(
        "days until `doit image` bakes an unchanged image anew, for newer packages; 0: never",
        30,
        form=forms.at_least(0),
    )
    instance_type: str = setting("size of a machine", "t3.medium", form=forms.CLOUD_NAME)
    budget: int = setting(
        "seconds that a release may take; printed, not enforced", 300, form=forms.at_least(1)
    )
    acme: Acme = section(Acme)
    sweep: Sweep = section(Sweep)
    spending: Spending = section(Spending)
    s3_endpoint: S3Gateway = section(S3Gateway)
    ci: Ci = section(Ci)


def of_pipeline(root: Path) -> Pipeline:
    """Read pipeline.yml. Raises what `load` raises, also for a zone that nobody outside of this machine resolves."""
    file = read(Pipeline, root / "pipeline.yml", root)
    if file.said.cloud == "aws" and is_local(file.said.dns_zone):
        raise file.unfit("dns_zone", repr(file.said.dns_zone), RESOLVED, also="cloud")
    return file.said


RESOLVED = "a zone that others resolve, as cloud is aws"


def is_local(zone: str) -> bool:
    """Whether a name is below .localhost: those are each machine's own (RFC 6761), and every other name has an owner."""
    return f".{zone}".endswith(".localhost")


SYSTEM_GB, RELEASE_GB = 7, 1
"""GB that a machine's system, packages, data and logs take, and what a large release takes."""


@dataclass(frozen=True, kw_only=True)
class Infrastructure:
    """The machines of an environment and who may reach them."""

    manage: Literal["all", "additive", "plan"] = setting(
        "what may be changed: all; additive: only additions, other plans are refused; plan: nothing, it is only shown",
        "all",
    )
    instances: int = setting(
        "number of machines; 1 where the profile has the role database", 1, form=forms.at_least(1)
    )
    placement: Options = setting(
        "the machines by name, each with those of the profile's groups of roles that it has, such as `{web: [ingress, cache], app: [app], data: [data]}`; "
        "none: every machine has all",
        {},
    )
    scale_down: bool = setting(
        "whether a lower number of `instances`, or a name less in `placement`, ends machines and deletes their disks",
        False,
    )
    instance_type: str = setting(
        "size of a machine; empty: the one of pipeline.yml", "", form=forms.or_empty(forms.CLOUD_NAME)
    )
    subnets: tuple[str, ...] = setting(
        "subnets of new machines, the first for machine 1 and so on, then from the beginning; none: the region's default network",
        (),
        form=forms.SUBNET,
    )
    public_address: bool = setting("whether a new machine has a public address", True)
    ssh_through: str = setting(
        "how SSH reaches machines; empty: by their address; a jump host; session-manager: AWS Session Manager",
        "",
        form=forms.or_empty(forms.JUMP_HOST),
    )
    disk_gb: int = setting(
        "GB of a new machine's disk", 30, form=forms.between(SYSTEM_GB + 3 * RELEASE_GB, 16384)
    )
    disk_type: Literal["gp3", "gp2"] = setting("kind of a new machine's disk", "gp3")
    disk_key: str = setting(
        "KMS key that encrypts a new machine's disk; empty: the account's own for disks",
        "",
        form=forms.or_empty(forms.KMS_KEY),
    )
    instance_profile: str = setting(
        "instance profile of a new machine: what its programs may do in the cloud",
        "",
        form=forms.or_empty(forms.INSTANCE_PROFILE),
    )
    spot: bool = setting(
        "whether a new machine is a spot instance, which the cloud may end at any time; for branches' environments only",
        False,
    )
    termination_protection: bool = setting("whether the cloud refuses to end a machine", False)
    ends_itself: bool = setting(
        "whether a machine that has expired or is idle shuts itself down, which terminates it", False
    )
    idle_hours: int = setting(
        "hours without a visitor or a login after which a machine is idle; 0: never",
        0,
        form=forms.at_least(0),
    )
    ssh_from: tuple[str, ...] = setting("networks that may use SSH", ("0.0.0.0/0",), form=forms.NETWORK)
    http_from: tuple[str, ...] = setting(
        "networks that may use HTTP and HTTPS", ("0.0.0.0/0",), form=forms.NETWORK
    )
    host_keys: tuple[str, ...] = setting(
        "fingerprints of the machines' Ed25519 SSH host keys, for machines whose console does not show them",
        (),
        form=forms.FINGERPRINT,
    )
    owner: str = setting("tag: who is responsible for it", "web", form=forms.TAG)
    cost_centre: str = setting("tag: who pays for it", "web", form=forms.TAG)
    machines: tuple[str, ...] = setting(
        "ids of machines that were adopted; others with the environment's tags that the pipeline did not make get nothing",
        (),
        form=forms.INSTANCE,
    )


@dataclass(frozen=True, kw_only=True)
class Server:
    """What runs on a machine: `server.ROLE.NAME` is the variable ROLE_NAME of that role, which declares it."""

    leftovers: Literal["remove", "report"] = setting(
        "what happens to what the roles no longer manage", "remove"
    )
    roles: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, metadata={OF_ROLES: True})


@dataclass(frozen=True, kw_only=True)
class Release:
    """How a tarball goes live."""

    keep: int = setting("releases kept on a machine", 3, form=forms.at_least(1))
    static_hours: int = setting(
        "hours that static files stay on a machine for browsers and caches that have pages of a former release",
        24,
        form=forms.at_least(0),
    )
    test_data: bool = setting("whether the application gets its test data", False)
    expires_after_days: int = setting(
        "days until the environment may be deleted; 0: never", 0, form=forms.at_least(0)
    )


@dataclass(frozen=True, kw_only=True)
class Backups:
    """When hosts back up, where the profile has the role `backup`, and which backups `doit backup --forget` keeps."""

    at: str = setting(
        "when hosts back up every day, in UTC; empty: they do not",
        "",
        form=forms.OF_ROLES["time such as 04:30, or empty"],
    )
    drill_days: int = setting(
        "days after which `doit status` calls the last restore of a backup too old", 7, form=forms.at_least(1)
    )
    days: int = setting("days of which the newest backup is kept", 14, form=forms.at_least(1))
    weeks: int = setting("weeks of which it is", 8, form=forms.at_least(0))
    months: int = setting("months of which it is", 12, form=forms.at_least(0))


@dataclass(frozen=True, kw_only=True)
class SecretAges:
    """How old an environment's secrets may become."""

    days: int = setting(
        "days after which `doit secrets` calls a secret old; 0: never", 365, form=forms.at_least(0)
    )


@dataclass(frozen=True, kw_only=True)
class News:
    """Who is told of releases. None of them can hold one up."""

    webhook: str = setting(
        "where the address of a webhook in Slack's form is: an environment variable, or /NAME, a parameter of the folder news of the environment's secrets; empty: none",
        "",
        form=forms.or_empty(forms.SECRET_PLACE),
    )
    deployments: bool = setting("whether a job of GitHub or GitLab makes a deployment record", False)
    marker: str = setting(
        "address that takes an annotation in Grafana's form; empty: none", "", form=forms.or_empty(forms.URL)
    )
    marker_token: str = setting(
        "where its token is, as in `webhook`; empty: it needs none",
        "",
        form=forms.or_empty(forms.SECRET_PLACE),
    )


@dataclass(frozen=True, kw_only=True)
class NamedStore:
    """A store, or a website with its stores, that has a host name of its own."""

    code: str = setting("its code, as the application knows it", form=forms.STORE_CODE)
    type: Literal["store", "website"] = setting("what the code names", "store")


@dataclass(frozen=True, kw_only=True)
class Environment:
    """environments/NAME.yml: a place to release to."""

    per_branch: bool = setting("one environment for each branch, named by its hash", False)
    account: str = setting(
        "id of the account of this environment; empty: the one of pipeline.yml",
        "",
        form=forms.or_empty(forms.ACCOUNT),
    )
    role: str = setting(
        "role that is assumed with the caller's own credentials: its ARN, or its name if it is in `account`; empty: none",
        "",
        form=forms.or_empty(forms.ROLE),
    )
    region: str = setting(
        "region of the cloud; empty: the one of pipeline.yml", "", form=forms.or_empty(forms.CLOUD_NAME)
    )
    dns_zone: str = setting(
        "zone of the host name; empty: the one of pipeline.yml", "", form=forms.or_empty(forms.DNS_NAME)
    )
    bucket: str = setting(
        "bucket for records, and for tarballs that are built here; empty: as in pipeline.yml, in this account and region",
        "",
        form=forms.or_empty(forms.BUCKET),
    )
    host_name: str = setting(
        "host name below the zone; empty: the environment's own name", "", form=forms.or_empty(forms.DNS_NAME)
    )
    stores: Mapping[str, NamedStore] = setting(
        "by host name, the stores that have one of their own: a name below the zone, of a branch's environment below that environment's name",
        {},
    )
    stages: tuple[str, ...] = setting("the only stages that exist here; none: all that dodo.py offers", ())
    also: tuple[str, ...] = setting("stages that exist here in addition to those that dodo.py offers", ())
    uncommitted: Literal["allowed", "refused"] = setting(
        "whether uncommitted files may be released", "refused"
    )
    signatures: Literal["optional", "required"] = setting(
        "whether a tarball needs a signature by one of `public_keys` to go live", "optional"
    )
    egress: Literal["open", "listed"] = setting(
        "what machines reach elsewhere: open, what roles and application declare; listed, the bucket, their packages and server.proxy.allowed, through a proxy",
        "open",
    )
    mail: Literal["relayed", "caught"] = setting(
        "what becomes of mail where the profile has the role `mail`: relayed, to server.mail.relay_host, and refused while that is empty; caught, on the host, whatever its recipient: `doit open mail`",
        "relayed",
    )
    certificates: Literal["own", "acme"] = setting(
        "who vouches for hosts to which nobody has brought a certificate: own, an authority that the pipeline makes; acme, the one of pipeline.yml, "
        "which asks DNS: one certificate for all branches",
        "own",
    )
    takes_from: str = setting(
        "environment on which a tarball must have been healthy before; empty: none",
        "",
        form=forms.or_empty(forms.FOLDER),
    )
    builders: tuple[str, ...] = setting(
        "roles or users whose tarballs are taken; none: all", (), form=forms.FILLED
    )
    approvals: Literal["none", "different_person"] = setting(
        "whether one person must start and another one continue", "none"
    )
    freezes: tuple[str, ...] = setting(
        "times without releases, each FROM/TO in UTC (2026-12-20/2027-01-06T08:00)", (), form=forms.SPAN
    )
    strategy: Literal["mitogen_linear", "linear"] = setting("how Ansible runs its tasks", "mitogen_linear")
    infrastructure: Infrastructure = section(Infrastructure)
    server: Server = section(Server)
    release: Release = section(Release)
    backup: Backups = section(Backups)
    secrets: SecretAges = section(SecretAges)
    news: News = section(News)

    @property
    def named_stages(self) -> tuple[str, ...]:
        """The stages that the file names."""
        return (*self.stages, *self.also)

    @property
    def pinned(self) -> str:
        """The id of the account that the file names, by `account` or by the ARN of its role."""
        return self.account or (self.role.split(":")[4] if self.role.startswith("arn:") else "")

    @property
    def place(self) -> tuple[str, ...]:
        """Where the file says that the environment is, as far as pipeline.yml does not."""
        return (self.pinned, self.role, self.region, self.dns_zone, self.bucket)

    def has(self, stage: str, *, offered: bool = True) -> bool:
        """Whether a stage exists here, given whether dodo.py offers it to every environment."""
        return stage in self.named_stages or (offered and not self.stages)


def at(pipeline: Pipeline, environment: Environment) -> Pipeline:
    """pipeline.yml as an environment has it, whose file may name an account, a region, a zone and a bucket of its own."""
    own = {
        "account": environment.pinned,
        "region": environment.region,
        "dns_zone": environment.dns_zone,
        "bucket": environment.bucket,
    }
    return dataclasses.replace(pipeline, **{name: value for name, value in own.items() if value})  # type: ignore[arg-type]


def same_place(pipeline: Pipeline, one: Environment, other: Environment) -> bool:
    """Whether two environments have the same account, role, region, zone and bucket. An account that is not pinned is any."""
    first, second = at(pipeline, one), at(pipeline, other)
    pins = {each.account for each in (first, second) if each.account}
    return (one.role, first.region, first.dns_zone, first.bucket) == (
        other.role,
        second.region,
        second.dns_zone,
        second.bucket,
    ) and len(pins) < 2


def accept_place(file: "Read[Environment]", pipeline: Pipeline) -> None:
    """Raises SettingWrong for a place that does not fit together. `pipeline`: pipeline.yml."""
    said, here = file.said, at(pipeline, file.said)
    if said.account and said.role.startswith("arn:") and f"::{said.account}:" not in said.role:
        raise file.unfit("role", repr(said.role), f"a role in the account {said.account} (account)")
    if said.dns_zone and pipeline.cloud == "aws" and is_local(said.dns_zone):
        raise file.unfit("dns_zone", repr(said.dns_zone), RESOLVED)
    moved = [
        name
        for name in ("account", "region")
        if getattr(here, name) != (there := getattr(pipeline, name)) and there
    ]
    named = next((name for name in ("region", "account", "role") if name in file.lines), "")
    if pipeline.bucket and not said.bucket and moved:
        expected = f"a bucket there: {pipeline.bucket} of pipeline.yml is in another {' and '.join(moved)}"
        raise file.unfit("bucket", "empty", expected, also=named)
    if said.role and said.infrastructure.ssh_through == "session-manager":
        expected = "a jump host or empty: Session Manager's command line does not assume `role`"
        raise file.unfit("infrastructure.ssh_through", "session-manager", expected)
    if said.takes_from and said.has("tarball") and (said.role, said.region, said.bucket) != ("", "", ""):
        expected = f"a list without tarball: what {said.takes_from} has built is in another bucket"
        raise file.unfit("stages", list(said.stages), expected, also="takes_from")


def accept_certificates(file: "Read[Environment]", pipeline: Pipeline, others: Iterable[Path] = ()) -> None:
    """Raises SettingWrong where an ACME authority could vouch for nobody, or its certificate for too much.

    `pipeline`: pipeline.yml; `others`: the files of the other environments.
    """
    said, zone = file.said, at(pipeline, file.said).dns_zone
    if said.certificates != "acme":
        return
    if is_local(zone):
        raise file.unfit("certificates", said.certificates, f"own: nobody else resolves {zone} (dns_zone)")
    if not said.server.roles.get("nginx", {}).get("tls"):
        expected = "own where no host speaks TLS (server.nginx.tls)"
        raise file.unfit("certificates", said.certificates, expected)
    if said.per_branch and zone == pipeline.dns_zone:
        expected = (
            f"a zone of the branches' own, such as branches.{zone}, as certificates is acme: "
            f"their jobs read the key of its wildcard, which would be one for every site of {zone}"
        )
        raise file.unfit("dns_zone", repr(said.dns_zone), expected, also="certificates")
    if said.per_branch and said.stores:
        expected = (
            "none where certificates is acme: a wildcard is for one label, and stores of a branch have two"
        )
        raise file.unfit("stores", ", ".join(said.stores), expected)
    for path in others if said.per_branch else ():
        told: Any = None
        with contextlib.suppress(SettingsBroken):  # that is said to who needs it
            told = _parsed(path, path.name, yaml.safe_load)
        names = ("per_branch", "certificates", "dns_zone")
        if isinstance(told, dict) and [told.get(each) for each in names] == [True, "acme", zone]:
            expected = (
                f"another one than that of {path.name}: both would put their challenge at one name, and hinder "
                "each other's orders"
            )
            raise file.unfit("dns_zone", repr(said.dns_zone), expected)


def accept_ssh_from(file: "Read[Environment]", pipeline: Pipeline) -> None:
    """Raises SettingWrong for machines on AWS, other than those of branches, to which nobody has said who may log in."""
    said = "infrastructure.ssh_from"
    if pipeline.cloud == "aws" and not file.said.per_branch and said not in file.lines:
        expected = "given, the networks of who provisions: as cloud is aws, everybody reaches these machines"
        raise file.unfit(said, "left out", expected, also="infrastructure")


def accept_environment(
    file: "Read[Environment]", roles: RoleSettings = types.MappingProxyType({}), others: Iterable[Path] = ()
) -> None:
    """Raises SettingWrong for what does not fit together. `roles`: those that a machine has. `others`: the other environments' files."""
    here, release = file.said.infrastructure, file.said.release
    needed = SYSTEM_GB + RELEASE_GB * (release.keep + 1)  # one more is unpacked beside them
    if here.disk_gb < needed:
        expected = f"at least {needed}, for {release.keep} releases (release.keep) and a new one"
        raise file.unfit("infrastructure.disk_gb", here.disk_gb, expected, also="release.keep")
    if not here.public_address and not here.subnets:
        expected = "true, or `subnets` those of a network that reaches the Internet without one"
        raise file.unfit("infrastructure.public_address", "false", expected)
    if here.spot and (here.termination_protection or not file.said.per_branch):
        expected = (
            "false: a spot instance may end at any time, and is for unprotected environments of branches"
        )
        raise file.unfit("infrastructure.spot", "true", expected)
    if here.instances > 1 and "database" in roles:
        expected = "1: each machine of this profile has its own media, jobs and database, so that two would be two shops"
        raise file.unfit("infrastructure.instances", here.instances, expected)
    if (here.ssh_through, file.said.egress) == ("session-manager", "listed"):
        expected = "a jump host or empty: its agent on the machine asks AWS, and egress is listed"
        raise file.unfit("infrastructure.ssh_through", here.ssh_through, expected, also="egress")
    if file.said.backup.at and file.said.has("teardown", offered=False):
        expected = "empty where `stages` or `also` have teardown, which takes the backups' password along"
        raise file.unfit("backup.at", file.said.backup.at, expected)
    if file.said.server.roles.get("nginx", {}).get("tls") and "certificates" not in roles:
        expected = "false: the profile does not list the role certificates under server.roles"
        raise file.unfit("server.nginx.tls", "true", expected)
    _accept_mail(file)
    _accept_endpoints(file, roles, others)
    _accept_stores(file)


def _accept_mail(file: "Read[Environment]") -> None:
    """A copy of the shop mails nobody, and who waits for mail from the others gets it."""
    said, relay = file.said, file.said.server.roles.get("mail", {})
    if said.mail == "caught" and not said.per_branch:
        expected = "relayed: mail is caught in environments of branches (per_branch), elsewhere somebody waits for it"
        raise file.unfit("mail", said.mail, expected, also="per_branch")
    if relay.get("relay_host") and (said.per_branch or said.egress == "listed"):
        expected = "empty in an environment of branches, and where egress is listed: no mail leaves it"
        raise file.unfit("server.mail.relay_host", relay["relay_host"], expected, also="per_branch")
    if relay.get("relay_user") and not relay.get("relay_host"):
        expected = "empty, as there is no relay (server.mail.relay_host)"
        raise file.unfit("server.mail.relay_user", relay["relay_user"], expected)


def _accept_endpoints(file: "Read[Environment]", roles: RoleSettings, others: Iterable[Path]) -> None:
    """One service elsewhere is one environment's, whose hosts reach it directly, and replaces a role as a whole."""
    said = file.said
    for role in roles:
        named = _endpoints(roles, role)
        given = [name for name in named if said.server.roles[role][name]]
        for name in given:
            key, value = f"server.{role}.{name}", said.server.roles[role][name]
            if key not in file.lines:  # a drill and a branch would take the data of others for theirs
                raise file.unfit(key, value, "given by environments' files, each its own, not by the profile")
            if said.per_branch:
                expected = "empty in environments of branches, which would all use the same one"
                raise file.unfit(key, value, expected, also="per_branch")
            if "endpoints" not in roles:
                expected = (
                    "empty: the profile does not list the role endpoints, which asks it, under server.roles"
                )
                raise file.unfit(key, value, expected)
            if said.egress == "listed":
                expected = "empty where egress is listed: the proxy leads to the web alone"
                raise file.unfit(key, value, expected, also="egress")
            if shared := [each.stem for each in others if _says(each, role, value)]:
                raise file.unfit(key, value, f"another one than that of {shared[0]}, whose data are there")
        if given and (missing := [name for name in named if name not in given]):
            expected = f"given, as {given[0]} is: of the services of a role all are elsewhere, or none"
            raise file.unfit(
                f"server.{role}.{missing[0]}", "empty", expected, also=f"server.{role}.{given[0]}"
            )


def _endpoints(roles: RoleSettings, role: str) -> list[str]:
    """The options of a role that may name another host for its services."""
    return [name for name, each in roles[role].items() if each.form is forms.ENDPOINT]


def elsewhere(said: "Environment", roles: RoleSettings) -> frozenset[str]:
    """The roles that no machine has, as an environment's settings have their services elsewhere."""
    named = {role: [said.server.roles[role][name] for name in _endpoints(roles, role)] for role in roles}
    return frozenset(role for role, given in named.items() if given and all(given))


def _says(path: Path, role: str, value: object) -> bool:
    """Whether another environment's file gives a role this value. What is wrong in that file is refused where it is used."""
    try:
        return value in yaml.load(path.read_text(encoding="utf-8"), Loader=LOADER)["server"][role].values()  # noqa: S506  a safe one
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError):
        return False


def _accept_stores(file: "Read[Environment]") -> None:
    names = set() if file.said.per_branch else {(file.said.host_name or Path(file.path).stem).lower()}
    codes = set[tuple[str, str]]()
    for name, each in file.said.stores.items():
        if not forms.DNS_NAME.holds(name):
            raise file.unfit(f"stores.{name}", repr(name), forms.DNS_NAME.words)
        if name.lower() in names:
            raise file.unfit(f"stores.{name}", repr(name), "a host name that nothing else here has")
        if (each.type, each.code) in codes:
            expected = f"a {each.type} without another host name: it has one address"
            raise file.unfit(f"stores.{name}.code", repr(each.code), expected)
        names.add(name.lower())
        codes.add((each.type, each.code))


def stage_unknown(root: Path, environment: str, stage: str, known: Iterable[str]) -> SettingWrong:
    """The refusal of a stage that an environment's file names and dodo.py does not make."""
    path = f"environments/{environment}.yml"
    lines = (root / path).read_text(encoding="utf-8").splitlines()
    line = next(
        (number for number, text in enumerate(lines, 1) if re.search(rf"\b{re.escape(stage)}\b", text)), 1
    )
    known = list(known)
    hint = f" ({meant(stage, known).strip()})" if meant(stage, known) else ""
    expected = f"one of {', '.join(known)}"
    return SettingWrong(path=path, line=line, key="stages", expected=expected, value=f"{stage!r}{hint}")


@dataclass(frozen=True, kw_only=True)
class Read(Generic[T]):
    """A file that was read: what it says, and in which line it says it, by dotted path."""

    path: str
    said: T
    lines: Mapping[str, int]

    def unfit(self, key: str, value: object, expected: str, also: str = "") -> SettingWrong:
        """The refusal of a value that does not fit another one, `also`, which may be the one that the file gives."""
        line = self.lines.get(key) or self.lines.get(also, 1)
        return SettingWrong(path=self.path, line=line, key=key, expected=expected, value=str(value))

    def wrong(self, key: str, value: str, what: str, known: Iterable[str]) -> SettingWrong:
        """The refusal of a name that the file uses and does not declare; `what` is one that it could have used."""
        known = list(known)
        expected = f"{what} ({meant(value, known)}known: {', '.join(known) or 'none'})"
        return SettingWrong(
            path=self.path, line=self.lines[key], key=key, expected=expected, value=repr(value)
        )


def load(kind: type[T], path: Path, root: Path, roles: RoleSettings | None = None) -> T:
    """Read a settings file. Errors name its path relative to `root`. `roles`: the settings of the roles that there are.

    Raises SettingsMissing, SettingsBroken, SettingUnknown, SettingMissing, SettingWrong or RoleUnlisted.
    """
    return read(kind, path, root, roles).said


def read(kind: type[T], path: Path, root: Path, roles: RoleSettings | None = None) -> Read[T]:
    """Read a settings file and keep its lines, for who has more to check in it. Raises what `load` raises."""
    shown = str(path.relative_to(root))
    node = _parsed(path, shown, lambda text: yaml.compose(text, Loader=LOADER))
    reader = _Reader(shown, root, roles)
    made: T = reader.section(kind, node, "")
    return Read(path=shown, said=made, lines=reader.lines)


def _parsed(path: Path, shown: str, parse: Callable[[str], Any]) -> Any:
    """A file's YAML. The only place that opens a settings file. Raises SettingsMissing or SettingsBroken."""
    try:
        return parse(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsMissing(path=shown) from None
    except OSError as error:
        raise SettingsBroken(path=shown, line=1, problem=f"cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise SettingsBroken(path=shown, line=line, problem="is not UTF-8") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SettingsBroken(
            path=shown,
            line=mark.line + 1 if mark else 1,
            problem=str(getattr(error, "problem", None) or getattr(error, "reason", error)),
        ) from None
    except (
        RecursionError,
        ValueError,
        LookupError,
        AttributeError,
        TypeError,
    ):  # what PyYAML does not expect
        raise SettingsBroken(path=shown, line=1, problem="is YAML that cannot be read") from None


# --- roles of others ------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class RequiredRole:
    """A role of others."""

    name: str = setting(
        "its name here: a profile lists it under that, and the option X that it is told there is its variable NAME_X",
        form=forms.ROLE_NAME,
    )
    version: str = setting("its version", form=forms.ROLE_VERSION)
    src: str = setting("URL of its tarball; `{version}` in it is the version", form=forms.URL)
    sha256: str = setting("SHA-256 of that tarball", form=forms.SHA256)

    @property
    def url(self) -> str:
        """Where its tarball is."""
        return self.src.replace("{version}", self.version)


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """requirements.yml: roles of others, which `build/ci/run roles` fetches."""

    roles: tuple[RequiredRole, ...] = setting("roles of others that hosts get", ())


REQUIREMENTS = "requirements.yml"


@functools.cache
def required_roles(root: Path) -> Mapping[str, RequiredRole]:
    """The roles of others by name; none where there is no such file. Raises what `read` raises, and SettingWrong for a name that is taken."""
    path, found = root / REQUIREMENTS, dict[str, RequiredRole]()
    if not path.exists():
        return found
    file = read(Requirements, path, root)
    for number, each in enumerate(file.said.roles):
        if each.name in found or (root / "roles" / each.name).exists():
            expected = "a name that no other role has, here or in roles/"
            raise file.unfit(f"roles[{number}].name", repr(each.name), expected)
        if each.sha256 in {one.sha256 for one in found.values()}:
            raise file.unfit(f"roles[{number}].sha256", each.sha256, "a tarball that no other role has")
        found[each.name] = each
    return found


# --- what the roles declare -----------------------------------------------------------------------

OF_PLAYBOOKS = ("image", "packages", "provisioning_finished", "provisioning_started", "release")
"""The roles that the playbooks name; a profile lists others."""
TOLD = {
    "backup": ("at", "repository", "region", "host", "password", "key_id", "key_secret", "key_token"),
    "application": (
        "name",
        "path",
        "user",
        "web_user",
        "host_name",
        "host_names",
        "base_url",
        "mail_path",
        "stores",
        "test_data",
        "hosts",
        "after",
        "public_keys",
        "signatures",
    ),
    "certificates": ("own", "site"),
    "endpoints": ("asked", "passwords"),
    "database": ("name", "host", "clients", "user", "password", "password_before"),
    "firewall": ("egress", "ssh_from", "admits", "lets_out", "local"),
    "mail": ("catch", "password", "relay_password"),
    "nginx": ("visitor",),
    "proxy": ("listed", "variables"),
    "search": ("password", "stand_in"),
    "self_shutdown": ("enabled", "days", "idle_hours"),
    "shared": ("crypt_key", "writable"),
}
"""The options of each role that the pipeline itself tells: neither settings nor a matter of profiles."""


@functools.cache
def role_names(root: Path) -> tuple[str, ...]:
    """The roles that a profile may list."""
    found = sorted(path.parts[-3] for path in root.glob("roles/*/meta/argument_specs.yml"))
    return tuple(each for each in found if each not in OF_PLAYBOOKS)


@functools.cache
def role(root: Path, name: str) -> Setting:
    """A role as a section: its options from its argument specs, without those that the pipeline tells.

    One of others declares none here, and may be told anything. Raises SettingsBroken.
    """
    if name in required_roles(root):
        return Setting(type=Undeclared(), help="", default=None)
    path = f"roles/{name}/meta/argument_specs.yml"
    text, document = _parsed(root / path, path, lambda text: (text, yaml.load(text, Loader=LOADER)))  # noqa: S506  a safe one
    spec = _main(path, document)
    told = {*TOLD.get(name, ()), *_passwords(name, spec["options"])}
    options = {full.removeprefix(f"{name}_"): (full, each) for full, each in spec["options"].items()}
    keys = {each: _of_option(path, text, *option) for each, option in options.items() if each not in told}
    return Setting(type=Section(keys), help=spec.get("short_description", ""), default=None)


def _passwords(role: str, options: Mapping[str, Any]) -> set[str]:
    """Options of a role that the pipeline tells because no file may say them: those that must be given, and are secret."""
    secret = (full for full, each in options.items() if each.get("no_log") and each.get("required"))
    return {full.removeprefix(f"{role}_") for full in secret}


def every_role(root: Path) -> Section:
    """All roles that a profile may list. For the docs."""
    return Section({name: role(root, name) for name in role_names(root)})


@functools.cache
def of_roles(root: Path) -> RoleSettings:
    """The settings that the roles bring: the options with a default in their argument specs.

    An option without one is no setting: the profile or the pipeline tells it. Raises SettingsBroken.
    """
    # most roles have no setting, and reading YAML takes its time
    likely = (each for each in role_names(root) if "default:" in _specs(root, each))
    found = {each: with_default(role(root, each).type) for each in likely}
    return {name: settings for name, settings in found.items() if settings}


def with_default(options: Mapping[str, Setting]) -> Mapping[str, Setting]:
    """The options of a role that are settings."""
    return {name: each for name, each in options.items() if each.default is not dataclasses.MISSING}


def _specs(root: Path, role: str) -> str:
    """The text of a role's argument specs. Raises SettingsBroken."""
    path = f"roles/{role}/meta/argument_specs.yml"
    return str(_parsed(root / path, path, str))


def _main(path: str, document: Any) -> dict[str, Any]:
    """What a role's argument specs say of its tasks/main.yml. Raises SettingsBroken."""
    try:
        main = document["argument_specs"]["main"]
        options = main.get("options", {})
        if all(isinstance(name, str) and isinstance(each, dict) for name, each in options.items()):
            return {**main, "options": options}
    except (LookupError, TypeError, AttributeError):
        pass
    raise SettingsBroken(path=path, line=1, problem="has no mapping argument_specs.main.options of options")


def _of_option(path: str, text: str, name: str, option: Mapping[str, Any]) -> Setting:
    """What an option of a role declares. Raises SettingsBroken for what no settings file could say."""
    line = text.partition(f" {name}:")[0].count("\n") + 1
    if not isinstance(option.get("type", "str"), str) or not isinstance(option.get("description"), str):
        raise SettingsBroken(path=path, line=line, problem=f"{name}: should have a type and a description")
    described = functools.partial(_described, path, line)
    help, form = described(name, option["description"])
    kind, default = _type(option, described), option.get("default", dataclasses.MISSING)
    value = tuple(default) if isinstance(default, list) else default
    problem = "" if kind else f"no setting is of type {option.get('type')}"
    if value is not dataclasses.MISSING:
        if not _fits(value, kind):
            problem = f"the default {value!r} is no setting of type {option.get('type', 'str')}"
        elif form and not all(form.holds(each) for each in (value if isinstance(value, tuple) else (value,))):
            problem = f"the default {value!r} is no setting that is {form.words}"
    if problem:
        raise SettingsBroken(path=path, line=line, problem=f"{name}: {problem}")
    return Setting(type=kind, help=help, default=value, form=form)


def _type(option: Mapping[str, Any], described: Describe) -> Any:
    """The type of a role's option, None if a settings file has none like it. `described`: see `_described`."""
    kind = option.get("type", "str")
    if kind == "list":
        item = _type({**option, "type": option.get("elements", "str"), "elements": "str"}, described)
        return item and tuple.__class_getitem__((item, ...))
    if kind == "dict":
        return Section(
            {name: _part(name, each, described) for name, each in option.get("options", {}).items()}
        )
    if choices := option.get("choices"):
        return Literal.__getitem__(tuple(choices))
    return {"str": str, "path": Path, "int": int, "bool": bool}.get(kind)


def _part(name: str, option: Mapping[str, Any], described: Describe) -> Setting:
    """What an option declares of a key of its sections; one that is not required may be left out."""
    default = dataclasses.MISSING if option.get("required") else None
    help, form = described(name, str(option["description"]))
    return Setting(type=_type(option, described), help=help, default=default, form=form)


def _fits(value: object, kind: Any) -> bool:
    if typing.get_origin(kind) is Literal:
        return value in typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_fits(each, _item(kind)) for each in value)
    return type(value) is kind


def _described(path: str, line: int, name: str, description: str) -> tuple[str, Form | None]:
    """Help and form of an option: its description may end with `Form: NAME.`, as Ansible takes no key of ours."""
    help, said, words = description.strip().partition("Form:")
    words = words.strip().removesuffix(".")
    form = forms.named(words) if said else None
    if said and not form:
        problem = (
            f"{name}: Form: {words}: is unknown (known: {', '.join(forms.OF_ROLES)}, at least N, from N to N)"
        )
        raise SettingsBroken(path=path, line=line, problem=problem)
    return help.strip().rstrip("."), form


def plain(value: Any) -> Any:
    """A value in the words of JSON, as records and roles get it: sections and mappings are dicts, tuples are lists."""
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, Path):
        return str(value)
    return [plain(each) for each in value] if isinstance(value, tuple) else value


def flat(settings: object, prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted path, for records and for comparing them."""
    found: dict[str, object] = {}
    for each in dataclasses.fields(settings):  # type: ignore[arg-type]
        value, path = getattr(settings, each.name), f"{prefix}{each.name}"
        if OF_ROLES in each.metadata:
            told = {f"{role}.{name}": one for role, names in value.items() for name, one in names.items()}
            found |= {f"{prefix}{name}": plain(one) for name, one in told.items()}
        elif dataclasses.is_dataclass(value):
            found |= flat(value, f"{path}.")
        elif isinstance(value, Mapping):
            for key, one in value.items():
                inner = dataclasses.is_dataclass(one)
                found |= flat(one, f"{path}.{key}.") if inner else {f"{path}.{key}": list(one)}
        else:
            found[path] = list(value) if isinstance(value, tuple) else value
    return found


def declared(
    kind: Any, roles: RoleSettings, prefix: str = "", *, listed: Section | None = None
) -> Iterator[tuple[str, str, str, str]]:
    """Every setting of a file: dotted path, type, default, help. For the docs. `listed`: the roles that a profile may list.

    What each section of a list or a mapping has is below the list, as `layers[].files` or `inherits.NAME.file`.
    """
    for name, each in _settings(kind).items():
        path, of = f"{prefix}{name}", listed if each.type is RolesTold else each.type
        if not dataclasses.is_dataclass(of) or each.default is None:
            yield path, _expected(of, each.form), _default(each), each.help
        for inner, where in ((of, "."), (_item(of), "[]." if typing.get_origin(of) is tuple else ".NAME.")):
            if dataclasses.is_dataclass(inner) or isinstance(inner, Section):
                yield from declared(inner, roles, f"{path}{where}", listed=listed)
    if kind is Server:
        for role, settings in roles.items():
            yield from declared(Section(settings), {}, f"{prefix}{role}.")


def _settings(kind: Any) -> dict[str, Setting]:
    """What a section declares."""
    return kind if isinstance(kind, Section) else _of_class(kind)


@functools.cache
def _of_class(kind: type) -> dict[str, Setting]:
    """What a section's class declares, without what it leaves to the roles. A list of sections asks for each of them."""
    hints = typing.get_type_hints(kind)
    return {
        each.name: Setting(
            type=_given(hints[each.name]),
            help=each.metadata["help"],
            default=each.default if each.default_factory is dataclasses.MISSING else each.default_factory,
            form=each.metadata.get("form"),
        )
        for each in dataclasses.fields(kind)
        if OF_ROLES not in each.metadata
    }


def _given(kind: Any) -> Any:
    """The type of a value that is there: `T` of `T | None`."""
    return typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind


def _item(kind: Any) -> Any:
    """The type of what a list or a mapping holds, None where it is neither."""
    if typing.get_origin(kind) is tuple:
        return typing.get_args(kind)[0]
    return typing.get_args(kind)[1] if typing.get_origin(kind) is Mapping else None


def _default(each: Setting) -> str:
    if each.default is None or callable(each.default):
        return "none"
    if each.default is dataclasses.MISSING:
        return "must be given"
    value = list(each.default) if isinstance(each.default, tuple) else each.default
    text = yaml.safe_dump(value, default_flow_style=True).strip()
    return f"`{text.removesuffix('...').strip()}`"


class _Reader:
    """Turns YAML nodes into settings: nodes have line numbers, which loaded values do not.

    A type says how a node is read: a dataclass is a section, `tuple[T, ...]` a list, `Mapping[str, T]` a mapping of
    names of the file's own choice, anything else a scalar. They hold each other to any depth.
    """

    def __init__(self, path: str, root: Path, roles: RoleSettings | None) -> None:
        self.path = path
        self.root = root
        self.roles = roles
        self.lines: dict[str, int] = {}
        self.yaml = yaml.SafeLoader("")

    def section(self, kind: type, node: yaml.Node | None, prefix: str) -> Any:
        if kind is not Server:
            return kind(**self._settings(_settings(kind), node, prefix))
        roles = of_roles(self.root) if self.roles is None else self.roles
        known = {name: Setting(type=Section(each), help="", default=None) for name, each in roles.items()}
        values = self._settings({**_settings(kind), **known}, node, prefix)
        own = {
            role: {name: each.default for name, each in settings.items()} | values.pop(role, {})
            for role, settings in roles.items()
        }
        return Server(roles=own, **values)

    def _settings(self, known: Mapping[str, Setting], node: yaml.Node | None, prefix: str) -> dict[str, Any]:
        """The values of a section: what the file says, and the sections that it leaves out."""
        values: dict[str, Any] = {}
        for key, line, child in self._entries(node, prefix):
            if key not in known:
                raise self._unknown(key, line, prefix, known)
            values[key] = self._value(known[key].type, child, prefix + key, known[key].form)
        for name, each in known.items():
            if name in values:
                continue
            if each.default is dataclasses.MISSING:
                line = node.start_mark.line + 1 if node else 1
                raise SettingMissing(path=self.path, line=line, key=prefix + name, help=each.help)
            if dataclasses.is_dataclass(each.type) and each.default is not None:
                values[name] = self._value(each.type, None, prefix + name)
        return values

    def _unknown(
        self, key: str, line: int, prefix: str, known: Iterable[str]
    ) -> SettingUnknown | RoleUnlisted:
        if prefix == "server." and self.roles is not None and key in role_names(self.root):
            words = {"key": prefix + key, "known": ", ".join(self.roles)}
            return RoleUnlisted(path=self.path, line=line, **words)
        names = list(known)
        words = {"meant": meant(key, names), "known": ", ".join(names) or "none"}
        return SettingUnknown(path=self.path, line=line, key=prefix + key, **words)

    def _told(self, node: yaml.Node, key: str) -> dict[str, Any]:
        """What the file tells each role that it lists."""
        known, values = (*role_names(self.root), *required_roles(self.root)), {}
        for name, line, child in self._entries(node, f"{key}."):
            if name not in known:
                raise self._unknown(name, line, f"{key}.", known)
            values[name] = self._value(role(self.root, name).type, child, f"{key}.{name}")
        return values

    def _entries(self, node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int, yaml.Node]]:
        if node is None or node.tag == NULL or (isinstance(node, yaml.ScalarNode) and not node.value):
            return
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, prefix.rstrip(".") or "the file", "a mapping of names to values")
        seen: set[str] = set()
        for name, child in node.value:
            line = name.start_mark.line + 1
            if not isinstance(name, yaml.ScalarNode):
                raise self._wrong(name, prefix.rstrip(".") or "the file", "a mapping of names to values")
            if name.value in seen:
                problem = f"{prefix}{name.value}: is given twice"
                raise SettingsBroken(path=self.path, line=line, problem=problem)
            seen.add(name.value)
            self.lines[prefix + name.value] = line
            yield name.value, line, child

    def _value(self, kind: Any, node: yaml.Node | None, key: str, form: Form | None = None) -> object:
        if dataclasses.is_dataclass(kind):
            return self.section(typing.cast("type[object]", kind), node, f"{key}.")
        node = typing.cast("yaml.Node", node)  # only a section can be left out
        if isinstance(kind, Undeclared):
            return {
                name: self._any(child, f"{key}.{name}") for name, _, child in self._entries(node, f"{key}.")
            }
        if isinstance(kind, Section):
            return self._settings(kind, node, f"{key}.")
        if kind is RolesTold:
            return self._told(node, key)
        if typing.get_origin(kind) is Mapping:
            entries = self._entries(node, f"{key}.")
            return {
                name: self._value(_item(kind), child, f"{key}.{name}", form) for name, _, child in entries
            }
        if typing.get_origin(kind) is tuple:
            return self._list(kind, node, key, form)
        return self._scalar(kind, node, key, form)

    def _any(self, node: yaml.Node, key: str) -> object:
        """A value that nobody here declares."""
        try:
            value = self.yaml.construct_object(node, deep=True)
            json.dumps(value)
        except Exception:  # as in `_scalar`
            raise self._wrong(node, key, "a value that JSON has") from None
        return value

    def _list(self, kind: Any, node: yaml.Node, key: str, form: Form | None) -> tuple[object, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, key, _expected(kind, form))
        found = []
        for number, child in enumerate(node.value):
            self.lines[f"{key}[{number}]"] = child.start_mark.line + 1
            found.append(self._value(_item(kind), child, f"{key}[{number}]", form))
        return tuple(found)

    def _scalar(self, kind: Any, node: yaml.Node, key: str, form: Form | None) -> object:
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, key, _expected(kind))
        try:
            value = node.value if node.tag == TEXT else self.yaml.construct_object(node)
        # PyYAML raises whatever comes up: a tag that is not YAML's own, a date in no calendar, `!!bool x`
        except Exception:
            raise self._wrong(node, key, _expected(kind)) from None
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        if kind is Path:
            return self._template(node, key)
        # bool is an int in Python, not in a settings file
        if value not in choices if choices else type(value) is not kind:
            raise self._wrong(node, key, _expected(kind))
        if (kind is int and not forms.WHOLE.fullmatch(node.value)) or (
            kind is str and not forms.is_text(value)
        ):
            raise self._wrong(node, key, _expected(kind, form))
        if form and not form.holds(value):
            raise self._wrong(node, key, _expected(kind, form))
        return form.normal(value) if form and form.normal else value

    def _template(self, node: yaml.ScalarNode, key: str) -> Path:
        """A template beside the file that names it, relative to it."""
        folder = (self.root / self.path).parent
        if not (folder / node.value).is_file():
            known = sorted(each.name for each in folder.glob("*.j2"))
            names = f"{meant(node.value, known)}known: {', '.join(known) or 'none'}"
            raise self._wrong(node, key, f"a template in {folder.relative_to(self.root)} ({names})")
        return Path(node.value)

    def _wrong(self, node: yaml.Node, key: str, expected: str) -> SettingWrong:
        return SettingWrong(
            path=self.path,
            line=node.start_mark.line + 1,
            key=key,
            expected=expected,
            value=repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping",
        )


def _expected(kind: Any, form: Form | None = None) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, typing.get_args(kind)))
    if typing.get_origin(kind) is tuple:
        return f"a list, each {_expected(_item(kind), form)}"
    if typing.get_origin(kind) is Mapping:
        each = _item(kind)
        plural = "lists" if typing.get_origin(each) is tuple else "texts" if each is str else "sections"
        return f"a mapping of names to {plural}"
    if dataclasses.is_dataclass(kind) or isinstance(kind, Section):
        return "a section"
    if form:
        return form.words
    return {str: "a text", Path: "a template", int: "a whole number", bool: "true or false"}[kind]
