"""An image of a throw-away host, and environments that start from it and share nothing but packages."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from tasks import image
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tests.clouds import secrets_of
from tests.conftest import DOIT, until
from tests.end_to_end.conftest import Site, forget_images

pytestmark = pytest.mark.end_to_end

IDENTITY = "cat /etc/machine-id /etc/varnish/secret /etc/ssh/ssh_host_ed25519_key.pub"
LEFT = "grep -rl --exclude-dir=journal -e {} /etc /home /root /srv /var/lib/cloud /var/log; true"
"""Without the journal, in which sudo notes what this very command looks for."""


@pytest.fixture
def own(project) -> Site:
    """The testing environment of a branch that nobody has released."""
    return Site(root=project, variables={"branch": "own"})


def host_left(run):
    """What there is of the throw-away host."""
    return find.everything(image._builder(run))


@pytest.fixture
def unbaked(project):
    """A changed role, from which nothing has been baked yet."""
    role = project / "roles" / "redis" / "tasks" / "main.yml"
    before = role.read_text()
    role.write_text(before + "# a change\n")
    yield
    role.write_text(before)


@pytest.mark.long(short="tests/test_image.py::test_a_bake_killed_after_any_call_is_cleaned_up_by_the_next")
@pytest.mark.usefixtures("unbaked")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_bake_that_is_ended_leaves_no_image_and_no_host_for_long(own, number):
    child = subprocess.Popen(
        [DOIT, "branch=own", "image"],
        cwd=own.root,
        env={**os.environ, "PYTHONPATH": str(own.root)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    for line in child.stdout:
        if "packages: " in line:  # Ansible is at work
            break
    child.send_signal(number)
    child.communicate(timeout=30)
    assert child.returncode == {signal.SIGINT: 130, signal.SIGKILL: -signal.SIGKILL}[number]
    assert image.fitting(own.run, image.fingerprint(own.run)) == []
    if number == signal.SIGKILL:
        assert host_left(own.run).machines
        image._end(image._builder(own.run))  # what the next bake begins with
    until(lambda: host_left(own.run) == Existing())


@pytest.mark.promise("nothing-slow-is-imported")
def test_a_release_with_nothing_to_do_loads_neither_ansible_nor_keys(site):
    site.stages("release")
    words = [sys.executable, "-X", "importtime", str(DOIT), "release"]
    done = subprocess.run(
        words, cwd=site.root, env={**os.environ, "PYTHONPATH": str(site.root)}, capture_output=True, text=True
    )
    loaded = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if "import time:" in line}
    assert "boto3" in loaded
    assert not loaded & {
        "ansible",
        "ansible_runner",
        "cryptography",
        "zstandard.backend_cffi",
        "moto",
        "rich",
    }


@pytest.mark.long(
    short="tests/cloud/embedded/test_instances.py::test_an_image_of_a_host_boots_as_another_host"
)
@pytest.mark.promise("nothing-of-an-environment-is-in-an-image")
def test_environments_of_an_image_have_their_own_keys_ids_and_secrets(project, site, tmp_path):
    forget_images(site.run)
    assert site.stages("image")["image"] == "done"
    assert site.stages("image")["image"] == "unchanged"
    assert host_left(site.run) == Existing()
    seen = {}
    for name in ("one", "two"):
        branch = Site(root=project, variables={"branch": name})
        answered = branch.doit("release")
        assert answered.returncode == 0, answered.stderr
        assert "starts from the baked image ami-" in answered.stdout
        assert branch.get()[0] == 200
        (tmp_path / name).mkdir()
        seen[name] = branch.ssh(IDENTITY, tmp=tmp_path / name).split()
        assert branch.ssh("systemctl --failed --no-legend", tmp=tmp_path / name).strip() == ""
        units = branch.ssh("journalctl --field=UNIT", tmp=tmp_path / name).split()
        assert "ssh.service" in units
        assert not [each for each in units if each.endswith("-fpm.service") or each == "varnishncsa.service"]
    (tmp_path / "site").mkdir()
    seen["site"] = site.ssh(IDENTITY, tmp=tmp_path / "site").split()
    everything = [word for words in seen.values() for word in words if len(word) > 20 and "@" not in word]
    assert len(everything) == len(set(everything)) == 9
    one, two = (Site(root=project, variables={"branch": name}) for name in ("one", "two"))
    hidden = secrets_of(one.run)
    (tmp_path / "leak").mkdir()
    admitted = two.ssh("cat /home/*/.ssh/authorized_keys", tmp=tmp_path / "leak").splitlines()
    assert [line.split()[1] for line in admitted] == [secrets_of(two.run).deploy_key_public.split()[1]]
    assert two.ssh("ls /var/log/journal", tmp=tmp_path / "leak").split() == seen["two"][:1], "its own alone"
    for word in (hidden.database_password, hidden.crypt_key, one.run.identity, site.run.identity):
        assert two.ssh(LEFT.format(word), tmp=tmp_path / "leak").strip() == ""
    assert infrastructure.differences(site.run) == []  # nobody replaces what runs
    for each in (one, two):
        assert each.doit("teardown").returncode == 0


@pytest.mark.long(
    short="tests/test_image.py::test_without_a_baked_image_it_starts_from_the_image_of_the_settings_and_says_so"
)
def test_a_changed_role_starts_from_the_image_of_the_settings(project, site, unbaked):
    other = Site(root=project, variables={"branch": "other-role"})
    answered = other.doit("infrastructure")
    assert "starts from debian-12: no baked image of" in answered.stdout
    assert other.doit("teardown").returncode == 0
