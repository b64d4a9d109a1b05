"""profile: what kind of application this is, as data: how it is built, served and released."""

# without `annotations` of __future__: types that are texts are read again by each dataclass, at every start

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tasks import forms
from tasks.nearest import meant
from tasks.network import ApplicationConnection
from tasks.refusal import UNKNOWN, Refusal
from tasks.settings import (
    Application,
    Options,
    Read,
    RoleSettings,
    RolesTold,
    SettingsBroken,
    SettingUnknown,
    read,
    role,
    section,
    setting,
    with_default,
)


class ProfileOptionUnknown(Refusal):
    """An option under `application.options` that the profile does not have."""

    sentence = (
        "pipeline.yml: application.options.{option}: unknown option of {profile} ({meant}known: {known})"
    )
    remedy = "$EDITOR pipeline.yml"
    exit_code = UNKNOWN


class ProfileLayerUnknown(Refusal):
    """A layer under `application.commands` that the profile does not have."""

    sentence = (
        "pipeline.yml: application.commands.{layer}: unknown layer of {profile} ({meant}known: {known})"
    )
    remedy = "$EDITOR pipeline.yml"
    exit_code = UNKNOWN


Words = tuple[str, ...]
"""A command and its arguments; or paths, or names."""

# --- what profile.yml may say ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Inheritance:
    """Where the parent of an option's value is named: the first group of `match` in the file."""

    file: str = setting("file of the application that names the parent; `{NAME}` is the value")
    match: str = setting("regular expression whose first group is the parent's name", form=forms.PATTERN)


@dataclass(frozen=True, kw_only=True)
class DeclaredLayer:
    """A part of the build, as the profile says it."""

    name: str = setting("its name: the task is `tarball:NAME`")
    for_each: Mapping[str, str] = setting(
        "placeholders and the option that each goes through: a layer for each combination, `{theme: themes}`; "
        "an option `OPTION.VALUE` stands for `OPTION` where a placeholder before it has that value",
        {},
    )
    files: Words = setting(
        "files and folders that it is built from; `*` within a name, `**/` over any folders", ()
    )
    present: Words = setting("files that are there for the commands and do not decide about the output", ())
    unseen: Words = setting(
        "files that the commands look for and which they do not get, on purpose: `doit verify` reports others",
        (),
    )
    after: Words = setting("layers above it whose output it needs", ())
    tools: Words = setting("names of tools whose versions are inputs", ())
    variables: Words = setting("environment variables that the commands see, and which are inputs", ())
    credentials: Words = setting("environment variables that the commands see, and which are no inputs", ())
    caches: Words = setting("environment variables that name a folder which outlives the build", ())
    network: bool = setting(
        "its commands reach the network, to fetch what a lock file names; else none at all", False
    )
    environment: Mapping[str, str] = setting("environment variables with their values", {})
    commands: tuple[Words, ...] = setting(
        "commands, run in this order; `{key}` is the layer's key, `{NAME}` a value of `for_each`"
    )
    outputs: Words = setting("what is kept of what the commands make; `.` is everything")
    promises: Words = setting("patterns, each of which must match a file after the commands", ())
    seconds: int = setting(
        "about what it takes, until it was built on this machine: it decides which goes first",
        60,
        form=forms.at_least(1),
    )


@dataclass(frozen=True, kw_only=True)
class Serving:
    """What a machine needs to serve the application."""

    roles: RolesTold = setting(
        "the roles of a machine in this order, each with what it is told: options of "
        "`roles/ROLE/meta/argument_specs.yml`; one with a default is the setting `server.ROLE.NAME` too"
    )
    groups: Options = setting(
        "roles that may have a machine of their own, by the group's name; the others are on every machine: `infrastructure.placement` says which groups are where",
        {},
    )
    tried_with: Words = setting(
        "those of `roles` without which a backup cannot be tried on a host of its own: `doit drill`", ()
    )
    connects: tuple[ApplicationConnection, ...] = setting("what the application connects to, as its user", ())


