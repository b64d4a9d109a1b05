"""A project that has been released on hosts of a cloud of its own; the cloud is deleted at the end."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks import image, source
from tasks import run as runs
from tasks.cloud.embedded import home, lifecycle
from tasks.cloud.embedded.containers import Containers, podman
from tasks.commands import command_line
from tasks.hosts.ssh import Host, options
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.process import children
from tasks.release import outside, phases
from tests.conftest import DOIT, EXAMPLE, ROOT, baking, commit, copy_project, doit
from tests.end_to_end.crowd import Crowd


@dataclass(frozen=True, kw_only=True)
class Site:
    """One environment of a project, as its users see it."""

    root: Path
    variables: dict[str, str]

    @property
    def run(self) -> runs.Run:
        """The run that this environment's commands have."""
        source._snapshot.cache_clear()  # a command has a process of its own: it sees what was committed since
        return command_line.read(self.root, self.variables)

    @property
    def hosts(self) -> list[Host]:
        """Its machines."""
        run = self.run
        return hosts.reachable(run, infrastructure.existing(run))

    @property
    def host(self) -> Host:
        """Its machine, or the first of them."""
        return self.hosts[0]

    def doit(self, *arguments: str, **environ: str):
        """Run doit for this environment."""
        named = [f"{name}={value}" for name, value in self.variables.items()]
        return doit(self.root, *named, *arguments, **environ)

    def begin(
        self, *arguments: str, stdout: int = subprocess.PIPE, stderr: int = subprocess.STDOUT
    ) -> subprocess.Popen[str]:
        """Start doit for this environment, in a session of its own."""
        return subprocess.Popen(
            [DOIT, *(f"{name}={value}" for name, value in self.variables.items()), *arguments],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(self.root)},
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )

    def stages(self, *arguments: str) -> dict[str, str]:
        """Run doit and return what each stage said: `done` or `unchanged`."""
        answered = self.doit(*arguments)
        assert answered.returncode == 0, answered.stdout + answered.stderr
        return {
            words[0]: words[1]
            for words in map(str.split, answered.stdout.splitlines())
            if len(words) > 1 and words[1] in ("done", "unchanged")
        }

    def get(self, path: str = "/", form: str = "", *, host_name: str = "") -> tuple[int, str]:
        """Status and body of a page, asked as a browser would: through the forwarder, by name. `form`: what is posted."""
        shown = self.shown(host_name)
        kind = {"Content-Type": "application/x-www-form-urlencoded"} if form else {}
        connection = shown.connection(20)
        connection.request("POST" if form else "GET", path, form or None, {**shown.headers, **kind})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()

    def shown(self, host_name: str = "") -> phases.Site:
        """The site as browsers get it that trust its authority."""
        run = self.run
        return outside.site(run, host_name or run.host_name, outside.visitor(run))

    def left(self) -> list[str]:
        """What the cloud has of it, as the cloud itself says: kind and id of each."""
        run = self.run
        ec2, route53 = run.cloud.client("ec2"), run.cloud.client("route53")
        mine = {"Filters": [{"Name": "tag:environment", "Values": [run.identity]}]}
        machines = [
            each
            for reservation in ec2.describe_instances(**mine)["Reservations"]
            for each in reservation["Instances"]
        ]
        (zone,) = route53.list_hosted_zones_by_name(DNSName=run.pipeline.dns_zone)["HostedZones"]
        records = route53.list_resource_record_sets(HostedZoneId=zone["Id"])["ResourceRecordSets"]
        secrets = run.cloud.client("ssm").describe_parameters(
            ParameterFilters=[{"Key": "Path", "Option": "Recursive", "Values": [run.secrets_folder]}]
        )
        return [
            *(f"machine {each['InstanceId']}" for each in machines if each["State"]["Name"] != "terminated"),
            *(f"key {each['KeyPairId']}" for each in ec2.describe_key_pairs(**mine)["KeyPairs"]),
            *(f"group {each['GroupId']}" for each in ec2.describe_security_groups(**mine)["SecurityGroups"]),
            *(f"secret {each['Name']}" for each in secrets["Parameters"]),
            *(f"name {each['Name']}" for each in records if each["Name"] == f"{run.host_name}."),
        ]

    def crowd(self, **more) -> Crowd:
        """Visitors who ask its machine itself, so that the cloud does not count."""
        run = self.run
        return Crowd(
            (self.host.address, 443 if run.https else 80), run.host_name, tls=outside.visitor(run).tls, **more
        )

    def ssh(self, *command: str, tmp: Path) -> str:
        """Run a command on the machine as root."""
        host = self.host
        key, known = tmp / "key", tmp / "known_hosts"
        key.touch(mode=0o600)
        key.write_text(host.key)
        known.write_text("".join(f"{host.address} {line}\n" for line in host.host_keys))
        login = ["ssh", *options(known, key), f"{host.user}@{host.address}"]
        return children.run([*login, "sudo", "sh", "-c", f"'{' '.join(command)}'"])


