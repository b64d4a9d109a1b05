"""ledger_host: runs on a host, as root: measures what a playbook manages there, and removes leftovers.

SSH sends it to the host's own Python, so it is one file and imports only the standard library.
"""

from __future__ import annotations

import grp
import hashlib
import json
import os
import pwd
import re
import stat
import subprocess
import time
from collections.abc import Callable, Iterable
from typing import Any

Facts = dict[str, Any] | None
Resources = dict[str, dict[str, Any]]
Own = dict[str, str]
Reports = dict[str, str]

FOLDER = "/var/lib/release-pipeline/ledger"
DATA = ("/home", "/root", "/srv", "/var/lib", "/var/log", "/var/mail", "/var/spool", "/var/www")
"""Folders whose content may be data; the application's own path is added to them."""
LOGIN = {
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "python3",
    "ssh",
    "sshd",
    "sudo",
    "systemd",
    "systemd-sysv",
}
"""Packages and units that logins need: without them the host could not be repaired."""
LARGE = 1 << 20
"""Bytes: the `content` of a larger file is not measured."""
FILLED = "/etc/.+/|/usr/local/.+/"
"""What is in these is in a folder that roles fill. /etc itself is none: all packages write there."""
CRONTABS = "/var/spool/cron/crontabs"
MADE_ANEW = "/etc/ssl/certs"
"""A folder whose files the scripts of several packages make, at each of their versions: no package owns them."""
GENERATED = "/var/lib/ucf/registry"
"""Where ucf keeps which package has generated which file."""


# --- measuring -----------------------------------------------------------------------------------


def look(names: Iterable[str], own: Own | None = None) -> dict[str, Facts]:
    """The facts of each resource, None if it does not exist. `own`: values that only this environment has, by name."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kind, _, rest = name.partition(" ")
        kinds.setdefault(kind, []).append(rest)
    # both are slow, so they run while the files are read
    dpkg = _start(
        "dpkg-query", "-W", "-f=${Package} ${db:Status-Status} ${Version}\n", *kinds.get("package", ["-"])
    )
    systemctl = _start(
        "systemctl", "show", "-p", "ActiveState,LoadState,UnitFileState", *kinds.get("unit", ["-.mount"])
    )
    facts: dict[str, Facts] = {f"file {each}": file(each, own) for each in kinds.get("file", ())}
    facts |= {f"user {each}": user(each) for each in kinds.get("user", ())}
    facts |= {f"cron {each}": cron(each) for each in kinds.get("cron", ())}
    lines = [line.split() for line in dpkg.communicate()[0].splitlines()]
    versions = {line[0]: line[2] for line in lines if line[1] == "installed"}
    facts |= {
        f"package {each}": {"version": versions[each]} if each in versions else None
        for each in kinds.get("package", ())
    }
    blocks = systemctl.communicate()[0].split("\n\n")
    facts |= {f"unit {each}": unit(block) for each, block in zip(kinds.get("unit", ()), blocks, strict=False)}
    return facts


def file(path: str, own: Own | None = None) -> Facts:
    """A file, folder or link. `content`: the digest without the environment's own values, for comparisons."""
    try:
        seen = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if stat.S_ISLNK(seen.st_mode):
        return {"type": "link", "target": os.readlink(path)}
    facts: dict[str, Any] = {
        "type": "folder" if stat.S_ISDIR(seen.st_mode) else "file",
        "owner": _name(pwd.getpwuid, seen.st_uid),
        "group": _name(grp.getgrgid, seen.st_gid),
        "mode": f"{stat.S_IMODE(seen.st_mode):04o}",
    }
    if stat.S_ISREG(seen.st_mode):
        with open(path, "rb") as opened:
            facts["digest"] = hashlib.file_digest(opened, hashlib.sha256).hexdigest()
        if own and seen.st_size < LARGE:
            with open(path, "rb") as opened:
                content = opened.read()
            for name, value in sorted(own.items(), key=lambda each: -len(each[1])):
                content = content.replace(value.encode(), f"<{name}>".encode())
            facts["content"] = hashlib.sha256(content).hexdigest()
    return facts


def user(name: str) -> Facts:
    """A user, without the numeric ids, which differ from host to host."""
    try:
        known = pwd.getpwnam(name)
    except KeyError:
        return None
    groups = sorted(each.gr_name for each in grp.getgrall() if name in each.gr_mem)
    return {
        "home": known.pw_dir,
        "shell": known.pw_shell,
        "groups": [_name(grp.getgrgid, known.pw_gid), *groups],
    }


def cron(name: str) -> Facts:
    """An entry of a user's crontab that Ansible has marked."""
    lines = crontab(name.partition(" ")[0])
    mark = f"#Ansible: {name.partition(' ')[2]}"
    return {"line": lines[lines.index(mark) + 1]} if mark in lines[:-1] else None


def crontab(owner: str) -> list[str]:
    """The lines of a user's crontab."""
    try:
        with open(f"{CRONTABS}/{owner}") as opened:
            return opened.read().splitlines()
    except OSError:
        return []


