"""The embedded cloud's hosts: containers that boot, answer, stop and start again as EC2's instances do."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.cloud.embedded import client, containers, home, lifecycle
from tasks.cloud.interface import HostDown
from tasks.process.life import started_at
from tests.cloud.embedded.conftest import REGION, ROOT
from tests.cloud.embedded.test_api import bucket, image
from tests.conftest import until

pytestmark = pytest.mark.end_to_end

USER_DATA = """#cloud-config
users: [{{name: deploy, groups: sudo, sudo: "ALL=(ALL) NOPASSWD:ALL", shell: /bin/bash, ssh_authorized_keys: ["{key}"]}}]
{more}
"""


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host of the tests; its SSH key is checked, as the pipeline does."""

    cloud: client.Embedded
    id: str
    key: Path

    def found(self) -> dict:
        answer = self.cloud.client("ec2").describe_instances(InstanceIds=[self.id])
        return answer["Reservations"][0]["Instances"][0]

    @property
    def state(self) -> str:
        return self.found()["State"]["Name"]

    def ssh(self, command: str) -> str:
        known = self.key.with_name(f"known-{self.id}")
        address = self.cloud.reachable_at(self.found())
        if not known.exists():
            keys = self.cloud.host_keys(self.id, say=print)
            known.write_text("".join(f"{address} {key}\n" for key in keys))
        options = {
            "BatchMode": "yes",
            "ConnectTimeout": "2",
            "ServerAliveInterval": "1",
            "StrictHostKeyChecking": "yes",
            "UserKnownHostsFile": str(known),
        }
        flags = [f"-o{name}={value}" for name, value in options.items()]
        done = subprocess.run(
            ["ssh", *flags, "-i", str(self.key), f"deploy@{address}", command],
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise ConnectionError(done.stderr)
        return done.stdout.strip()

    def leave(self, command: str) -> None:
        self.ssh("systemctl is-system-running --wait || true")  # systemd does not shut down during a boot
        with contextlib.suppress(ConnectionError):  # it ends our connection
            self.ssh(command)

    def answers(self) -> bool:
        try:
            return self.state == "running" and self.ssh("true") == ""
        except ConnectionError:
            return False

    def do(self, method: str, state: str) -> None:
        getattr(self.cloud.client("ec2"), method)(InstanceIds=[self.id])
        until(lambda: self.state == state)


@pytest.fixture(scope="module")
def key(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("key") / "deploy"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


@pytest.fixture(scope="module")
def cloud(environ, quiet) -> client.Embedded:
    return ready(client.connect(REGION, quiet, environ))


def ready(cloud: client.Embedded) -> client.Embedded:
    def built() -> bool:
        images = cloud.client("ec2").describe_images(ImageIds=[image(cloud)])["Images"]
        assert images[0]["State"] != "failed", images[0]["StateReason"]
        return images[0]["State"] == "available"

    until(built, seconds=240)
    open_ports(cloud, default_group(cloud), 22, 80)
    return cloud


def default_group(cloud: client.Embedded) -> str:
    wanted = [{"Name": "group-name", "Values": ["default"]}]
    return cloud.client("ec2").describe_security_groups(Filters=wanted)["SecurityGroups"][0]["GroupId"]


def open_ports(cloud: client.Embedded, group: str, *ports: int) -> list[dict]:
    world = [{"CidrIp": "0.0.0.0/0"}]
    rules = [{"IpProtocol": "tcp", "FromPort": each, "ToPort": each, "IpRanges": world} for each in ports]
    cloud.client("ec2").authorize_security_group_ingress(GroupId=group, IpPermissions=rules)
    return rules


GUARDED = {"InstanceInitiatedShutdownBehavior": "terminate"}
"""As a machine is launched that ends itself."""


def boot(cloud: client.Embedded, key: Path, more: str = "", **request) -> Host:
    data = USER_DATA.format(key=key.with_suffix(".pub").read_text().strip(), more=more)
    wanted = {"ImageId": image(cloud), "InstanceType": "t3.medium", "MinCount": 1, "MaxCount": 1}
    made = cloud.client("ec2").run_instances(**{**wanted, **request}, UserData=data)["Instances"][0]
    host = Host(cloud=cloud, id=made["InstanceId"], key=key)
    until(lambda: host.state == "running")
    until(host.answers)
    return host


@pytest.fixture(scope="module")
def host(cloud, key) -> Host:
    """A host that no test ends."""
    return boot(cloud, key)


def container(host: Host, field: str = "{{.Id}} {{.State.StartedAt}}") -> str:
    names = podman("ps", "-a", "--format", "{{.Names}}").split()
    name = next((each for each in names if each.endswith(host.id)), None)
    return podman("container", "inspect", name, "--format", field) if name else "none"


def podman(*words: str) -> str:
    done = subprocess.run(["podman", *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def traces(id: str) -> list[str]:
    """What is left of a cloud, anywhere."""
    label = f"label=release-pipeline.cloud={id}"
    left = podman("ps", "-aq", "--filter", label).split()
    left += podman("network", "ls", "-q", "--filter", label).split()
    left += podman("images", "-aq", "--filter", label).split()
    left += podman("images", "-q", "--filter", f"reference=localhost/release-pipeline-{id}").split()
    return left + tables(id)


def tables(id: str) -> list[str]:
    """The rules of a cloud's security groups, which a kernel keeps when their maker is killed."""
    done = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True)
    return [each for each in done.stdout.splitlines() if each.endswith(f" release-pipeline-{id}")]


def test_a_host_boots_where_the_api_says_and_admits_the_deploy_key(host):
    address = host.found()["PrivateIpAddress"]
    assert address in host.ssh("ip -brief -4 address")
    assert host.ssh("hostname") == "ip-" + address.replace(".", "-")
    assert host.ssh("sudo id -u") == "0"
    assert host.ssh("systemctl is-system-running --wait") == "running"


def test_a_host_can_install_packages_and_has_a_firewall_of_its_own(host):
    host.ssh("sudo apt-get update -qq && sudo apt-get install -qq -y hello > /dev/null 2>&1")
    assert host.ssh("hello") == "Hello, world!"
    assert "table" in host.ssh("sudo nft add table inet x && sudo nft list tables")


def test_every_host_has_keys_of_its_own(cloud, host, key):
    other = boot(cloud, key)
    keys = [set(cloud.host_keys(each.id, say=print)) for each in (host, other)]
    assert keys[0]
    assert not keys[0] & keys[1]
    assert host.ssh("cat /etc/machine-id") != other.ssh("cat /etc/machine-id")
    other.do("terminate_instances", "terminated")
    assert container(other) == "none"


@pytest.mark.promise("a-reboot-does-not-terminate")
def test_stop_and_start_keep_disk_and_address(cloud, key):
    host = boot(cloud, key, **GUARDED)
    address = host.found()["PrivateIpAddress"]
    host.ssh("echo kept > file")
    host.do("stop_instances", "stopped")
    assert "PublicIpAddress" not in host.found()
    with pytest.raises(HostDown, match="is stopped, not running"):
        cloud.reachable_at(host.found())
    host.do("start_instances", "running")
    until(host.answers)
    assert (host.found()["PrivateIpAddress"], host.ssh("cat file")) == (address, "kept")
    host.do("terminate_instances", "terminated")


@pytest.mark.parametrize("who", [pytest.param("api", marks=pytest.mark.long), "inside"])
@pytest.mark.promise("a-reboot-does-not-terminate", "a-reboot-stays-running")
def test_a_reboot_stays_a_reboot(cloud, key, who):
    host = boot(cloud, key, **GUARDED)
    host.ssh("sudo touch /run/gone; touch kept")
    before, seen = container(host), set()
    if who == "api":
        cloud.client("ec2").reboot_instances(InstanceIds=[host.id])
    else:
        host.leave("sudo systemctl reboot")

    def rebooted() -> bool:
        seen.add(host.state)
        return container(host) != before and host.answers()

    until(rebooted)
    assert seen == {"running"}
    assert host.ssh("ls; ls /run/gone 2> /dev/null || true") == "kept"
    host.do("terminate_instances", "terminated")


@pytest.mark.parametrize(
    ("behaviour", "state"),
    [("stop", "stopped"), pytest.param("terminate", "terminated", marks=pytest.mark.long)],
)
@pytest.mark.promise("shutdown-as-launched")
def test_a_host_that_shuts_itself_down_ends_as_it_was_launched(cloud, key, behaviour, state):
    host = boot(cloud, key, InstanceInitiatedShutdownBehavior=behaviour)
    host.leave("sudo systemctl poweroff")
    until(lambda: host.state == state)
    if state == "stopped":
        host.do("terminate_instances", "terminated")
    assert container(host) == "none"


@pytest.mark.promise("a-dead-host-is-seen")
def test_a_killed_host_is_not_running(cloud, key):
    host = boot(cloud, key)
    init = int(container(host, "{{.State.Pid}}"))
    os.kill(init, signal.SIGKILL)
    until(lambda: started_at(init) is None)
    assert host.state in ("stopping", "stopped")
    until(lambda: host.state == "stopped")
    host.do("terminate_instances", "terminated")


@pytest.mark.promise("restart-boots-none")
def test_a_killed_server_finds_its_hosts_again_and_boots_none(cloud, environ, quiet, host):
    place = home.of(environ)
    before = host.found(), container(host), traces(place.load().id)
    os.kill(place.running(), signal.SIGKILL)
    until(lambda: not place.running())
    address = before[0]["PrivateIpAddress"]
    assert [reached(address, 22), reached(address, 8000)] == [True, False], "its rules hold without it"
    client.connect(REGION, quiet, environ).client("ec2")
    assert (host.found(), container(host), traces(place.load().id)) == before
    assert [reached(address, 22), reached(address, 8000)] == [True, False]
    assert len(tables(place.load().id)) == 2
    assert host.answers()


@pytest.mark.promise("stop-keeps-data")
def test_stop_ends_everything_and_start_brings_it_back(cloud, environ, quiet, key, host):
    stopped = boot(cloud, key)
    stopped.do("stop_instances", "stopped")
    before = host.found()
    host.ssh("echo kept > file")
    lifecycle.stop(quiet, environ)
    assert not home.of(environ).running()
    assert "running" not in container(host, "{{.State.Status}}")
    assert tables(home.of(environ).load().id) == []
    lifecycle.start(quiet, environ)
    until(lambda: host.state == "running")
    until(host.answers)
    after = host.found()
    same = ("InstanceId", "PrivateIpAddress", "LaunchTime", "ImageId")
    assert [after[name] for name in same] == [before[name] for name in same]
    assert host.ssh("cat file") == "kept"
    assert stopped.state == "stopped"
    stopped.do("terminate_instances", "terminated")


@pytest.mark.long(
    short="tests/cloud/embedded/test_instances.py::test_stop_ends_everything_and_start_brings_it_back"
)
def test_a_stop_in_the_middle_of_a_launch_leaves_nothing_running(cloud, environ, quiet, host):
    request = {"ImageId": image(cloud), "InstanceType": "t3.medium", "MinCount": 3, "MaxCount": 3}
    made = cloud.client("ec2").run_instances(**request)["Instances"]
    lifecycle.stop(quiet, environ)
    label = f"label=release-pipeline.cloud={home.of(environ).load().id}"
    assert podman("ps", "--quiet", "--filter", label) == ""
    lifecycle.start(quiet, environ)
    hosts = [Host(cloud=cloud, id=each["InstanceId"], key=Path()) for each in made]
    until(lambda: {each.state for each in hosts} == {"running"})
    until(host.answers)
    cloud.client("ec2").terminate_instances(InstanceIds=[each.id for each in hosts])
    until(lambda: {each.state for each in hosts} == {"terminated"})


@pytest.mark.promise("bakes-stall-no-lease")
def test_an_image_of_a_host_boots_as_another_host(cloud, key, host, tmp_path):
    ec2, s3 = cloud.client("ec2"), cloud.client("s3")
    name, renewals, committing = bucket(cloud), [0], threading.Event()

    def renew() -> None:
        while not committing.wait(0.05):
            s3.put_object(Bucket=name, Key="lease", Body=b"")
            renewals[0] += 1

    host.ssh("sudo sh -c 'echo baked > /srv/file'")
    renewing = threading.Thread(target=renew)
    renewing.start()
    ami = ec2.create_image(InstanceId=host.id, Name="baked")["ImageId"]

    def images() -> dict:
        return ec2.describe_images(ImageIds=[ami])["Images"][0]

    before = renewals[0]
    until(lambda: renewals[0] > before + 2)
    assert images()["State"] == "pending", "it was renewed while the image was made"
    until(lambda: images()["State"] != "pending", seconds=60)
    committing.set()
    renewing.join()
    assert images()["State"] == "available"

    other_key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(other_key)], check=True)
    made = boot(cloud, other_key, ImageId=ami)
    assert made.ssh("cat /srv/file") == "baked"
    first = {" ".join(line.split()[:2]) for line in host.ssh("cat /etc/ssh/ssh_host_*_key.pub").splitlines()}
    assert first
    assert not set(cloud.host_keys(made.id, print)) & first
    assert key.with_suffix(".pub").read_text().strip() not in made.ssh("cat .ssh/authorized_keys")
    assert made.ssh("cat /etc/machine-id") != host.ssh("cat /etc/machine-id")
    run = (*containers.runtime_options(), "run", "--rm", "--network=none", *containers._limits())
    inside = podman(*run, images_name(ami), "/bin/sh", "-c", LEAKS)
    assert inside == ""
    ec2.deregister_image(ImageId=ami)
    made.do("terminate_instances", "terminated")
    until(lambda: not traces_of_images(ami, cloud))


LEAKS = (
    "ls -d /etc/ssh/ssh_host_* /var/lib/cloud /home/*/.ssh/authorized_keys 2>/dev/null; cat /etc/machine-id"
)


def images_name(ami: str) -> str:
    listed = podman("images", "--format", "{{.Repository}}:{{.Tag}}").split()
    return next(each for each in listed if each.endswith(f":{ami}"))


def traces_of_images(ami: str, cloud: client.Embedded) -> list[str]:
    label = f"label=release-pipeline.cloud={cloud._identity.id}"
    return podman("images", "-aq", "--filter", label).split()


@pytest.mark.promise("hosts-fetch-presigned-only")
def test_a_host_fetches_from_the_store_by_a_presigned_url(cloud, host):
    name = bucket(cloud)
    cloud.client("s3").put_object(Bucket=name, Key="k", Body=b"x" * 3_000_000)
    url = cloud.presigned_url(name, "k", 60)
    assert host.ssh(f"curl -s '{url}' | wc -c") == "3000000"
    # nothing else, whatever key a host may have seen
    key = cloud._identity.key
    credential = f"AWS4-HMAC-SHA256 Credential={key}/20260101/eu-central-1/ssm/aws4_request, Signature=0"
    asked = f"-H 'Authorization: {credential}' -H 'X-Amz-Target: AmazonSSM.GetParametersByPath'"
    address = url.split("?")[0].rsplit("/", 2)[0]
    assert host.ssh(f"curl -s -o /dev/null -w '%{{http_code}}' {asked} -d '{{}}' {address}/") == "403"
    # a user's key opens what the user may see, and no other service; the cloud's own opens nothing from here
    iam = cloud.client("iam")
    iam.create_user(UserName="reader")
    allowed = {"Effect": "Allow", "Action": ["s3:GetObject", "iam:*"], "Resource": "*"}
    iam.put_user_policy(
        UserName="reader",
        PolicyName="r",
        PolicyDocument=json.dumps({"Version": "2012-10-17", "Statement": [allowed]}),
    )
    made = iam.create_access_key(UserName="reader")["AccessKey"]
    theirs, ours = (
        f"{made['AccessKeyId']}:{made['SecretAccessKey']}",
        f"{key}:{cloud._identity.secret}",
    )

    def status(keys: str, service: str, path: str) -> str:
        signed = f"--aws-sigv4 aws:amz:{REGION}:{service} --user '{keys}'"
        digest = "-H x-amz-content-sha256:UNSIGNED-PAYLOAD" if service == "s3" else ""
        return host.ssh(f"curl -s -o /dev/null -w '%{{http_code}}' {signed} {digest} '{address}{path}'")

    assert status(theirs, "s3", f"/{name}/k") == "200"
    assert status(ours, "s3", f"/{name}/k") == "403"
    assert status(theirs, "iam", "/?Action=ListUsers&Version=2010-05-08") == "403"


def reaches(host: Host, address: str, port: int) -> bool:
    """Whether a host gets an answer of any kind: what a security group drops is never answered."""
    asked = f"timeout 1 bash -c '< /dev/tcp/{address}/{port}' 2> /dev/null; echo $?"
    return host.ssh(asked) != "124"


def reached(address: str, port: int) -> bool:
    """The same for this machine."""
    try:
        socket.create_connection((address, port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except OSError:
        return False
    return True


@pytest.mark.promise(
    "groups-filter",
    "environments-do-not-meet",
    "no-host-takes-an-address",
    "hosts-have-limits",
    "flushed-rules-come-back",
)
def test_a_host_is_walled_in_by_its_security_groups_and_its_type(cloud, environ, quiet, host, key):
    ec2 = cloud.client("ec2")
    group = ec2.create_security_group(GroupName="other", Description="another environment")["GroupId"]
    open_ports(cloud, group, 22)
    other = boot(cloud, key, SecurityGroupIds=[group], InstanceType="t3.nano")
    here, there = (each.found()["PrivateIpAddress"] for each in (host, other))

    # a port is reached while a group admits it, and hosts of other groups reach none
    rules = open_ports(cloud, group, 8000)
    assert reached(there, 8000)
    assert not reaches(host, there, 8000)
    ec2.revoke_security_group_ingress(GroupId=group, IpPermissions=rules)
    assert not reached(there, 8000)
    ec2.modify_instance_attribute(InstanceId=other.id, Groups=[default_group(cloud)])
    assert reaches(host, there, 22)

    # what leaves the host is judged as well
    api = home.of(environ).load()
    assert reaches(other, api.gateway, api.port)
    everything = [{"IpProtocol": "-1", "IpRanges": [{"CidrIp": "0.0.0.0/0"}]}]
    ec2.modify_instance_attribute(InstanceId=other.id, Groups=[group])
    ec2.revoke_security_group_egress(GroupId=group, IpPermissions=everything)
    assert not reaches(other, api.gateway, api.port)

    # what somebody else flushes comes back
    for family in ("bridge", "ip"):
        name = f"release-pipeline-{api.id}"
        subprocess.run(["nft", "delete", "table", family, name], check=True)
    assert reached(there, 8000)

    # 512 MiB and 256 processes are the type's
    assert "Killed" in other.ssh("sudo sh -c 'head -c 1G /dev/zero | tail' 2>&1 || true")
    crowd = "import os, time\nfor n in range(400):\n if not os.fork(): time.sleep(1); os._exit(0)"
    assert "BlockingIOError" in other.ssh(f'python3 -c "{crowd}" 2>&1 || true')

    until(lambda: not reached(there, 8000))

    # last: it cannot be reached afterwards
    stolen = here.rpartition(".")[0] + ".200"
    steal = f"ip address flush dev eth0; ip address add {stolen}/24 dev eth0"
    other.leave(f"sudo systemd-run --quiet sh -c '{steal}'")
    until(lambda: not reached(there, 22))
    assert not reached(stolen, 22)
    other.do("terminate_instances", "terminated")
    assert host.answers()


WEB = """
write_files:
- path: /srv/index.html
  content: |
    the shop
runcmd:
- [systemd-run, --working-directory=/srv, python3, -m, http.server, "80"]
"""


@pytest.mark.promise("a-name-leads-to-its-host")
def test_a_name_leads_to_its_host(cloud, key):
    host = boot(cloud, key, more=WEB)
    host.ssh("sudo truncate -s 20M /srv/large")
    route53 = cloud.client("route53")
    zone = route53.create_hosted_zone(Name="shop.localhost", CallerReference="1")["HostedZone"]["Id"]
    record = {"Name": "b-1.shop.localhost", "Type": "A", "TTL": 60}
    record["ResourceRecords"] = [{"Value": host.found()["PrivateIpAddress"]}]
    changes = {"Changes": [{"Action": "UPSERT", "ResourceRecordSet": record}]}
    route53.change_resource_record_sets(HostedZoneId=zone, ChangeBatch=changes)

    def get(path: str = "/") -> bytes:
        address, port = cloud.http_address("b-1.shop.localhost", https=False)
        assert cloud.url("b-1.shop.localhost", https=False) == f"http://b-1.shop.localhost:{port}/"
        named = {"Host": f"b-1.shop.localhost:{port}"}
        request = urllib.request.Request(f"http://{address}:{port}{path}", headers=named)
        return urllib.request.urlopen(request, timeout=5).read()

    until(lambda: served(get))
    assert get() == b"the shop\n"
    assert len(get("/large")) == 20 << 20
    host.do("stop_instances", "stopped")
    with pytest.raises(urllib.error.HTTPError) as caught:
        get()
    assert caught.value.code == 502
    assert "is not running" in caught.value.read().decode()
    host.do("terminate_instances", "terminated")


def served(get) -> bool:
    try:
        return bool(get())
    except urllib.error.HTTPError:
        return False


@pytest.mark.long(
    short="tests/cloud/embedded/test_security_groups.py::test_a_cloud_s_rules_concern_nobody_else"
)
@pytest.mark.promise("clouds-side-by-side")
def test_eight_commands_at_once_start_one_cloud_beside_the_other(cloud, host, key, tmp_path, environ, quiet):
    other = {**environ, "XDG_STATE_HOME": str(tmp_path), "CLOUD_PORT": ""}
    script = (
        "import os; from tasks.cloud.embedded import client, home;"
        f"client.connect('{REGION}', lambda words: None).client('ec2');"
        "print(home.of(os.environ).running())"
    )
    try:
        commands = [
            subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=other, stdout=subprocess.PIPE)
            for _ in range(8)
        ]
        assert len({command.communicate()[0] for command in commands}) == 1
        second = ready(client.connect(REGION, quiet, other))
        ours, theirs = home.of(environ).load(), home.of(other).load()
        assert ours.subnet != theirs.subnet
        assert len({ours.port, ours.forward_port, theirs.port, theirs.forward_port}) == 4
        beside = boot(second, key)
        assert beside.ssh("hostname") != host.ssh("hostname")
        assert len(second.client("ec2").describe_instances()["Reservations"]) == 1
    finally:
        lifecycle.delete(quiet, other)
    assert not traces(theirs.id)
    assert host.answers()


@pytest.mark.promise("delete-leaves-nothing")
def test_delete_leaves_nothing(environ, quiet, key, tmp_path):
    other = {**environ, "XDG_STATE_HOME": str(tmp_path), "CLOUD_PORT": ""}
    cloud = ready(client.connect(REGION, quiet, other))
    host = boot(cloud, key)
    ami = cloud.client("ec2").create_image(InstanceId=host.id, Name="left")["ImageId"]
    until(lambda: cloud.client("ec2").describe_images(ImageIds=[ami])["Images"][0]["State"] == "available")
    identity, server = home.of(other).load(), home.of(other).running()
    assert len(traces(identity.id)) >= 3
    lifecycle.delete(quiet, other)
    assert traces(identity.id) == []
    assert not Path(f"/proc/{server}").exists()
    assert not (tmp_path / "release-pipeline").exists()
    interfaces = Path("/proc/net/route").read_text()
    third, second, first = (int(each) for each in reversed(identity.subnet.split(".")[:3]))
    assert f"{third:02X}{second:02X}{first:02X}\t" not in interfaces
    shutil.rmtree(tmp_path)
