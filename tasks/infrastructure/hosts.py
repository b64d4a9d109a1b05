"""hosts: the running machines with their pinned host keys, as facts of the stage and as hosts for SSH."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.hosts import proxy, ssh
from tasks.hosts.ssh import Host
from tasks.infrastructure import find, memory, secrets
from tasks.infrastructure.plan import Machine
from tasks.placement import ALIKE

if TYPE_CHECKING:
    from tasks.bucket.store import Store
    from tasks.run import Run

KEPT = "ssh-ed25519 "
"""The kind of host key that a provisioned host shows (`roles/base`)."""


@dataclass(frozen=True, kw_only=True)
class MachineFacts:
    """A running machine, as the facts name it to other stages."""

    id: str
    address: str | None
    host_keys: tuple[str, ...]
    within: str = ""
    """The address by which the environment's other machines reach it."""
    name: str = ALIKE
    """Its name in the placement."""

    def __str__(self) -> str:
        return f"{f'{self.name} ' if self.name else ''}{self.id} at {self.address}"


def facts(machines: Iterable[MachineFacts]) -> dict[str, list[dict[str, object]]]:
    """The facts that the stage passes to others; doit stores them as JSON."""
    return {
        "hosts": [
            {
                "id": each.id,
                "address": each.address,
                "host_keys": list(each.host_keys),
                **({"within": each.within} if each.within != each.address else {}),
                **({"name": each.name} if each.name else {}),
            }
            for each in machines
        ]
    }


def parsed(values: Mapping[str, Any]) -> list[MachineFacts]:
    """The machines of such facts; an empty list where the stage has no facts."""
    return [
        MachineFacts(
            id=each["id"],
            address=each["address"],
            host_keys=tuple(each["host_keys"]),
            within=each.get("within", each["address"]),
            name=each.get("name", ALIKE),
        )
        for each in values.get("hosts", ())
    ]


def pinned(run: Run, machines: Iterable[Machine]) -> list[MachineFacts]:
    """The machines with their SSH host keys. They are read once, and only those are accepted from then on.

    A key of the settings' fingerprints counts, else what the console shows. Raises HostKeysMissing.
    """
    known = host_keys(run.store, run.identity)
    machines = sorted(machines, key=lambda each: (each.name, each.id))
    new = {each.id: _first_keys(run, each.id) for each in machines if each.id not in known}
    if new:
        pin(run, new)
    return [_with_keys(each, {**known, **new}[each.id]) for each in machines]


def pin(run: Run, keys: Mapping[str, list[str]]) -> None:
    """Accept these SSH host keys of machines, and no others of them, from now on."""
    memory.change(
        run.store, run.identity, lambda kept: {**kept, "host_keys": {**kept.get("host_keys", {}), **keys}}
    )


def offered(run: Run, id: str) -> dict[str, str]:
    """The SSH keys that a running machine offers now, by fingerprint. Nobody vouches for them. Raises HostDown."""
    found = run.hosts.offered(run.cloud.reachable_at({"InstanceId": id}), _proxy(run, id))
    return {ssh.fingerprint(key): key for key in found}


def _first_keys(run: Run, id: str) -> list[str]:
    listed = run.environment.infrastructure.host_keys
    found = (
        [key for mark, key in offered(run, id).items() if mark in listed and key.startswith(KEPT)]
        if listed
        else []
    )
    return found or run.cloud.host_keys(id, run.console.say("infrastructure"))


def known(run: Run, *, also_stopped: bool = False) -> list[MachineFacts]:
    """The running machines whose host keys are known. No playbook has run on any other machine."""
    pins = host_keys(run.store, run.identity)
    machines = find.named(run, find.machines(run.cloud.client("ec2"), find.of(run)))
    return [
        _with_keys(each, pins[each.id])
        for each in machines
        if each.id in pins and (also_stopped or each.state == "running")
    ]


def host_keys(store: Store, identity: str) -> dict[str, list[str]]:
    """The known SSH host keys, by machine."""
    return dict(memory.read(store, identity).get("host_keys", {}))


def reachable(run: Run, machines: Iterable[MachineFacts]) -> list[Host]:
    """The machines as hosts for SSH. Raises HostDown for a machine that does not run."""
    return [
        Host(
            name=each.id,
            address=run.cloud.reachable_at({"InstanceId": each.id}),
            user=run.cloud.login_user,
            key=secrets.ensure(run.cloud.client("ssm"), run.secrets_folder).deploy_key,
            host_keys=each.host_keys,
            proxy=_proxy(run, each.id),
        )
        for each in machines
    ]


def _proxy(run: Run, id: str) -> str:
    return proxy.command(run.environment.infrastructure.ssh_through, id, run.pipeline.region)


def _with_keys(machine: Machine, keys: Iterable[str]) -> MachineFacts:
    return MachineFacts(
        id=machine.id,
        address=machine.address,
        host_keys=tuple(keys),
        within=machine.within or "",
        name=machine.name,
    )
