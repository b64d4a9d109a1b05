"""What goes wrong in a release, each under visitors: what they see, and a plain `doit release` afterwards puts all right."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tasks.cloud.embedded import home
from tasks.cloud.embedded.containers import Containers, podman
from tasks.hosts import ssh as shell
from tasks.hosts.phased import PhaseFailed
from tasks.infrastructure import stage as infrastructure
from tests.conftest import commit, until
from tests.end_to_end.crowd import CLOSED
from tests.end_to_end.test_rollback import (  # noqa: F401  (fixtures)
    BROKEN,
    DUE,
    SICKENS,
    WELL,
    _released,
    current,
    go_live,
    migration,
)
from tests.end_to_end.test_visitors import change

pytestmark = [
    pytest.mark.end_to_end,
    pytest.mark.xdist_group("ledger"),
    pytest.mark.long(
        short="tests/release/test_phases.py::test_killed_in_any_step_the_next_release_converges"
    ),
]

RATES = {"page": 10, "asset": 10, "search": 2}
LIST = "app/app/code/Shop/Catalog/view/frontend/templates/list.phtml"
BREAKS = {
    "the front page answers 500 and health 200": "<?php throw new RuntimeException('broken'); ?>\n",
    "a page names a file that is missing": '<link rel="stylesheet" href="/media/missing.css">\n',
}
SMALL = """
mkdir -p /srv/small
mount -t tmpfs -o size=256m,nr_inodes=30000,mode=755 tmpfs /srv/small
cp -a /srv/shop/. /srv/small
mount --bind /srv/small /srv/shop
systemctl restart "php@*"
"""
"""The application's folder is on a disk of its own, which a test may fill without any harm for others."""
AS_BEFORE = """
rm -rf /srv/shop/ballast
mkdir -p /srv/host && mount --bind / /srv/host
find /srv/host/srv/shop -mindepth 1 -delete
cp -a /srv/shop/. /srv/host/srv/shop
umount /srv/host && umount --lazy /srv/shop && umount --lazy /srv/small
systemctl restart "php@*"
"""
FILL = """
import os
disk, need = os.statvfs("/srv/shop"), [0, 0]
for folder, folders, files in os.walk("/srv/shop/current/"):
    sizes = [os.lstat(os.path.join(folder, each)).st_size for each in folders + files]
    need[0] += sum(-(-each // disk.f_frsize) * disk.f_frsize for each in sizes)
    need[1] += len(sizes)
os.mkdir("/srv/shop/ballast")
if {inodes}:
    for number in range(disk.f_favail - disk.f_files // 10 - need[1] // 2):
        os.mknod(f"/srv/shop/ballast/{{number}}")
else:
    room = disk.f_bavail * disk.f_frsize - disk.f_blocks * disk.f_frsize // 10 - need[0] // 2
    os.posix_fallocate(os.open("/srv/shop/ballast/file", os.O_CREAT | os.O_WRONLY), 0, room)
"""
"""There is room for half of a release, beside what is to stay free."""
MOMENTS = (1.6, 2.2, 2.8, 3.4, 4.0)
"""Seconds after a release was begun: its phases are behind the first two."""


@pytest.fixture
def crowd(site):
    """Visitors of the shop."""
    return site.crowd()


def well(site) -> None:
    """A plain release puts all right, and the next has nothing to do."""
    site.stages("release")
    assert set(site.stages("release").values()) == {"unchanged"}
    until(lambda: site.get()[0] == 200)
    assert site.get("/health_check.php")[0] == 200


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ({"release_sha256": "0" * 64}, "digest should be 0000"),
        ({"commands": {"health_path": "/nowhere.html"}}, "answers 404"),
        ({"commands": SICKENS}, "went back to"),
    ],
    ids=["digest", "check", "verify"],
)
def test_what_a_release_refuses_itself_loses_no_visitor(site, crowd, go_live, tmp_path, what, said):  # noqa: F811
    site.ssh(WELL, tmp=tmp_path)
    with crowd.visiting(**RATES):
        with pytest.raises(PhaseFailed, match=said):
            go_live("faulty", **what)
        well(site)
    assert crowd.failures() == []
    assert not [each for each in crowd.visits if each.says == CLOSED]


def test_a_signature_of_nobody_loses_no_visitor(site, crowd, go_live, tmp_path):  # noqa: F811
    keys = "/srv/shop/release_keys.json"
    with crowd.visiting(**RATES):
        site.ssh(f"sed -i s/optional/required/ {keys}", tmp=tmp_path)
        with pytest.raises(PhaseFailed, match="takes signed ones only"):
            go_live("unsigned", release_signature="")
        assert site.doit("forget", "server").returncode == 0  # its ledger is asked at the next change
        well(site)
    assert "optional" in site.ssh(f"cat {keys}", tmp=tmp_path)
    assert crowd.failures() == []


