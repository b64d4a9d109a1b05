"""Who talks to whom: a host has open what is declared, and its own firewall and its group hold back everything else."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import shlex
import socket
import subprocess
import time

import pytest
import yaml

from tasks import network
from tasks.cloud.embedded import home
from tasks.hosts import ssh
from tasks.infrastructure import stage as infrastructure
from tasks.placement import ALIKE
from tasks.refusal import Refusal
from tasks.server import stage as server
from tests.conftest import ROOT, until
from tests.end_to_end.outside import LATE, LISTED, MAILS, WAYS, outside
from tests.rules import rendering

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("ledger")]  # its host

TRIES = """
import json, os, pwd, socket, subprocess
def reached(user, address, port):
    os.seteuid(pwd.getpwnam(user).pw_uid)
    try:
        socket.create_connection((address, port), timeout=1).close()
        return True
    except OSError:
        return False
    finally:
        os.seteuid(0)
rules = RULES
try:
    if rules is not True: # flushed by what is read, if only by that
        subprocess.run(["nft", "-f", "-"], input=rules or "flush ruleset", text=True, check=True)
    print(json.dumps([reached(*each) for each in TRIED]))
finally:
    subprocess.run(["nft", "-f", "/etc/nftables.conf"], check=True)
"""
LISTENS = """
import socket
listening = socket.create_server(("", 4001))
print("listening", flush=True)
listening.settimeout(20)
try:
    listening.accept()
except TimeoutError:
    pass
"""


FOLLOWS = next(
    [*each["ansible.builtin.command"]["argv"][:-1], each["vars"]["__firewall_follows"]]
    for each in yaml.safe_load((ROOT / "roles" / "firewall" / "tasks" / "main.yml").read_text())
    if "__firewall_follows" in each.get("vars", {})
)
"""The command by which a host's kernel follows the connections that there are."""
CAUGHT = """
import email, pathlib
for each in pathlib.Path("/var/mail/caught/new").iterdir():
    mail = email.message_from_bytes(each.read_bytes())
    if mail["Subject"].startswith("mail-"):
        print(mail["Delivered-To"])
"""
BOOT = "print(open('/proc/sys/kernel/random/boot_id').read(), open('/proc/1/stat').read().split()[21])"
ROUTE = "import subprocess; print(subprocess.check_output(['ip', 'route'], text=True))"


def tried(host, ways, *, rules) -> list[bool]:
    """Which of these ways lead somewhere on a host: user, address, port; with its rules, with none, or with others."""
    program = TRIES.replace("RULES", repr(rules)).replace("TRIED", repr([tuple(each) for each in ways]))
    return json.loads(ssh.python(host, "release", program))


def rules_where_egress_is_open(site) -> str:
    """The rules that the site's host would have with production's egress."""
    run = site.run
    run = dataclasses.replace(run, environment=dataclasses.replace(run.environment, egress="open"))
    (found,) = infrastructure.existing(run)
    told = {**server.variables(run), **server.beside(run, [found], found)}
    return rendering.rendered(ROOT / "roles" / "firewall" / "templates" / "nftables.conf.j2", told)


@pytest.fixture
def gateway(site):
    """This machine's address in the host's network."""
    return re.search(r"default via (\S+)", ssh.python(site.host, "release", ROUTE))[1]


@pytest.fixture
def outside_at(gateway):
    """A listener of this machine at a port, which hosts reach at the gateway."""
    with contextlib.ExitStack() as stack:
        yield lambda port: stack.enter_context(socket.create_server((gateway, port)))


