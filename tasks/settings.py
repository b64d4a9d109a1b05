"""settings: what the repository decides: type, default, help and error of each setting, declared once."""

from __future__ import annotations

import dataclasses
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml

from tasks.nearest import meant
from tasks.refusal import UNKNOWN, Refusal

T = TypeVar("T")
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The same loader, in C where PyYAML has it."""
Options = Mapping[str, tuple[str, ...]]


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
    """A setting without a default is missing from the file."""

    sentence = "{path}: {key}: is missing ({help})"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


class SettingWrong(Refusal):
    """A value of the wrong type, or not one of those known."""

    sentence = "{path}:{line}: {key}: should be {expected}, not {value}"
    remedy = "$EDITOR {path}"
    exit_code = UNKNOWN


def setting(help: str, default: Any = dataclasses.MISSING) -> Any:
    """Declare a setting; without a default it must be given."""
    return field(default=default, metadata={"help": help})


def section(of: type[T]) -> T:
    """Declare a group of settings that all have defaults."""
    made: T = field(default_factory=of, metadata={"help": (of.__doc__ or "").rstrip(".")})
    return made


@dataclass(frozen=True, kw_only=True)
class Application:
    """What is released."""

    path: str = setting("folder of the application, from the pipeline's; `.` if it is the same", "app")
    exclude: tuple[str, ...] = setting("paths in that folder that are not the application's", ())
    keep: tuple[str, ...] = setting(
        "paths in that folder that are the application's, though they are excluded or called like the pipeline's own",
        (),
    )
    profile: str = setting("its kind: a folder in applications/")
    options: Options = field(
        default_factory=dict,
        metadata={"help": "what the profile can be told, such as themes and locales"},
    )
    commands: Options = field(
        default_factory=dict,
        metadata={"help": "commands of layers, in place of the profile's"},
    )


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """When orphans and old objects are deleted."""

    grace_hours: int = setting("hours from the first sight of an orphan to its deletion", 24)
    share: int = setting("percent of everything that one sweep may delete", 50)
    tarballs: int = setting(
        "newest tarballs kept of the default branch, and as many of the other branches", 100
    )
    tarball_days: int = setting("days that a tarball is kept", 60)
    layer_days: int = setting("days that a layer is kept", 30)
    record_days: int = setting("days that records of commits, builds and runs are kept", 365)


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """pipeline.yml: this project."""

    name: str = setting("name of the project, part of the names of what it creates")
    default_branch: str = setting("the branch that goes to staging and production", "main")
    application: Application = setting("what is released")
    dns_zone: str = setting("zone of the environments' host names", "shop.localhost")
    cloud: Literal["embedded", "aws"] = setting("where machines come from", "embedded")
    region: str = setting("region of the cloud", "eu-central-1")
    bucket: str = setting("bucket for tarballs and records; empty: NAME-releases", "")
    public_keys: tuple[str, ...] = setting("minisign keys that tarballs may be signed with: `doit key`", ())
    image: str = setting("name of the image that machines start from", "debian-12")
    instance_type: str = setting("size of a machine", "t3.medium")
    budget: int = setting("seconds that a release may take; printed, not enforced", 300)
    sweep: Sweep = section(Sweep)


@dataclass(frozen=True, kw_only=True)
class Infrastructure:
    """The machines of an environment and who may reach them."""

    manage: Literal["all", "additive", "plan"] = setting(
        "what may be changed: all; additive: only additions, other plans are refused; plan: nothing, it is only shown",
        "all",
    )
    instances: int = setting("number of machines", 1)
    instance_type: str = setting("size of a machine; empty: the one of pipeline.yml", "")
    termination_protection: bool = setting("whether the cloud refuses to end a machine", False)
    ends_itself: bool = setting(
        "whether a machine that has expired or is idle shuts itself down, which terminates it", False
    )
    idle_hours: int = setting("hours without a visitor or a login after which a machine is idle; 0: never", 0)
    ssh_from: tuple[str, ...] = setting("networks that may use SSH", ("0.0.0.0/0",))
    http_from: tuple[str, ...] = setting("networks that may use HTTP and HTTPS", ("0.0.0.0/0",))
    owner: str = setting("tag: who is responsible for it", "web")
    cost_centre: str = setting("tag: who pays for it", "web")


@dataclass(frozen=True, kw_only=True)
class Base:
    """Every machine."""

    timezone: str = setting("time zone", "UTC")


@dataclass(frozen=True, kw_only=True)
class Mariadb:
    """The database."""

    buffer_pool: str = setting("InnoDB's buffer pool", "256M")


@dataclass(frozen=True, kw_only=True)
class Redis:
    """Sessions and cache."""

    maxmemory: str = setting("most memory it may take", "128mb")


@dataclass(frozen=True, kw_only=True)
class Php:
    """PHP and PHP-FPM."""

    version: str = setting("version, as in Debian's package names", "8.2")
    memory_limit: str = setting("most memory of one request", "512M")
    max_children: int = setting("requests served at once", 10)


@dataclass(frozen=True, kw_only=True)
class Varnish:
    """The page cache."""

    memory: str = setting("memory for pages", "128m")


@dataclass(frozen=True, kw_only=True)
class Nginx:
    """The web server."""

    client_max_body_size: str = setting("largest upload", "64m")


@dataclass(frozen=True, kw_only=True)
class Server:
    """What runs on a machine: `server.ROLE.NAME` is the variable ROLE_NAME of that role."""

    leftovers: Literal["remove", "report"] = setting(
        "what happens to what the roles no longer manage", "remove"
    )
    base: Base = section(Base)
    mariadb: Mariadb = section(Mariadb)
    redis: Redis = section(Redis)
    php: Php = section(Php)
    varnish: Varnish = section(Varnish)
    nginx: Nginx = section(Nginx)


@dataclass(frozen=True, kw_only=True)
class Release:
    """How a tarball goes live."""

    keep: int = setting("releases kept on a machine", 3)
    test_data: bool = setting("whether the application gets its test data", False)
    expires_after_days: int = setting("days until the environment may be deleted; 0: never", 0)


@dataclass(frozen=True, kw_only=True)
class Environment:
    """environments/NAME.yml: a place to release to."""

    per_branch: bool = setting("one environment for each branch, named by its hash", False)
    host_name: str = setting("host name below the zone; empty: the environment's own name", "")
    stages: tuple[str, ...] = setting("the only stages that exist here; none: all that dodo.py offers", ())
    also: tuple[str, ...] = setting("stages that exist here in addition to those that dodo.py offers", ())
    uncommitted: Literal["allowed", "refused"] = setting(
        "whether uncommitted files may be released", "refused"
    )
    signatures: Literal["optional", "required"] = setting(
        "whether a tarball needs a signature by one of `public_keys` to go live", "optional"
    )
    takes_from: str = setting("environment on which a tarball must have been healthy before; empty: none", "")
    builders: tuple[str, ...] = setting("roles or users whose tarballs are taken; none: all", ())
    approvals: Literal["none", "different_person"] = setting(
        "whether one person must start and another one continue", "none"
    )
    freezes: tuple[str, ...] = setting(
        "times without releases, each FROM/TO in UTC (2026-12-20/2027-01-06T08:00)", ()
    )
    strategy: Literal["mitogen_linear", "linear"] = setting("how Ansible runs its tasks", "mitogen_linear")
    infrastructure: Infrastructure = section(Infrastructure)
    server: Server = section(Server)
    release: Release = section(Release)

    @property
    def named_stages(self) -> tuple[str, ...]:
        """The stages that the file names."""
        return (*self.stages, *self.also)

    def has(self, stage: str, *, offered: bool = True) -> bool:
        """Whether a stage exists here, given whether dodo.py offers it to every environment."""
        return stage in self.named_stages or (offered and not self.stages)


def stage_unknown(root: Path, environment: str, stage: str, known: Iterable[str]) -> SettingWrong:
    """The refusal of a stage that an environment's file names and dodo.py does not make."""
    path = f"environments/{environment}.yml"
    lines = (root / path).read_text().splitlines()
    line = next(
        (number for number, text in enumerate(lines, 1) if re.search(rf"\b{re.escape(stage)}\b", text)), 1
    )
    known = list(known)
    hint = f" ({meant(stage, known).strip()})" if meant(stage, known) else ""
    expected = f"one of {', '.join(known)}"
    return SettingWrong(path=path, line=line, key="stages", expected=expected, value=f"{stage!r}{hint}")


