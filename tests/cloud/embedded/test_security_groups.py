"""The rules of security groups, in a kernel: a bridge and hosts that are network namespaces, all in a namespace of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from tasks.cloud.embedded import nft
from tasks.cloud.embedded.address import hardware_address
from tasks.cloud.embedded.security_groups import GroupRule, Port, removal, ruleset
from tests.conftest import ROOT, until

pytestmark = pytest.mark.xdist_group("security-groups")

SUBNET, GATEWAY, OUTSIDE = "10.64.7.0/24", "10.64.7.1", "192.0.2.1"
BRIDGE = "06:00:00:00:00:01"
NAME = "release-pipeline-test"
WORLD = "0.0.0.0/0"
ALL = GroupRule(protocol="-1", network=WORLD)
PORTS = (22, 80, 3306)
HOSTS = {"i-a": "10.64.7.10", "i-b": "10.64.7.11", "i-c": "10.64.7.12"}
SUBNET_2, ELSEWHERE = "10.64.8.0/24", "10.64.8.10"
"""Those of another cloud, whose host is i-x."""
EVERY_HOST = {**HOSTS, "i-x": ELSEWHERE}
INDEX = {"i-a": 11, "i-b": 12, "i-c": 13, "i-x": 14}
OPEN, SILENT = "open", "silent"
ASK = """
import json, socket, sys, threading
def ask(number, address, port):
    try:
        socket.create_connection((address, port), timeout=0.2).close()
        answers[number] = "open"
    except OSError as error:
        answers[number] = "closed" if isinstance(error, ConnectionRefusedError) else "silent"
for line in sys.stdin:
    targets = json.loads(line)
    answers = [""] * len(targets)
    threads = [threading.Thread(target=ask, args=(number, *each)) for number, each in enumerate(targets)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    print(json.dumps(answers), flush=True)
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
SEND = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
    wire.bind(("eth0", 0))
    wire.send(b"\\xff" * 6 + bytes.fromhex(sys.argv[1].replace(":", "")) + b"\\x88\\xb5" + bytes(46))
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
        address=EVERY_HOST[host],
        groups=frozenset(groups),
        ingress=tuple(ingress),
        egress=tuple(egress),
    )


@dataclass(frozen=True)
class Machine:
    """A machine with two clouds, and an address outside of it: a bridge with three hosts, and another one with a fourth."""

    pid: int
    asking: dict[str, subprocess.Popen[str]]
    """What connects from each host, and from the machine itself; the start of a process takes longer than a connection."""

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

    def enforce(self, *ports: Port, name: str = NAME, subnet: str = SUBNET) -> None:
        self.run("nft", "--file", "-", given=ruleset(name, subnet, ports))

    def unfiltered(self) -> None:
        """Without rules, hosts ask each other for their hardware addresses."""
        self.run("nft", "--file", "-", given="\n".join(removal(NAME)) + "\n")
        self.forget()

    def forget(self) -> None:
        """Forget who has which hardware address, and which port that is at."""
        flush = (f"ip {inside} neigh flush all" for inside in ("", *(f"-n {host}" for host in HOSTS)))
        self.run("sh", "-ec", "\n".join(("ip link set podman9 type bridge fdb_flush", *flush)))

    def heard_of(self, address: str, host: str = "") -> list[str]:
        """What this machine, or a host, has taken from who claims an address: who has it, which port, how many packets."""
        known = self.run("ip", "neigh", "show", address, host=host)
        ports = "" if host else self.run("bridge", "fdb", "show", "br", "podman9")
        hardware = hardware_address(address)
        return [
            *(line for line in known.splitlines() if "lladdr" in line),
            *(line for line in ports.splitlines() if hardware in line),
            *self.packets(address, host),
        ]

    def packets(self, address: str, host: str = "") -> list[str]:
        """How many packets have come from an address since `watch`; nothing for none."""
        seen = self.run("nft", "list", "table", "ip", "watch", host=host).splitlines()
        return [line for line in seen if f" {address} " in line and "packets 0 " not in line]

    def watch(self, address: str, host: str = "") -> None:
        """Count the packets that come from an address."""
        chain = f"type filter hook prerouting priority -300; ip saddr {address} counter;"
        anew = "add table ip watch\ndelete table ip watch\n"
        self.run(
            "nft", "--file", "-", given=f"{anew}table ip watch {{\nchain seen {{ {chain} }}\n}}\n", host=host
        )

    def expect(self, *answers: tuple[str, str, int, str]) -> None:
        """What becomes of connections at the same time: whence, to which address and port, and `open` or `silent`.

        What is silent and should be open is asked again: the machine may be busy. What is open and should not be is not.
        """
        wanted = list(answers)
        for _ in range(10):
            found = self._connect(wanted)
            if not [
                was
                for was, should in zip(found, wanted, strict=True)
                if (was[3], should[3]) == (SILENT, OPEN)
            ]:
                break
        assert found == wanted

    def _connect(self, wanted: Sequence[tuple[str, str, int, str]]) -> list[tuple[str, str, int, str]]:
        places = {whence: [each[1:3] for each in wanted if each[0] == whence] for whence, *_ in wanted}
        for whence, targets in places.items():
            self.asking[whence].stdin.write(json.dumps(targets) + "\n")
            self.asking[whence].stdin.flush()
        found = {whence: iter(json.loads(self.asking[whence].stdout.readline())) for whence in places}
        return [(whence, address, number, next(found[whence])) for whence, address, number, _ in wanted]


