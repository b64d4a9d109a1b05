"""ledger_host: runs on a host, as root: looks at what a playbook manages there, and takes leftovers away.

SSH sends it to the host's own Python, so it is one file and needs nothing but the standard library.
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
Things = dict[str, dict[str, Any]]
Own = dict[str, str]
Said = dict[str, str]

FOLDER = "/var/lib/release-pipeline/ledger"
DATA = ("/home", "/root", "/srv", "/var/lib", "/var/log", "/var/mail", "/var/spool", "/var/www")
"""Whatever lies below is or may be data. The application's own path comes on top."""
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
"""Packages and units without which nobody could log in to put things right."""
LARGE = 1 << 20


# --- looking -------------------------------------------------------------------------------------


def look(names: Iterable[str], own: Own | None = None) -> dict[str, Facts]:
    """The facts of each thing, None for what is not there. `own`: what only this environment has, by name."""
    kinds: dict[str, list[str]] = {}
    for name in names:
        kind, _, rest = name.partition(" ")
        kinds.setdefault(kind, []).append(rest)
    # both take their time: they run while the files are read
    dpkg = _start(
        "dpkg-query", "-W", "-f=${Package} ${db:Status-Status} ${Version}\n", *kinds.get("package", ["-"])
    )
    systemctl = _start(
        "systemctl", "show", "-p", "ActiveState,LoadState,UnitFileState", *kinds.get("unit", ["-.mount"])
    )
    facts: dict[str, Facts] = {f"file {each}": file(each, own) for each in kinds.get("file", ())}
    facts |= {f"user {each}": user(each) for each in kinds.get("user", ())}
    facts |= {f"cron {each}": cron(each) for each in kinds.get("cron", ())}
    lines = [line.split(" ") for line in dpkg.communicate()[0].splitlines()]
    versions = {line[0]: line[2] for line in lines if line[1] == "installed"}
    facts |= {
        f"package {each}": {"version": versions[each]} if each in versions else None
        for each in kinds.get("package", ())
    }
    blocks = systemctl.communicate()[0].split("\n\n")
    facts |= {f"unit {each}": unit(block) for each, block in zip(kinds.get("unit", ()), blocks, strict=False)}
    return facts


def file(path: str, own: Own | None = None) -> Facts:
    """A file, folder or link. `content` is the digest without the environment's own values, for comparisons."""
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
            facts["digest"] = hashlib.file_digest(opened, "sha256").hexdigest()
        if own and seen.st_size < LARGE:
            with open(path, "rb") as opened:
                content = opened.read()
            for name, value in sorted(own.items(), key=lambda each: -len(each[1])):
                content = content.replace(value.encode(), f"<{name}>".encode())
            facts["content"] = hashlib.sha256(content).hexdigest()
    return facts


def user(name: str) -> Facts:
    """A user: numbers differ from host to host and say nothing."""
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
        with open(f"/var/spool/cron/crontabs/{owner}") as opened:
            return opened.read().splitlines()
    except OSError:
        return []


def unit(block: str) -> Facts:
    """A unit by what systemd shows of it."""
    shown = dict(line.split("=", 1) for line in block.split("\n") if "=" in line)
    if shown.get("LoadState") == "not-found":
        return None
    return {
        "active": shown.get("ActiveState") in ("active", "reloading"),
        "enabled": shown.get("UnitFileState"),
    }


def folders(facts: dict[str, Facts]) -> list[str]:
    """The folders that roles fill with files; /etc itself is everybody's."""
    found = {
        os.path.dirname(name.partition(" ")[2])
        for name, known in facts.items()
        if known
        and known.get("type") == "file"
        and re.match("/etc/.+/|/usr/local/.+/", name.partition(" ")[2])
    }
    return sorted(each for each in found if not any(each.startswith(f"{above}/") for above in found))


def listing(places: Iterable[str]) -> list[str]:
    """Every file below the folders."""
    return sorted(
        os.path.join(at, name) for place in places for at, _, names in os.walk(place) for name in names
    )


def probe(request: dict[str, Any]) -> dict[str, Any]:
    """What a skip is proved with: facts of what was recorded, and files that nobody knows."""
    facts = look(request["names"])
    strange = set(listing(request["folders"])) - set(request["files"])
    return {"facts": facts, "strange": sorted(strange - set(owners(strange)))}


# --- leftovers -----------------------------------------------------------------------------------


def leftovers(
    previous: dict[str, Any], new: Things, whole: set[str], declared: Iterable[str], others: set[str]
) -> tuple[Things, Things]:
    """Split what only the previous ledger has: what is left over, and what is carried over.

    Carried over is what a skipped task stands for, as long as it is declared somewhere.
    """
    left, carried = dict(previous.get("leftovers", {})), {}
    for name, thing in previous.get("things", {}).items():
        if thing["task"] in whole or not any(re.fullmatch(each, thing["task"]) for each in declared):
            left[name] = thing
        else:
            carried[name] = thing
    left = {k: v for k, v in left.items() if k not in new and k not in others and v["facts"]}
    return left, {k: v for k, v in carried.items() if k not in new}


def never(name: str, thing: dict[str, Any], data: Iterable[str]) -> str | None:
    """Why a thing is no leftover whatever the ledgers say, or None."""
    kind, _, rest = name.partition(" ")
    if kind == "user":
        return "files may belong to it"
    if thing.get("part"):
        return "only a part of it was ours"
    if kind == "file" and any(
        rest == each or rest.startswith(f"{each.rstrip('/')}/") for each in (*DATA, *data)
    ):
        return "it may hold data"
    if kind in ("package", "unit") and (rest in LOGIN or rest.startswith("systemd-")):
        return "logins need it"
    return None


