"""release: rules of a release that is played by hand: in which order, and under which conditions. And of an image."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.rules import rendering, roles
from tests.rules.roles import CORE, Finding

FOLDER = "roles/release/tasks"


def phases_come_in_their_order(root: Path) -> list[Finding]:
    """As `doit release` has them: no host begins a phase before all have got through the one before it."""
    path, found = f"{FOLDER}/main.yml", []
    steps = list(_steps(roles.load(root / path)))
    wanted = ["bring", "here", "live", "served", "open", "open", "undo", "settle"]
    if [told for _, told in steps] != wanted:
        found.append(f"{path}: the phases are {[told for _, told in steps]}, not {wanted}")
    if [name for name, _ in steps][1:6:2] != ["together.yml"] * 3:
        found.append(f"{path}: the hosts do not wait for each other")
    return found


def _steps(said: Any) -> Any:
    """Each imported file, and the phase or step that it is told."""
    for each in said or ():
        if name := each.get(f"{CORE}import_tasks"):
            yield name, next(iter(each.get("vars", {}).values()), None)
        for part in ("block", "rescue", "always"):
            yield from _steps(each.get(part))


def said(*notes: str, **failed: str) -> dict[str, Any]:
    """What a host answered."""
    answer = {"changed": True, "notes": notes, "late": [], "phases": [], "failed": failed or None}
    return {"__release_ran": {"stdout_lines": ["Fetch", json.dumps(answer)]}}


FAILED = said(step="Fetch", reason="no", output="", outcome="nothing runs")
HOSTS = {"ansible_play_hosts_all": ["a", "b"], "__release_step": "open"}
CONDITIONS: list[tuple[str, str, str, Mapping[str, Any], Any]] = [
    # file, task or block, its key; what is so; what it says then
    ("together.yml", "Refuse to go on where another host has not come so far", "that",
     {**HOSTS, "hostvars": {"a": {"__release_reached": "open"}, "b": {}}}, False),
    ("together.yml", "Refuse to go on where another host has not come so far", "that",
     {**HOSTS, "hostvars": {"a": {"__release_reached": "open"}, "b": {"__release_reached": "served"}}}, False),
    ("together.yml", "Refuse to go on where another host has not come so far", "that",
     {**HOSTS, "hostvars": {"a": {"__release_reached": "open"}, "b": {"__release_reached": "open"}}}, True),
    ("phase.yml", "Report why it failed", "when", said(), False),
    ("phase.yml", "Report why it failed", "when", FAILED, True),
    ("phase.yml", "Tell what is to be known though it is no failure", "when", said(), False),
    ("phase.yml", "Tell what is to be known though it is no failure", "when", said("a key was written"), True),
    ("ask.yml", "Run the phase", "changed_when", said(), True),
]  # fmt: skip


def conditions_hold_when_they_should(root: Path) -> list[Finding]:
    """Each condition is evaluated for what a host may be like."""
    made_of, found = roles.variables(root, "release"), []
    said = {
        name: list(_everything(roles.load(root / FOLDER / name))) for name in {row[0] for row in CONDITIONS}
    }
    for file, name, key, known, wanted in CONDITIONS:
        each = next((each for each in said[file] if each.get("name") == name), None)
        where = f"{FOLDER}/{file}: {name}"
        if each is None or (key != "that" and key not in each):
            found.append(f"{where}: has no `{key}`")
            continue
        expression = each[f"{CORE}assert"]["that"] if key == "that" else each[key]
        seen_to_be = rendering.value(" and ".join(_list(expression)), known, made_of)
        if seen_to_be is not wanted:
            found.append(f"{where}: `{key}` is {seen_to_be}, not {wanted}, for {known}")
    return found


def _everything(said: Any) -> Any:
    for each in said or ():
        yield each
        for part in ("block", "rescue", "always"):
            yield from _everything(each.get(part))


def _list(value: Any) -> list[str]:
    return [f"({each})" for each in value] if isinstance(value, list) else [f"({value})"]


# --- an image -------------------------------------------------------------------------------------------

IDENTITY = (
    *("/etc/ssh/ssh_host_*", "/root/.ssh", "/home/*/.ssh", "/root/.ansible", "/home/*/.ansible"),
    *("/root/.bash_history", "/home/*/.bash_history", "/var/lib/cloud/instance", "/var/lib/cloud/data"),
    "/etc/ssl/private/*",
    *("/var/log/journal/*", "/var/lib/systemd/random-seed", "/var/lib/dbus/machine-id"),
)


def an_image_has_no_identity(root: Path) -> list[Finding]:
    """Keys, logins, histories and the machine's id stay with the machine that was baked."""
    path = "roles/image/tasks/main.yml"
    own = [task for task in roles.tasks(root) if task.path == path]
    script = next(str(task.arguments["cmd"]) for task in own if task.module == "shell")
    found = [f"{path}: {each} goes into the image" for each in IDENTITY if each not in script.split()]
    if ": > /etc/machine-id" not in script or "image_secrets | map('quote')" not in script:
        found.append(f"{path}: the machine's id or a package's secret goes into the image")
    if [task.module for task in own][-1] != "shell":
        found.append(f"{path}: something comes after what removes the logins")
    made = next(str(task.arguments.get("content")) for task in own if task.module == "copy")
    if "C {{ path }} 0600 root root - /proc/sys/kernel/random/uuid" not in made:
        found.append(f"{path}: a new secret is not made, or others may read it")
    names = {
        name
        for role in roles.role_names(root)
        for name in roles.variables(root, role)
        if name.endswith("_secrets")
    }
    if "__varnish_secrets" not in names:
        found.append("roles/varnish/vars/main.yml: the secret of varnishd goes into the image")
    if "_secrets$" not in str(roles.playbooks(root)["image"]):
        found.append("playbooks/image.yml: the roles' secrets go into the image")
    return found


def an_image_starts_nothing_that_a_host_stops(root: Path) -> list[Finding]:
    """A unit that a role always stops is disabled in the image, and no other: each new host would start it, and wait for its end."""
    found = []
    for role in roles.role_names(root):
        known = roles.variables(root, role)
        stopped = {
            task.arguments["name"]
            for task in roles.tasks(root)
            if (task.role, task.module) == (role, "systemd_service") and not task.conditions
            if task.arguments.get("enabled") is False and "loop" not in task.said
        }
        if stopped != set(known.get(f"__{role}_unwanted", [])):
            found.append(f"roles/{role}/vars/main.yml: the image disables other units than the role stops")
    if "_unwanted$" not in str(roles.playbooks(root)["image"]):
        found.append("playbooks/image.yml: what the roles stop starts with each new host")
    return found


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    phases_come_in_their_order,
    conditions_hold_when_they_should,
    an_image_has_no_identity,
    an_image_starts_nothing_that_a_host_stops,
)
