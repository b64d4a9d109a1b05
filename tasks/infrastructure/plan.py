"""plan: compares what is wanted with what is found, and lists the changes. Pure: it sends no request to the cloud.

Each kind of change is a type that holds what its request needs; its text is for people. `adds`: the change adds something, and
neither changes nor removes anything that exists. Kinds that hold the same share a class: each dataclass costs half a millisecond
of every start.
"""

# without `annotations` of __future__: types that are texts are read again by each dataclass, at every start

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from tasks.placement import ALIKE

Rules = frozenset[tuple[int, str]]
"""Open TCP ports, each with the network (CIDR) that may reach it."""


@dataclass(frozen=True, kw_only=True, order=True)
class WholeRule:
    """A rule of a security group as the cloud has it: what somebody made by hand may be a range of ports, or name a prefix list."""

    protocol: str
    first: int | None
    last: int | None
    source: str

    def __str__(self) -> str:
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return (
            f"all traffic for {self.source}"
            if self.protocol == "-1"
            else f"{self.protocol} {ports} for {self.source}"
        )


@dataclass(frozen=True, kw_only=True)
class Machine:
    """An instance that carries our tags."""

    id: str
    state: str
    address: str | None
    tags: dict[str, str]
    launched: str = ""
    """When it was created, in ISO 8601 (UTC)."""
    protected: bool | None = None
    """Whether it has termination protection; None if that was not asked."""
    token: str = ""
    """The token that it was launched with."""
    private: str | None = None
    """Its address in the cloud's network, where that is another one."""
    name: str = ALIKE
    """Its name in the placement."""

    @property
    def within(self) -> str | None:
        """The address by which the environment's other machines reach it."""
        return self.private or self.address


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the settings ask for."""

    name: str
    public_key: str
    rules: Rules
    machines: int
    """How many there are of each name."""
    host_names: tuple[str, ...]
    zone: str
    tags: dict[str, str]
    protected: bool = False
    named: Mapping[str, Mapping[str, str]] = field(default_factory=lambda: {ALIKE: {}})
    """The names of the machines, each with the tags that it alone has."""
    visited: frozenset[str] = frozenset({ALIKE})
    """The names of those that visitors reach."""
    peers: frozenset[tuple[int, str, str]] = frozenset()
    """Ports that machines may reach on each other: the port, who reaches it, and where."""
    ways_out: frozenset[tuple[str, int]] = frozenset()
    """Protocols and ports by which the machines reach everything else."""

    @property
    def total(self) -> int:
        """How many machines there are."""
        return self.machines * len(self.named)


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """A DNS record of the environment under a name that the settings no longer give it, in a zone of then."""

    host_name: str
    zone: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Existing:
    """What exists, by tag and by name."""

    key: str | None = None
    group: str | None = None
    rules: Rules = frozenset()
    hand_made: tuple[WholeRule, ...] = ()
    outward: frozenset[WholeRule] = frozenset()
    """What the group lets out."""
    used: frozenset[tuple[str, int]] = frozenset()
    """Protocols and ports by which hosts reach everything else, as they were provisioned last."""
    machines: tuple[Machine, ...] = ()
    strangers: tuple[Machine, ...] = ()
    """Machines with the environment's tags that are none of its own."""
    records: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The addresses of each host name that has any."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """What else stands under a name, such as an alias of a load balancer. It is somebody else's, and stays."""
    replaced: tuple[Replaced, ...] = ()
    secrets: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    """Machines that were made for it and are no more."""


ANYWHERE = ("0.0.0.0/0", "::/0")
EVERYTHING = frozenset({WholeRule(protocol="-1", first=None, last=None, source=ANYWHERE[0])})
"""What AWS lets out of a new group."""


# --- the kinds of change ------------------------------------------------------------------------


class _Kind:
    """What every kind says of itself: the change in words, and whether it only adds something."""

    words: ClassVar[str]
    adds: ClassVar[bool] = False

    def __str__(self) -> str:
        return self.words.format(self)


@dataclass(frozen=True, kw_only=True)
class _Named(_Kind):
    """A change of what has this name."""

    name: str


@dataclass(frozen=True, kw_only=True)
class _OfMachine(_Kind):
    """A change of the machine with this id."""

    id: str


@dataclass(frozen=True, kw_only=True)
class _Tags(_OfMachine):
    """These tags of a machine."""

    tags: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class _Port(_Kind):
    """A port, and the network that may reach it."""

    port: int
    network: str


@dataclass(frozen=True, kw_only=True)
class _Addresses(_Kind):
    """A DNS name, its zone and its addresses."""

    host_name: str
    zone: str
    addresses: tuple[str, ...]

    @property
    def listed(self) -> str:
        """The addresses, for people."""
        return ", ".join(self.addresses)