def on(whence: str, address: str, *answers: str) -> Iterator[tuple[str, str, int, str]]:
    """What each port of a host answers."""
    return ((whence, address, number, answer) for number, answer in zip(PORTS, answers, strict=True))


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
    made = Machine(pid=holder.pid, asking={})
    servers = []
    try:
        made.run("sh", "-ec", "\n".join(network()))
        for host in EVERY_HOST:
            servers.append(made.start("python3", "-IS", "-c", LISTEN, *map(str, PORTS), host=host))
            assert servers[-1].stdout.readline() == "listening\n"
        servers.append(made.start("python3", "-IS", "-c", LISTEN, "8080", "53"))
        assert servers[-1].stdout.readline() == "listening\n"
        made.asking.update(
            {each: made.start("python3", "-IS", "-c", ASK, host=each) for each in ("", *EVERY_HOST)}
        )
        yield made
    finally:
        for server in (*servers, *made.asking.values()):
            server.kill()
            server.wait()
        holder.stdin.close()
        holder.wait()


def network() -> Iterator[str]:
    yield "ip link set lo up"
    yield f"ip address add {OUTSIDE}/32 dev lo"
    yield "echo 1 > /proc/sys/net/ipv4/ip_forward"
    # else frames meet the rules for packets as well, where somebody has loaded br_netfilter: it depends on the machine
    called = "/proc/sys/net/bridge/bridge-nf-call-iptables"
    yield f"! test -e {called} || echo 0 > {called}"
    yield from bridge("podman9", BRIDGE, GATEWAY, HOSTS)
    yield from bridge("podman8", "06:00:00:00:00:03", "10.64.8.1", {"i-x": ELSEWHERE})


def bridge(name: str, hardware: str, gateway: str, hosts: dict[str, str]) -> Iterator[str]:
    yield f"ip link add {name} address {hardware} type bridge && ip address add {gateway}/24 dev {name} && ip link set {name} up"
    for host, address in hosts.items():
        cable = f"veth-{host[-1]}"
        yield f"ip netns add {host}"
        yield f"ip link add {cable} index {INDEX[host]} type veth peer name eth0 netns {host}"
        yield f"ip link set {cable} master {name} up"
        yield f"ip -n {host} link set lo up"
        yield f"ip -n {host} link set eth0 address {hardware_address(address)} up"
        yield f"ip -n {host} address add {address}/24 dev eth0"
        yield f"ip -n {host} route add default via {gateway}"
    yield f"echo 1 > /proc/sys/net/ipv4/conf/{name}/proxy_arp_pvlan"
    yield f"echo 0 > /proc/sys/net/ipv4/neigh/{name}/proxy_delay"


def test_without_rules_every_host_reaches_every_port(machine):
    """So that what is silent below is silent by the rules."""
    machine.unfiltered()
    machine.expect(
        *on("i-a", HOSTS["i-b"], OPEN, OPEN, OPEN),
        *on("", HOSTS["i-b"], OPEN, OPEN, OPEN),
        *on("i-a", ELSEWHERE, OPEN, OPEN, OPEN),
        ("i-a", OUTSIDE, 8080, OPEN),
    )
    machine.forget()


