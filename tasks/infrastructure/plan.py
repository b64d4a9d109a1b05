"""plan: compares what is wanted with what is found, and lists the changes. Pure: it sends no request to the cloud.

Each kind of change is a type that holds what its request needs; its text is for people. `adds`: the change adds something, and
neither changes nor removes anything that exists.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

Rules = frozenset[tuple[int, str]]
"""Open ports, each with the network (CIDR) that may reach it."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An instance that carries our tags."""

    id: str
    state: str
    address: str | None
    tags: dict[str, str]
    protected: bool | None = None
    """Whether it has termination protection; None if that was not asked."""


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the settings ask for."""

    name: str
    public_key: str
    rules: Rules
    machines: int
    host_name: str
    tags: dict[str, str]
    protected: bool = False


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What exists, by tag and by name."""

    key: str | None = None
    group: str | None = None
    rules: Rules = frozenset()
    machines: tuple[Machine, ...] = ()
    record: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


# --- the kinds of change ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateKey:
    """Import the deploy user's key pair, tagged with its mark."""

    adds: ClassVar[bool] = True
    name: str
    public_key: str

    def __str__(self) -> str:
        return f"create key {self.name}"


@dataclass(frozen=True, kw_only=True)
class DeleteKey:
    """Delete the key pair of that name."""

    adds: ClassVar[bool] = False
    name: str

    def __str__(self) -> str:
        return f"delete key {self.name}"


@dataclass(frozen=True, kw_only=True)
class CreateGroup:
    """Create a security group without open ports."""

    adds: ClassVar[bool] = True
    name: str

    def __str__(self) -> str:
        return f"create group {self.name}"


@dataclass(frozen=True, kw_only=True)
class DeleteGroup:
    """Delete the security group, once no machine uses it."""

    adds: ClassVar[bool] = False
    name: str

    def __str__(self) -> str:
        return f"delete group {self.name}"


@dataclass(frozen=True, kw_only=True)
class OpenPort:
    """Let a network reach a port."""

    adds: ClassVar[bool] = True
    port: int
    network: str

    def __str__(self) -> str:
        return f"open port {self.port} for {self.network}"


@dataclass(frozen=True, kw_only=True)
class ClosePort:
    """Let a network no longer reach a port."""

    adds: ClassVar[bool] = False
    port: int
    network: str

    def __str__(self) -> str:
        return f"close port {self.port} for {self.network}"


@dataclass(frozen=True, kw_only=True)
class CreateMachine:
    """Create a machine: `number`, counted from 1, of `of`."""

    adds: ClassVar[bool] = True
    number: int
    of: int

    def __str__(self) -> str:
        return f"create machine {self.number} of {self.of}"


