"""Private folders: nobody else opens them, a killed process leaves none, and none is taken from a living one."""

from __future__ import annotations

import secrets
import signal
import subprocess
import sys
import tempfile

import pytest

from tasks.hosts import ssh
from tasks.process import private
from tasks.process.private import PrivateFolderTaken
from tests.conftest import ROOT, until

HOST = ssh.Host(
    name="i-1", address="127.0.0.1", user="deploy", key="secret key", host_keys=("ssh-ed25519 A",)
)
HOLDS = """
import sys, time
from tasks.hosts import ssh
from tasks.process import children
if sys.argv[1:]:
    children.watch(sys.argv[1])
host = ssh.Host(name="i-1", address="127.0.0.1", user="deploy", key="secret key", host_keys=("ssh-ed25519 A",))
with ssh.login(host):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """A temporary folder of the test's own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def killed(*words):
    """A process that was killed while it was logged in."""
    made = subprocess.Popen(
        [sys.executable, "-c", HOLDS, *words], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout.readline() == "held\n"
    made.send_signal(signal.SIGKILL)
    made.wait()


def keys(temporary):
    """Every file with the key, wherever it is."""
    return [each for each in temporary.rglob("*") if each.is_file() and b"secret key" in each.read_bytes()]


@pytest.mark.promise("private-folders")
def test_a_key_lies_below_one_folder_that_only_this_user_opens(temporary):
    with ssh.login(HOST):
        (key,) = keys(temporary)
        assert private.root() in key.parents
    assert private.root().stat().st_mode & 0o777 == 0o700
    assert keys(temporary) == []


@pytest.mark.promise("next-run-removes-private-folders")
def test_the_next_run_removes_what_a_killed_one_has_left(temporary):
    killed()
    assert len(keys(temporary)) == 1
    with private.folder("play"):
        assert keys(temporary) == []


@pytest.mark.promise("watcher-ends-what-a-killed-run-started")
def test_the_watcher_removes_a_killed_runs_key(temporary):
    killed(secrets.token_hex(6))
    until(lambda: keys(temporary) == [])


@pytest.mark.promise("private-folders")
def test_a_living_process_keeps_its_folder():
    with private.folder("ssh") as first, private.folder("ssh") as second:
        assert first.is_dir()
        assert second.is_dir()


@pytest.mark.promise("private-folders")
def test_a_folder_that_others_can_open_is_refused(temporary):
    private.root().chmod(0o755)
    with pytest.raises(PrivateFolderTaken, match="only this user can open"):
        private.root()


def test_processes_that_begin_at_once_take_no_folder_from_each_other(temporary):
    code = (
        "import sys; from pathlib import Path; from tasks.tarball.build import overlay\n"
        "for _ in range(150):\n"
        "    made = overlay.build_folder(Path(sys.argv[1]))\n"
        "    assert Path(made.name).is_dir(), made\n"
    )
    started = [subprocess.Popen([sys.executable, "-c", code, str(temporary)], cwd=ROOT) for _ in range(3)]
    assert [each.wait() for each in started] == [0, 0, 0]