WEB = (tcp(22, network=WORLD), tcp(80, network=WORLD))


@pytest.mark.promise("groups-filter")
def test_a_host_is_reached_on_the_ports_of_its_groups_and_on_no_other(machine):
    machine.enforce(
        port("i-a", "sg-a", ingress=WEB), port("i-b", "sg-b", ingress=[tcp(3306, network="192.0.2.0/24")])
    )
    machine.expect(*on("", HOSTS["i-a"], OPEN, OPEN, SILENT), *on("", HOSTS["i-b"], SILENT, SILENT, SILENT))


@pytest.mark.promise("environments-do-not-meet")
def test_hosts_that_share_no_group_do_not_reach_each_other_whatever_is_open_to_the_world(machine):
    wide = [GroupRule(protocol="-1", network=WORLD)]
    machine.enforce(
        port("i-a", "sg-a", ingress=wide), port("i-b", "sg-b", ingress=wide), port("i-c", "sg-a", ingress=WEB)
    )
    machine.expect(
        ("", HOSTS["i-a"], 22, OPEN),
        ("", HOSTS["i-b"], 22, OPEN),
        *on("i-a", HOSTS["i-b"], SILENT, SILENT, SILENT),
        *on("i-a", HOSTS["i-c"], OPEN, OPEN, SILENT),
    )


def test_a_rule_that_names_a_group_admits_its_hosts(machine):
    by_group = [tcp(3306, group="sg-a")]
    machine.enforce(port("i-a", "sg-a"), port("i-b", "sg-b", ingress=by_group), port("i-c", "sg-c"))
    machine.expect(
        *on("i-a", HOSTS["i-b"], SILENT, SILENT, OPEN),
        ("i-c", HOSTS["i-b"], 3306, SILENT),
        ("", HOSTS["i-b"], 3306, SILENT),
    )


def test_a_host_sends_only_what_its_groups_let_out(machine):
    closed = port("i-a", "sg-a", ingress=WEB, egress=[tcp(53, network="192.0.2.0/24")])
    machine.enforce(closed, port("i-b", "sg-a", ingress=WEB))
    machine.expect(
        ("i-a", OUTSIDE, 8080, SILENT),
        ("i-a", OUTSIDE, 53, OPEN),
        ("i-a", GATEWAY, 8080, SILENT),
        ("i-a", HOSTS["i-b"], 80, SILENT),
        ("", HOSTS["i-a"], 80, OPEN),  # an answer is no new connection
        ("i-b", OUTSIDE, 8080, OPEN),
        ("i-b", OUTSIDE, 53, OPEN),
        ("i-b", GATEWAY, 8080, OPEN),
    )


def test_a_connection_outlives_the_rule_that_admitted_it(machine):
    open_, closed = port("i-a", "sg-a", ingress=WEB), port("i-a", "sg-a")
    machine.enforce(open_)
    held = machine.start("python3", "-IS", "-c", HOLD, HOSTS["i-a"], "80")
    assert held.stdout.readline() == "connected\n"
    machine.enforce(closed)
    machine.expect(("", HOSTS["i-a"], 80, SILENT))
    held.communicate("\n", timeout=5)
    assert held.returncode == 0
    machine.enforce(open_)
    machine.expect(("", HOSTS["i-a"], 80, OPEN))


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
        machine.expect(
            ("", stolen, 80, SILENT),
            ("", own, 80, SILENT),
            ("i-b", OUTSIDE, 8080, SILENT),
            ("i-b", HOSTS["i-a"], 80, SILENT),
            ("i-a", stolen, 80, SILENT),
            ("i-a", OUTSIDE, 8080, OPEN),
        )
        assert machine.heard_of(stolen) == []
        if "address add {address}/24 dev eth0" in spoofing:  # the control: without rules, the theft succeeds
            machine.unfiltered()
            machine.expect(("", stolen, 80, OPEN))
    finally:
        machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware_address(own))
        machine.run("ip", "-n", "i-b", "address", "flush", "dev", "eth0")
        machine.run("ip", "-n", "i-b", "address", "add", f"{own}/24", "dev", "eth0")
        machine.run("ip", "-n", "i-b", "route", "replace", "default", "via", GATEWAY)
        machine.run("ip", "link", "set", "veth-c", "master", "podman9")
        machine.forget()
    machine.enforce(*ports)
    machine.expect(("", own, 80, OPEN))  # with its own address it is answered again


