"""plan: from what is wanted and what is found to the changes that are due. Pure: nothing here asks the cloud.

Each kind of change is a type, with what its call to the cloud needs; its text is what a person reads. `adds`: afterwards
everything that was there before still is, and is the same.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

Rules = frozenset[tuple[int, str]]
"""Ports that are open, each with the network (CIDR) for which it is."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An instance that carries our tags."""

    id: str
    state: str
    address: str | None
    tags: dict[str, str]
    protected: bool | None = None
    """Whether the cloud refuses to end it; None where nobody asked."""


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
    """What there is, by tag and by name."""

    key: str | None = None
    group: str | None = None
    rules: Rules = frozenset()
    machines: tuple[Machine, ...] = ()
    record: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()


# --- the kinds of change ------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CreateKey:
    """A key pair for the deploy user, tagged with its mark."""

    adds: ClassVar[bool] = True
    name: str
    public_key: str

    def __str__(self) -> str:
        return f"create key {self.name}"


@dataclass(frozen=True, kw_only=True)
class DeleteKey:
    """The key pair goes, by its name."""

    adds: ClassVar[bool] = False
    name: str

    def __str__(self) -> str:
        return f"delete key {self.name}"


@dataclass(frozen=True, kw_only=True)
class CreateGroup:
    """A security group, in which no port is open yet."""

    adds: ClassVar[bool] = True
    name: str

    def __str__(self) -> str:
        return f"create group {self.name}"


@dataclass(frozen=True, kw_only=True)
class DeleteGroup:
    """The security group goes, when no machine is in it any more."""

    adds: ClassVar[bool] = False
    name: str

    def __str__(self) -> str:
        return f"delete group {self.name}"


@dataclass(frozen=True, kw_only=True)
class OpenPort:
    """A network may reach a port."""

    adds: ClassVar[bool] = True
    port: int
    network: str

    def __str__(self) -> str:
        return f"open port {self.port} for {self.network}"


@dataclass(frozen=True, kw_only=True)
class ClosePort:
    """A network may not reach a port any more."""

    adds: ClassVar[bool] = False
    port: int
    network: str

    def __str__(self) -> str:
        return f"close port {self.port} for {self.network}"


@dataclass(frozen=True, kw_only=True)
class CreateMachine:
    """The machine of a number, counted from 1, `of` so many."""

    adds: ClassVar[bool] = True
    number: int
    of: int

    def __str__(self) -> str:
        return f"create machine {self.number} of {self.of}"


@dataclass(frozen=True, kw_only=True)
class StartMachine:
    """A machine that was stopped runs again."""

    adds: ClassVar[bool] = False
    id: str

    def __str__(self) -> str:
        return f"start machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class EndMachine:
    """A machine goes, with its disk."""

    adds: ClassVar[bool] = False
    id: str

    def __str__(self) -> str:
        return f"end machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class TagMachine:
    """A machine gets tags that it has not."""

    adds: ClassVar[bool] = True
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"tag machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class RetagMachine:
    """Tags of a machine get other values."""

    adds: ClassVar[bool] = False
    id: str
    tags: Mapping[str, str]

    def __str__(self) -> str:
        return f"retag machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class ProtectMachine:
    """The cloud refuses from now on to end a machine."""

    adds: ClassVar[bool] = True
    id: str

    def __str__(self) -> str:
        return f"protect machine {self.id}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """A name that had no addresses gets some."""

    adds: ClassVar[bool] = True
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"point {self.host_name} to {', '.join(self.addresses)}"


@dataclass(frozen=True, kw_only=True)
class Repoint:
    """A name gets other addresses than it had."""

    adds: ClassVar[bool] = False
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"repoint {self.host_name} to {', '.join(self.addresses)}"


@dataclass(frozen=True, kw_only=True)
class Unpoint:
    """A name goes; the cloud wants to hear the addresses that it has."""

    adds: ClassVar[bool] = False
    host_name: str
    addresses: tuple[str, ...]

    def __str__(self) -> str:
        return f"unpoint {self.host_name}"


@dataclass(frozen=True, kw_only=True)
class DeleteSecret:
    """A parameter goes, by its full name."""

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
"""One change of the cloud that is due. mypy refuses an `apply` that forgets a kind."""


# --- the plan -----------------------------------------------------------------------------------


def plan(wanted: Wanted, found: Existing) -> list[Change]:
    """The changes that lead from what is found towards what is wanted, in the order to make them."""
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
    """Those that change or remove what is there."""
    return [each for each in changes if not each.adds]


def teardown_plan(name: str, host_name: str, found: Existing) -> list[Change]:
    """The changes that leave nothing of an environment."""
    return [
        *([Unpoint(host_name=host_name, addresses=found.record)] if found.record else ()),
        *(EndMachine(id=each.id) for each in found.machines),
        *([DeleteGroup(name=name)] if found.group else ()),
        *([DeleteKey(name=name)] if found.key else ()),
        *(DeleteSecret(name=each) for each in found.secrets),
    ]


def key_mark(public_key: str) -> str:
    """What a key pair is tagged with, so that a changed key is noticed."""
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
    """The name waits until every machine runs: before that, not all addresses are known."""
    addresses = tuple(sorted(each.address for each in kept if each.address))
    ready = len(kept) == wanted.machines and all(each.state == "running" for each in kept)
    if ready and addresses != found.record:
        kind: type[Point | Repoint] = Repoint if found.record else Point
        yield kind(host_name=wanted.host_name, addresses=addresses)