@dataclass(frozen=True, kw_only=True)
class Work:
    """A question and the command for when it is answered with yes."""

    due: Words = setting(
        "command that checks whether there is work: 0 is no, `due_exit` yes, another code an error"
    )
    due_exit: int = setting("its exit code if there is work", form=forms.between(1, 255))
    run: Words = setting("command that does the work")


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """How maintenance is switched on and off."""

    active_file: str = setting("file inside a release that exists during maintenance")
    on: Words = setting("command that switches it on")
    off: Words = setting("command that switches it off")


@dataclass(frozen=True, kw_only=True)
class Install:
    """How the application gets into an empty database. A script is read from standard input: process lists show arguments."""

    interpreter: Words = setting("command that reads a script from its standard input")
    due: Path = setting(
        "template of the script that checks whether the database is empty: 0 is no, `due_exit` yes, another code an error"
    )
    due_exit: int = setting("its exit code if it is", form=forms.between(1, 255))
    run: Path = setting(
        "template of the script that installs; the shared configuration is not linked meanwhile, so it may write its own"
    )
    then: tuple[Path, ...] = setting(
        "templates of scripts that follow, once the shared configuration is linked", ()
    )
    lent: Words = setting("as `release.lent`, for the installation", ())
    administrator: str = setting(
        "name of the first administrator: `doit secrets show admin`", form=forms.FILLED
    )
    page: str = setting("path of the administrator's page: `doit open admin`", form=forms.URL_PATH)


@dataclass(frozen=True, kw_only=True)
class WrittenByCommands:
    """How is found out what a command has written into its copy of the shared configuration."""

    interpreter: Words = setting("command that reads a script from its standard input")
    names: Path = setting(
        "template of the script that prints the names of what was changed, a line each, and no value"
    )


@dataclass(frozen=True, kw_only=True)
class StaticFiles:
    """Files whose addresses have a version that changes with them, so that browsers never ask again."""

    folder: str = setting("folder inside a release that has them")
    version: str = setting("file inside a release that has their version: letters, digits, `.`, `-` and `_`")


@dataclass(frozen=True, kw_only=True)
class GoingLive:
    """How a release of the application goes live: what the role `release` gets as `release_profile`."""

    health_path: str = setting(
        "path that answers 200 when everything that the application needs works", "/", form=forms.URL_PATH
    )
    pages: Words = setting(
        "paths that answer 200 before visitors get a release and afterwards, with the files of the site that they name",
        (),
    )
    static: StaticFiles | None = setting(
        "which files are kept for `release.static_hours`, by version and outside of the releases", None
    )
    writable: Words = setting(
        "folders inside a release that commands and pages write in, beside those that releases share; all else is root's",
        (),
    )
    lent: Words = setting(
        "folders inside a release of which commands that change data get a copy, to write into", ()
    )
    install: Install | None = setting("how the application is installed into an empty database", None)
    written: WrittenByCommands | None = setting(
        "how is found out what a command has written into its copy of the shared configuration", None
    )
    migration: Work | None = setting("how the database is migrated", None)
    online: str = setting(
        "file inside a release that names, as `sha256sum` writes it, files of `migrations` with whose changes old and new code work: "
        "where all that are new are named, a migration closes nothing. Empty for none",
        "",
    )
    copy: Words = setting(
        "command of root's on the host for the database: with `take` it writes a copy to its standard output, with `restore FILE` it brings one back; "
        "a migration is preceded by a copy. Empty for none",
        (),
    )
    configuration: Work | None = setting("how configuration is imported into the database", None)
    maintenance: Maintenance | None = setting("how maintenance is switched on and off", None)
    after_switch: tuple[Words, ...] = setting("commands of the new release once it is the current one", ())
    late: tuple[Words, ...] = setting(
        "commands of the new release once visitors have it, such as warming and reindexing: they fail no release, and have ten minutes",
        (),
    )
    restart: Words = setting(
        "systemd units that run the current release's code: stopped while data changes, restarted by each release",
        (),
    )
    unit: str = setting(
        "template of the systemd unit that runs one release and nothing else, and whose instance is the release's id; empty for none",
        "",
        form=forms.UNIT_TEMPLATE,
    )


