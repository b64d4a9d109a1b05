"""The rules of security groups, in a kernel: a bridge and hosts that are network namespaces, all in a namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from tasks.cloud.embedded import nft
from tasks.cloud.embedded.address import hardware_address
from tasks.cloud.embedded.security_groups import GroupRule, Port, removal, ruleset
from tests.conftest import until

pytestmark = pytest.mark.xdist_group("security-groups")

SUBNET, GATEWAY, OUTSIDE = "10.64.7.0/24", "10.64.7.1", "192.0.2.1"
BRIDGE = "06:00:00:00:00:01"
NAME = "release-pipeline-test"
WORLD = "0.0.0.0/0"
ALL = GroupRule(protocol="-1", network=WORLD)
PORTS = (22, 80, 3306)
HOSTS = {"i-a": "10.64.7.10", "i-b": "10.64.7.11", "i-c": "10.64.7.12"}
INDEX = {"i-a": 11, "i-b": 12, "i-c": 13}
CONNECT = """
import json, socket, sys, threading
answers = {}
def ask(address, port):
    try:
        socket.create_connection((address, port), timeout=0.4).close()
        answers[f"{address}:{port}"] = "open"
    except OSError as error:
        answers[f"{address}:{port}"] = "closed" if isinstance(error, ConnectionRefusedError) else "silent"
threads = [threading.Thread(target=ask, args=(address, int(port))) for address, port in json.loads(sys.argv[1])]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(json.dumps(answers))
"""
LISTEN = """
import socket, sys, threading
def serve(port):
    server = socket.create_server(("", port))
    while True:
        server.accept()[0].close()
for port in sys.argv[1:]:
    threading.Thread(target=serve, args=(int(port),)).start()
