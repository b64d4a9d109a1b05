"""security_groups: what each host may send and receive, as nftables rules of this machine, where no host can alter them.

The family `bridge` judges the frames of a host's port: they come from its own addresses, and go to this machine only. So what one
host sends to another is routed here as well, and the family `ip` judges all of it by the groups, with the state of connections.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tasks.cloud.embedded.address import hardware_address

EVERYTHING, ICMP = "-1", "icmp"
FAMILIES = ("bridge", "ip")


@dataclass(frozen=True, kw_only=True)
class GroupRule:
    """A rule of a security group, for one network or one other group."""

    protocol: str
    """tcp, udp, icmp, -1 for all, or a number."""
    first: int = -1
    last: int = -1
    """The ports; of ICMP, type and code, where -1 is any."""
    network: str = ""
    group: str = ""


@dataclass(frozen=True, kw_only=True)
class Port:
    """Where a host is plugged in, and what its groups say."""

    host: str
    interface: int
    """This machine's end of the host's cable, by the index that no other gets: names are given again, also to containers of others."""
    address: str
    groups: frozenset[str]
    ingress: tuple[GroupRule, ...] = ()
    egress: tuple[GroupRule, ...] = ()


def ruleset(name: str, subnet: str, ports: Sequence[Port]) -> str:
    """The rules of one cloud, as the input of nft: they replace the former ones at once, or not at all."""
    return "\n".join((*removal(name), *_frames(name, subnet, ports), *_packets(name, subnet, ports), ""))


def removal(name: str) -> Iterator[str]:
    """Remove the rules of a cloud, whether there are any or not."""
    for family in FAMILIES:
        yield f"add table {family} {name}"
        yield f"delete table {family} {name}"


def _frames(name: str, subnet: str, ports: Sequence[Port]) -> Iterator[str]:
    prefix = hardware_address(subnet.partition("/")[0])
    yield f"table bridge {name} {{"
    for port in ports:
        own = hardware_address(port.address)
        yield f"  chain {port.host} {{"
        yield f"    ether saddr != {own} drop"
        yield f"    arp saddr ether {own} arp saddr ip {{ 0.0.0.0, {port.address} }} accept"
        yield f"    ip saddr {port.address} accept"
        yield "    drop"
        yield "  }"
    yield "  chain prerouting {"
    yield "    type filter hook prerouting priority -10; policy accept;"
    if ports:
        chains = _set(f"{each.interface} : goto {each.host}" for each in ports)
        yield f"    iif vmap {chains}"
    # any other port, such as that of a host whose start is under way, is nobody of this cloud
    yield f"    ether saddr & ff:ff:ff:ff:ff:00 == {prefix} drop"
    yield f"    arp saddr ip {subnet} drop"
    yield f"    ip saddr {subnet} drop"
    yield "  }"
    yield "  chain forward {"
    yield "    type filter hook forward priority -200; policy accept;"
    if ports:
        interfaces = _set(str(each.interface) for each in ports)
        yield f"    iif {interfaces} drop"
        yield f"    oif {interfaces} drop"
    yield "  }"
    yield "}"


def _packets(name: str, subnet: str, ports: Sequence[Port]) -> Iterator[str]:
    gateway = next(ipaddress.ip_network(subnet).hosts())
    yield f"table ip {name} {{"
    yield "  set acquainted {"
    yield "    type ipv4_addr . ipv4_addr"
    if pairs := list(_acquainted(ports)):
        yield f"    elements = {_set(pairs)}"
    yield "  }"
    for port in ports:
        for way, rules in (("in", port.ingress), ("out", port.egress)):
            yield f"  chain {way}-{port.host} {{"
            yield from dict.fromkeys(f"    {each} return" for each in _matches(way, rules, ports))
            yield "    drop"
            yield "  }"
    for chain, way, end in (("sent", "out", "saddr"), ("received", "in", "daddr")):
        yield f"  chain {chain} {{"
        yield "    ct state established,related return"
        if ports:
            chains = _set(f"{each.address} : goto {way}-{each.host}" for each in ports)
            yield f"    ip {end} vmap {chains}"
        yield "    drop"
        yield "  }"
    new = "ct state != { established, related }"
    yield "  chain forward {"
    yield "    type filter hook forward priority -10; policy accept;"
    yield f"    ip daddr {subnet} {new} ip saddr . ip daddr != @acquainted drop"
    yield f"    ip saddr {subnet} jump sent"
    yield f"    ip daddr {subnet} jump received"
    yield "  }"
    yield "  chain input {"
    yield "    type filter hook input priority -10; policy accept;"
    yield f"    ip saddr {subnet} ip saddr != {gateway} jump sent"
    yield "  }"
    yield "  chain output {"
    yield "    type filter hook output priority -10; policy accept;"
    yield f"    ip daddr {subnet} ip daddr != {gateway} jump received"
    yield "  }"
    yield "}"


def _acquainted(ports: Sequence[Port]) -> Iterator[str]:
    """Who may reach whom if the rules allow it: hosts that share a group, or whose group is named by a rule of the other's."""
    for sender in ports:
        for receiver in ports:
            known = receiver.groups | {rule.group for rule in receiver.ingress}
            if sender != receiver and sender.groups & known:
                yield f"{sender.address} . {receiver.address}"


def _matches(way: str, rules: Iterable[GroupRule], ports: Sequence[Port]) -> Iterator[str]:
    """What a packet must be for one of the rules, in nft's words. A rule that no packet of IPv4 can fit has none."""
    end = "saddr" if way == "in" else "daddr"
    for rule in rules:
        wanted = _protocol(rule)
        members = [each.address for each in ports if rule.group in each.groups]
        peers = rule.network or (_set(members) if members else "")
        if wanted and peers:
            yield f"ip {end} {peers} {wanted}"


def _set(elements: Iterable[str]) -> str:
    return "{ " + ", ".join(elements) + " }"


def _protocol(rule: GroupRule) -> str:
    if rule.protocol == EVERYTHING:
        return "ip protocol 0-255"
    if rule.protocol in ("tcp", "udp"):
        return (
            f"{rule.protocol} dport {rule.first}-{rule.last}" if 0 <= rule.first <= rule.last <= 65535 else ""
        )
    if rule.protocol == ICMP and rule.first >= 0:
        code = f" icmp code {rule.last}" if rule.last >= 0 else ""
        return f"icmp type {rule.first}{code}"
    number = "1" if rule.protocol == ICMP else rule.protocol
    return f"ip protocol {number}" if number.isdigit() and int(number) < 256 else ""