@pytest.mark.parametrize("name", BREAKS)
def test_a_page_that_is_broken_never_goes_live(site, crowd, name):
    page = site.root / LIST
    before = page.read_text()
    with crowd.visiting(**RATES):
        page.write_text(before + BREAKS[name])
        commit(site.root, name)
        refused = site.doit("release")
        assert refused.returncode == 1, refused.stdout
        assert "runs as before" in refused.stderr
        page.write_text(before)
        commit(site.root, "mended")
        well(site)
    assert crowd.failures() == []


def test_a_migration_that_fails_half_way_closes_the_shop_until_a_release(site, crowd, go_live):  # noqa: F811
    with crowd.visiting(**RATES):
        with pytest.raises(PhaseFailed, match="the table is locked; a migration was begun"):
            go_live("breaks", commands=migration(due=DUE, run=BROKEN))
        until(lambda: site.get(f"/catalogsearch/result/?q={next(crowd.words)}")[0] == 503)
        assert site.doit("forget", "release").returncode == 0  # which knows of no other program's plan
        well(site)
    assert crowd.failures() == []
    assert {each.kind for each in crowd.visits if each.says == CLOSED} >= {"search"}


def test_a_database_that_stands_is_started_before_a_release(site, crowd, tmp_path):
    site.ssh("systemctl stop mariadb", tmp=tmp_path)
    change(site, int(time.time()))
    assert site.stages("release")["server"] == "done"
    with crowd.visiting(**RATES):
        well(site)
    assert crowd.failures() == []


@pytest.fixture
def small(site):
    """A host whose application has little room; at the end it has what it had, and what was released meanwhile."""
    machine = Containers(home.of(os.environ).load().id).name(infrastructure.existing(site.run)[0].id)

    def on_host(script):
        podman("exec", "--privileged", machine, "sh", "-ec", script)  # a host itself may not mount

    on_host(SMALL)
    until(lambda: site.get("/health_check.php")[0] == 200)
    yield
    on_host(AS_BEFORE)
    until(lambda: site.get("/health_check.php")[0] == 200)


@pytest.mark.parametrize(("inodes", "said"), [(False, "MB are kept free"), (True, "inodes left")])
@pytest.mark.usefixtures("small")
def test_a_disk_that_fills_while_a_release_is_unpacked_stops_nothing_that_sells(
    site, crowd, tmp_path, inodes, said
):
    change(site, int(time.time()))
    with crowd.visiting(**RATES):
        shell.python(site.host, "release", FILL.format(inodes=inodes))
        refused = site.doit("release")
        assert refused.returncode == 1, refused.stdout
        assert "Unpack the release: " in refused.stderr
        assert said in refused.stderr
        left = site.ssh("find /srv/shop -maxdepth 2 -name downloads -o -name \\*.partial", tmp=tmp_path)
        assert left == ""
        site.ssh("rm -r /srv/shop/ballast", tmp=tmp_path)
        well(site)
    assert crowd.failures() == []
    assert not [each for each in crowd.visits if each.says == CLOSED]


def kill(site, child) -> None:
    """The controller dies at once."""
    child.kill()


def cut(site, child) -> None:
    """Its connections to the host break."""
    for each in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            named, _, more = each.read_text().rpartition(")")
            pid, _, name = named.partition(" (")
            if name == "ssh" and more.split()[1] == str(child.pid):
                os.kill(int(pid), signal.SIGKILL)


def reboot(site, child) -> None:
    """The host reboots."""
    run = site.run
    machines = [each.id for each in infrastructure.existing(run)]
    run.cloud.client("ec2").reboot_instances(InstanceIds=machines)


@pytest.mark.parametrize("after", MOMENTS)
@pytest.mark.parametrize("strike", [kill, cut, reboot])
def test_whatever_stops_a_release_at_whatever_moment_the_next_goes_on(site, crowd, strike, after):
    change(site, int(time.time()))
    with crowd.visiting(**RATES):
        child = site.begin("release", stdout=subprocess.DEVNULL)
        time.sleep(after)
        strike(site, child)
        child.wait(timeout=120)
        if strike is reboot:
            time.sleep(1)
            until(lambda: answers(site))
        well(site)
    if strike is not reboot:  # then nobody answers for a while
        assert crowd.failures() == []


def answers(site) -> bool:
    """Whether the shop is there again."""
    with contextlib.suppress(OSError, http.client.HTTPException):
        return site.get("/health_check.php")[0] == 200
    return False