def unit(block: str) -> Facts:
    """A unit, from what `systemctl show` prints."""
    shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    if shown.get("LoadState") == "not-found":
        return None
    return {
        "active": shown.get("ActiveState") in ("active", "reloading"),
        "enabled": shown.get("UnitFileState"),
    }


def folders(facts: dict[str, Facts]) -> list[str]:
    """The folders that roles fill with files (`FILLED`)."""
    found = {
        os.path.dirname(name.partition(" ")[2])
        for name, known in facts.items()
        if known and known.get("type") == "file" and re.match(FILLED, name.partition(" ")[2])
    }
    return sorted(each for each in found if not any(each.startswith(f"{above}/") for above in found))


def listing(places: Iterable[str]) -> list[str]:
    """Every file below the folders, but for those that packages make anew (`MADE_ANEW`)."""
    return sorted(
        os.path.join(at, name)
        for place in places
        for at, _, names in os.walk(place)
        if not at.endswith(MADE_ANEW)
        for name in names
    )


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """Prove a skip: the facts of what was recorded, and the files that neither a role nor a package has written."""
    facts = look(request["names"])
    unknown = set(listing(request["folders"])) - set(request["files"])
    return {"facts": facts, "strange": sorted(unknown - set(owners(unknown)))}


# --- leftovers -----------------------------------------------------------------------------------


def leftovers(
    previous: dict[str, Any], new: Resources, whole: set[str], declared: Iterable[str], others: set[str]
) -> tuple[Resources, Resources]:
    """Split the resources that only the previous ledger has: those left over, and those carried over.

    A resource is carried over if its task was skipped, wholly or in part, and is still declared.
    """
    left, carried = dict(previous.get("leftovers", {})), {}
    for name, resource in previous.get("things", {}).items():
        if resource["task"] in whole or not any(re.fullmatch(each, resource["task"]) for each in declared):
            left[name] = resource
        else:
            carried[name] = resource
    left = {k: v for k, v in left.items() if k not in new and k not in others and v["facts"]}
    return left, {k: v for k, v in carried.items() if k not in new}


def never(name: str, resource: dict[str, Any], data: Iterable[str]) -> str | None:
    """Why a resource is never removed, or None if it may be."""
    kind, _, rest = name.partition(" ")
    if kind == "user":
        return "files may belong to it"
    if resource.get("part"):
        return "only a part of it was ours"
    if kind == "file" and any(
        rest == each or rest.startswith(f"{each.rstrip('/')}/") for each in (*DATA, *data)
    ):
        return "it may hold data"
    if kind in ("package", "unit") and (rest in LOGIN or rest.startswith("systemd-")):
        return "logins need it"
    return None


def removable(removals: dict[str, set[str]]) -> set[str]:
    """The packages that can be removed without any other. `removals`: what apt would remove with each."""
    going = set(removals)
    while stuck := {each for each in going if not removals[each] <= going}:
        going -= stuck
    return going


def configuration_alone(postrm: str) -> bool:
    """Whether purging a package deletes only its configuration, by its own script `postrm`."""
    own = re.sub(r"# Automatically added by.*?# End automatically added section", "", postrm, flags=re.DOTALL)
    return "purge" not in own


def owners(paths: set[str]) -> dict[str, str]:
    """The package of each of these paths that an installed package owns."""
    owned: dict[str, str] = {}
    try:
        with open(GENERATED) as opened:
            owned = {path: package for package, path in (line.split() for line in opened) if path in paths}
    except (OSError, ValueError):
        pass
    if paths:
        for line in _output("dpkg-query", "-S", *paths).splitlines():
            package, _, path = line.partition(": ")
            owned[path] = package.split(",")[0].split(":")[0]
    here = look([f"package {each}" for each in set(owned.values())])
    return {path: package for path, package in owned.items() if path in paths and here[f"package {package}"]}


def take_away(left: Resources) -> tuple[Reports, Reports]:
    """Remove leftovers: units, packages, cron entries, files. Returns what was done, and why others stay."""
    done: Reports = {}
    stays: Reports = {}
    of = {
        kind: [name.partition(" ")[2] for name in left if name.startswith(f"{kind} ")]
        for kind in ("unit", "package", "cron", "file")
    }
    here = look(left)
    for each in of["unit"]:
        known = here[f"unit {each}"]
        if known and (known["active"] or known["enabled"] == "enabled"):
            _output("systemctl", "disable", "--now", each)
            done[f"unit {each}"] = "stopped and disabled"
    _packages([each for each in of["package"] if here[f"package {each}"]], done, stays)
    for each in of["cron"]:
        if here[f"cron {each}"]:
            owner, _, entry = each.partition(" ")
            _remove_cron(owner, entry)
            done[f"cron {each}"] = "removed"
    owned = owners(set(of["file"]))
    for each in sorted(of["file"], reverse=True):  # the content of a folder before the folder
        if each in owned:
            stays[f"file {each}"] = f"belongs to the package {owned[each]}"
        elif known := here[f"file {each}"]:
            try:
                (os.rmdir if known["type"] == "folder" else os.unlink)(each)
                done[f"file {each}"] = "removed"
            except FileNotFoundError:
                pass  # it went with its package
            except OSError:
                stays[f"file {each}"] = "is not empty"
    return done, stays


