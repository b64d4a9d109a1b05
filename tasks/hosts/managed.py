"""managed: what Ansible manages on each host, read from its events, and the tasks that declare it."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tasks import required_roles

WHOLE = {"template", "copy", "file", "get_url", "assemble", "deb822_repository"}
PART = {"lineinfile", "blockinfile", "replace", "ini_file"}
"""These change a part of a file: removing the file would not undo that."""
PACKAGES = {"apt", "package"}
UNITS = {"systemd_service", "systemd", "service"}


class _Loader(yaml.SafeLoader):
    """Reads files of Ansible's, which have tags of its own, such as `!unsafe` and `!vault`."""


_Loader.add_multi_constructor("!", lambda _loader, _tag, node: str(node.value))

ManagedResource = dict[str, Any]
"""The task that manages it; `part`: it manages only a part of a file."""


@dataclass(frozen=True, kw_only=True)
class Managed:
    """What a playbook manages on one host, and which of its tasks ran whole.

    A resource is named `KIND NAME`: `file /etc/motd`, `package nginx`, `unit nginx`, `user shop`,
    `cron root backup`. A task is `ROLE: NAME`; it ran whole unless a part of it was skipped or failed.
    """

    resources: dict[str, ManagedResource] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    cut_short: set[str] = field(default_factory=set)

    @property
    def whole(self) -> set[str]:
        """The tasks of which nothing was skipped or failed."""
        return self.ran - self.cut_short


class ManagedListener:
    """Listens to ansible-runner's events. They carry each task's arguments, whether it changed anything or not."""

    def __init__(self) -> None:
        self.hosts: dict[str, Managed] = {}

    def hear(self, event: Mapping[str, Any]) -> None:
        """Read one event. A loop reports each item, then all of them together."""
        kind, told = str(event.get("event")), event.get("event_data") or {}
        if not kind.startswith(("runner_on_", "runner_item_on_")) or not told.get("host"):
            return
        if kind == "runner_on_start":
            return
        host = self.hosts.setdefault(told["host"], Managed())
        task = f"{told.get('role') or ''}: {told.get('task')}"
        host.ran.add(task)
        if not kind.endswith("_ok"):
            host.cut_short.add(task)
            return
        for name in managed(str(told.get("task_action")), told.get("res") or {}):
            part = _short(told["task_action"]) in PART
            host.resources[name] = {"task": task, **({"part": True} if part else {})}


def managed(action: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Names of the resources that a finished task manages."""
    action = _short(action)
    asked = (result.get("invocation") or {}).get("module_args") or {}
    if action in WHOLE | PART:
        path = result.get("dest") or result.get("path") or asked.get("dest") or asked.get("path")
        if path:
            yield f"file {os.path.normpath(path)}"
    elif action in PACKAGES:
        names = asked.get("name") or asked.get("package") or asked.get("pkg") or []
        for name in names.split(",") if isinstance(names, str) else names:
            yield f"package {re.split('[=/]', name.strip())[0]}"
    elif action in UNITS and asked.get("name"):
        # a restart or reload, as in handlers, manages nothing that lasts
        if asked.get("enabled") is not None or asked.get("state") in ("started", "stopped"):
            yield f"unit {asked['name'].removesuffix('.service')}"
    elif action == "user" and asked.get("name"):
        yield f"user {asked['name']}"
    elif action == "cron" and asked.get("cron_file"):
        yield f"file /etc/cron.d/{asked['cron_file'].removeprefix('/etc/cron.d/')}"
    elif action == "cron" and asked.get("name"):
        yield f"cron {asked.get('user') or 'root'} {asked['name']}"


def declared(root: Path, playbook: str, roles: Iterable[str] = ()) -> list[str]:
    """Patterns of all tasks of a playbook and of the roles that it uses, skipped or not; `roles`: those that it is told."""
    found: set[str] = set()
    seen: set[str] = set()
    wanted = [("", root / "playbooks" / f"{playbook}.yml"), *_files(root, roles, seen)]
    while wanted:
        role, path = wanted.pop()
        document = yaml.load(path.read_text(), Loader=_Loader)  # noqa: S506  a safe one
        found |= {f"{re.escape(role)}: {_pattern(name)}" for name in _names(document)}
        wanted += _files(root, _roles(document), seen)
    return sorted(found)


def _files(root: Path, roles: Iterable[str], seen: set[str]) -> Iterator[tuple[str, Path]]:
    """The files with tasks of the roles that were not seen yet, each with its role."""
    for role in roles:
        folder = required_roles.folder(root, role)
        if role not in seen and folder.is_dir():
            seen.add(role)
            for each in ("tasks", "handlers", "meta"):
                yield from ((role, file) for file in (folder / each).rglob("*.y*ml"))


def _names(value: Any) -> Iterator[str]:
    """Every name and every key in a YAML document: Ansible names a task without a name by its action."""
    if isinstance(value, dict):
        yield from (str(value["name"]) for _ in [0] if isinstance(value.get("name"), str))
        yield from map(str, value)
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _names(each)


def _roles(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("role"), str):
            yield value["role"]
        for key in value:
            if _short(str(key)) in ("include_role", "import_role") and isinstance(value[key], dict):
                yield str(value[key].get("name"))
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _roles(each)


def _pattern(name: str) -> str:
    return ".*".join(map(re.escape, re.split(r"\{\{.*?\}\}", name)))


def _short(action: str) -> str:
    return action.rpartition(".")[2]
