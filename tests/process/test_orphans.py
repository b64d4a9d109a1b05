"""orphans: what outlives a run is found by its mark or by its login, and ended; nothing else is."""

from __future__ import annotations

import io
import os
import secrets
import signal
import subprocess
from types import SimpleNamespace

import pytest

from tasks.process import orphans

MARK = f"{secrets.token_hex(6)}-of-a-test"


@pytest.fixture
def started():
    """Start processes, and end them."""
    made = []

    def start(*command, **environ):
        made.append(
            subprocess.Popen(command, env={"PATH": os.environ["PATH"], **environ}, start_new_session=True)
        )
        return made[-1]

    yield start
    for each in made:
        each.kill()
        each.wait()


@pytest.fixture
def brief(monkeypatch):
    monkeypatch.setattr(orphans, "PAUSE", 0.0)
    monkeypatch.setattr(orphans, "PATIENCE", 0.3)


# --- how they are ended -----------------------------------------------------------------------------


@pytest.mark.usefixtures("brief")
def test_what_is_found_is_killed_until_nothing_is_found_three_times_in_a_row(started):
    """A process may start while one looks."""
    first, second = started("sleep", "30"), started("sleep", "30")
    answers = [[first.pid], [], [], [first.pid, second.pid], [], [], []]
    assert orphans.end(lambda: answers.pop(0)) == 2
    assert answers == []
    assert (first.wait(5), second.wait(5)) == (-signal.SIGKILL, -signal.SIGKILL)


@pytest.mark.usefixtures("brief")
def test_what_has_ended_meanwhile_is_no_error():
    gone = subprocess.Popen(["true"])
    gone.wait()
    answers = [[gone.pid], [], [], []]
    assert orphans.end(lambda: answers.pop(0)) == 1


@pytest.mark.usefixtures("brief")
def test_what_does_not_end_is_named():
    nobody = 1 << 30
    with pytest.raises(SystemExit, match=rf"these do not end: \[{nobody}\]"):
        orphans.end(lambda: [nobody])


def test_between_two_searches_it_pauses(monkeypatch):
    pauses = []
    monkeypatch.setattr(orphans, "time", SimpleNamespace(sleep=pauses.append, monotonic=lambda: 0.0))
    orphans.end(list)
    assert pauses == [orphans.PAUSE] * orphans.QUIET


# --- how they are found -----------------------------------------------------------------------------


def test_the_mark_is_found_in_the_environment_and_in_the_command_line(started):
    by_environ, by_words = started("sleep", "30", DOIT_RUN=MARK), started("sh", "-c", f"sleep 30; : {MARK}")
    started("sleep", "30", DOIT_RUN="0123456789")
    found = orphans.marked(MARK)
    assert {by_environ.pid, by_words.pid} <= set(found)
    assert len(found) == len(set(found)) == 2
    assert orphans.marked("a mark that nobody has") == []


def test_a_zombie_this_process_and_init_are_left_out(monkeypatch):
    zombie = subprocess.Popen(["true"], env={"DOIT_RUN": MARK})
    os.waitid(os.P_PID, zombie.pid, os.WEXITED | os.WNOWAIT)
    found = list(orphans._others())
    assert not {1, os.getpid(), zombie.pid} & set(found)
    zombie.wait()
    assert os.getppid() in found
    assert orphans._read(1 << 30, "environ") == b""


def test_a_process_whose_memory_is_swapped_out_counts_and_one_that_is_gone_does_not(monkeypatch):
    monkeypatch.setattr(orphans, "_read", lambda pid, name: b"10 0 0")
    assert os.getppid() in list(orphans._others())
    monkeypatch.setattr(orphans, "_read", lambda pid, name: b"")
    assert list(orphans._others()) == []


# --- sessions on a host -----------------------------------------------------------------------------


class Proc:
    """The processes of a host: for each its parent, user, login, cgroup and sudo's variables."""

    def __init__(self, **processes):
        self.processes = {int(pid[1:]): facts for pid, facts in processes.items()}

    def read(self, pid, name):
        facts = self.processes.get(pid)
        if facts is None:
            return b""
        uid = facts.get("uid", 0)
        return {
            "stat": f"{pid} (a) name) S {facts['parent']} 1 1".encode(),
            "statm": b"0 0" if facts.get("zombie") else b"10 5",
            "status": f"Name: x\nUid:\t{uid}\t0\nGid:\t9\n".encode(),
            "loginuid": str(facts.get("login", "4294967295")).encode(),
            "cgroup": facts.get("cgroup", "0::/system.slice/ssh.service").encode(),
            "environ": b"A=b\0" + f"SUDO_USER={facts['sudo']}".encode() + b"\0"
            if "sudo" in facts
            else b"SUDO_USER=deploying",
        }[name]