def removable(removals: dict[str, set[str]]) -> set[str]:
    """Packages that can go together and take nothing else along. `removals`: what apt would remove with each."""
    going = set(removals)
    while any(not removals[each] <= going for each in going):
        going = {each for each in going if removals[each] <= going}
    return going


def configuration_alone(postrm: str) -> bool:
    """Whether purging a package deletes its configuration and nothing else, by the script that it brings."""
    own = re.sub(r"# Automatically added by.*?# End automatically added section", "", postrm, flags=re.DOTALL)
    return "purge" not in own


def owners(paths: set[str]) -> dict[str, str]:
    """Of these paths, those that an installed package owns, by path."""
    owned: dict[str, str] = {}
    try:
        with open("/var/lib/ucf/registry") as opened:
            owned = {path: package for package, path in (line.split() for line in opened) if path in paths}
    except (OSError, ValueError):
        pass
    if paths:
        for line in _output("dpkg-query", "-S", *paths).splitlines():
            package, _, path = line.partition(": ")
            owned[path] = package.split(",")[0].split(":")[0]
    here = look([f"package {each}" for each in set(owned.values())])
    return {path: package for path, package in owned.items() if path in paths and here[f"package {package}"]}


def take_away(left: Things) -> tuple[Said, Said]:
    """Remove leftovers: units, packages, cron entries, files. Returns for each what was done, or why it stays."""
    done: Said = {}
    stays: Said = {}
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
            _remove_cron(*each.split(" ", 1))
            done[f"cron {each}"] = "removed"
    owned = owners(set(of["file"]))
    for each in sorted(of["file"], reverse=True):  # what lies in a folder before the folder
        if each in owned:
            stays[f"file {each}"] = f"belongs to the package {owned[each]}"
        elif known := here[f"file {each}"]:
            try:
                (os.rmdir if known["type"] == "folder" else os.unlink)(each)
                done[f"file {each}"] = "removed"
            except FileNotFoundError:
                pass  # gone with its package
            except OSError:
                stays[f"file {each}"] = "is not empty"
    return done, stays


def _packages(names: list[str], done: Said, stays: Said) -> None:
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
        try:
            with open(f"/var/lib/dpkg/info/{each}.postrm") as opened:
                verb = "purge" if configuration_alone(opened.read()) else "remove"
        except OSError:
            verb = "purge"
        said = _output("apt-get", "-y", "-o", "DPkg::Lock::Timeout=120", verb, each)
        if look([f"package {each}"])[f"package {each}"]:
            stays[f"package {each}"] = (said.strip().splitlines() or ["apt-get failed"])[-1]
        else:
            done[f"package {each}"] = f"{verb}d"


def _remove_cron(owner: str, name: str) -> None:
    lines = crontab(owner)
    at = lines.index(f"#Ansible: {name}")
    text = "".join(f"{line}\n" for line in lines[:at] + lines[at + 2 :])
    subprocess.run(["crontab", "-u", owner, "-"], input=text, text=True, check=True)


def _let_know(done: Said, left: Things, new: Things) -> None:
    """Let the services that read a removed file go on without it."""
    paths = {
        name.partition(" ")[2]: left[name]["task"].partition(":")[0]
        for name in done
        if name.startswith("file ")
    }
    if any(path.startswith("/etc/systemd/") for path in paths):
        _output("systemctl", "daemon-reload")
    for name, thing in new.items():
        kind, _, unit_name = name.partition(" ")
        mine = [
            path for path, role in paths.items() if kind == "unit" and role == thing["task"].partition(":")[0]
        ]
        if mine:
            dropped = any(path.startswith("/etc/systemd/") for path in mine)
            _output("systemctl", "try-restart" if dropped else "try-reload-or-restart", unit_name)


# --- the ledger ----------------------------------------------------------------------------------


def read(path: str) -> dict[str, Any]:
    """A ledger of this host; an unreadable one is none."""
    try:
        with open(path) as opened:
            value = json.load(opened)
            return value if isinstance(value, dict) else {}
    except (OSError, ValueError):
        return {}


def settle(request: dict[str, Any]) -> dict[str, Any]:
    """After a provisioning that ran whole: leftovers go, and the ledger is written."""
    path = os.path.join(FOLDER, f"{request['playbook']}.json")
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    previous = read(path) or request["previous"] or {}
    new: Things = request["things"]
    others: set[str] = set()
    for name in os.listdir(FOLDER):
        if name != os.path.basename(path):
            others |= set(read(os.path.join(FOLDER, name)).get("things", {}))
    left, carried = leftovers(previous, new, set(request["whole"]), request["declared"], others)
    spared = {name: why for name, thing in left.items() if (why := never(name, thing, request["data"]))}
    left = {name: thing for name, thing in left.items() if name not in spared}
    if request["mode"] == "remove":
        done, stays = take_away(left)
        _let_know(done, left, new)
    else:
        done, stays = {}, {name: "reported only" for name, facts in look(left).items() if facts}
    things = {**carried, **new}
    facts = look(things, request["own"])
    known = set(previous.get("files", ())) | {name.partition(" ")[2] for name in things}
    begun = time.time() - request["seconds"]
    filled = folders(facts)
    before = tuple(f"{each}/" for each in previous.get("folders", ()))
    # what came by other hands stays strange: it was not here before, and not made while Ansible ran
    ours = [
        each
        for each in listing(filled)
        if each in known or not each.startswith(before) or os.lstat(each).st_ctime >= begun
    ]
    ledger = {
        "things": {name: {**thing, "facts": facts[name]} for name, thing in things.items()},
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