@dataclass(frozen=True, kw_only=True)
class CreateKey(_Named):
    """Import the deploy user's key pair, tagged with its mark."""

    words = "create key {0.name}"
    adds = True
    public_key: str


class DeleteKey(_Named):
    """Delete the key pair of that name."""

    words = "delete key {0.name}"


class CreateGroup(_Named):
    """Create a security group without open ports."""

    words = "create group {0.name}"
    adds = True


@dataclass(frozen=True, kw_only=True)
class DeleteGroup(_Named):
    """Delete the security group, once no machine uses it."""

    words = "delete group {0.name}"
    id: str


class OpenPort(_Port):
    """Let a network reach a port."""

    words = "open port {0.port} for {0.network}"
    adds = True


class ClosePort(_Port):
    """Let a network no longer reach a port."""

    words = "close port {0.port} for {0.network}"


@dataclass(frozen=True, kw_only=True)
class CloseRule(_Kind):
    """Remove a rule that somebody made by hand."""

    words = "close {0.rule}"
    rule: WholeRule


@dataclass(frozen=True, kw_only=True)
class _Outward(_Kind):
    """Rules of what the machines may send, all at once."""

    rules: tuple[WholeRule, ...]

    @property
    def listed(self) -> str:
        """The rules, for people."""
        return ", ".join(map(str, self.rules))


class LetOut(_Outward):
    """Let the machines reach these."""

    words = "let out {0.listed}"
    adds = True


class HoldBack(_Outward):
    """Let the machines no longer reach these."""

    words = "hold back {0.listed}"


class HoldBackNew(HoldBack):
    """The same in a group that has no machine yet: a new one lets out everything."""

    adds = True


@dataclass(frozen=True, kw_only=True)
class CreateMachine(_Kind):
    """Create machine `number` of `of`, counted from 1. `name`: its name, if machines differ."""

    words = "create machine {0.number} of {0.of}{0.called}"
    adds = True
    number: int
    of: int
    name: str = ALIKE

    @property
    def called(self) -> str:
        """Its name, for people."""
        return f", {self.name}" if self.name else ""


class StartMachine(_OfMachine):
    """Start a stopped machine."""

    words = "start machine {0.id}"


class EndMachine(_OfMachine):
    """Terminate a machine, which deletes its disk."""

    words = "end machine {0.id}"


class TagMachine(_Tags):
    """Add tags that a machine lacks."""

    words = "tag machine {0.id}"
    adds = True


class RetagMachine(_Tags):
    """Change the values of a machine's tags."""

    words = "retag machine {0.id}"


class ProtectMachine(_OfMachine):
    """Turn on a machine's termination protection."""

    words = "protect machine {0.id}"
    adds = True


class Point(_Addresses):
    """Give a name without a DNS record its addresses."""

    words = "point {0.host_name} to {0.listed}"
    adds = True


class Repoint(_Addresses):
    """Change the addresses of a name."""

    words = "repoint {0.host_name} to {0.listed}"


class Unpoint(_Addresses):
    """Delete a name; Route 53 requires the addresses that it has."""

    words = "unpoint {0.host_name}"


class DeleteSecret(_Named):
    """Delete a parameter of the parameter store, by its full name."""

    words = "delete secret {0.name}"