@dataclass(frozen=True, kw_only=True)
class ProfileFile:
    """applications/NAME/profile.yml: a kind of application."""

    packages: Words = setting("Debian packages that the build machine needs", ())
    options: Options = setting(
        "lists over which a build can be split; `application.options` in pipeline.yml replaces them", {}
    )
    tools: Options = setting("commands that print a tool's version", {})
    inherits: Mapping[str, Inheritance] = setting(
        "placeholders of `for_each` whose values name a parent: its files are inputs too", {}
    )
    layers: tuple[DeclaredLayer, ...] = setting(
        "the parts of the build, each below those that it comes after"
    )
    stamps: Options = setting("files that get the digest of the keys of the layers that are listed", {})
    exclude: Words = setting("paths, from the application's root, that never enter the tarball", ())
    forbidden: Words = setting("patterns of files that git must not have: they hold credentials", ())
    sbom: str = setting("lock file that lists the tarball's components, a composer.lock", "")
    migrations: Words = setting("patterns of paths that change the database; `doit continue` names them", ())
    server: Serving = setting("what a machine needs to serve the application")
    release: GoingLive = section(GoingLive)


# --- what the pipeline makes of it ----------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A part of the build: its inputs, its commands, its outputs, and what must exist at the end (`promises`).

    `name` is unique; `declared` is the name in the profile, and `chosen` has the option values of its `for_each`.
    """

    name: str
    declared: str
    chosen: Mapping[str, str]
    files: Words
    present: Words
    unseen: Words
    after: Words
    tools: Words
    variables: Words
    credentials: Words
    caches: Words
    network: bool
    environment: Mapping[str, str]
    commands: tuple[Words, ...]
    outputs: Words
    promises: Words
    seconds: int


def filled(word: str, values: Mapping[str, str]) -> str:
    """A word with its `{name}` placeholders filled in; braces of other names stay as they are."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A folder of `applications/`: its profile.yml with the project's options, and the templates beside it."""

    name: str
    folder: Path
    packages: Words
    options: Options
    layers: tuple[Layer, ...]
    tools: Options
    inherits: Mapping[str, Inheritance]
    stamps: Options
    exclude: Words
    forbidden: Words
    sbom: str
    migrations: Words
    server: Serving
    release: GoingLive
    settings: RoleSettings
    """The settings of the roles that it lists, with the defaults that it gives them."""
    file: Read[ProfileFile]
    """profile.yml, for what is checked once the environment is known."""


def load(root: Path, application: Application) -> Profile:
    """Read a profile, with the project's options over its own.

    Raises ProfileOptionUnknown, ProfileLayerUnknown or a refusal of settings.
    """
    folder = root / "applications" / application.profile
    file = read(ProfileFile, folder / "profile.yml", root)
    check_names(file)
    said = file.said
    options = {**said.options, **application.options}
    for name in application.options:
        if name not in said.options and not _narrows(name, said, options):
            known = {"meant": meant(name, said.options), "known": ", ".join(said.options)}
            raise ProfileOptionUnknown(option=name, profile=application.profile, **known)
    declared = [each.name for each in said.layers]
    for name in application.commands:
        if name not in declared:
            known = {"meant": meant(name, declared), "known": ", ".join(declared)}
            raise ProfileLayerUnknown(layer=name, profile=application.profile, **known)
    return Profile(
        name=application.profile,
        folder=folder,
        packages=said.packages,
        options=options,
        layers=tuple(_layers(said.layers, options, application.commands)),
        tools=said.tools,
        inherits=said.inherits,
        stamps=said.stamps,
        exclude=said.exclude,
        forbidden=said.forbidden,
        sbom=said.sbom,
        migrations=said.migrations,
        server=said.server,
        release=said.release,
        settings=_settings(root, said.server.roles),
        file=file,
    )


