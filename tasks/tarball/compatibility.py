"""compatibility: whether the version of the application that the lock file names works with what the machines have, by the profile's table."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks import application
from tasks.refusal import Refusal
from tasks.settings import Options, read, setting
from tasks.tarball.build import keys

if TYPE_CHECKING:
    from tasks.run import Run

TABLE = "versions.yml"
"""Beside the profile; one without it knows nothing."""


class VersionsDoNotFit(Refusal):
    """By the profile's table, the application's version cannot work with what its machines have."""

    sentence = "tarball: {package} {version} works with {service} {wanted}, and there is {there} ({where})"
    remedy = "{remedy}"


@dataclass(frozen=True, kw_only=True)
class There:
    """What there is of a service: the tool's version, or what a role's setting or the table says of machines with that role."""

    role: str = setting("role that installs it; without the role there is none", "")
    option: str = setting("setting of the role that says the version; empty there: not known", "")
    version: str = setting("version that the role installs", "")
    tool: str = setting("tool of the profile that prints the version", "")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What the versions of the application work with, from one on."""

    since: str = setting("the first version; the line holds up to the next line")
    works_with: Options = setting("versions of each service; what is not named is not known")


@dataclass(frozen=True, kw_only=True)
class Table:
    """versions.yml of a profile."""

    packages: tuple[str, ...] = setting("packages whose version counts: the first that the lock file has")
    there: Mapping[str, There] = setting("what there is of each service")
    wanted: tuple[Line, ...] = setting("what the versions work with")


def accept(run: Run) -> str:
    """What fits, in words. Raises VersionsDoNotFit."""
    path = run.profile.folder / TABLE
    if not (path.exists() and run.profile.sbom):
        return f"the profile {run.profile.name} has no {TABLE}, or names no lock file"
    table = read(Table, path, run.root).said
    package, version = _locked(run, table)
    line = _line(table, version)
    if not line:
        return f"{run.profile.sbom} names nothing that {TABLE} knows"
    fits = []
    for service, there, where in _there(run, table):
        wanted = line.works_with.get(service)
        if wanted and not _is_one_of(there, wanted):
            raise VersionsDoNotFit(
                package=package,
                version=version,
                service=service,
                wanted=", ".join(wanted),
                there=there,
                where=where,
                remedy=_remedy(run, table, package, line, service, there),
            )
        if wanted:
            fits.append(f"{service} {there}")
    return f"{package} {version} works with {', '.join(fits)}"


def _locked(run: Run, table: Table) -> tuple[str, str]:
    """The package that counts, and its version."""
    try:
        packages = json.loads(application.content(run, run.profile.sbom) or "{}").get("packages", [])
        versions = {each["name"]: str(each["version"]) for each in packages}
    except (ValueError, TypeError, KeyError, AttributeError):
        return "", ""  # the lock file's own refusal says so
    return next(((name, versions[name]) for name in table.packages if name in versions), ("", ""))


def _line(table: Table, version: str) -> Line | None:
    """The line that holds for a version; None for one of which nothing is known."""
    number = order(version)
    before = [each for each in table.wanted if number and (order(each.since) or ()) <= number]
    return max(before, key=lambda each: order(each.since) or (), default=None)


def order(version: str) -> tuple[int, ...] | None:
    """A version as numbers; None if it is none. 2.4.7-beta1 comes before 2.4.7, and 2.4.7-p3 behind it."""
    found = re.fullmatch(r"v?(\d+)\.(\d+)\.(\d+)(?:-(p|alpha|beta|rc)(\d+))?", version)
    if not found:
        return None
    patch = int(found[5] or 0)
    return (int(found[1]), int(found[2]), int(found[3]), patch if found[4] in (None, "p") else -1)


def _there(run: Run, table: Table) -> Iterator[tuple[str, str, str]]:
    """Each service with the version that there is, and where that is known from."""
    for service, each in table.there.items():
        if each.tool:
            told = keys.tools(run.profile) if run.environment.has("tarball") else {}
            if version := re.search(r"\d+(?:\.\d+)*", told.get(each.tool, "")):
                yield service, version[0], "this machine"
        elif each.role in run.profile.server.roles:
            said = run.environment.server.roles.get(each.role, {}).get(each.option)
            if there := str(said or each.version):
                yield service, there, _where(each, run.environment_name)


def _where(each: There, environment: str) -> str:
    return f"server.{each.role}.{each.option} of {environment}" if each.option else f"by the role {each.role}"


def _is_one_of(version: str, wanted: tuple[str, ...]) -> bool:
    return any(version == each or version.startswith(f"{each}.") for each in wanted)


def _remedy(run: Run, table: Table, package: str, line: Line, service: str, there: str) -> str:
    """A later version of the application that works with it, else the setting."""
    now = order(line.since) or ()
    later = [each for each in table.wanted if (order(each.since) or ()) > now]
    for each in sorted(later, key=lambda each: order(each.since) or ()):
        if _is_one_of(there, each.works_with.get(service, ())):
            return f"composer require --no-update {package}:{each.since} && composer update"
    if table.there[service].option:
        return f"$EDITOR environments/{run.environment_name}.yml"
    return f"$EDITOR {Path(run.profile.folder).relative_to(run.root)}/{TABLE}"