def load(kind: type[T], path: Path, root: Path) -> T:
    """Read a settings file. Errors name its path relative to `root`.

    Raises SettingsMissing, SettingsBroken, SettingUnknown, SettingMissing or SettingWrong.
    """
    shown = str(path.relative_to(root))
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise SettingsMissing(path=shown) from None
    try:
        node = yaml.compose(text, Loader=LOADER)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise SettingsBroken(
            path=shown,
            line=mark.line + 1 if mark else 1,
            problem=str(getattr(error, "problem", error)),
        ) from None
    made: T = _Reader(shown).section(kind, node, "")
    return made


def flat(settings: object, prefix: str = "") -> dict[str, object]:
    """Every setting by its dotted path, for records and for comparing them."""
    found: dict[str, object] = {}
    for each in dataclasses.fields(settings):  # type: ignore[arg-type]
        value, path = getattr(settings, each.name), f"{prefix}{each.name}"
        if dataclasses.is_dataclass(value):
            found |= flat(value, f"{path}.")
        elif isinstance(value, Mapping):
            found |= {f"{path}.{key}": list(each) for key, each in value.items()}
        else:
            found[path] = list(value) if isinstance(value, tuple) else value
    return found


def declared(kind: type, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Every setting of a file: dotted path, type, default, help. For the docs."""
    types = typing.get_type_hints(kind)
    for each in dataclasses.fields(kind):
        path = f"{prefix}{each.name}"
        if dataclasses.is_dataclass(types[each.name]):
            yield from declared(types[each.name], f"{path}.")
        else:
            yield path, _expected(types[each.name]), _default(each), each.metadata["help"]


def _default(each: dataclasses.Field[Any]) -> str:
    if each.default_factory is not dataclasses.MISSING:
        return "none"
    if each.default is dataclasses.MISSING:
        return "must be given"
    value = list(each.default) if isinstance(each.default, tuple) else each.default
    text = yaml.safe_dump(value, default_flow_style=True).strip()
    return f"`{text.removesuffix('...').strip()}`"


class _Reader:
    """Turns YAML nodes into settings: nodes have line numbers, which loaded values do not."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.yaml = yaml.SafeLoader("")

    def section(self, kind: type[Any], node: yaml.Node | None, prefix: str) -> Any:
        types = typing.get_type_hints(kind)
        fields = {each.name: each for each in dataclasses.fields(kind)}
        values: dict[str, object] = {}
        for key, line, child in self._entries(node, prefix):
            if key not in fields:
                known = {"meant": meant(key, fields), "known": ", ".join(fields)}
                raise SettingUnknown(path=self.path, line=line, key=prefix + key, **known)
            values[key] = self._value(types[key], child, prefix + key)
        for name, each in fields.items():
            optional = (each.default, each.default_factory) != (dataclasses.MISSING,) * 2
            if name not in values and not optional:
                raise SettingMissing(path=self.path, key=prefix + name, help=each.metadata["help"])
        return kind(**values)

    def _entries(self, node: yaml.Node | None, key: str) -> Iterator[tuple[str, int, yaml.Node]]:
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value):
            return
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, key.rstrip(".") or "the file", "a mapping of names to values")
        seen: set[str] = set()
        for name, child in node.value:
            line = name.start_mark.line + 1
            if name.value in seen:
                problem = f"{key}{name.value}: is given twice"
                raise SettingsBroken(path=self.path, line=line, problem=problem)
            seen.add(name.value)
            yield name.value, line, child

    def _value(self, kind: Any, node: yaml.Node, key: str) -> object:
        if dataclasses.is_dataclass(kind):
            return self.section(typing.cast("type[object]", kind), node, f"{key}.")
        if kind == Options:
            entries = self._entries(node, f"{key}.")
            return {name: self._list(str, child, f"{key}.{name}") for name, _, child in entries}
        if typing.get_origin(kind) is tuple:
            return self._list(typing.get_args(kind)[0], node, key)
        return self._scalar(kind, node, key)

    def _list(self, kind: Any, node: yaml.Node, key: str) -> tuple[object, ...]:
        if not isinstance(node, yaml.SequenceNode):
            raise self._wrong(node, key, f"a list, each {_expected(kind)}")
        return tuple(self._scalar(kind, each, key) for each in node.value)

    def _scalar(self, kind: Any, node: yaml.Node, key: str) -> object:
        value = self.yaml.construct_object(node, deep=True)
        choices = typing.get_args(kind) if typing.get_origin(kind) is Literal else ()
        # bool is an int in Python, not in a settings file
        if value in choices if choices else type(value) is kind:
            return value
        raise self._wrong(node, key, _expected(kind))

    def _wrong(self, node: yaml.Node, key: str, expected: str) -> SettingWrong:
        return SettingWrong(
            path=self.path,
            line=node.start_mark.line + 1,
            key=key,
            expected=expected,
            value=repr(node.value) if isinstance(node, yaml.ScalarNode) else "a list or a mapping",
        )


def _expected(kind: Any) -> str:
    if typing.get_origin(kind) is Literal:
        return "one of " + ", ".join(typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return f"a list, each {_expected(typing.get_args(kind)[0])}"
    if kind == Options:
        return "a mapping of names to lists"
    return {str: "a text", int: "a whole number", bool: "true or false"}[kind]
