"""ledger: the record of what a playbook manages on each host, kept there and in the bucket, and of its leftovers."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.bucket import layout
from tasks.bucket.store import NotADocument
from tasks.hosts import managed, ssh
from tasks.server import ledger_host

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.hosts.hosts import Hosts
    from tasks.hosts.managed import Managed
    from tasks.run import Run


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """What a playbook manages on a host.

    `resources`: each with its task and its facts, by name; `things` in the document. `folders`: those that the roles fill.
    `files`: the files in them that are ours. `settings`: the environment's. `more`: the keys that only `ledger_host` uses, and
    those that a newer pipeline has added.
    """

    resources: Mapping[str, Mapping[str, Any]]
    folders: Sequence[str] = ()
    files: Sequence[str] = ()
    settings: Mapping[str, object] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Ledger:
        """The ledger of a document."""
        own = {"things", "folders", "files", "settings"}
        return cls(
            resources=value.get("things", {}),
            folders=tuple(value.get("folders", ())),
            files=tuple(value.get("files", ())),
            settings=value.get("settings", {}),
            more={name: each for name, each in value.items() if name not in own},
        )

    def as_dict(self) -> dict[str, Any]:
        """The document, with every key that it was read with."""
        return {
            **self.more,
            "things": dict(self.resources),
            "folders": list(self.folders),
            "files": list(self.files),
            "settings": dict(self.settings),
        }


def read(store: Store, identity: str, host: str, playbook: str) -> Ledger | None:
    """The ledger of a host, or None if it does not exist or cannot be read."""
    try:
        document = store.read(layout.ledger(identity, host, playbook))
    except NotADocument:
        return None
    return Ledger.of(document.value) if document else None


def keep(
    run: Run,
    playbook: str,
    *,
    hosts: Sequence[ssh.Host],
    roles: Mapping[str, Sequence[str]],
    recorded: Mapping[str, Managed],
    seconds: float,
    own: Mapping[str, str],
    settings: Mapping[str, object],
) -> None:
    """Write the ledgers after a provisioning that ran whole and succeeded, and remove its leftovers.

    `roles`: those of each host. `own`: values that only this environment has. Comparisons leave them out, and no ledger contains them.
    """
    declared = {each: managed.declared(run.root, playbook, each) for each in set(map(tuple, roles.values()))}
    for host in hosts:
        known = recorded.get(host.name) or managed.Managed()
        previous = read(run.store, run.identity, host.name, playbook)
        answer = ask(
            run.hosts,
            host,
            playbook,
            ledger_host.settle,
            {
                "playbook": playbook,
                "previous": previous.as_dict() if previous else None,
                "things": known.resources,
                "whole": sorted(known.whole),
                "declared": declared[tuple(roles[host.name])],
                "data": [f"/srv/{run.pipeline.name}"],
                "mode": run.environment.server.leftovers,
                "own": dict(own),
                "seconds": seconds,
                "about": {"settings": dict(settings), "by": run.who, "at": run.clock.stamp()},
            },
        )
        for name, done in answer["done"].items():
            run.console.event(playbook, f"leftover {name}: {done}")
        for name, why in answer["stays"].items():
            run.console.event(playbook, f"leftover {name}: stays, {why}")
        _write(run.store, layout.ledger(run.identity, host.name, playbook), Ledger.of(answer["ledger"]))
    forget(run.store, stored(run.store, run.identity), but={host.name for host in hosts})


def stored(store: Store, identity: str) -> list[str]:
    """The keys of an environment's ledgers."""
    return list(store.keys(layout.ledgers(identity)))


def forget(store: Store, keys: Collection[str], *, but: Collection[str] = ()) -> None:
    """Delete ledgers by their keys, but those of some hosts."""
    for key in keys:
        found = layout.parse(key)
        if found and found.host not in but:
            store.delete(key)


def ask(hosts: Hosts, host: ssh.Host, stage: str, function: Any, request: Mapping[str, Any]) -> Any:
    """Call a function of `ledger_host` on the host, in one round trip and without Ansible."""
    program = Path(ledger_host.__file__).read_text()
    call = f"print(json.dumps({function.__name__}(json.loads({json.dumps(request)!r}))))\n"
    return json.loads(hosts.python(host, stage, f"{program}\n\n{call}").splitlines()[-1])


def differences(resources: Mapping[str, Any], facts: Mapping[str, Any]) -> list[str]:
    """What differs from the record, in a person's words: `/etc/nginx/nginx.conf`, `mode of /etc/motd`."""
    found = []
    for name, resource in sorted(resources.items()):
        before, after = resource["facts"], facts.get(name)
        kind, _, rest = name.partition(" ")
        shown = rest if kind == "file" else name
        if kind == "package":  # security updates change the version, which only comparisons use
            before, after = bool(before), bool(after)
        if before == after:
            continue
        if not before or not after:
            found.append(f"{shown} {'is gone' if before else 'is there'}")
        else:
            fields = [each for each in before if each != "content" and before[each] != after.get(each)]
            found += [shown if each == "digest" else f"{each} of {shown}" for each in fields]
    return found


def _write(store: Store, key: str, new: Ledger) -> None:
    try:
        document = store.read(key)
        seen = document.etag if document else None
    except NotADocument as found:
        seen = found.etag
    store.write(key, new.as_dict(), seen=seen)
