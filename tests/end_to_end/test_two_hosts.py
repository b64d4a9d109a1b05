"""An environment of two machines: a release is live on both, or on none."""

from __future__ import annotations

import contextlib
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from tasks.hosts import ssh
from tasks.release import history
from tests.conftest import until
from tests.end_to_end.test_network import tried

pytestmark = [pytest.mark.end_to_end, pytest.mark.xdist_group("pages")]

SEEN = """
import pathlib, urllib.request
print(pathlib.Path("/srv/pages/current/.complete").read_text())
asked = urllib.request.Request("http://127.0.0.1/about", headers={"Host": HOST, "X-Forwarded-Proto": "https"})
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""
"""Prints the digest of the release that a host runs, and the page that it shows."""
UNIT = """
import pathlib, subprocess
pathlib.Path("/etc/systemd/system/work.service").write_text('''[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/test ! -e /var/tmp/restart-fails
''')
subprocess.run(["systemctl", "daemon-reload"], check=True)
pathlib.Path("/var/tmp/data").mkdir()
pathlib.Path("/var/tmp/data").chmod(0o777)  # the application's user migrates it
"""
HANGS = """
import pathlib, time
while not pathlib.Path("/var/tmp/data/hangs").exists():
    time.sleep(0.1)
"""
"""Ends when a release has come to where it hangs."""
RELEASE = """
release:
  health_path: /
  writable: [public]
  migration:
    due: [sh, -c, "test ! -e /var/tmp/due-hangs || { touch /var/tmp/data/hangs; sleep 60; }; test ! -e /var/tmp/due-fails || exit 9; chmod 644 public/index.html; test ! -e /var/tmp/data/due || exit 2"]
    due_exit: 2
    run: [sh, -c, "test ! -e /var/tmp/migration-fails && rm -f /var/tmp/data/due"]
  maintenance:
    active_file: public/maintenance
    "on": [touch, public/maintenance]
    "off": [rm, public/maintenance]
  after_switch:
    - [test, "!", -e, /var/tmp/switch-fails]
    - [sh, -c, "test ! -e /var/tmp/check-fails || chmod 0 public/index.html"]
  restart: [work.service]
"""
"""Commands that fail on the machine where somebody has put a file for it."""


@pytest.fixture(scope="module")
def pair(pages):
    """The site on two machines, with commands that can be made to fail on one of them."""
    profile = pages.root / "applications" / "static" / "profile.yml"
    before = profile.read_text()
    profile.write_text(before.replace("\nrelease:\n  pages: [/]\n", RELEASE))
    pages.stages("server")
    for host in pages.hosts:
        ssh.python(host, "release", UNIT)
    pages.stages("release")
    yield pages
    profile.write_text(before)


def seen(site) -> list[tuple[str, str]]:
    """The release that each machine runs, and the page that it shows."""
    program = SEEN.replace("HOST", repr(site.run.host_name))
    return [tuple(ssh.python(each, "release", program).split("\n", 1)) for each in site.hosts]


def recorded(site) -> str:
    """The digest of the release that the environment's history ends with."""
    return history.read(site.run.store, site.run.identity)[-1].digest


def change(site) -> None:
    """Another page to release."""
    (site.root / "app" / "pages" / "about.html").write_text(f"<h1>About {time.monotonic_ns()}</h1>\n")


@contextlib.contextmanager
def broken(host, path):
    """A file on one machine, which makes a part of the release fail there."""
    ssh.python(host, "release", f"open({path!r}, 'x')")
    try:
        yield
    finally:
        ssh.python(host, "release", f"import os; os.remove({path!r})")


def every(site, program):
    """Run a program on every machine."""
    for host in site.hosts:
        ssh.python(host, "release", program)


@pytest.mark.promise("hosts-purge-each-other")
def test_a_service_of_the_other_machine_is_open_for_it_and_for_nobody_else(pair):
    one, other = pair.hosts
    with pytest.raises(TimeoutError):  # dropped, not refused by who does not listen
        socket.create_connection((one.address, 8090), timeout=2)
    # the application's user, whose connection it is
    ways = [(user, one.address, 8090) for user in (pair.run.pipeline.name, "root")]
    assert tried(other, ways, rules=True) == [True, False]


@pytest.mark.parametrize(
    ("path", "sick"),
    [
        pytest.param("/srv/pages/downloads", 0, marks=pytest.mark.long),  # where a folder should be
        pytest.param("/var/tmp/due-fails", 1, marks=pytest.mark.long),
        pytest.param("/var/tmp/switch-fails", 0, marks=pytest.mark.long),
        ("/var/tmp/check-fails", 1),
        pytest.param("/var/tmp/check-fails", 0, marks=pytest.mark.long),
        pytest.param("/var/tmp/restart-fails", 0, marks=pytest.mark.long),
        pytest.param("/var/tmp/restart-fails", 1, marks=pytest.mark.long),
    ],
)
@pytest.mark.promise("all-hosts-or-none", "one-failing-host-stops-all")
def test_a_release_that_fails_on_one_machine_stays_on_neither(pair, path, sick):
    before = seen(pair)
    assert before[0] == before[1]
    change(pair)
    with broken(pair.hosts[sick], path):
        failed = pair.doit("release")
        assert failed.returncode == 1, failed.stdout
        assert pair.hosts[sick].name in failed.stderr
    assert seen(pair) == before
    assert recorded(pair) == before[0][0]
    assert_both_go_on(pair, before)


