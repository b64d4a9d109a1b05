"""release: rules of what a release does on a host, in which order, and under which conditions."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tests.rules import rendering, roles
from tests.rules.roles import CORE, Finding, Task

FOLDER = "roles/release/tasks"
ORDER = {
    "Bring the release to the host": ["fetch.yml", "verify.yml", "unpack.yml", "link.yml"],
    "Put the release live": [
        "due.yml",
        "close.yml",
        "install.yml",
        "migrate.yml",
        "switch.yml",
        "check.yml",
        "together.yml",
        "open.yml",
        "together.yml",
    ],
}
PARTS = {"rescue": "back.yml", "always": "open.yml"}


def phases_come_in_their_order(root: Path) -> list[Finding]:
    """Nothing is unpacked that is not verified, and visitors get nothing that is not migrated."""
    path, found = f"{FOLDER}/main.yml", []
    said = roles.load(root / path)
    names = [each["name"] for each in said]
    blocks = {each["name"]: each for each in said if "block" in each}
    for name, wanted in ORDER.items():
        seen = [each.get(f"{CORE}import_tasks") for each in blocks.get(name, {}).get("block", ())]
        if seen != wanted:
            found.append(f"{path}: {name}: the phases are {seen}, not {wanted}")
    for part, wanted in PARTS.items():
        seen = [
            each.get(f"{CORE}import_tasks") for each in blocks.get("Put the release live", {}).get(part, ())
        ]
        if seen != [wanted]:
            found.append(f"{path}: {part} is {seen}, not {[wanted]}")
    before, *_, last = names
    if said[0].get(f"{CORE}import_tasks") != "look.yml" or said[-1].get(f"{CORE}import_tasks") != "prune.yml":
        found.append(f"{path}: begins with {before} and ends with {last}")
    gate = "Refuse to go live where not every host has the release"
    if (
        not names.index(next(iter(ORDER)))
        < (names.index(gate) if gate in names else -1)
        < names.index([*ORDER][1])
    ):
        found.append(f"{path}: the hosts do not wait for each other before they go live")
    return found


def a_download_is_verified_before_it_is_used(root: Path) -> list[Finding]:
    """By SHA-256; what does not have the digest is removed, and the role ends."""
    found = []
    for task in roles.tasks(root):
        if task.module != "get_url":
            continue
        if re.fullmatch(r"sha256:\{\{ \w+ \}\}", str(task.arguments.get("checksum", ""))):
            continue
        found += [f"{task}: {each}" for each in _unverified(root, task)]
    return found


def _unverified(root: Path, task: Task) -> list[str]:
    target, folder = task.target, f"roles/{task.role}/tasks"
    measured = [
        each
        for each in roles.tasks(root)
        if each.module == "stat" and each.arguments["path"] == target and each.role == task.role
    ]
    digests = [each for each in measured if each.arguments.get("checksum_algorithm") == "sha256"]
    if not digests:
        return ["no SHA-256 is computed of what it fetches"]
    said, name = roles.load(root / digests[0].path), digests[0].said["register"]
    refusals = [each for each in said if f"{name}.stat.checksum" in str(each.get("when"))]
    if not refusals:
        return [f"no digest is compared in {folder}"]
    for mine, wanted in (("a", False), ("b", True), ("", True)):
        known = {name: {"stat": {"checksum": mine}}, f"{task.role}_sha256": "a"}
        if rendering.value(str(refusals[0]["when"]), known, {}) is not wanted:
            return ["another digest is not refused"]
    removes, *_, ends = refusals[0].get("block", [{}, {}])
    removed = removes.get(f"{CORE}file", {})
    if (removed.get("path"), removed.get("state")) != (target, "absent"):
        return ["what has another digest stays"]
    return [] if f"{CORE}fail" in ends else ["another digest is no failure"]


def a_signature_is_asked_for_and_checked(root: Path) -> list[Finding]:
    """With the keys that were told, and a failure where none of them has signed."""
    path = f"{FOLDER}/verify.yml"
    own = [task for task in roles.tasks(root) if task.path == path]
    scripts = [task for task in own if task.module == "shell" and "minisign" in task.text]
    if len(scripts) != 1:
        return [f"{path}: minisign is asked {len(scripts)} times"]
    text = str(scripts[0].arguments["cmd"]).strip()
    lines = [line.strip() for line in text.splitlines()]
    wanted = {
        "verifies": any(re.match(r"minisign -V\b", line) for line in lines),
        "takes prehashed signatures alone": any(re.search(r"minisign .* -H\b", line) for line in lines),
        "takes one of the keys that it is told": "for key in {{ release_public_keys | map('quote') | join(' ') }}; do"
        in lines
        and any('-P "$key"' in line for line in lines),
        "ends well only behind a verified signature": re.findall(r"exit 0", text) == ["exit 0"]
        and any(line.startswith("minisign") and line.endswith("&& exit 0") for line in lines),
        "fails otherwise": lines[-1] == "exit 1",
        "looks at the tarball": any("-m {{ __release_tarball | quote }}" in line for line in lines),
    }
    return [f"{scripts[0]}: does not do this: {name}" for name, holds in wanted.items() if not holds]


# --- conditions -----------------------------------------------------------------------------------------

ID, OLD = "3fa9c2e", "1b2c3d4"


def seen(marker: bool = True, running: str = "", previous: str = "", **more: Any) -> dict[str, Any]:
    """What look.yml registers."""
    return {
        "release_id": ID,
        "application_path": "/srv/shop",
        "__release_marker_seen": {"stat": {"exists": marker}},
        "__release_current_seen": {"stat": {"lnk_target": f"releases/{running}"} if running else {}},
        "__release_previous_seen": {"stat": {"lnk_target": f"releases/{previous}"} if previous else {}},
        "__release_unfinished_seen": {},
        "__release_maintenance_seen": {"stat": {"exists": False}},
        "__release_install_asked": {"rc": 0, "delta": "1"},
        "__release_migration_asked": {"rc": 0, "delta": "1"},
        "__release_configuration_asked": {"rc": 0, "delta": "1"},
        "release_profile": {
            "install": {"due_exit": 4},
            "migration": {"due_exit": 2},
            "configuration": {"due_exit": 2},
            "maintenance": {"active_file": "closed"},
            "restart": ["workers.target"],
        },
        **more,
    }


def interrupted(text: str) -> dict[str, Any]:
    """A record that a killed release has left, as `slurp` reads it."""
    return {"__release_unfinished_seen": {"content": base64.b64encode(text.encode()).decode()}}


DUE = {"__release_migration_asked": {"rc": 2, "delta": "1"}}
EMPTY = {"__release_install_asked": {"rc": 4, "delta": "1"}}
HALF = interrupted('{"previous": "", "maintained": false, "migrates": false, "installs": true}')
IMPORT = {"__release_configuration_asked": {"rc": 2, "delta": "1"}}
MIGRATED = interrupted('{"previous": "1b2c3d4", "maintained": false, "migrates": true}')
CLOSED = interrupted('{"previous": "1b2c3d4", "maintained": true, "migrates": false}')
BROKEN = {"rc": 127, "delta": "1"}
CANNOT_START = {"rc": 2}
HOSTS = {"ansible_play_hosts_all": ["a", "b"]}
CONDITIONS: list[tuple[str, str, str, Mapping[str, Any], Any]] = [
    # file, task or block, its key; what is so; what it says then
    ("verify.yml", "Refuse an unsigned tarball", "when", {"release_signatures": "required"}, True),
    ("verify.yml", "Refuse an unsigned tarball", "when", {"release_signatures": "optional"}, False),
    ("verify.yml", "Refuse an unsigned tarball", "that", {"release_signature": "", "release_public_keys": ["k"]}, False),
    ("verify.yml", "Refuse an unsigned tarball", "that", {"release_signature": "s", "release_public_keys": []}, False),
    ("verify.yml", "Refuse an unsigned tarball", "that", {"release_signature": "s", "release_public_keys": ["k"]}, True),
    ("verify.yml", "Check the tarball's signature", "when",
     {"release_signature": "s", "release_public_keys": ["k"], "release_signatures": "optional"}, True),
    ("main.yml", "Bring the release to the host", "when", seen(marker=False), True),
    ("main.yml", "Bring the release to the host", "when", seen(), False),
    ("main.yml", "Put the release live", "when", seen(running=OLD), True),
    ("main.yml", "Put the release live", "when", seen(running=ID), False),
    ("main.yml", "Put the release live", "when", seen(running=ID, **MIGRATED), True),
    ("main.yml", "Check a release that was live before", "when", seen(running=ID), True),
    ("main.yml", "Refuse to go live where not every host has the release", "that", {**HOSTS, "ansible_play_hosts": ["a"]}, False),
    ("main.yml", "Refuse to go live where not every host has the release", "that", {**HOSTS, "ansible_play_hosts": ["a", "b"]}, True),
    ("main.yml", "Switch maintenance off after going back", "when", seen(), False),
    ("main.yml", "Switch maintenance off after going back", "when", seen(__release_problem="it failed"), True),
    ("together.yml", "Refuse a release that another host does not have", "that",
     {**HOSTS, "__release_step": "open", "hostvars": {"a": {"__release_reached": "open"}, "b": {}}}, False),
    ("together.yml", "Refuse a release that another host does not have", "that",
     {**HOSTS, "__release_step": "open", "hostvars": {"a": {"__release_reached": "open"}, "b": {"__release_reached": "served"}}}, False),
    ("together.yml", "Refuse a release that another host does not have", "that",
     {**HOSTS, "__release_step": "open", "hostvars": {"a": {"__release_reached": "open"}, "b": {"__release_reached": "live"}}}, True),
    ("close.yml", "Wait for the jobs of cron that still run", "when", seen(), False),
    ("close.yml", "Wait for the jobs of cron that still run", "when", seen(**MIGRATED), True),
    ("open.yml", "Remove the record of the unfinished release", "when", seen(), True),
    ("open.yml", "Remove the record of the unfinished release", "when", seen(**EMPTY), True),
    ("open.yml", "Remove the record of the unfinished release", "when", seen(__release_problem="it failed"), True),
    ("open.yml", "Remove the record of the unfinished release", "when", seen(__release_problem="it failed", **EMPTY), False),
    ("due.yml", "Check whether the application must be installed", "failed_when", seen(**EMPTY), False),
    ("due.yml", "Check whether the application must be installed", "failed_when", seen(__release_install_asked=BROKEN), True),
    ("due.yml", "Check whether the application must be installed", "failed_when",
     seen(__release_install_asked={"rc": 4}), True),
    ("due.yml", "Check whether the application must be installed", "when", seen(), True),
    ("due.yml", "Check whether the application must be installed", "when", seen(**HALF), False),
    ("due.yml", "Check whether the application must be installed", "when", {"release_profile": {}}, False),
    ("due.yml", "Link the shared configuration that an interrupted release has replaced", "when", seen(), False),
    ("due.yml", "Link the shared configuration that an interrupted release has replaced", "when", seen(**HALF), True),
    ("due.yml", "Check whether a migration is due", "when", seen(**EMPTY), False),
    ("due.yml", "Check whether configuration must be imported", "when", seen(**EMPTY), False),
    ("main.yml", "Install", "when", seen(), False),
    ("main.yml", "Install", "when", seen(**EMPTY), True),
    ("main.yml", "Install", "when", seen(**HALF), True),
    ("migrate.yml", "Change the data with the new code, which may write into a copy of the configuration", "when",
     seen(), False),
    ("migrate.yml", "Change the data with the new code, which may write into a copy of the configuration", "when",
     seen(**IMPORT), True),
    ("migrate.yml", "Read what the new code has changed in its copy", "when", {"release_profile": {}}, False),
    ("migrate.yml", "Report what belongs into the template", "when", {"__release_written": {"skipped": True}}, False),
    ("migrate.yml", "Report what belongs into the template", "when", {"__release_written": {"stdout": "a"}}, True),
    ("close.yml", "Stop the units that run the running release's code", "when", seen(**IMPORT), False),
    ("back.yml", "Import the previous release's configuration again", "when", {"__release_imported": False}, False),
    ("back.yml", "Import the previous release's configuration again", "when", {"__release_imported": True}, True),
    ("due.yml", "Check whether a migration is due", "failed_when", seen(**DUE), False),
    ("due.yml", "Check whether a migration is due", "failed_when", seen(__release_migration_asked=BROKEN), True),
    ("due.yml", "Check whether a migration is due", "failed_when", seen(__release_migration_asked=CANNOT_START), True),
    ("due.yml", "Check whether configuration must be imported", "failed_when", seen(__release_configuration_asked=BROKEN), True),
    ("due.yml", "Check whether configuration must be imported", "when", seen(**DUE), False),
    ("close.yml", "Switch maintenance on in the running release and in the new one", "when", seen(**DUE), True),
    ("close.yml", "Switch maintenance on in the running release and in the new one", "when", seen(**IMPORT), False),
    ("close.yml", "Switch maintenance on in the running release and in the new one", "when", seen(**CLOSED), True),
    ("close.yml", "Switch maintenance on in the running release and in the new one", "when", seen(**MIGRATED), True),
    ("close.yml", "Switch maintenance on in the running release and in the new one", "when", seen(), False),
    ("close.yml", "Stop the units that run the running release's code", "when", seen(**DUE), True),
    ("close.yml", "Stop the units that run the running release's code", "when", seen(), False),
    ("migrate.yml", "Migrate the database with the new code", "when", seen(**DUE), True),
    ("migrate.yml", "Migrate the database with the new code", "when", seen(), False),
    ("migrate.yml", "Check whether the changed database lacks configuration", "when", seen(**DUE), True),
    ("migrate.yml", "Check whether the changed database lacks configuration", "when", seen(**EMPTY), True),
    ("migrate.yml", "Check whether the changed database lacks configuration", "failed_when",
     seen(__release_configuration_asked_again=BROKEN), True),
    ("migrate.yml", "Import the configuration", "when",
     seen(**IMPORT, __release_configuration_asked_again={}), True),
    ("migrate.yml", "Import the configuration", "when", seen(__release_configuration_asked_again={"rc": 2}), True),
    ("back.yml", "Return to the previous release", "when",
     seen(running=OLD, __release_in_front=True, __release_migrated=True), False),
    ("back.yml", "Return to the previous release", "when",
     seen(running=OLD, __release_in_front=True, __release_migrated=False), True),
    ("back.yml", "Return to the previous release", "when",
     seen(running=OLD, __release_in_front=False, __release_migrated=False), False),
    ("back.yml", "Return to the previous release", "when",
     seen(__release_in_front=True, __release_migrated=False), False),
    ("open.yml", "End the maintenance of the release", "when", {"__release_migrated": True}, False),
    ("open.yml", "End the maintenance of the release", "when", {}, True),
    ("open.yml", "Switch maintenance off in every release", "when", seen(**CLOSED), False),
    ("open.yml", "Switch maintenance off in every release", "when", seen(), True),
    ("unpack.yml", "Refuse to fill the disk", "that", {"__release_room": {"stdout_lines": ["9", "10"]}}, True),
    ("unpack.yml", "Refuse to fill the disk", "that", {"__release_room": {"stdout_lines": ["10", "9"]}}, False),
    ("prune.yml", "Link the previous release", "when", seen(running=ID), False),
    ("main.yml", "Prune", "when", seen(running=ID), False),
    ("due.yml", "Check whether a migration is due", "when", {"release_profile": {}}, False),
    ("look.yml", "Check whether maintenance is on", "when", {"release_profile": {}}, False),
    ("open.yml", "Restart the units that run the current release's code", "when", {"release_profile": {"restart": []}}, False),
    ("prune.yml", "Link the previous release", "when", seen(running=OLD), True),
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


def a_pruned_release_is_never_one_that_is_needed(root: Path) -> list[Finding]:
    """Neither the current release nor the one to go back to, however old."""
    path = f"{FOLDER}/prune.yml"
    task = next(
        each for each in roles.tasks(root) if each.path == path and each.arguments.get("state") == "absent"
    )
    folders = [
        {"path": f"/srv/shop/releases/{name}", "mtime": number}
        for number, name in enumerate([ID, OLD, "c", "d", "e"])
    ]
    known = seen(running=OLD, release_keep=2, __release_folders={"files": folders})
    loop = re.fullmatch(r"\{\{(.*)\}\}\s*", str(task.said["loop"]), re.DOTALL)
    left = rendering.value(loop[1] if loop else "[]", known, roles.variables(root, "release"))
    return (
        []
        if sorted(left) == ["c"]
        else [f"{task}: removes {sorted(left)} of which it needs some, or keeps too many"]
    )


# --- an image -------------------------------------------------------------------------------------------

IDENTITY = (
    *("/etc/ssh/ssh_host_*", "/root/.ssh", "/home/*/.ssh", "/root/.ansible", "/home/*/.ansible"),
    *("/root/.bash_history", "/home/*/.bash_history", "/var/lib/cloud/instance", "/var/lib/cloud/data"),
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


RULES: tuple[Callable[[Path], list[Finding]], ...] = (
    phases_come_in_their_order,
    a_download_is_verified_before_it_is_used,
    a_signature_is_asked_for_and_checked,
    conditions_hold_when_they_should,
    a_pruned_release_is_never_one_that_is_needed,
    an_image_has_no_identity,
)