print("listening", flush=True)
"""
HOLD = """
import socket, sys
connection = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2)
print("connected", flush=True)
sys.stdin.readline()
"""


def tcp(port: int, **source: str) -> GroupRule:
    return GroupRule(protocol="tcp", first=port, last=port, **source)


def port(
    host: str, *groups: str, ingress: Sequence[GroupRule] = (), egress: Sequence[GroupRule] = (ALL,)
) -> Port:
    return Port(
        host=host,
        interface=INDEX[host],
        address=HOSTS[host],
        groups=frozenset(groups),
        ingress=tuple(ingress),
        egress=tuple(egress),
    )


@dataclass(frozen=True)
class Machine:
    """A machine with a bridge, three hosts, and an address outside of it."""

    pid: int

    def run(self, *command: str, host: str = "", given: str = "") -> str:
        done = subprocess.run(self._there(command, host), input=given, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def start(self, *command: str, host: str = "") -> subprocess.Popen[str]:
        return subprocess.Popen(
            self._there(command, host), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def _there(self, command: Sequence[str], host: str) -> list[str]:
        inside = ["ip", "netns", "exec", host] if host else []
        return ["nsenter", f"--target={self.pid}", "--net", "--mount", *inside, *command]

    def enforce(self, *ports: Port) -> None:
        self.run("nft", "--file", "-", given=ruleset(NAME, SUBNET, ports))

    def unfiltered(self) -> None:
        """Without rules, hosts ask each other for their hardware addresses."""
        self.run("nft", "--file", "-", given="\n".join(removal(NAME)) + "\n")
        self.forget()

    def forget(self) -> None:
        """Forget who has which hardware address, and which port that is at."""
        flush = (f"ip {inside} neigh flush all" for inside in ("", *(f"-n {host}" for host in HOSTS)))
        self.run("sh", "-ec", "\n".join(("ip link set podman9 type bridge fdb_flush", *flush)))

    def heard_of(self, address: str) -> list[str]:
        """What this machine has taken from hosts that claim an address: who has it, which port, how many packets."""
        known = self.run("ip", "neigh", "show", address)
        ports = self.run("bridge", "fdb", "show", "br", "podman9")
        packets = self.run("nft", "list", "table", "ip", "watch")
        hardware = hardware_address(address)
        return [
            *(line for line in known.splitlines() if "lladdr" in line),
            *(line for line in ports.splitlines() if hardware in line),
            *(line for line in packets.splitlines() if f" {address} " in line and "packets 0 " not in line),
        ]

    def watch(self, address: str) -> None:
        """Count the packets that come from an address."""
        chain = f"type filter hook prerouting priority -300; ip saddr {address} counter;"
        anew = "add table ip watch\ndelete table ip watch\n"
        self.run("nft", "--file", "-", given=f"{anew}table ip watch {{\nchain seen {{ {chain} }}\n}}\n")

    def reaches(self, host: str, *targets: tuple[str, int]) -> list[str]:
        """What becomes of connections from a host, or from the machine itself: open, closed or silent."""
        answers = json.loads(self.run("python3", "-IS", "-c", CONNECT, json.dumps(targets), host=host))
        return [answers[f"{address}:{number}"] for address, number in targets]


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    # `--kill-child` and the pipe: it ends however the tests end
    hold = "mount -t tmpfs none /run && mkdir /run/netns && echo ready && cat"
    holder = subprocess.Popen(
        ["unshare", "--net", "--mount", "sh", "-c", hold],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert holder.stdout.readline() == "ready\n"
    made = Machine(pid=holder.pid)
    servers = []
    try:
        made.run("sh", "-ec", "\n".join(network()))
        for host in HOSTS:
            servers.append(made.start("python3", "-IS", "-c", LISTEN, *map(str, PORTS), host=host))
            assert servers[-1].stdout.readline() == "listening\n"
        servers.append(made.start("python3", "-IS", "-c", LISTEN, "8080", "53"))
        assert servers[-1].stdout.readline() == "listening\n"
        yield made
    finally:
        for server in servers:
            server.kill()
            server.wait()
        holder.stdin.close()
        holder.wait()


def network() -> Iterator[str]:
    yield "ip link set lo up"
    yield f"ip address add {OUTSIDE}/32 dev lo"
    yield "echo 1 > /proc/sys/net/ipv4/ip_forward"
    yield f"ip link add podman9 address {BRIDGE} type bridge && ip address add {GATEWAY}/24 dev podman9 && ip link set podman9 up"
    for host, address in HOSTS.items():
        cable = f"veth-{host[-1]}"
        yield f"ip netns add {host}"
        yield f"ip link add {cable} index {INDEX[host]} type veth peer name eth0 netns {host}"
        yield f"ip link set {cable} master podman9 up"
        yield f"ip -n {host} link set lo up"
        yield f"ip -n {host} link set eth0 address {hardware_address(address)} up"
        yield f"ip -n {host} address add {address}/24 dev eth0"
        yield f"ip -n {host} route add default via {GATEWAY}"
    yield "echo 1 > /proc/sys/net/ipv4/conf/podman9/proxy_arp_pvlan"
    yield "echo 0 > /proc/sys/net/ipv4/neigh/podman9/proxy_delay"


def test_without_rules_every_host_reaches_every_port(machine):
    """So that what is silent below is silent by the rules."""
    machine.unfiltered()
    everything = [(HOSTS["i-b"], each) for each in PORTS] + [(OUTSIDE, 8080)]
    assert machine.reaches("i-a", *everything) == ["open"] * 4
    assert machine.reaches("", *everything[:3]) == ["open"] * 3
    machine.forget()


WEB = (tcp(22, network=WORLD), tcp(80, network=WORLD))


@pytest.mark.promise("groups-filter")
def test_a_host_is_reached_on_the_ports_of_its_groups_and_on_no_other(machine):
    machine.enforce(
        port("i-a", "sg-a", ingress=WEB), port("i-b", "sg-b", ingress=[tcp(3306, network="192.0.2.0/24")])
    )
    ports = [*((HOSTS["i-a"], each) for each in PORTS), *((HOSTS["i-b"], each) for each in PORTS)]
    assert machine.reaches("", *ports) == ["open", "open", "silent", "silent", "silent", "silent"]


@pytest.mark.promise("environments-do-not-meet")
def test_hosts_that_share_no_group_do_not_reach_each_other_whatever_is_open_to_the_world(machine):
    wide = [GroupRule(protocol="-1", network=WORLD)]
    machine.enforce(
        port("i-a", "sg-a", ingress=wide), port("i-b", "sg-b", ingress=wide), port("i-c", "sg-a", ingress=WEB)
    )
    assert machine.reaches("", (HOSTS["i-a"], 22), (HOSTS["i-b"], 22)) == ["open", "open"]
    assert machine.reaches("i-a", *((HOSTS["i-b"], each) for each in PORTS)) == ["silent"] * 3
    assert machine.reaches("i-a", *((HOSTS["i-c"], each) for each in PORTS)) == ["open", "open", "silent"]


def test_a_rule_that_names_a_group_admits_its_hosts(machine):
    by_group = [tcp(3306, group="sg-a")]
    machine.enforce(port("i-a", "sg-a"), port("i-b", "sg-b", ingress=by_group), port("i-c", "sg-c"))
    assert machine.reaches("i-a", *((HOSTS["i-b"], each) for each in PORTS)) == ["silent", "silent", "open"]
    assert machine.reaches("i-c", (HOSTS["i-b"], 3306)) == ["silent"]
    assert machine.reaches("", (HOSTS["i-b"], 3306)) == ["silent"]


def test_a_host_sends_only_what_its_groups_let_out(machine):
    closed = port("i-a", "sg-a", ingress=WEB, egress=[tcp(53, network="192.0.2.0/24")])
    machine.enforce(closed, port("i-b", "sg-a", ingress=WEB))
    targets = [(OUTSIDE, 8080), (OUTSIDE, 53), (GATEWAY, 8080), (HOSTS["i-b"], 80)]
    assert machine.reaches("i-a", *targets) == ["silent", "open", "silent", "silent"]
    assert machine.reaches("", (HOSTS["i-a"], 80)) == ["open"], "an answer is no new connection"
    assert machine.reaches("i-b", *targets[:3]) == ["open"] * 3


def test_a_connection_outlives_the_rule_that_admitted_it(machine):
    open_, closed = port("i-a", "sg-a", ingress=WEB), port("i-a", "sg-a")
    machine.enforce(open_)
    held = machine.start("python3", "-IS", "-c", HOLD, HOSTS["i-a"], "80")
    assert held.stdout.readline() == "connected\n"
    machine.enforce(closed)
    assert machine.reaches("", (HOSTS["i-a"], 80)) == ["silent"]
    held.communicate("\n", timeout=5)
    assert held.returncode == 0
    machine.enforce(open_)
    assert machine.reaches("", (HOSTS["i-a"], 80)) == ["open"]


SPOOFING = {
    "its address": (
        "address flush dev eth0",
        "address add {address}/24 dev eth0",
        "route add default via {gateway}",
    ),
    "its hardware address": ("link set eth0 address {hardware}",),
    "its address and its hardware address": (
        "link set eth0 address {hardware}",
        "address flush dev eth0",
        "address add {address}/24 dev eth0",
        "route add default via {gateway}",
    ),
    "the gateway's address": ("address flush dev eth0", "address add {gateway}/24 dev eth0"),
}


@pytest.mark.parametrize("spoofing", SPOOFING.values(), ids=SPOOFING)
@pytest.mark.promise("no-host-takes-an-address")
def test_a_host_cannot_take_another_s_address(machine, spoofing):
    """i-c is unplugged, so that nobody disputes its address."""
    stolen, own = HOSTS["i-c"], HOSTS["i-b"]
    facts = {"address": stolen, "own": own, "gateway": GATEWAY, "hardware": hardware_address(stolen)}
    taking = [f"ip -n i-b {each.format(**facts)}" for each in spoofing]
    machine.run("ip", "link", "set", "veth-c", "nomaster")
    wide = [GroupRule(protocol="-1", network=WORLD)]
    ports = [port(each, "sg-a", ingress=wide) for each in HOSTS]
    machine.run("sh", "-ec", "\n".join(taking))
    try:
        machine.enforce(*ports)
        machine.watch(stolen)
        machine.forget()
        machine.run("ip", "-n", "i-b", "neigh", "replace", GATEWAY, "lladdr", BRIDGE, "dev", "eth0")
        assert machine.reaches("", (stolen, 80), (own, 80)) == ["silent", "silent"]
        assert machine.reaches("i-b", (OUTSIDE, 8080), (HOSTS["i-a"], 80)) == ["silent", "silent"]
        assert machine.reaches("i-a", (stolen, 80), (OUTSIDE, 8080)) == ["silent", "open"]
        assert machine.heard_of(stolen) == []
        if "address add {address}/24 dev eth0" in spoofing:  # the control: without rules, the theft succeeds
            machine.unfiltered()
            assert machine.reaches("", (stolen, 80)) == ["open"]
    finally:
        machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware_address(own))
        machine.run("ip", "-n", "i-b", "address", "flush", "dev", "eth0")
        machine.run("ip", "-n", "i-b", "address", "add", f"{own}/24", "dev", "eth0")
        machine.run("ip", "-n", "i-b", "route", "replace", "default", "via", GATEWAY)
        machine.run("ip", "link", "set", "veth-c", "master", "podman9")
        machine.forget()
    machine.enforce(*ports)
    assert machine.reaches("", (own, 80)) == ["open"], "with its own address it is answered again"


@pytest.mark.parametrize("hardware", [hardware_address(HOSTS["i-b"]), "06:00:00:00:00:02"])
def test_a_port_that_no_host_has_yet_is_nobody(machine, hardware):
    machine.enforce(port("i-a", "sg-a", ingress=WEB))
    machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware)
    machine.watch(HOSTS["i-b"])
    machine.forget()
    assert machine.reaches("", (HOSTS["i-b"], 80), (HOSTS["i-a"], 80)) == ["silent", "open"]
    assert machine.reaches("i-b", (OUTSIDE, 8080), (HOSTS["i-a"], 80)) == ["silent", "silent"]
    machine.run("ip", "-n", "i-b", "neigh", "replace", GATEWAY, "lladdr", BRIDGE, "dev", "eth0")
    assert machine.reaches("i-b", (OUTSIDE, 8080)) == ["silent"]
    heard = machine.heard_of(HOSTS["i-b"])
    machine.run("ip", "-n", "i-b", "neigh", "del", GATEWAY, "dev", "eth0")
    machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware_address(HOSTS["i-b"]))
    assert heard == []


def test_a_cloud_s_rules_concern_nobody_else(machine):
    """Another cloud of the machine has rules of its own; loopback and the way out are nobody's."""
    machine.enforce(port("i-a", "sg-a"))
    machine.run("nft", "--file", "-", given=ruleset(f"{NAME}-2", "10.64.8.0/24", []))
    assert machine.reaches("", (OUTSIDE, 8080), (GATEWAY, 8080), ("127.0.0.1", 8080)) == ["open"] * 3
    assert machine.reaches("i-a", (OUTSIDE, 8080)) == ["open"]
    machine.run("nft", "--file", "-", given="\n".join(removal(f"{NAME}-2")) + "\n")
    left = [each for each in machine.run("nft", "list", "tables").splitlines() if "watch" not in each]
    assert left == [f"table bridge {NAME}", f"table ip {NAME}"]