def assert_both_go_on(site, before):
    """With nothing broken, the next release puts both machines on the new one."""
    assert site.stages("release")["release"] == "done"
    after = seen(site)
    assert after[0] == after[1] != before[0]
    assert recorded(site) == after[0][0]


@pytest.mark.long(
    short="tests/end_to_end/test_two_hosts.py::test_a_release_that_fails_on_one_machine_stays_on_neither"
)
@pytest.mark.promise(
    "rollback-goes-to-the-one-before", "what-is-undone-goes-no-further", "only-code-is-rolled-back"
)
def test_both_machines_go_back_or_none_and_what_is_undone_goes_no_further_until_it_is_allowed(pair):
    change(pair)
    assert pair.stages("release")["release"] == "done"
    before = seen(pair)
    change(pair)
    assert pair.stages("release")["release"] == "done"
    undone = seen(pair)
    with broken(pair.hosts[1], "/var/tmp/switch-fails"):
        failed = pair.doit("rollback")
        assert f"rollback: {pair.hosts[1].name}: Switch to the new release: test" in failed.stderr
    assert seen(pair) == undone != before
    assert pair.stages("rollback") == {"rollback": "done"}
    assert seen(pair) == before
    digest = undone[0][0][:16]
    listed = pair.doit("releases").stdout
    assert f"current       {before[0][0][:16]}" in listed
    assert f"kept, undone  {digest}" in listed
    assert f"has gone back to {before[0][0][:16]} already" in pair.doit("rollback").stderr
    assert f"{digest} goes no further" in pair.doit("release").stderr
    assert seen(pair) == before
    assert pair.doit("allow", digest).returncode == 0
    assert pair.stages("release")["release"] == "done"
    assert seen(pair) == undone
    change(pair)
    every(pair, "open('/var/tmp/data/due', 'x')")
    assert pair.stages("release")["release"] == "done"
    migrated = seen(pair)
    assert "has migrated its database" in pair.doit("rollback").stderr
    assert seen(pair) == migrated
    assert "no entry was changed" in pair.doit("history", "--verify").stdout


@pytest.mark.long(
    short="tests/end_to_end/test_rollback.py::test_a_broken_migration_keeps_visitors_out_until_a_release_succeeds"
)
@pytest.mark.parametrize("path", ["/var/tmp/migration-fails", "/var/tmp/switch-fails"])
@pytest.mark.promise("migrated-data-keeps-all-hosts-in-maintenance")
def test_after_a_migration_both_stay_in_maintenance(pair, path):
    before = seen(pair)
    change(pair)
    every(pair, "open('/var/tmp/data/due', 'x')")
    with broken(pair.hosts[0], path):
        failed = pair.doit("release")
        assert "the site stays in maintenance" in failed.stderr
    every(pair, "import pathlib; assert pathlib.Path('/srv/pages/current/public/maintenance').exists()")
    assert recorded(pair) == before[0][0]
    assert_both_go_on(pair, before)
    every(
        pair, "import pathlib; assert not [*pathlib.Path('/srv/pages/releases').glob('*/public/maintenance')]"
    )


@pytest.mark.long(
    short="tests/end_to_end/test_two_hosts.py::test_a_release_that_fails_on_one_machine_stays_on_neither"
)
@pytest.mark.parametrize("sick", [0, 1])
@pytest.mark.promise("one-failing-host-stops-all")
def test_a_machine_that_dies_before_the_switch_keeps_the_other_from_it(pair, sick):
    before, dying = seen(pair), pair.hosts[sick]
    change(pair)
    with broken(dying, "/var/tmp/due-hangs"):
        with ThreadPoolExecutor() as pool:
            releasing = pool.submit(pair.doit, "release")
            ssh.python(dying, "release", HANGS)
            ec2 = pair.run.cloud.client("ec2")
            ec2.stop_instances(InstanceIds=[dying.name], Force=True)
            failed = releasing.result()
        assert failed.returncode == 1, failed.stdout
        assert dying.name in failed.stderr
        ec2.start_instances(InstanceIds=[dying.name])
        until(lambda: ssh.refusal("release", dying) is None)
    assert seen(pair) == before
    assert recorded(pair) == before[0][0]
    assert_both_go_on(pair, before)
