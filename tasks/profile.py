"""profile: what kind of application this is, as data: how it is built, served and released."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.nearest import meant
from tasks.refusal import UNKNOWN, Refusal
from tasks.settings import LOADER, Application, SettingsBroken, SettingsMissing


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


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A part of the build: its inputs, its commands, its outputs, and what must exist at the end (`promises`).

    `name` is unique; `declared` is the name in the profile, and `chosen` has the option values of its `for_each`.
    """

    name: str
    declared: str
    chosen: Mapping[str, str]
    files: tuple[str, ...]
    present: tuple[str, ...]
    after: tuple[str, ...]
    tools: tuple[str, ...]
    variables: tuple[str, ...]
    credentials: tuple[str, ...]
    caches: tuple[str, ...]
    environment: Mapping[str, str]
    commands: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]
    promises: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Inheritance:
    """Where the parent of an option's value is named: the first group of `match` in the file."""

    file: str
    match: str


def filled(word: str, values: Mapping[str, str]) -> str:
    """A word with its `{name}` placeholders filled in; braces of other names stay as they are."""
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


@dataclass(frozen=True, kw_only=True)
class Profile:
    """A folder of `applications/`: its profile.yml, and the templates beside it."""

    name: str
    folder: Path
    packages: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    layers: tuple[Layer, ...]
    tools: Mapping[str, tuple[str, ...]]
    inherits: Mapping[str, Inheritance]
    stamps: Mapping[str, tuple[str, ...]]
    exclude: tuple[str, ...]
    sbom: str
    migrations: tuple[str, ...]
    server: Mapping[str, Any]
    release: Mapping[str, Any]


def load(root: Path, application: Application) -> Profile:
    """Read a profile, with the project's options over its own.

    Raises SettingsMissing, SettingsBroken, ProfileOptionUnknown or ProfileLayerUnknown.
    """
    folder = root / "applications" / application.profile
    shown = f"applications/{application.profile}/profile.yml"
    try:
        data = yaml.load((folder / "profile.yml").read_text(), Loader=LOADER)  # noqa: S506  a safe one
        defaults = {name: tuple(values) for name, values in data.get("options", {}).items()}
        for name in application.options:
            if name not in defaults:
                known = {"meant": meant(name, defaults), "known": ", ".join(defaults)}
                raise ProfileOptionUnknown(option=name, profile=application.profile, **known)
        commands = application.commands
        declared = [each["name"] for each in data["layers"]]
        for name in commands:
            if name not in declared:
                known = {"meant": meant(name, declared), "known": ", ".join(declared)}
                raise ProfileLayerUnknown(layer=name, profile=application.profile, **known)
        options = {**defaults, **application.options}
        return Profile(
            name=application.profile,
            folder=folder,
            packages=tuple(data.get("packages", ())),
            options=options,
            layers=tuple(_layers(data["layers"], options, commands)),
            tools={name: tuple(command) for name, command in data.get("tools", {}).items()},
            inherits={name: Inheritance(**each) for name, each in data.get("inherits", {}).items()},
            stamps={path: tuple(layers) for path, layers in data.get("stamps", {}).items()},
            exclude=tuple(data.get("exclude", ())),
            sbom=data.get("sbom", ""),
            migrations=tuple(data.get("migrations", ())),
            server=data["server"],
            release=data["release"],
        )
    except FileNotFoundError:
        raise SettingsMissing(path=shown) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = str(getattr(error, "problem", error))
        raise SettingsBroken(path=shown, line=mark.line + 1 if mark else 1, problem=problem) from None
    except KeyError as error:
        raise SettingsBroken(path=shown, line=1, problem=f"{error.args[0]} is missing") from None


def _layers(
    declared: Sequence[Mapping[str, Any]],
    options: Mapping[str, tuple[str, ...]],
    commands: Mapping[str, tuple[str, ...]],
) -> Iterator[Layer]:
    """Every layer, one for each combination of the options in its `for_each`."""
    names: dict[str, list[str]] = {}
    for each in declared:
        split = each.get("for_each", {})
        names[each["name"]] = []
        for values in itertools.product(*(options[option] for option in split.values())):
            name = "-".join([each["name"], *values]).replace("/", "-")
            names[each["name"]].append(name)
            own = [commands[each["name"]]] if each["name"] in commands else each["commands"]
            lists = ("files", "present", "tools", "variables", "credentials", "caches", "outputs", "promises")
            yield Layer(
                name=name,
                declared=each["name"],
                chosen=dict(zip(split, values, strict=True)),
                after=tuple(name for upstream in each.get("after", ()) for name in names[upstream]),
                environment=each.get("environment", {}),
                commands=tuple(tuple(command) for command in own),
                **{key: tuple(each.get(key, ())) for key in lists},
            )