RULES = [
    (GroupRule(protocol="icmp", first=8, last=0, network=WORLD), "icmp type 8 icmp code 0"),
    (GroupRule(protocol="icmp", first=8, network=WORLD), "icmp type 8"),
    (GroupRule(protocol="icmp", network=WORLD), "ip protocol 1"),
    (GroupRule(protocol="47", network="10.0.0.0/8"), "ip protocol 47"),
    (GroupRule(protocol="udp", first=1, last=9, network="10.0.0.0/8"), "udp dport 1-9"),
    (GroupRule(protocol="tcp", first=1, last=70000, network=WORLD), ""),
    (GroupRule(protocol="tcp", first=9, last=1, network=WORLD), ""),
    (GroupRule(protocol="icmpv6", network=WORLD), ""),
    (GroupRule(protocol="999", network=WORLD), ""),
    (GroupRule(protocol="tcp", first=22, last=22, group="sg-of-nobody"), ""),
]


@pytest.mark.parametrize(("rule", "words"), RULES)
def test_a_rule_of_any_kind_is_one_that_the_kernel_takes(machine, rule, words):
    text = ruleset(NAME, SUBNET, [port("i-a", "sg-a", ingress=[rule])])
    chain = text.partition("chain in-i-a {")[2].partition("}")[0]
    assert words in chain
    assert chain.count("return") == bool(words)
    machine.run("nft", "--check", "--file", "-", given=text)