@contextlib.contextmanager
def let_out_by_hand(site, port):
    """Somebody lets the host's group reach everything at a port."""
    ec2 = site.run.cloud.client("ec2")
    groups = ec2.describe_instances(InstanceIds=[site.host.name])["Reservations"][0]["Instances"][0]
    group = groups["SecurityGroups"][0]["GroupId"]
    rule = {"IpProtocol": "tcp", "FromPort": port, "ToPort": port, "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}
    ec2.authorize_security_group_egress(GroupId=group, IpPermissions=[rule])
    try:
        yield
    finally:
        ec2.revoke_security_group_egress(GroupId=group, IpPermissions=[rule])


@pytest.mark.promise("what-listens-is-declared")
def test_what_listens_on_a_host_is_what_is_declared(site):
    said = ssh.python(
        site.host,
        "release",
        "import subprocess; print(subprocess.check_output(['ss', '-tulpnH'], text=True))",
    )
    found = {
        (line.split()[0], line.split()[4].replace("[::]", network.ALL))
        for line in said.splitlines()
        if not re.match(r"udp .* 127\.0\.0\.1:[3-6]\d{4} ", line)  # whence the proxy asks the resolver
    }
    here = (site.host.address,)
    place = network.topology(site.run.placement, [(ALIKE, site.host.address)], here)
    services = network.told(site.run.network, place)
    assert found == {
        (protocol, f"{services[each.role][each.name]['bind']}:{each.port}")
        for each in site.run.network.services
        for protocol in each.protocols
    }, said


@pytest.mark.promise("only-declared-ports-are-open")
def test_from_elsewhere_only_what_is_open_is_reached(site):
    with ssh.login(site.host) as login:
        listening = subprocess.Popen([*login, "python3", "-"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            listening.stdin.write(LISTENS.encode())
            listening.stdin.close()
            assert listening.stdout.readline() == b"listening\n"
            for service in site.run.network.services:
                if service.open_to:
                    socket.create_connection((site.host.address, service.port), timeout=5).close()
            with pytest.raises(TimeoutError):  # dropped: a port that nobody listens on would refuse at once
                socket.create_connection((site.host.address, 4001), timeout=2)
        finally:
            listening.kill()
            listening.wait()


@pytest.mark.promise("the-firewall-stands-in-no-connection-s-way")
def test_rules_that_are_loaded_first_hold_up_no_connection(site):
    follows, starts = FOLLOWS, ["systemctl", "start", "nftables"]
    ssh.python(site.host, "release", "import subprocess; subprocess.run(['systemctl', 'stop', 'nftables'])")
    with ssh.login(site.host) as login:
        child = subprocess.Popen([*login, "sudo", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            for command in (follows, starts):  # each answered, as the tasks of a play
                child.stdin.write(f"{shlex.join(command)}; echo $?\n".encode())
                child.stdin.flush()
                begun = time.monotonic()
                assert child.stdout.readline() == b"0\n"
            assert time.monotonic() - begun < ssh.ALIVE_EVERY / 2, "until our end says that it is alive"
        finally:
            child.kill()
            child.wait()
    shown = "import subprocess; print(subprocess.check_output(['nft', 'list', 'tables'], text=True))"
    assert ssh.python(site.host, "release", shown).split() == ["table", "inet", "filter"]


@pytest.mark.promise("only-declared-ways-out")
def test_a_host_reaches_what_is_declared_as_the_declared_user_and_nothing_else(site, gateway, outside_at):
    own = (site.run.pipeline.name, server.web_user(site.run))
    users = ("root", *own, "www-data", "proxy")
    outside_at(587)
    outside_at(4000)
    undeclared = [(each, gateway, 4000) for each in users]
    assert not any(tried(site.host, undeclared, rules=False)), "the group lets out what nobody declares"
    opened, bucket = rules_where_egress_is_open(site), site.run.cloud.bucket_port
    fetches = [(each, gateway, bucket) for each in users]
    assert tried(site.host, fetches, rules=opened) == [each == "root" for each in users]
    assert tried(site.host, fetches, rules=True) == [each == "proxy" for each in users]
    with let_out_by_hand(site, 587), let_out_by_hand(site, 4000):
        relays = [(each, gateway, 587) for each in users]
        assert all(tried(site.host, [*relays, *undeclared], rules=False))
        assert tried(site.host, relays, rules=opened) == [each in own for each in users]
        assert not any(tried(site.host, relays, rules=True)), "egress is listed"
        for rules in (opened, True):
            assert not any(tried(site.host, undeclared, rules=rules)), "the host's own firewall does"


@pytest.mark.promise("nothing-leaves-a-testing-host", "no-mail-leaves-a-testing-host")
def test_nothing_gets_out_of_a_testing_host_but_to_what_is_listed(site, tmp_path):
    with outside(site.host, site.run.pipeline.name, home.of(os.environ).load(), tmp_path) as beyond:
        assert beyond.reached([*WAYS, *MAILS], rules=False) == [name for name, *_ in WAYS]
        assert beyond.reached([*WAYS, *MAILS, LISTED], rules=True) == ["listed"]
    found = ssh.python(site.host, "release", CAUGHT)
    assert sorted(found.split()) == sorted(2 * [str(to) for _, _, _, to, _ in MAILS])


@pytest.mark.long(
    short="tests/end_to_end/test_network.py::test_nothing_gets_out_of_a_testing_host_but_to_what_is_listed"
)
@pytest.mark.promise("nothing-leaves-a-testing-host")
def test_nothing_gets_out_by_cron_or_after_a_reboot(site, tmp_path):
    user, cloud = site.run.pipeline.name, home.of(os.environ).load()
    with outside(site.host, user, cloud, tmp_path) as beyond:
        assert beyond.reached(LATE, rules=False) == [name for name, *_ in LATE]
        assert beyond.reached(LATE, rules=True) == []
    boot = ssh.python(site.host, "release", BOOT)
    site.run.cloud.client("ec2").reboot_instances(InstanceIds=[site.host.name])

    def rebooted():
        with contextlib.suppress(Refusal):
            return ssh.python(site.host, "release", BOOT) != boot

    def answers():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return site.get()[0] == 200

    until(rebooted, 60)
    until(answers)
    with outside(site.host, user, cloud, tmp_path) as beyond:
        assert beyond.reached([*WAYS, LISTED], rules=True) == ["listed"]


@pytest.mark.promise("only-declared-ways-out")
def test_on_the_host_only_who_is_declared_reaches_a_service(site):
    services = site.run.network.services
    ways = [(user, "127.0.0.1", each.port) for each in services for user in ("nobody", "root")]
    assert all(tried(site.host, ways, rules=False))
    wanted = [may for each in services for may in (bool(each.open_to), True)]
    assert tried(site.host, ways, rules=True) == wanted
