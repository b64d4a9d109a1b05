"""A machine is known by its key, and we by ours."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
import tempfile
import threading
import time

import pytest

from tasks.console.console import Console
from tasks.hosts import ssh
from tasks.hosts.ansible import play
from tasks.hosts.ssh import HostKeyChanged, LoginRefused
from tests.conftest import commit

pytestmark = pytest.mark.end_to_end


def another_key(folder):
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    return (folder / "key").read_text(), (folder / "key.pub").read_text()


def attempt(host, strategy):
    enough = {
        "base_timezone": "UTC",
        "php_version": "8.2",
        "php_extensions": [],
        "server_facts": False,
    }
    play(
        "server", hosts=[host], variables=enough, strategy=strategy, console=Console(io.StringIO()), log=None
    )


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
@pytest.mark.promise("host-keys-are-pinned")
def test_a_changed_host_key_is_refused(host, strategy, tmp_path):
    _, public = another_key(tmp_path)
    with pytest.raises(HostKeyChanged, match=host.name):
        attempt(dataclasses.replace(host, host_keys=(public,)), strategy)


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
def test_a_refused_login_is_told_from_a_dead_host(host, strategy, tmp_path):
    private, _ = another_key(tmp_path)
    with pytest.raises(LoginRefused, match=host.user):
        attempt(dataclasses.replace(host, key=private), strategy)


@pytest.mark.long(
    short="tests/hosts/test_ansible.py::test_the_caller_s_environment_does_not_decide_what_a_play_does"
)
def test_neither_the_caller_s_variables_nor_its_temporary_folder_decide_what_a_release_does(site):
    strange = {
        "ANSIBLE_RUN_TAGS": "foo",
        "ANSIBLE_SKIP_TAGS": "all",
        "GIT_DIR": "/nowhere",
        "SSH_AUTH_SOCK": "/nowhere",
    }
    (site.root / "app" / "pub" / "strange.txt").write_text("new")
    commit(site.root)
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="a b%h") as folder:
        told = site.doit("ssh", "true", TMPDIR=folder, **strange)
        assert told.returncode == 0, told.stderr
        released = site.doit("release", TMPDIR=folder, **strange)
        assert released.returncode == 0, released.stdout + released.stderr
    assert site.get("/strange.txt") == (200, "new")
    assert site.doit("release").stdout.count("unchanged") >= 4


@pytest.mark.long(
    short="tests/hosts/test_ansible.py::test_an_interruption_ends_a_play"
)  # it waits for the signs of life that do not come
def test_a_host_that_falls_silent_ends_what_waits_for_it(site):
    """As by a full disk, a lost route or a hung kernel: the connection stands, and nothing answers."""
    host, silent = site.host, ssh.ALIVE_EVERY * (ssh.ALIVE_MISSED + 1)
    listed = ["podman", "ps", "--filter", f"name={host.name}", "--format", "{{.Names}}"]
    (container,) = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    pause = threading.Timer(3, lambda: subprocess.run(["podman", "pause", container], check=True))
    pause.start()
    begun = time.monotonic()
    try:
        with pytest.raises(ssh.HostUnreachable):
            ssh.python(host, "server", "import time; time.sleep(600)")
        assert time.monotonic() - begun < silent + 30
    finally:
        pause.join()
        subprocess.run(["podman", "unpause", container], check=True)
    assert ssh.python(host, "server", "print(1)") == "1"


RELAY = """
import socket, sys, threading

def copy(read, write, end):
    while block := read(65536):
        write(block)
    end()

there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
out, write = sys.stdout.buffer.raw, there.sendall
threading.Thread(target=copy, args=(sys.stdin.buffer.raw.read, write, lambda: there.shutdown(1)), daemon=True).start()
copy(there.recv, out.write, lambda: None)
"""
"""What a jump host does: it passes on what comes."""


@pytest.mark.promise("ssh-through")
def test_a_host_is_known_and_logged_in_to_through_a_relay(host, tmp_path):
    (tmp_path / "relay.py").write_text(RELAY)
    proxy = f"python3 {tmp_path / 'relay.py'} %h %p"
    found = ssh.offered(host.address, proxy=proxy)
    assert found
    assert set(found) == set(ssh.offered(host.address))
    nowhere = dataclasses.replace(host, proxy=proxy)
    assert ssh.python(nowhere, "server", "print(40 + 2)").strip() == "42"


LOGINS = """
import subprocess
subprocess.run(["journalctl", "--sync"], check=True)
said = ["journalctl", "--unit=ssh", "--output=cat", "--grep=^Accepted publickey"]
print(subprocess.run(said, capture_output=True, text=True).stdout.count("\\n"))
"""


@pytest.mark.promise("a-release-logs-in-once")
def test_what_shares_a_connection_logs_in_once_and_goes_on_where_that_breaks(host):
    def logins(of):
        return int(ssh.python(of, "server", LOGINS))

    before = logins(host)
    with ssh.connected([host]) as (near,):
        assert [logins(near), logins(near)] == [before + 1] * 2
        assert logins(host) == before + 2
        near.connection.master.kill()
        near.connection.master.wait()
        assert logins(near) == before + 3
    with ssh.connected([host]) as (near,):
        assert logins(near) == before + 4
    assert near.connection.master.poll() is not None
    assert not near.connection.socket.parent.exists()


@pytest.mark.promise("ssh-is-hardened")
def test_ssh_offers_nothing_that_an_audit_has_something_against(host):
    audited = subprocess.run(
        ["ssh-audit", "--json", "--skip-rate-test", host.address], capture_output=True, text=True
    )
    said = json.loads(audited.stdout)
    offered = [each for kind in ("kex", "key", "enc", "mac") for each in said[kind]]
    against = [each["algorithm"] for each in offered if each["notes"].keys() & {"fail", "warn"}]
    assert against == []
    assert len(offered) > 6