@pytest.fixture
def host(monkeypatch):
    """The processes of a host, and this one among them, in a login of its own."""

    def on(**processes):
        mine = os.getpid()
        known = Proc(
            **processes,
            **{f"p{mine}": {"parent": 20, "login": 1000}, "p20": {"parent": 1, "login": 1000, "uid": 1000}},
        )
        monkeypatch.setattr(orphans, "_read", known.read)
        monkeypatch.setattr(orphans, "_others", lambda: [pid for pid in known.processes if pid != mine])
        monkeypatch.setattr(
            orphans.pwd, "getpwnam", lambda name: SimpleNamespace(pw_uid={"deploy": 1000}[name])
        )
        return orphans.of_sessions("deploy")

    return on


@pytest.mark.parametrize(
    ("facts", "found"),
    [
        ({"parent": 1, "login": 1000}, True),
        ({"parent": 1, "uid": 1000}, True),
        ({"parent": 1, "sudo": "deploy"}, True),
        ({"parent": 1}, False),
        ({"parent": 1, "login": 1001, "uid": 33}, False),
        ({"parent": 1, "sudo": "deployment"}, False),
        (
            {
                "parent": 1,
                "login": 1000,
                "cgroup": "0::/user.slice/user-1000.slice/user@1000.service/init.scope",
            },
            False,
        ),
    ],
)
def test_a_login_s_processes_are_known_by_the_kernel_the_user_or_sudo(host, facts, found):
    assert host(p30=facts) == ([30] if found else [])


def test_what_a_login_has_started_goes_with_it_and_this_login_stays(host):
    found = host(
        p30={"parent": 1, "login": 1000},
        p31={"parent": 30},
        p32={"parent": 31, "uid": 33},
        p40={"parent": 1, "uid": 33},
        p41={"parent": 40},
        p21={"parent": 20, "login": 1000, "uid": 1000},
    )
    assert found == [21, 30, 31, 32]


def test_a_process_that_ends_while_one_looks_is_left_out(host, monkeypatch):
    assert host(p30={"parent": 1, "login": 1000}) == [30]
    read = orphans._read
    monkeypatch.setattr(orphans, "_read", lambda pid, name: b"" if pid == 30 else read(pid, name))
    assert orphans.of_sessions("deploy") == []
    assert (orphans._uid(30), orphans._number(30, "loginuid")) == (-1, -1)


def test_the_user_of_this_process_is_read_from_the_kernel():
    assert orphans._uid(os.getpid()) == os.getuid()
    parents = orphans._parents()
    assert parents[os.getpid()] == os.getppid()
    assert list(orphans._lineage(os.getpid(), {os.getpid(): 7, 7: 5})) == [os.getpid(), 7, 5]
    assert list(orphans._lineage(3, {3: 2, 2: 1})) == [3, 2]


# --- as a program -----------------------------------------------------------------------------------


def test_the_watcher_waits_for_the_end_and_removes_the_run_s_folders_and_no_others(monkeypatch, tmp_path):
    ended, order = [], []
    stdin = SimpleNamespace(buffer=SimpleNamespace(read=lambda: order.append("end of input")))
    monkeypatch.setattr(orphans.sys, "stdin", stdin)
    monkeypatch.setattr(orphans, "end", lambda find: order.append("ended") or ended.append(find))
    monkeypatch.setattr(orphans, "marked", lambda mark: [mark])
    ours = tmp_path / f"release-pipeline-{os.getuid()}"
    for name in (f"ssh-{MARK}-x", f"play-{MARK}-y", "ssh-another-z"):
        (ours / name / "below").mkdir(parents=True)
    (ours / f"{MARK}.lock").write_text("no folder")
    (tmp_path / f"ssh-{MARK}-x").mkdir()
    orphans.main(["marked", MARK, str(tmp_path)])
    assert order == ["end of input", "ended"]
    assert ended[0]() == [MARK]
    assert {each.name for each in ours.iterdir() if each.is_dir()} == {"ssh-another-z"}
    assert (tmp_path / f"ssh-{MARK}-x").exists()


def test_on_a_host_the_sessions_end_and_an_interrupted_dpkg_is_completed(monkeypatch):
    ran, finds, printed = [], [], io.StringIO()
    monkeypatch.setattr(orphans, "end", lambda find: finds.append(find) or 3)
    monkeypatch.setattr(orphans, "of_sessions", lambda user: [user])
    monkeypatch.setattr(orphans.subprocess, "run", lambda command, **how: ran.append((command, how)))
    monkeypatch.setattr(orphans.sys, "stdout", printed)
    orphans.main(["sessions", "deploy"])
    assert printed.getvalue() == "3\n"
    assert finds[0]() == ["deploy"]
    (command, how) = ran[0]
    assert command == ["dpkg", "--force-confdef", "--force-confold", "--configure", "-a"]
    assert how["env"] == {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    assert (how["check"], how["capture_output"]) == (False, True)