def _narrows(name: str, said: ProfileFile, options: Options) -> bool:
    """Whether an option is one of the profile's for one value of another: `locales.Shop/spring`."""
    option, _, value = name.partition(".")
    others = (values for each, values in options.items() if each.partition(".")[0] != option)
    return option in said.options and any(value in values for values in others)


def _settings(root: Path, told: Mapping[str, Mapping[str, object]]) -> RoleSettings:
    return {
        name: {
            each: replace(declared, default=said.get(each, declared.default))
            for each, declared in with_default(role(root, name).type).items()
        }
        for name, said in told.items()
    }


def check_names(file: Read[ProfileFile]) -> None:
    """Every layer, option and tool that the file names is one that it declares.

    Raises SettingWrong, SettingUnknown or SettingsBroken.
    """
    said = file.said
    above: list[str] = []
    for number, layer in enumerate(said.layers):
        path = f"layers[{number}]"
        if layer.name in above:
            line, problem = file.lines[f"{path}.name"], f"{path}.name: {layer.name} is declared twice"
            raise SettingsBroken(path=file.path, line=line, problem=problem)
        for name, option in layer.for_each.items():
            if option not in said.options:
                raise file.wrong(f"{path}.for_each.{name}", option, "an option", said.options)
        _check_list(file, f"{path}.after", layer.after, "a layer above this one", above)
        _check_list(file, f"{path}.tools", layer.tools, "a tool", said.tools)
        above.append(layer.name)
    for path, names in said.stamps.items():
        _check_list(file, f"stamps.{path}", names, "a layer", above)
    _check_list(
        file, "server.tried_with", said.server.tried_with, "a role of server.roles", said.server.roles
    )
    for name, grouped in said.server.groups.items():
        _check_list(file, f"server.groups.{name}", grouped, "a role of server.roles", said.server.roles)
    placeholders = list(dict.fromkeys(name for layer in said.layers for name in layer.for_each))
    for name in said.inherits:
        if name not in placeholders:
            key, known = f"inherits.{name}", ", ".join(placeholders) or "none"
            hint = meant(name, placeholders)
            raise SettingUnknown(path=file.path, line=file.lines[key], key=key, meant=hint, known=known)


def _check_list(file: Read[ProfileFile], key: str, names: Words, what: str, known: Iterable[str]) -> None:
    for number, name in enumerate(names):
        if name not in known:
            raise file.wrong(f"{key}[{number}]", name, what, known)


def _layers(layers: Iterable[DeclaredLayer], options: Options, commands: Options) -> Iterator[Layer]:
    """Every layer, one for each combination of the options in its `for_each`."""
    names: dict[str, list[str]] = {}
    for each in layers:
        names[each.name] = []
        for chosen in _combinations(each.for_each, options):
            name = "-".join([each.name, *chosen.values()]).replace("/", "-")
            names[each.name].append(name)
            yield Layer(
                name=name,
                declared=each.name,
                chosen=chosen,
                files=each.files,
                present=each.present,
                unseen=each.unseen,
                after=tuple(name for upstream in each.after for name in names[upstream]),
                tools=each.tools,
                variables=each.variables,
                credentials=each.credentials,
                caches=each.caches,
                network=each.network,
                environment=each.environment,
                commands=(commands[each.name],) if each.name in commands else each.commands,
                outputs=each.outputs,
                promises=each.promises,
                seconds=each.seconds,
            )


def _combinations(for_each: Mapping[str, str], options: Options) -> Iterator[dict[str, str]]:
    """A value for each placeholder. `OPTION.VALUE` stands for `OPTION` where a placeholder before it has this value, the last such counts."""
    found: list[dict[str, str]] = [{}]
    for name, option in for_each.items():
        found = [
            {**chosen, name: value}
            for chosen in found
            for value in next(
                (
                    options[f"{option}.{each}"]
                    for each in reversed(chosen.values())
                    if f"{option}.{each}" in options
                ),
                options[option],
            )
        ]
    yield from found
