"""Who talks to whom: a host has open what is declared, and its own firewall and its group hold back everything else."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import re
import select
import shlex
import socket
import subprocess

import pytest
import yaml

from tasks import network
from tasks.bootstrap import s3_endpoint, steps
from tasks.cloud.embedded import home
from tasks.hosts import ssh
from tasks.infrastructure import stage as infrastructure
from tasks.placement import ALIKE
from tasks.refusal import Refusal
from tasks.server import stage as server
from tasks.settings import S3Gateway
from tests.conftest import ROOT, commit, until
from tests.end_to_end.conftest import replace
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
PUTS = """
import json, subprocess
try:
    subprocess.run(["nft", "flush", "ruleset"], check=True)
    curl = ["curl", "--noproxy", "*", "--silent", "--output", "/dev/null", "--write-out", "%{http_code}"]
    print(json.dumps([subprocess.run([*curl, *each], capture_output=True, text=True).stdout for each in WAYS]))
finally:
    subprocess.run(["nft", "-f", "/etc/nftables.conf"], check=True)
"""
BOOT = "print(open('/proc/sys/kernel/random/boot_id').read(), open('/proc/1/stat').read().split()[21])"
LED = """
import glob, json, pathlib, subprocess
def asked(*words):
    return subprocess.run(["systemctl", *words], capture_output=True, text=True).stdout.split()
def environment(process):  # root of a container may not read another user's
    read = ["runuser", "-u", pathlib.Path(f"/proc/{process}").owner(), "--", "cat", f"/proc/{process}/environ"]
    return subprocess.check_output(read)
workers = [each for each in asked("show", "--value", "--property", "MainPID", "worker-*") if each != "0"]
print(json.dumps({
    "environment": pathlib.Path("/etc/environment").read_text(),
    "files": glob.glob("/etc/apt/apt.conf.d/95proxy") + glob.glob("/etc/sudoers.d/environment")
        + glob.glob("/etc/cloud/cloud.cfg.d/95_egress.cfg"),
    "proxy": asked("is-active", "squid"),
    "workers": [b"http_proxy=" in environment(each) for each in workers],
    "timer": asked("is-active", "outdated.timer"),
}))
"""
CUT_OFF = """
import pathlib, subprocess
subprocess.run(["systemd-run", "--on-calendar=daily", "--unit=outdated", "true"], check=True)
pathlib.Path("/var/lib/provisioning").touch()
"""
"""As a provisioning leaves a host that was cut off between the removal of a timer and its stop."""
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
        silent = [login[0], "-o", "ServerAliveInterval=0", *login[1:]]  # our end's sign of life would end it
        child = subprocess.Popen([*silent, "sudo", "sh"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            for command in (follows, starts):  # each answered, as the tasks of a play
                child.stdin.write(f"{shlex.join(command)}; echo $?\n".encode())
                child.stdin.flush()
                assert select.select([child.stdout], [], [], 60)[0], command
                assert child.stdout.readline() == b"0\n"
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


@pytest.mark.promise("root-reaches-no-other-bucket")
def test_root_without_the_rules_puts_nothing_into_a_bucket_of_somebody_else(site, gateway):
    run = site.run
    ec2, s3, iam = (run.cloud.client(service) for service in ("ec2", "s3", "iam"))
    s3.create_bucket(Bucket="theirs", CreateBucketConfiguration={"LocationConstraint": run.pipeline.region})
    iam.create_user(UserName="thief")
    all_of_it = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [all_of_it]})
    iam.put_user_policy(UserName="thief", PolicyName="all", PolicyDocument=document)
    key = iam.create_access_key(UserName="thief")["AccessKey"]
    s3.put_object(Bucket=run.bucket, Key="fetched", Body=b"x")
    url = run.cloud.presigned_url(run.bucket, "fetched", 60)

    def answers():
        asked = [
            ["--upload-file", "/etc/hostname", f"http://{gateway}:{run.cloud.bucket_port}/{name}/put"]
            for name in (run.bucket, "theirs")
        ]
        keys = ("--user", f"{key['AccessKeyId']}:{key['SecretAccessKey']}")
        signed = ("--aws-sigv4", f"aws:amz:{run.pipeline.region}:s3", *keys)
        digest = ("--header", "x-amz-content-sha256: UNSIGNED-PAYLOAD")
        ways = [*([*signed, *digest, *each] for each in asked), [url]]
        return json.loads(ssh.python(site.host, "release", PUTS.replace("WAYS", repr(ways))))

    assert answers() == ["200", "200", "200"]
    settings = dataclasses.replace(run.pipeline, s3_endpoint=S3Gateway(enabled=True))
    (wanted,) = s3_endpoint.wanted(dataclasses.replace(run, pipeline=settings))
    for step in steps.endpoint(wanted, ec2):
        step.do()
    (made,) = s3_endpoint.found(ec2, wanted.network, wanted.service)
    try:
        assert answers() == ["200", "403", "200"]
    finally:
        ec2.delete_vpc_endpoints(VpcEndpointIds=[made["VpcEndpointId"]])
        s3.delete_objects(Bucket=run.bucket, Delete={"Objects": [{"Key": "put"}, {"Key": "fetched"}]})


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


@pytest.mark.long(
    short="tests/roles/test_proxy_led.py::test_where_egress_is_open_again_nobody_is_led_to_the_proxy"
)
@pytest.mark.promise("open-leads-nobody-to-the-proxy", "all-listen-after-an-interruption")
def test_a_host_goes_from_listed_to_open_and_back(site):
    def led():
        return json.loads(ssh.python(site.host, "release", LED))

    before = led()
    assert before["workers"]
    assert all(before["workers"])
    settings = site.root / "environments" / "testing.yml"
    text = settings.read_text()
    ssh.python(site.host, "release", CUT_OFF)
    try:
        replace(settings, {"egress: listed": "egress: open"})
        commit(site.root, "egress is open")
        opened = site.doit("server")
        assert opened.returncode == 0, opened.stdout + opened.stderr
        after = led()
        assert (after["environment"], after["files"], after["proxy"]) == ("", [], ["inactive"])
        assert after["workers"] == [False for _ in before["workers"]]
        assert after["timer"] == ["inactive"]
    finally:
        settings.write_text(text)
        commit(site.root, "egress is listed")
        planned = site.doit("plan", "--diff")
        back = site.doit("server")
    assert planned.returncode == 0, planned.stdout + planned.stderr
    assert '+env[http_proxy] = "http://127.0.0.1:' in planned.stdout
    assert back.returncode == 0, back.stdout + back.stderr
    assert led() == {**before, "timer": after["timer"]}


@pytest.mark.promise("only-declared-ways-out")
def test_on_the_host_only_who_is_declared_reaches_a_service(site):
    services = site.run.network.services
    ways = [(user, "127.0.0.1", each.port) for each in services for user in ("nobody", "root")]
    assert all(tried(site.host, ways, rules=False))
    wanted = [may for each in services for may in (bool(each.open_to), True)]
    assert tried(site.host, ways, rules=True) == wanted
