"""Provisioning under visitors, who notice nothing; and provisioning that is cut off: it says why, and the next one converges."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator

import pytest

from tasks.cloud.embedded import home
from tasks.cloud.embedded.containers import Containers, podman
from tasks.infrastructure import stage as infrastructure
from tests.conftest import until
from tests.end_to_end.crowd import CLOSED
from tests.end_to_end.test_faults_of_a_release import answers, reboot

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("end_to_end"),
    pytest.mark.long(
        short="tests/end_to_end/test_release.py::test_provisioning_again_changes_nothing_and_no_secret_is_in_a_process_list"
    ),
]

RATES = {"page": 20, "asset": 20, "cart": 2, "search": 2}
MISSING = "needrestart"
"""A package that provisioning installs, and without which a host serves."""
CUT = "add table inet cut; add chain inet cut ways { type filter hook input priority -300; policy drop; }"
NO_MIRROR = """add table inet cut; add chain inet cut ways { type filter hook output priority -300; };
add rule inet cut ways meta skuid proxy oifname != lo ip daddr != 127.0.0.0/8 counter reject"""
HOLDS = "import fcntl, time; held = open('/var/lib/dpkg/lock-frontend', 'w'); fcntl.lockf(held, fcntl.LOCK_EX); time.sleep(600)"
"""As somebody's own `apt-get` that waits for an answer."""
SHORT, PATIENT = 20, 300
"""Seconds that a fault lasts, and that provisioning with all that it waits for has."""


def on_host(site, *command: str) -> str:
    """Run a command on the machine, whatever its network does."""
    machine = Containers(home.of(os.environ).load().id).name(infrastructure.existing(site.run)[0].id)
    return podman("exec", "--privileged", machine, *command)


@contextlib.contextmanager
def cut(site, rules: str) -> Iterator[None]:
    """Rules before those of the firewall, as long as the block lasts."""
    on_host(site, "nft", rules)
    try:
        yield
    finally:
        on_host(site, "nft", "delete table inet cut")


@contextlib.contextmanager
def network_gone(site) -> Iterator[None]:
    """Nothing reaches the host."""
    with cut(site, CUT):
        yield


@contextlib.contextmanager
def mirror_gone(site) -> Iterator[None]:
    """The proxy, through which packages come, reaches nobody."""
    with cut(site, NO_MIRROR):
        yield


@contextlib.contextmanager
def lock_held(site) -> Iterator[None]:
    """Somebody else installs something."""
    on_host(site, "systemd-run", "--quiet", "--unit=holds-the-lock", "python3", "-c", HOLDS)
    try:
        yield
    finally:
        on_host(site, "systemctl", "stop", "holds-the-lock")


def lack(site) -> None:
    """A host on which provisioning has something to install."""
    on_host(site, "apt-get", "-y", "-q", "purge", MISSING)
    assert site.doit("forget", "server").returncode == 0


def begun(site) -> subprocess.Popen[str]:
    """Provisioning that has come as far as the packages, as its log says: the terminal shows one task a second."""
    before = {*site.run.logs.glob("*/server.log")}
    child = site.begin("server", stderr=subprocess.PIPE)

    def installs() -> bool:
        logs = {*site.run.logs.glob("*/server.log")} - before
        return any("Install the packages of all roles" in each.read_text() for each in logs)

    until(lambda: installs() or child.poll() is not None, 120)
    assert child.poll() is None, "it ended before anything could happen to it"
    return child


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """How it ended, and what it complained of."""
    _, said = child.communicate(timeout=PATIENT)
    assert "Traceback" not in said, said
    return child.returncode, said


def converges(site) -> None:
    """The next run puts all right, the one after it has nothing to do, and the shop is there."""
    site.stages("release")
    assert set(site.stages("release").values()) == {"unchanged"}
    assert "install ok installed" in on_host(site, "dpkg-query", "-W", "-f", "${Status}", MISSING)
    assert answers(site)


def test_provisioning_in_full_loses_no_visitor(site):
    crowd = site.crowd()
    assert site.doit("forget", "server").returncode == 0
    with crowd.visiting(**RATES):
        time.sleep(2)
        begins = time.monotonic()
        answered = site.doit("server")
        ends = time.monotonic()
        time.sleep(2)
    assert answered.returncode == 0, answered.stderr
    assert " 0 changed" in answered.stdout
    assert crowd.failures() == []
    assert not [each for each in crowd.visits if each.says == CLOSED]
    assert len(crowd.during(begins, ends)) >= 300


@pytest.mark.parametrize("fault", [network_gone, lock_held])
def test_what_ends_within_20_seconds_is_waited_for(site, fault):
    lack(site)
    child = begun(site)
    with fault(site):
        time.sleep(SHORT)
    code, said = ended(child)
    assert code == 0, said
    converges(site)


@pytest.mark.parametrize(("fault", "words"), [(lock_held, "lock"), (mirror_gone, "apt cache")])
def test_what_stays_is_told_in_a_sentence(site, fault, words):
    lack(site)
    with fault(site):
        code, said = ended(begun(site))
    assert code == 1, said
    assert words in said
    assert "doit " in said.strip().splitlines()[-1], said
    converges(site)


def test_a_reboot_in_the_middle_is_told_in_a_sentence(site):
    lack(site)
    child = begun(site)
    reboot(site, child)
    code, said = ended(child)
    assert code == 1, said
    assert "server" in said.splitlines()[0]
    until(lambda: answers(site))
    converges(site)