def _packages(names: list[str], done: Reports, stays: Reports) -> None:
    removals = {
        each: set(re.findall(r"^Remv (\S+)", _output("apt-get", "-s", "remove", each), re.MULTILINE))
        for each in names
    }
    going = removable(removals)
    for each in names:
        if each not in going:
            stays[f"package {each}"] = (
                f"{', '.join(sorted(removals[each] - {each} - going)[:3])} would go with it"
            )
    for each in sorted(going):
        # dpkg knows the file's name: that of a package which several architectures share has the architecture in it
        script = _output("dpkg-query", "--control-path", each, "postrm").strip()
        verb = "purge" if not script or configuration_alone(_content(script)) else "remove"
        said = _output("apt-get", "-y", "-o", "DPkg::Lock::Timeout=120", verb, each)
        if look([f"package {each}"])[f"package {each}"]:
            stays[f"package {each}"] = (said.strip().splitlines() or ["apt-get failed"])[-1]
        else:
            done[f"package {each}"] = f"{verb}d"


def _content(path: str) -> str:
    with open(path) as opened:
        return opened.read()


def _remove_cron(owner: str, name: str) -> None:
    lines = crontab(owner)
    at = lines.index(f"#Ansible: {name}")
    text = "".join(f"{line}\n" for line in lines[:at] + lines[at + 2 :])
    subprocess.run(["crontab", "-u", owner, "-"], input=text, text=True, check=True)


def _reload_services(done: Reports, left: Resources, new: Resources) -> None:
    """Reload the services of the roles whose files were removed."""
    paths = {
        name.partition(" ")[2]: left[name]["task"].partition(":")[0]
        for name in done
        if name.startswith("file ")
    }
    if any(path.startswith("/etc/systemd/") for path in paths):
        _output("systemctl", "daemon-reload")
    for name, resource in new.items():
        mine = [path for path, role in paths.items() if role == resource["task"].partition(":")[0]]
        if mine and name.startswith("unit "):
            dropped = any(path.startswith("/etc/systemd/") for path in mine)
            verb = "try-restart" if dropped else "try-reload-or-restart"
            _output("systemctl", verb, name.removeprefix("unit "))


# --- the ledger ----------------------------------------------------------------------------------


def read(path: str) -> dict[str, Any]:
    """A ledger of this host; empty if it does not exist or cannot be read."""
    try:
        with open(path) as opened:
            value = json.load(opened)
            return value if isinstance(value, dict) else {}
    except (OSError, ValueError):
        return {}


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """Remove the leftovers of a provisioning that ran whole, and write the ledger."""
    path = os.path.join(FOLDER, f"{request['playbook']}.json")
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    previous = read(path) or request["previous"] or {}
    new: Resources = request["things"]
    others: set[str] = set()
    for name in os.listdir(FOLDER):
        if name != os.path.basename(path):
            others |= set(read(os.path.join(FOLDER, name)).get("things", {}))
    left, carried = leftovers(previous, new, set(request["whole"]), request["declared"], others)
    spared = {name: why for name, resource in left.items() if (why := never(name, resource, request["data"]))}
    left = {name: resource for name, resource in left.items() if name not in spared}
    if request["mode"] == "remove":
        done, stays = take_away(left)
        _reload_services(done, left, new)
    else:
        done, stays = {}, {name: "reported only" for name, facts in look(left).items() if facts}
    resources = {**carried, **new}
    facts = look(resources, request["own"])
    known = set(previous.get("files", ())) | {name.partition(" ")[2] for name in resources}
    begun = time.time() - request["seconds"]
    filled = folders(facts)
    before = tuple(f"{each}/" for each in previous.get("folders", ()))
    # ours: known files, files in folders that were not filled before, and files made while Ansible ran
    ours = [
        each
        for each in listing(filled)
        if each in known or not each.startswith(before) or os.lstat(each).st_ctime >= begun
    ]
    ledger = {
        "things": {name: {**resource, "facts": facts[name]} for name, resource in resources.items()},
        "leftovers": {name: left[name] for name in stays},
        "folders": filled,
        "files": ours,
        **request["about"],
    }
    descriptor = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as opened:
        json.dump(ledger, opened, indent=1, sort_keys=True)
    os.replace(f"{path}.new", path)
    return {"ledger": ledger, "done": done, "stays": {**stays, **spared}}


def _start(*command: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
    )


def _output(*command: str) -> str:
    return _start(*command).communicate()[0]


def _name(ask: Callable[[int], Any], number: int) -> str:
    try:
        return str(ask(number)[0])
    except KeyError:
        return str(number)