@pytest.mark.parametrize("hardware", [hardware_address(HOSTS["i-b"]), "06:00:00:00:00:02"])
def test_a_port_that_no_host_has_yet_is_nobody(machine, hardware):
    machine.enforce(port("i-a", "sg-a", ingress=WEB))
    machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware)
    machine.watch(HOSTS["i-b"])
    machine.forget()
    machine.expect(
        ("", HOSTS["i-b"], 80, SILENT),
        ("", HOSTS["i-a"], 80, OPEN),
        ("i-b", OUTSIDE, 8080, SILENT),
        ("i-b", HOSTS["i-a"], 80, SILENT),
    )
    machine.run("ip", "-n", "i-b", "neigh", "replace", GATEWAY, "lladdr", BRIDGE, "dev", "eth0")
    machine.expect(("i-b", OUTSIDE, 8080, SILENT))
    heard = machine.heard_of(HOSTS["i-b"])
    machine.watch(GATEWAY, host="i-b")
    machine.run("ip", "neigh", "replace", HOSTS["i-b"], "lladdr", hardware, "dev", "podman9")
    machine.expect(("", HOSTS["i-b"], 80, SILENT))
    sent = machine.packets(GATEWAY, host="i-b")
    machine.run("ip", "neigh", "del", HOSTS["i-b"], "dev", "podman9")
    machine.run("ip", "-n", "i-b", "neigh", "del", GATEWAY, "dev", "eth0")
    machine.run("ip", "-n", "i-b", "link", "set", "eth0", "address", hardware_address(HOSTS["i-b"]))
    assert (heard, sent) == ([], [])


@pytest.mark.parametrize("hosts", [("i-a", "i-b"), ("i-a",), ("i-b",)], ids=["both", "receiver", "sender"])
def test_no_frame_goes_from_port_to_port(machine, hosts):
    """Of two ports, both are hosts' or one is nobody's yet; root of both may agree on addresses that no cloud gives."""
    machine.enforce(*(port(each, "sg-a", ingress=[ALL]) for each in hosts))
    hardware = hardware_address(HOSTS["i-b"]) if "i-b" in hosts else "06:00:00:00:00:02"
    sender, receiver = "198.51.100.2", "198.51.100.1"
    straight = f"lladdr {hardware_address(HOSTS['i-a'])} dev eth0"
    machine.run(
        "sh",
        "-ec",
        f"""ip -n i-b link set eth0 address {hardware}
        ip -n i-a address add {receiver}/24 dev eth0
        ip -n i-b address add {sender}/24 dev eth0
        ip -n i-b neigh replace {receiver} {straight}
        ip -n i-b neigh replace {HOSTS["i-a"]} {straight}""",
    )
    try:
        for each in (sender, HOSTS["i-b"]):
            machine.watch(each, host="i-a")
            machine.expect(("i-b", receiver, 80, SILENT), ("i-b", HOSTS["i-a"], 80, SILENT))
            assert machine.heard_of(each, host="i-a") == []
        machine.unfiltered()
        machine.expect(("i-b", receiver, 80, OPEN), ("i-b", HOSTS["i-a"], 80, OPEN))
        assert machine.heard_of(sender, host="i-a")
    finally:
        machine.run(
            "sh",
            "-ec",
            f"""ip -n i-b neigh del {receiver} dev eth0
            ip -n i-b address del {sender}/24 dev eth0
            ip -n i-a address del {receiver}/24 dev eth0
            ip -n i-b link set eth0 address {hardware_address(HOSTS["i-b"])}""",
        )
        machine.forget()