Change = (
    CreateKey
    | DeleteKey
    | CreateGroup
    | DeleteGroup
    | OpenPort
    | ClosePort
    | CloseRule
    | LetOut
    | HoldBack
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
    """The changes that turn what is found into what is wanted, in the order in which they are made.

    Of too many machines of a name the newest are ended: the oldest one holds the data. An id says nothing about age.
    """
    present = sorted(found.machines, key=lambda each: (each.launched, each.id))
    called = {name: [each for each in present if each.name == name] for name in wanted.named}
    kept = [each for those in called.values() for each in those[: wanted.machines]]
    spare = [each for each in present if each not in kept]
    return [
        *_key(wanted, found),
        *_firewall(wanted, found, kept),
        *(StartMachine(id=each.id) for each in present if each.state == "stopped"),
        *_creations(wanted, called),
        *(EndMachine(id=each.id) for each in spare),
        *(change for each in kept for change in _of_machine(wanted, each)),
        *_names(wanted, found, kept),
    ]


def _creations(wanted: Wanted, called: Mapping[str, Sequence[Machine]]) -> Iterator[Change]:
    """Every machine that there is not, numbered through all names."""
    for place, (name, present) in enumerate(called.items()):
        for number in range(len(present) + 1, wanted.machines + 1):
            yield CreateMachine(number=place * wanted.machines + number, of=wanted.total, name=name)


def later(wanted: Wanted, found: Existing, changes: Sequence[Change]) -> list[Change]:
    """The changes that follow these once their machines run: the names wait for all addresses.

    A machine that is started may keep its address; then its names stay.
    """
    made = any(isinstance(each, CreateMachine) for each in changes)
    if not made and not any(isinstance(each, StartMachine) for each in changes):
        return []
    points = [
        _point(wanted, found, name, ("its new machines",))
        for name in wanted.host_names
        if name not in found.foreign and (made or name not in found.records)
    ]
    ports = sorted({port for port, *_ in wanted.peers}) if made and wanted.total > 1 else ()
    ways = tuple(_way("tcp", each, "its new machines") for each in ports)
    return [
        *(OpenPort(port=each, network="its new machines") for each in ports),
        *([LetOut(rules=ways)] if ways else []),
        *points,
        *map(_unpoint, found.replaced),
    ]


def more_than_additions(changes: Sequence[Change]) -> list[Change]:
    """The changes that change or remove something that exists."""
    return [each for each in changes if not each.adds]


def endings(changes: Sequence[Change]) -> list[Change]:
    """The changes that end a machine."""
    return [each for each in changes if isinstance(each, EndMachine)]


def teardown_plan(name: str, zone: str, found: Existing) -> list[Change]:
    """The changes that delete everything of an environment."""
    return [
        *(Unpoint(host_name=each, zone=zone, addresses=found.records[each]) for each in found.records),
        *map(_unpoint, found.replaced),
        *(EndMachine(id=each.id) for each in found.machines),
        *([DeleteGroup(name=name, id=found.group)] if found.group else ()),
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


def _firewall(wanted: Wanted, found: Existing, kept: Sequence[Machine]) -> Iterator[Change]:
    if not found.group:
        yield CreateGroup(name=wanted.name)
    peers = [each for each in kept if wanted.total > 1]
    rules = wanted.rules | {(port, at) for port, client, _ in wanted.peers for at in _networks(peers, client)}
    for port, network in sorted(rules - found.rules):
        yield OpenPort(port=port, network=network)
    for port, network in sorted(found.rules - rules):
        yield ClosePort(port=port, network=network)
    yield from (CloseRule(rule=each) for each in found.hand_made)
    ours = {_way(protocol, port, network) for protocol, port in wanted.ways_out for network in ANYWHERE}
    ours |= {_way("tcp", port, at) for port, _, server in wanted.peers for at in _networks(peers, server)}
    # hosts use what they were provisioned with, until they are provisioned again
    used = {_way(protocol, port, network) for protocol, port in found.used for network in ANYWHERE}
    outward = found.outward if found.group else EVERYTHING
    if missing := ours - outward:
        yield LetOut(rules=tuple(sorted(missing)))
    if more := outward - ours - used:
        kind = HoldBack if found.group and found.machines else HoldBackNew
        yield kind(rules=tuple(sorted(more, key=str)))


def _networks(machines: Sequence[Machine], name: str) -> list[str]:
    """Those of the machines of a name, as networks of one address."""
    return [f"{each.within}/32" for each in machines if each.within and each.name == name]


def _way(protocol: str, port: int, network: str) -> WholeRule:
    return WholeRule(protocol=protocol, first=port, last=port, source=network)


def _of_machine(wanted: Wanted, machine: Machine) -> Iterator[Change]:
    tags = {**wanted.tags, **wanted.named[machine.name]}
    if missing := {k: v for k, v in tags.items() if k not in machine.tags}:
        yield TagMachine(id=machine.id, tags=missing)
    if other := {k: v for k, v in tags.items() if machine.tags.get(k, v) != v}:
        yield RetagMachine(id=machine.id, tags=other)
    if wanted.protected and machine.protected is False:
        yield ProtectMachine(id=machine.id)


def _names(wanted: Wanted, found: Existing, kept: Sequence[Machine]) -> Iterator[Change]:
    """The names are set when every machine runs: before that, not all addresses are known."""
    addresses = tuple(sorted(each.address for each in kept if each.address and each.name in wanted.visited))
    ready = len(kept) == wanted.total and all(each.state == "running" for each in kept)
    if not ready:
        return
    for name in wanted.host_names:
        if addresses != found.records.get(name, ()) and name not in found.foreign:
            yield _point(wanted, found, name, addresses)
    yield from map(_unpoint, found.replaced)


def _point(wanted: Wanted, found: Existing, name: str, addresses: tuple[str, ...]) -> Point | Repoint:
    kind: type[Point | Repoint] = Repoint if name in found.records else Point
    return kind(host_name=name, zone=wanted.zone, addresses=addresses)


def _unpoint(each: Replaced) -> Unpoint:
    return Unpoint(host_name=each.host_name, zone=each.zone, addresses=each.addresses)
