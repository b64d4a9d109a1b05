"""managed: what Ansible manages on each host, heard from its events, and where that is declared."""

from __future__ import annotations

import os.path
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WHOLE = {"template", "copy", "file", "get_url", "assemble", "deb822_repository"}
PART = {"lineinfile", "blockinfile", "replace", "ini_file"}
"""These change a part of a file: what they have done cannot be taken back by removing it."""
PACKAGES = {"apt", "package"}
UNITS = {"systemd_service", "systemd", "service"}

Thing = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Managed:
    """What a playbook manages on one host, and which of its tasks say everything that they have to say.

    A thing is named `KIND NAME`: `file /etc/motd`, `package nginx`, `unit nginx`, `user shop`,
    `cron root backup`. A task is `ROLE: NAME`; it is whole unless something of it was skipped or failed.
    """

    things: dict[str, Thing] = field(default_factory=dict)
    ran: set[str] = field(default_factory=set)
    cut_short: set[str] = field(default_factory=set)

    @property
    def whole(self) -> set[str]:
        """The tasks that ran without a part left out."""
        return self.ran - self.cut_short


class ManagedListener:
    """Listens to ansible-runner's events. They carry each task's arguments, whether it changed anything or not."""

    def __init__(self) -> None:
        self.hosts: dict[str, Managed] = {}

    def hear(self, event: Mapping[str, Any]) -> None:
        """Take in one event. A loop tells of each item, then of all of them together."""
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
            host.things[name] = {"task": task, **({"part": True} if part else {})}


def managed(action: str, result: Mapping[str, Any]) -> Iterator[str]:
    """Names of the things that a finished task answers for."""
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
        # a mere restart or reload, as handlers do it, answers for nothing that lasts
        if asked.get("enabled") is not None or asked.get("state") in ("started", "stopped"):
            yield f"unit {asked['name'].removesuffix('.service')}"
    elif action == "user" and asked.get("name"):
        yield f"user {asked['name']}"
    elif action == "cron" and asked.get("cron_file"):
        yield f"file /etc/cron.d/{asked['cron_file'].removeprefix('/etc/cron.d/')}"
    elif action == "cron" and asked.get("name"):
        yield f"cron {asked.get('user') or 'root'} {asked['name']}"


def declared(root: Path, playbook: str) -> list[str]:
    """Patterns of the tasks that a playbook and all roles that it can reach declare, skipped or not."""
    import yaml

    found: set[str] = set()
    roles: set[str] = set()
    wanted = [("", root / "playbooks" / f"{playbook}.yml")]
    while wanted:
        role, path = wanted.pop()
        document = yaml.safe_load(path.read_text())
        found |= {f"{re.escape(role)}: {_pattern(name)}" for name in _names(document)}
        for each in _roles(document):
            if each not in roles and (root / "roles" / each).is_dir():
                roles.add(each)
                wanted += [(each, file) for file in (root / "roles" / each).glob("[thm]*/*.yml")]
    return sorted(found)


def _names(value: Any) -> Iterator[str]:
    """Every name in a YAML document; of a task without one, Ansible tells the action."""
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