@pytest.fixture(scope="session")
def project(tmp_path_factory, _state_home) -> Iterator[Path]:
    """A copy of this repository. The cloud that its commands start is deleted at the end."""
    root = copy_project(tmp_path_factory.mktemp("project") / "shop")
    yield root
    deleted = doit(root, "cloud", "delete")
    assert deleted.returncode == 0, deleted.stderr


@dataclass(frozen=True, kw_only=True)
class Baked:
    """The image of the example's packages: podman's name of it, and what it was made from."""

    reference: str
    fingerprint: str
    lock: Path

    def give(self, root: Path) -> None:
        """Let the cloud of a project have it too, as if it had been baked there."""
        lifecycle.start(lambda words: None)
        run = command_line.read(root, {})
        ec2 = run.cloud.client("ec2")
        debian = ec2.describe_images()["Images"][0]["ImageId"]
        ami = ec2.copy_image(SourceImageId=debian, SourceRegion=run.pipeline.region, Name="baked")["ImageId"]
        with locked(self.lock):  # of names that are given at the same time, podman forgets one
            podman("tag", self.reference, Containers(home.of(os.environ).load().id).image(ami))
        tags = {"project": run.pipeline.name, "fingerprint": self.fingerprint}
        ec2.create_tags(Resources=[ami], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process of the session at a time."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def forget_images(run: runs.Run) -> None:
    """Remove the images of a project: its next machine starts from Debian's."""
    for each in image.found(run):
        run.cloud.client("ec2").deregister_image(ImageId=each.id)


@pytest.fixture(scope="session")
def baked(tmp_path_factory) -> Baked:
    """Baked once in a session, in a cloud of its own, by the first process that asks for it; the session's end deletes the cloud."""
    folder = baking(tmp_path_factory.getbasetemp())
    folder.mkdir(exist_ok=True)
    state = {"XDG_STATE_HOME": str(folder / "state")}
    with locked(folder / "lock"):
        said = folder / "said"
        if not said.exists():
            root = copy_project(folder / "shop")
            answered = doit(root, "image", **state)
            assert answered.returncode == 0, answered.stdout + answered.stderr
            assert doit(root, "cloud", "stop", **state).returncode == 0
            said.write_text(answered.stdout)
        ami, fingerprint = re.findall(r"^image +done +(\S+) of fingerprint (\w+)", said.read_text(), re.M)[0]
    reference = Containers(home.of(state).load().id).image(ami)
    return Baked(reference=reference, fingerprint=fingerprint, lock=folder / "lock")


@pytest.fixture(scope="session")
def site(project: Path, baked: Baked) -> Site:
    """The testing environment of branch main, released once, on a machine of the baked image."""
    baked.give(project)
    settings = project / "environments" / "testing.yml"
    settings.write_text(f"{settings.read_text()}stores:\n  de: {{code: de}}\n")
    commit(project, "a store with a host name of its own")
    made = Site(root=project, variables={})
    answered = made.doit("release")
    assert answered.returncode == 0, answered.stdout + answered.stderr
    return made


def copy_example(root: Path, profile: str) -> Path:
    """A copy of this repository, named as its folder, that releases the example of another profile. Not committed yet."""
    copy_project(root)
    shutil.rmtree(root / "app")
    shutil.copytree(ROOT / "tests" / "examples" / profile, root / "app")
    replace(
        root / "pipeline.yml",
        {
            "name: shop": f"name: {root.name}",
            "dns_zone: shop.localhost": f"dns_zone: {root.name}.localhost",
            EXAMPLE: f"profile: {profile}",
        },
    )
    return root


@pytest.fixture(scope="session")
def pages(tmp_path_factory, project) -> Iterator[Site]:
    """A site of pages on two machines. `project` deletes the cloud of both."""
    root = copy_example(tmp_path_factory.mktemp("project") / "pages", "static")
    service = "  connects: [{to: nginx.check, each: true}]\n"
    replace(
        root / "applications" / "static" / "profile.yml",
        {"    self_shutdown:\n": f"    self_shutdown:\n{service}"},
    )
    replace(
        root / "environments" / "testing.yml",
        {"instances: 1\n": "instances: 2\n"},
    )
    commit(root, "a site of pages")
    made = Site(root=root, variables={})
    yield made
    assert made.doit("teardown").returncode == 0


def replace(path: Path, words: Mapping[str, str]) -> None:
    """Replace words of a file, each of which it has once."""
    text = path.read_text()
    for before, after in words.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    path.write_text(text)


@pytest.fixture(scope="session")
def host(site: Site) -> Host:
    """A machine on which everything is installed."""
    return site.host
