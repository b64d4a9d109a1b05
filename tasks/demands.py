"""demands: what the settings ask of a machine, memory and versions, held against what it has before one is touched."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from tasks.forms import EACH, KEPT
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.run import Run

LEAST, MOST = 128, 16384
"""MiB that a service has at least whose setting is empty, and at most."""
SHARE = 4
"""It has one part in four of what no other service keeps: requests, the system and its file cache have the rest."""


class MemoryExceeded(Refusal):
    """Services are to keep more memory than a machine has, or one of several programs is to have more."""

    sentence = "environments/{environment}.yml: {names}: {wanted} MiB are more than the {memory} MiB of {type} (instance_type)"
    remedy = "$EDITOR environments/{environment}.yml  # smaller ones, or infrastructure.instance_type"
    exit_code = UNKNOWN


class VersionUnknown(Refusal):
    """The image of the machines has no packages of a version that the settings ask for."""

    sentence = "environments/{environment}.yml: server.{role}.version: is {version}, and {image} has {known}"
    remedy = "$EDITOR environments/{environment}.yml  # server: {{{role}: {{version: ...}}}}"
    exit_code = UNKNOWN


def accept(run: Run, memory: int, type: str) -> None:
    """Raises MemoryExceeded or VersionUnknown. `memory`: MiB of a machine of that type."""
    together = _sizes(run, KEPT)
    alone = [{name: wanted} for name, wanted in _sizes(run, EACH).items()]
    for found in (together, *alone):
        if (wanted := sum(found.values())) > memory:
            words = {"names": " and ".join(sorted(found)), "wanted": wanted}
            raise MemoryExceeded(environment=run.environment_name, memory=memory, type=type, **words)
    for role in run.profile.server.roles:
        known = _versions(run, role)
        if known and (version := run.environment.server.roles[role]["version"]) not in known:
            words = {"role": role, "version": version, "known": ", ".join(known)}
            raise VersionUnknown(environment=run.environment_name, image=run.pipeline.image, **words)


# --- memory ---------------------------------------------------------------------------------------


def mib(size: str) -> int:
    """A size such as 512M or 128mb in MiB, rounded down."""
    number, unit = re.fullmatch(r"(\d+)([kmg])b?", size.lower()).groups()  # type: ignore[union-attr]
    return int(number) * {"k": 1, "m": 1024, "g": 1024**2}[unit] // 1024


def variables(run: Run, memory: int) -> dict[str, object]:
    """The variables of roles whose setting of the memory that they keep is empty: their share."""
    found = _said(run, KEPT)
    left = memory - sum(mib(size) for size in found.values() if size)
    share = min(max(left // SHARE // LEAST * LEAST, LEAST), MOST)
    return {"_".join(each): f"{share}M" for each, size in found.items() if not size}


def _sizes(run: Run, what: str) -> dict[str, int]:
    """The settings about such memory that are not empty, in MiB."""
    return {f"server.{role}.{name}": mib(size) for (role, name), size in _said(run, what).items() if size}


def _said(run: Run, what: str) -> dict[tuple[str, str], str]:
    """The settings of the machine's roles whose form is about such memory, by role and name."""
    said = run.environment.server.roles
    return {
        (role, name): str(said[role][name])
        for role, settings in run.profile.settings.items()
        if role not in run.network.absent
        for name, each in settings.items()
        if each.form and each.form.memory == what
        if what == KEPT or said[role][name] != each.default  # a default is no wish
    }


# --- versions -------------------------------------------------------------------------------------


def _versions(run: Run, role: str) -> list[str]:
    """The versions that the image has, as the role says of the images that it knows: roles/ROLE/meta/versions.yml."""
    path = run.root / "roles" / role / "meta" / "versions.yml"
    return list(yaml.safe_load(path.read_text()).get(run.pipeline.image, ())) if path.exists() else []
