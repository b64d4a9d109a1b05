"""A machine is known by its key, and we by ours."""

from __future__ import annotations

import dataclasses
import io
import subprocess
import tempfile

import pytest

from tasks.console.console import Console
from tasks.hosts.ansible import play
from tasks.hosts.ssh import HostKeyChanged, LoginRefused
from tests.conftest import commit

pytestmark = pytest.mark.end_to_end


def another_key(folder):
    subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-f", folder / "key"], check=True)
    return (folder / "key").read_text(), (folder / "key.pub").read_text()


def attempt(host, strategy):
    enough = {"base_timezone": "UTC", "php_version": "8.2", "php_extensions": []}
    play(
        "server", hosts=[host], variables=enough, strategy=strategy, console=Console(io.StringIO()), log=None
    )


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
def test_a_changed_host_key_is_refused(host, strategy, tmp_path):
    _, public = another_key(tmp_path)
    with pytest.raises(HostKeyChanged, match=host.name):
        attempt(dataclasses.replace(host, host_keys=(public,)), strategy)


@pytest.mark.parametrize("strategy", ["mitogen_linear", "linear"])
def test_a_refused_login_is_told_from_a_dead_host(host, strategy, tmp_path):
    private, _ = another_key(tmp_path)
    with pytest.raises(LoginRefused, match=host.user):
        attempt(dataclasses.replace(host, key=private), strategy)


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