@dataclass(frozen=True, kw_only=True)
class StartMachine:
    """Start a stopped machine."""

    adds: ClassVar[bool] = False
    id: str

    def __str__(self) -> str:
        return f"start machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class EndMachine:
    """Terminate a machine, which deletes its disk."""

    adds: ClassVar[bool] = False
    id: str

    def __str__(self) -> str:
        return f"end machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class TagMachine:
    """Add tags that a machine lacks."""

    adds: ClassVar[bool] = True
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"tag machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class RetagMachine:
    """Change the values of a machine's tags."""

    adds: ClassVar[bool] = False
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"retag machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class ProtectMachine:
    """Turn on a machine's termination protection."""

    adds: ClassVar[bool] = True
    id: str

    def __str__(self) -> str:
        return f"protect machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """Give a name without a DNS record its addresses."""

    adds: ClassVar[bool] = True
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"point {self.host_name} to {', '.join(self.addresses)}"


@dataclass(frozen=True, kw_only=True)
class Repoint:
    """Change the addresses of a name."""

    adds: ClassVar[bool] = False
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"repoint {self.host_name} to {', '.join(self.addresses)}"


@dataclass(frozen=True, kw_only=True)
class Unpoint:
    """Delete a name; Route 53 requires the addresses that it has."""

    adds: ClassVar[bool] = False
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"unpoint {self.host_name}"


@dataclass(frozen=True, kw_only=True)
class DeleteSecret:
    """Delete a parameter of the parameter store, by its full name."""

    adds: ClassVar[bool] = False
    name: str

    def __str__(self) -> str:
        return f"delete secret {self.name}"


Change = (
    CreateKey
    | DeleteKey
    | CreateGroup
    | DeleteGroup
    | OpenPort
    | ClosePort
    | CreateMachine
    | StartMachine
    | EndMachine
    | TagMachine
    | RetagMachine
    | ProtectMachine
    | Point
    | Repoint
    | Unpoint
    | DeleteSecret
)
"""One change to make in the cloud. mypy rejects an `apply` that lacks a kind."""


# --- the plan -----------------------------------------------------------------------------------


def plan(wanted: Wanted, found: Existing) -> list[Change]:
    """The changes that turn what is found into what is wanted, in the order in which they are made."""
    present = sorted(found.machines, key=lambda each: each.id)
    kept, spare = present[: wanted.machines], present[wanted.machines :]
    return [
        *_key(wanted, found),
        *_firewall(wanted, found),
        *(StartMachine(id=each.id) for each in present if each.state == "stopped"),
        *(
            CreateMachine(number=number, of=wanted.machines)
            for number in range(len(present) + 1, wanted.machines + 1)
        ),
        *(EndMachine(id=each.id) for each in spare),
        *(change for each in kept for change in _of_machine(wanted, each)),
        *_name(wanted, found, kept),
    ]


def more_than_additions(changes: Sequence[Change]) -> list[Change]:
    """The changes that change or remove something that exists."""
    return [each for each in changes if not each.adds]


def teardown_plan(name: str, host_name: str, found: Existing) -> list[Change]:
    """The changes that delete everything of an environment."""
    return [
        *([Unpoint(host_name=host_name, addresses=found.record)] if found.record else ()),
        *(EndMachine(id=each.id) for each in found.machines),
        *([DeleteGroup(name=name)] if found.group else ()),
        *([DeleteKey(name=name)] if found.key else ()),
        *(DeleteSecret(name=each) for each in found.secrets),
    ]


def key_mark(public_key: str) -> str:
    """A hash of the key, as a tag of the key pair: it shows when the key has changed."""
    return hashlib.sha256(public_key.encode()).hexdigest()[:16]


def _key(wanted: Wanted, found: Existing) -> Iterator[Change]:
    if found.key == key_mark(wanted.public_key):
        return
    if found.key:
        yield DeleteKey(name=wanted.name)
    yield CreateKey(name=wanted.name, public_key=wanted.public_key)


def _firewall(wanted: Wanted, found: Existing) -> Iterator[Change]:
    if not found.group:
        yield CreateGroup(name=wanted.name)
    for port, network in sorted(wanted.rules - found.rules):
        yield OpenPort(port=port, network=network)
    for port, network in sorted(found.rules - wanted.rules):
        yield ClosePort(port=port, network=network)


def _of_machine(wanted: Wanted, machine: Machine) -> Iterator[Change]:
    if missing := {k: v for k, v in wanted.tags.items() if k not in machine.tags}:
        yield TagMachine(id=machine.id, tags=missing)
    if other := {k: v for k, v in wanted.tags.items() if machine.tags.get(k, v) != v}:
        yield RetagMachine(id=machine.id, tags=other)
    if wanted.protected and machine.protected is False:
        yield ProtectMachine(id=machine.id)


def _name(wanted: Wanted, found: Existing, kept: Sequence[Machine]) -> Iterator[Change]:
    """The name is set when every machine runs: before that, not all addresses are known."""
    addresses = tuple(sorted(each.address for each in kept if each.address))
    ready = len(kept) == wanted.machines and all(each.state == "running" for each in kept)
    if ready and addresses != found.record:
        kind: type[Point | Repoint] = Repoint if found.record else Point
        yield kind(host_name=wanted.host_name, addresses=addresses)
