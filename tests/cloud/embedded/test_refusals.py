"""What keeps the embedded cloud from starting, and the refusal of each."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import stat
import subprocess
import sys

import pytest
from botocore.exceptions import ClientError

from tasks.cloud import connect
from tasks.cloud.aws import CredentialsMissing
from tasks.cloud.embedded import containers, home, lifecycle
from tasks.cloud.embedded.containers import Containers, PodmanMissing, PodmanRefused, podman
from tasks.cloud.embedded.home import CloudIdentity, Home
from tasks.cloud.embedded.lifecycle import PortTaken, ServerFailed, SitesPortTaken
from tasks.full_disk import DiskFull
from tests.cloud.embedded.conftest import Server
from tests.conftest import ROOT


@pytest.fixture
def place(tmp_path) -> Home:
    made = home.of({"XDG_STATE_HOME": str(tmp_path)})
    made.make()
    return made


def existing(place: Home, **values) -> dict[str, str]:
    """The environment of a cloud that exists; its network does not matter before the server starts."""
    identity = CloudIdentity(id="test", subnet="10.250.251.0/24", gateway="10.250.251.1")
    place.change(identity, **values)
    return {**os.environ, "XDG_STATE_HOME": str(place.folder.parents[1])}


def program(folder, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def test_no_podman(tmp_path, monkeypatch, quiet):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PodmanMissing, match="apt-get install podman"):
        lifecycle.start(quiet, {"XDG_STATE_HOME": str(tmp_path)})


def test_a_podman_that_refuses(tmp_path, monkeypatch, quiet):
    program(tmp_path, "podman", "echo 'Error: cgroups: no such thing' >&2; exit 125")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PodmanRefused, match="podman version: cgroups: no such thing"):
        lifecycle.start(quiet, {"XDG_STATE_HOME": str(tmp_path)})


def test_a_container_that_may_make_no_networks(tmp_path):
    start = "from tasks.cloud.embedded import lifecycle; lifecycle.start(print, {'XDG_STATE_HOME': '.'})"
    command = ["setpriv", "--bounding-set=-net_admin", sys.executable, "-c", start]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert (
        "cloud: this container may make no networks for hosts: it lacks the capability NET_ADMIN"
        in done.stderr
    )


@pytest.mark.parametrize("arguments", [("run", "x"), ("--runtime", "runc", "run", "x")])
def test_what_podman_refuses_is_named(tmp_path, monkeypatch, arguments):
    program(tmp_path, "podman", "echo 'Error: no such image' >&2; exit 125")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PodmanRefused, match="cloud: podman run: no such image"):
        podman(*arguments)


PAUSED = """
case "$1" in
    commit) echo image >> {asked}; test $(grep -c . {asked}) -gt {refused} || {{ echo 'Error: {problem}' >&2; exit 125; }};;
esac
"""
OUTRUN = 'pausing container "1a2b" to commit: `/usr/bin/runc pause 1a2b` failed: exit status 1'


@pytest.mark.parametrize(
    ("problem", "refused", "tries", "said"),
    [
        (OUTRUN, 0, 2, ""),
        (OUTRUN, 2, 4, ""),
        (OUTRUN, 99, 3, "cloud: podman commit: pausing container"),
        ("no space left on device", 2, 1, "cloud: podman commit: no space left on device"),
    ],
)
def test_a_host_that_outruns_its_freeze_is_asked_again(tmp_path, monkeypatch, problem, refused, tries, said):
    """At its end, one image more is made: of what is cleaned."""
    monkeypatch.setattr(containers, "FREEZES", 3)
    monkeypatch.setattr(containers, "BETWEEN_FREEZES", 0)
    asked = tmp_path / "asked"
    program(tmp_path, "podman", PAUSED.format(asked=asked, refused=refused, problem=problem))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(PodmanRefused, match=said) if said else contextlib.nullcontext():
        Containers("test").commit("i-1", "ami-1")
    assert asked.read_text().count("image") == tries


@pytest.fixture
def taken():
    """A port that another program has."""
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        yield other.getsockname()[1]


def test_the_port_of_the_api_that_another_program_has(place, quiet, taken):
    with pytest.raises(PortTaken, match=f"port {taken} \\(the API\\) is in use"):
        lifecycle.start(quiet, existing(place, port=taken))


def test_a_port_of_sites_that_another_program_has_by_now_gives_way_to_another_one(place, quiet, taken):
    environ = existing(place, forward_port=taken)
    with pytest.raises(SitesPortTaken, match=f"port {taken} \\(sites by name\\) is in use") as refused:
        lifecycle.start(quiet, environ)
    other = re.search(r"CLOUD_PORT=(\d+) doit cloud start", str(refused.value))[1]
    place.state.write_text("this is no database" * 100)  # so that no server stays
    with pytest.raises(ServerFailed):
        lifecycle.start(quiet, {**environ, "CLOUD_PORT": other})
    assert place.load().forward_port == int(other)


def test_a_server_that_cannot_start_shows_its_last_lines(place, quiet):
    environ = existing(place)
    place.state.write_text("this is no database" * 100)
    with pytest.raises(ServerFailed, match="file is not a database"):
        lifecycle.start(quiet, environ)
    assert not place.running()


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("this machine does not allow mounts")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_refuses_the_upload_and_loses_nothing(small_disk):
    server = Server(Home(folder=small_disk / "cloud"))
    s3 = server.start().client("s3")
    try:
        where = {"LocationConstraint": "eu-central-1"}
        s3.create_bucket(Bucket="bucket", CreateBucketConfiguration=where)
        s3.put_object(Bucket="bucket", Key="k", Body=b"x")
        with pytest.raises(ClientError, match="no space left at") as caught:
            s3.put_object(Bucket="bucket", Key="large", Body=b"x" * (9 << 20))
        assert caught.value.response["Error"]["Code"] == "DiskFull"
        server.kill()
        s3 = server.start().client("s3")
        assert [each["Key"] for each in s3.list_objects_v2(Bucket="bucket")["Contents"]] == ["k"]
        s3.put_object(Bucket="bucket", Key="small", Body=b"y" * (1 << 20))
    finally:
        server.kill()


def test_a_full_disk_at_the_first_start_of_a_cloud(small_disk, tmp_path, monkeypatch, quiet):
    program(tmp_path, "podman", f'echo "$@" >> {tmp_path}/asked')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with contextlib.suppress(OSError), (small_disk / "large").open("wb") as file:
        file.write(b"x" * (9 << 20))
    with pytest.raises(DiskFull, match="no space left at"):
        lifecycle.start(quiet, {**os.environ, "XDG_STATE_HOME": str(small_disk)})
    asked = (tmp_path / "asked").read_text()
    made = asked.partition("network create ")[2].splitlines()[0].split()[-1]
    assert f"network rm --force {made}\n" in asked


def test_no_credentials_for_aws(tmp_path, monkeypatch, quiet):
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    aws = connect.to("aws", "eu-central-1", quiet)
    for https, scheme, port in ((False, "http", 80), (True, "https", 443)):
        assert aws.url("www.example.org", https=https) == f"{scheme}://www.example.org/"
        assert aws.http_address("www.example.org", https=https) == ("www.example.org", port)
    with pytest.raises(CredentialsMissing, match="no credentials for AWS"):
        aws.client("s3")
