"""profile: what kind of application this is, as data: how it is built, served and released."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tasks.refusal import ProfileOptionUnknown, SettingsBroken, SettingsMissing
from tasks.settings import LOADER, Application


@dataclass(frozen=True, kw_only=True)
class Step:
    """A part of the build: its commands, and what they promise to leave."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    outputs: tuple[str, ...]
    for_each: Mapping[str, str]
    environment: Mapping[str, str]

    def lines(self, options: Mapping[str, tuple[str, ...]], **values: str) -> Iterator[list[str]]:
        """The command lines, once for each combination of the options that the step is split over."""
        names = list(self.for_each)
        for chosen in itertools.product(*(options[self.for_each[name]] for name in names)):
            filled = {**values, **dict(zip(names, chosen, strict=True))}
            yield from ([_filled(word, filled) for word in command] for command in self.commands)


def _filled(word: str, values: Mapping[str, str]) -> str:
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
    build: tuple[Step, ...]
    environment: tuple[str, ...]
    exclude: tuple[str, ...]
    sbom: str
    migrations: tuple[str, ...]
    server: Mapping[str, Any]
    release: Mapping[str, Any]


def load(root: Path, application: Application) -> Profile:
    """Read a profile, with the project's options over its own.

    Raises SettingsMissing, SettingsBroken or ProfileOptionUnknown.
    """
    folder = root / "applications" / application.profile
    shown = f"applications/{application.profile}/profile.yml"
    try:
        data = yaml.load((folder / "profile.yml").read_text(), Loader=LOADER)  # noqa: S506  a safe one
        defaults = {name: tuple(values) for name, values in data.get("options", {}).items()}
        for name in application.options:
            if name not in defaults:
                raise ProfileOptionUnknown(
                    option=name, profile=application.profile, known=", ".join(defaults)
                )
        return Profile(
            name=application.profile,
            folder=folder,
            packages=tuple(data.get("packages", ())),
            options={**defaults, **application.options},
            build=tuple(
                Step(
                    name=step["name"],
                    commands=tuple(tuple(command) for command in step["commands"]),
                    outputs=tuple(step["outputs"]),
                    for_each=step.get("for_each", {}),
                    environment=step.get("environment", {}),
                )
                for step in data["build"]
            ),
            environment=tuple(data.get("environment", ())),
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
