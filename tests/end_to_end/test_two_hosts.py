"""An environment of two machines: a release is live on both, or on none."""

from __future__ import annotations

import contextlib
import subprocess
import threading
import time

import pytest

from tasks.hosts import ssh
from tasks.release import history
from tests.end_to_end.conftest import replace

pytestmark = pytest.mark.end_to_end

SEEN = """
import pathlib, urllib.request
print(pathlib.Path("/srv/pages/current/.complete").read_text())
asked = urllib.request.Request("http://127.0.0.1/about", headers={"Host": HOST})
print(urllib.request.urlopen(asked, timeout=10).read().decode())
"""
"""Prints the digest of the release that a host runs, and the page that it shows."""
UNIT = """
import pathlib, subprocess
pathlib.Path("/etc/systemd/system/work.service").write_text('''[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/test ! -e /var/tmp/restart-fails
ExecReload=/usr/bin/test ! -e /var/tmp/reload-fails
''')
subprocess.run(["systemctl", "daemon-reload"], check=True)
"""
RELEASE = """
release:
  health_path: /
  migration:
    due: [sh, -c, "test ! -e /var/tmp/due-hangs || sleep 60; test ! -e /var/tmp/due-fails || exit 9; test ! -e /var/tmp/due || exit 2"]
    due_exit: 2
    run: [sh, -c, "rm -f /var/tmp/due; test ! -e /var/tmp/migration-fails"]
  maintenance:
    active_file: public/maintenance
    "on": [touch, public/maintenance]
    "off": [rm, public/maintenance]
  after_switch:
    - [test, "!", -e, /var/tmp/switch-fails]
    - [sh, -c, "if test -e /var/tmp/check-fails; then chmod 0 public/index.html; else chmod 644 public/index.html; fi"]
  restart: [work.service]
  reload: [work.service]
"""
"""Commands that fail on the machine where somebody has put a file for it."""


@pytest.fixture(scope="module")
def pair(pages):
    """The site on two machines, with commands that can be made to fail on one of them."""
    profile = pages.root / "applications" / "static" / "profile.yml"
    before = profile.read_text()
    profile.write_text(before + RELEASE)
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


@pytest.mark.parametrize("sick", [0, 1])
@pytest.mark.parametrize(
    "path",
    [
        "/srv/pages/downloads",  # where a folder should be
        "/var/tmp/due-fails",
        "/var/tmp/switch-fails",
        "/var/tmp/check-fails",
        "/var/tmp/restart-fails",
    ],
)
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
    assert pair.stages("release")["release"] == "done"
    after = seen(pair)
    assert after[0] == after[1] != before[0]
    assert recorded(pair) == after[0][0]