@pytest.mark.parametrize("hosts", [("i-a", "i-b"), ("i-a",)], ids=["a host", "nobody yet"])
def test_a_frame_that_is_neither_ip_nor_arp_is_not_heard(machine, hosts):
    """It could teach the bridge where a hardware address is, and reach this machine by IPv6."""
    own = hardware_address(HOSTS["i-b"])
    watch = "type filter hook prerouting priority 0; ether type 0x88b5 counter;"
    rules = f"table bridge watch {{\nchain seen {{ {watch} }}\n}}\n"

    def heard() -> list[str]:
        anew = "add table bridge watch\ndelete table bridge watch\n"
        machine.run("nft", "--file", "-", given=anew + rules)
        machine.forget()
        machine.run("python3", "-IS", "-c", SEND, own, host="i-b")
        seen = machine.run("nft", "list", "table", "bridge", "watch")
        learnt = machine.run("bridge", "fdb", "show", "br", "podman9")
        return [
            each
            for each in (*seen.splitlines(), *learnt.splitlines())
            if " packets 1 " in each or own in each
        ]

    machine.enforce(*(port(each, "sg-a", ingress=[ALL]) for each in hosts))
    try:
        assert heard() == []
        machine.unfiltered()
        assert len(heard()) == 2
    finally:
        machine.run("nft", "delete", "table", "bridge", "watch")


@pytest.mark.promise("clouds-side-by-side")
def test_a_cloud_s_rules_concern_nobody_else(machine):
    """Two clouds filter at once, and their hosts do not meet; loopback and the way out are nobody's."""
    wide = [GroupRule(protocol="-1", network=WORLD)]
    machine.enforce(port("i-a", "sg-a", ingress=wide))
    machine.enforce(port("i-x", "sg-a", ingress=WEB), name=f"{NAME}-2", subnet=SUBNET_2)
    machine.expect(
        *(("", each, 8080, OPEN) for each in (OUTSIDE, GATEWAY, "127.0.0.1")),
        *on("", HOSTS["i-a"], OPEN, OPEN, OPEN),
        *on("", ELSEWHERE, OPEN, OPEN, SILENT),
        ("i-a", OUTSIDE, 8080, OPEN),
        ("i-x", OUTSIDE, 8080, OPEN),
        *on("i-a", ELSEWHERE, SILENT, SILENT, SILENT),
        *on("i-x", HOSTS["i-a"], SILENT, SILENT, SILENT),
    )
    machine.run("nft", "--file", "-", given="\n".join(removal(NAME)) + "\n")
    machine.expect(*on("", ELSEWHERE, OPEN, OPEN, SILENT))
    machine.run("nft", "--file", "-", given="\n".join(removal(f"{NAME}-2")) + "\n")
    assert [each for each in machine.run("nft", "list", "tables").splitlines() if NAME in each] == []


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


RESTORE = """
import subprocess, sys
from tasks.cloud.embedded import nft
rules = nft.Filter(sys.argv[1], sys.argv[2])
def there():
    lists = [["nft", "list", "table", family, rules.name] for family in ("bridge", "ip")]
    return [subprocess.run(each, capture_output=True).stdout for each in lists]
rules.restore()
print(there())
rules.enforce([])
written = there()
for command in ("flush ruleset", f"flush table ip {rules.name}"):
    subprocess.run(["nft", *command.split()], check=True)
    before = there()
    rules.restore()
    print(before == written, there() == written)
nft.remove(rules.name)
print(there())
"""


@pytest.mark.promise("flushed-rules-come-back")
def test_rules_that_somebody_else_has_flushed_are_written_again(machine):
    machine.unfiltered()
    script = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{RESTORE}"
    said = machine.run(sys.executable, "-c", script, NAME, SUBNET).splitlines()
    assert said == ["[b'', b'']", "False True", "False True", "[b'', b'']"]


def test_rules_that_stay_are_not_passed_over(tmp_path, monkeypatch):
    """Where nft fails for no reason that is known beforehand: `delete` does not say that nothing is left."""
    refuses = "case $1 in --check) exit 0;; esac; echo 'Error: Device or resource busy' >&2; exit 1"
    for name, answer in (("ip", "exit 0"), ("nft", refuses)):
        (tmp_path / name).write_text(f"#!/bin/sh\n{answer}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(nft.RulesRefused, match="nft: Device or resource busy"):
        nft.remove(NAME)


@pytest.mark.skipif(bool(os.geteuid()), reason="only root filters")
def test_this_machine_filters():
    assert until(lambda: nft.problem() == "")