def test_a_stored_rule_is_for_a_network_a_group_or_each_network_of_a_list():
    from moto.ec2.models.security_groups import SecurityGroupRule  # 1 s to import

    from tasks.cloud.embedded.instances import _rules  # with moto

    listed = SimpleNamespace(version=2, entries={2: [{"Cidr": "10.1.0.0/16"}, {"Cidr": "2001:db8::/32"}]})
    backend = SimpleNamespace(managed_prefix_lists={"pl-1": listed})

    def stored(protocol: str, first: str | None, last: str | None, **source: dict) -> list[GroupRule]:
        of = {"ip_range": {}, **source}
        return list(_rules([SecurityGroupRule(backend, protocol, "sg-1", first, last, **of)]))

    assert stored("tcp", "22", "22", ip_range={"CidrIp": WORLD}) == [tcp(22, network=WORLD)]
    assert stored("6", "22", "22", source_group={"GroupId": "sg-2"}) == [tcp(22, group="sg-2")]
    assert stored("-1", None, None, ip_range={"CidrIp": WORLD}) == [ALL]
    assert stored("tcp", "22", "22", ip_range={"CidrIpv6": "::/0"}) == []
    assert stored("tcp", "22", "22", prefix_list_id={"PrefixListId": "pl-1"}) == [
        tcp(22, network="10.1.0.0/16")
    ]
    assert stored("tcp", "22", "22", prefix_list_id={"PrefixListId": "pl-2"}) == []


def test_the_same_rule_twice_is_one(machine):
    twice = replace(port("i-a", "sg-a", ingress=WEB), ingress=WEB + WEB)
    assert ruleset(NAME, SUBNET, [twice]) == ruleset(NAME, SUBNET, [port("i-a", "sg-a", ingress=WEB)])


def test_a_machine_without_nft_says_so_in_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert nft.problem() == "security groups filter nothing on this machine: ip: is not installed"
    for name, answer in (
        ("ip", "exit 0"),
        ("nft", "echo '/dev/stdin:3:5-16: Error: Operation not supported' >&2; exit 1"),
    ):
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    why = "nft: Operation not supported"
    assert nft.problem() == f"security groups filter nothing on this machine: {why}"
    nft.remove(NAME)
    nft.Filter(NAME, SUBNET).enforce([])


@pytest.mark.skipif(bool(os.geteuid()), reason="only root filters")
def test_this_machine_filters():
    assert until(lambda: nft.problem() == "")
