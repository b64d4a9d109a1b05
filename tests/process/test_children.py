"""A child that falls silent is ended, whatever it is, and a sentence names it and its bound."""

from __future__ import annotations

import ast
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest

from tasks import source
from tasks.cloud.embedded import containers
from tasks.hosts import ssh
from tasks.process import bounds, children
from tasks.process.children import ChildSilent
from tasks.source import BranchesUnknown, GitRefused
from tests.conftest import ROOT, git
from tests.hosts.test_ssh import HOST

SOON = 15
"""Seconds after which a child would be ended without the interruption."""
STARTS = (
    *(f"subprocess.{name}" for name in ("Popen", "run", "call", "check_call", "check_output", "getoutput")),
    *("os.system", "os.popen", "os.posix_spawn", "os.fork", "os.execve", "Git(folder).execute"),
)
"""Calls that start a process."""
STARTED = {
    "tasks/process/children.py": "the one place",
    "tasks/process/orphans.py": "on this machine and on hosts: dpkg, after what it has killed; no module of ours is there",
    "tasks/server/ledger_host.py": "on hosts, where the bound of our ssh ends it",
    "tasks/release/phases.py": "on hosts, where it ends with our ssh, and a migration with its unit",
    "tasks/cloud/embedded/lifecycle.py": "the cloud's server, which outlives the command; its start has a bound",
    "tasks/source.py": "git, within `children.within` or `children.answer`",
    "tasks/tarball/build/namespaces.py": "inside a layer's namespaces, which end with the process that `children` started",
    "tasks/tarball/build/archive.py": "tar, within `children.within`",
    "tasks/cloud/embedded/debian_root.py": "the image's builder, within `children.within`",
}
"""The modules that start a process themselves, each with the reason."""


@pytest.fixture
def silent(tmp_path, monkeypatch):
    """A program of that name which says nothing; its own child holds its streams. `stubborn`: no polite signal ends it."""

    def made(name: str, *, stubborn: bool = False) -> None:
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        trap = "trap '' TERM HUP\n" if stubborn else ""
        path.write_text(f"#!/bin/sh\n{trap}sleep 40 & echo $! $$ >> '{tmp_path}/pids'\nwait; sleep 40\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", f"{path.parent}:{os.environ['PATH']}")

    yield made
    for pid in _pids(tmp_path):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _pids(folder: Path) -> list[int]:
    listed = folder / "pids"
    return [int(each) for each in listed.read_text().split()] if listed.exists() else []


def alive(folder: Path) -> list[int]:
    """The silent programs that still run."""
    found = []
    for pid in _pids(folder):
        with contextlib.suppress(OSError):
            if ") Z " not in Path(f"/proc/{pid}/stat").read_text():
                found.append(pid)
    return found


def ended(folder: Path) -> bool:
    time.sleep(0.1)
    return _pids(folder) != [] and alive(folder) == []


def test_a_command_that_falls_silent_is_ended_with_all_that_it_started(silent, tmp_path):
    silent("composer", stubborn=True)
    with pytest.raises(ChildSilent, match=r"^composer install: did not end within 1 s and was ended"):
        children.run(["composer", "install"], seconds=1)
    assert ended(tmp_path)


def test_what_it_said_before_is_shown():
    with pytest.raises(ChildSilent, match=r"\n    \| half way$"):
        children.run(["sh", "-c", "echo half way; sleep 600"], seconds=1)


def test_a_child_of_its_own_session_that_holds_the_output_is_not_waited_for(tmp_path):
    line = f"setsid sleep 40 & echo $! > {tmp_path}/pids; exec sleep 600"
    with pytest.raises(ChildSilent):
        children.run(["sh", "-c", line], seconds=1)
    assert alive(tmp_path), "it still holds the output"
    for pid in alive(tmp_path):
        os.kill(pid, signal.SIGKILL)


def test_a_child_that_reads_nothing_is_not_waited_for(silent):
    silent("ssh")
    with pytest.raises(ChildSilent):
        children.run(["ssh"], stdin=b"x" * (1 << 20), seconds=1)


def test_a_child_in_time_is_not_ended():
    assert children.run(["sh", "-c", "sleep 0.2; cat; echo done"], stdin=b"x\n", seconds=10) == "x\ndone"


def test_git_that_falls_silent_is_ended(checkout, silent, tmp_path):
    source.repository(checkout)
    silent("git")
    with pytest.raises(GitRefused, match=r"git: git rev-parse did not end within 1 s and was ended"):
        source._asked(checkout, "rev-parse", "HEAD", seconds=1)
    assert ended(tmp_path)


def test_a_remote_that_falls_silent_is_ended_with_the_ssh_that_asks_it(checkout, silent, tmp_path):
    silent("ssh")
    git(checkout, "remote", "add", "origin", "ssh://git@127.0.0.1/shop.git")
    with pytest.raises(BranchesUnknown, match=r"git ls-remote did not end within 1 s and was ended"):
        source.remote_branches(checkout, "main", seconds=1)
    assert ended(tmp_path)


def test_git_that_falls_silent_while_it_hands_out_files_is_ended(checkout, silent, tmp_path):
    snapshot = source.Snapshot(checkout)
    silent("git")
    with pytest.raises(GitRefused, match=r"git cat-file did not end within 1 s and was ended"):
        list(snapshot._blobs([f"100644 blob {'0' * 40}"], seconds=1))
    assert ended(tmp_path)


def test_ssh_that_falls_silent_is_ended(silent, tmp_path):
    silent("ssh")
    with ssh.login(HOST) as command, pytest.raises(ChildSilent, match=r"^ssh .*: did not end within 1 s"):
        children.run([*command, "true"], seconds=1)
    assert ended(tmp_path)


def test_podman_that_falls_silent_is_ended(silent, tmp_path):
    silent("podman")
    with pytest.raises(
        containers.PodmanRefused, match=r"cloud: podman version: did not end within 1 s and was ended"
    ):
        containers.podman("version", seconds=1)
    assert ended(tmp_path)


@pytest.mark.promise("an-interruption-ends-children")
def test_an_interruption_ends_what_git_waits_for(checkout, silent, tmp_path):
    silent("git")
    children.threading.Timer(1, children.interrupt).start()
    with pytest.raises(GitRefused):
        source._git(checkout, "fetch", seconds=SOON)
    assert ended(tmp_path)


def test_bounds_are_numbers_of_seconds_and_none_is_longer_than_a_night():
    found = {name: value for name, value in vars(bounds).items() if name.isupper()}
    assert len(found) > 5
    assert all(0 < value <= 12 * 3600 for value in found.values())


def test_only_these_modules_start_processes():
    """Every other one asks `children`, which has a bound for each."""
    found = {
        path.relative_to(ROOT).as_posix()
        for path in [*ROOT.glob("tasks/**/*.py"), ROOT / "dodo.py"]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in STARTS
    }
    assert found == STARTED.keys()
