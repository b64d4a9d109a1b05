"""A session of pytest that is killed leaves nothing that the next one does not take away, and what others have is theirs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.cloud.embedded.containers import podman
from tasks.process.life import started_at
from tests import leftovers
from tests.cloud.embedded.test_instances import tables
from tests.conftest import ROOT, until

SESSION = """
import os, subprocess, time
from pathlib import Path
from tasks.cloud.embedded import home, lifecycle, nft
from tasks.cloud.embedded.home import Home
from tests.cloud.embedded.conftest import Server

def test_that_is_killed(tmp_path):
    print()
    made = [subprocess.Popen(["sleep", "90"], start_new_session=True)]
    if {full}:
        place = home.of(os.environ)
        place.make()
        cloud = lifecycle._create(place, lambda words: None, os.environ)
        nft.Filter(f"release-pipeline-{{cloud.id}}", cloud.subnet).enforce([])
        print(cloud.id)
        server = Server(Home(folder=tmp_path / "cloud"))
        server.start()
        made.append(server)
        (tmp_path / "mounted").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", tmp_path / "mounted"], check=True)
    print(*(each.pid for each in made), flush=True)
    time.sleep(90)
"""
NOTHING = "def test_nothing():\n    pass\n"


def session(folder, text, name):
    """A session of pytest with this project's conftest, whose temporary folder is below `folder`."""
    test = folder / f"test_{name}.py"
    test.write_text(text)
    return subprocess.Popen(
        [sys.executable, "-m", "pytest", "-s", "-p", "tests.conftest", "-p", "no:cacheprovider", "-p", "no:xdist",
         "-c", os.devnull, "--rootdir", folder, f"--basetemp={folder / name}", test],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def told(child, count):
    """The next lines of a session that are only numbers and ids."""
    found, said = [], ""
    while len(found) < count:
        said += (line := child.stdout.readline())
        assert line, said
        if set(line.strip()) and set(line.strip()) <= set("0123456789abcdef "):
            found.append(line.split())
    return found


def kill(child):
    child.send_signal(signal.SIGKILL)
    child.wait()


def there(folder):
    """The mounts below a folder that this machine has."""
    return [line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line]


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts")
def test_the_next_session_takes_away_what_a_killed_one_has_left_and_nothing_of_a_living_one(tmp_path):
    living, killed = session(tmp_path, SESSION.format(full=False), "living"), None
    try:
        killed = session(tmp_path, SESSION.format(full=True), "killed")
        (sleeps,), ((cloud,), (orphan, server)) = told(living, 1)[0], told(killed, 2)
        kill(killed)
        until(lambda: started_at(int(server)) is None)  # its input has ended
        assert started_at(int(orphan))
        assert there(tmp_path / "killed")
        assert cloud in podman("network", "ls", "--quiet")
        assert len(tables(cloud)) == 2
        said = session(tmp_path, NOTHING, "next").communicate()[0]
        assert "leftovers: ended 1 processes of a killed session" in said
        assert started_at(int(orphan)) is None
        assert there(tmp_path) == []
        assert cloud not in podman("network", "ls", "--quiet")
        assert tables(cloud) == []
        assert not (tmp_path / "killed").exists()
        assert started_at(int(sleeps))
        assert (tmp_path / "living" / leftovers.FILE).exists()
        assert not (tmp_path / "next" / leftovers.FILE).exists()
    finally:
        for each in filter(None, (living, killed)):
            kill(each)
        again = session(tmp_path, NOTHING, "last").communicate()[0]
    assert "leftovers: ended 1 processes of a killed session" in again
    assert started_at(int(sleeps)) is None


@pytest.mark.parametrize(
    ("changes", "is_dead"),
    [
        ({}, False),
        ({"started": "1"}, True),
        ({"pid": "4194305"}, True),
        ({"here": "elsewhere"}, False),
        ({"pid": "4194305", "here": "elsewhere"}, False),
        ({"pid": "x"}, False),
    ],
)
def test_a_session_is_dead_when_its_process_on_this_machine_has_ended(changes, is_dead):
    pid, started, here = leftovers._mark().split("-", 2)
    known = {"pid": pid, "started": started, "here": here, **changes}
    assert leftovers.dead("{pid}-{started}-{here}".format(**known)) is is_dead
