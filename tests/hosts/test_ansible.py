"""Playing a playbook: what is reported, what is left behind, and how it is interrupted."""

from __future__ import annotations

import dataclasses
import io
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from tasks.console.console import Console
from tasks.hosts import ansible
from tasks.hosts.ansible import PlaySilent, Recap, accept, play
from tasks.hosts.managed import Managed
from tasks.hosts.playbook_events import (
    HIDDEN,
    SKIPPED_WITHIN,
    PlaybookBroken,
    PlaybookEvents,
    PlaybookIdle,
    message,
)
from tasks.hosts.ssh import Host, HostUnreachable, known_hosts
from tasks.process import children, private
from tasks.process.children import Cancelled
from tests.conftest import ROOT, until

ENOUGH = {"base_timezone": "UTC", "php_version": "8.2", "php_extensions": []}
"""Variables without which the first role would not even connect."""
STRATEGIES = ["mitogen_linear", "linear"]


def silent(_words):
    """Discard what is said."""


def a_host(**changes):
    known = Host(
        name="i-1", address="127.0.0.1", user="deploy", key="none", host_keys=("ssh-ed25519 AAAA root@i-1",)
    )
    return dataclasses.replace(known, **changes)


def attempt(playbook="server", *, host, strategy="linear", log=None, console=None, **more):
    return play(
        playbook,
        hosts=[host],
        variables=ENOUGH,
        strategy=strategy,
        console=console or Console(io.StringIO()),
        log=log,
        **more,
    )


def left_by_plays():
    """Command lines of processes that a play left running."""
    listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if f"{private.root()}/play-" in line]


@pytest.fixture
def temporary(tmp_path_factory, monkeypatch):
    """A folder for temporary files, short enough for the sockets in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        monkeypatch.setattr(tempfile, "tempdir", folder)
        yield Path(folder)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_host_that_does_not_answer_is_named_and_nothing_is_left(strategy, temporary):
    with pytest.raises(HostUnreachable, match=r"server: i-1 \(127\.0\.0\.1\) does not answer"):
        attempt(host=a_host(port=1), strategy=strategy)
    assert list(private.root().iterdir()) == []
    assert left_by_plays() == []


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ANSIBLE_RUN_TAGS", "nothing"),
        ("ANSIBLE_SKIP_TAGS", "all"),
        ("ANSIBLE_CONNECTION_PLUGINS", "/nowhere"),
        ("ANSIBLE_STDOUT_CALLBACK", "minimal"),
        ("ANSIBLE_CALLBACK_PLUGINS", "{folder}"),
        ("ANSIBLE_ENABLE_TASK_DEBUGGER", "1"),
        ("AWX_LIB_DIRECTORY", "/nowhere"),
        ("PYTHONPATH", "{folder}"),
        ("PYTHONSTARTUP", "/nowhere"),
    ],
)
def test_the_caller_s_environment_does_not_decide_what_a_play_does(monkeypatch, tmp_path, name, value):
    for module in ("awx_display.py", "ansible.py"):  # a stranger's, which must not be found
        (tmp_path / module).write_text("raise SystemExit('a stranger')\n")
    monkeypatch.setenv(name, value.format(folder=tmp_path))
    with pytest.raises(HostUnreachable):
        attempt(host=a_host(port=1))


def test_a_play_in_which_a_host_ran_no_task_is_a_failure():
    story = PlaybookEvents(playbook="release", say=silent, log=None)
    for task, action in [
        ("Validating arguments against arg spec 'main'", "ansible.builtin.validate_argument_spec"),
        ("Gathering Facts", "ansible.builtin.gather_facts"),
    ]:
        ran = {"host": "i-1", "task": task, "task_action": action, "res": {}}
        story.hear({"event": "runner_on_ok", "event_data": ran})
    story.hear({"event": "runner_on_skipped", "event_data": {"host": "i-1", "task": "Look", "res": {}}})
    with pytest.raises(PlaybookIdle, match=r"release: i-1 ran no task of playbooks/release\.yml"):
        accept("successful", story, "release", [a_host()])
    story.hear(
        {
            "event": "runner_on_ok",
            "event_data": {"host": "i-1", "task": "Look", "task_action": "stat", "res": {}},
        }
    )
    accept("successful", story, "release", [a_host()])
    with pytest.raises(PlaybookIdle, match="i-2"):
        accept("successful", story, "release", [a_host(), a_host(name="i-2")])


@pytest.mark.promise("refusing-strategy-is-replaced")
def test_a_strategy_that_refuses_is_replaced_and_named_once():
    said = io.StringIO()
    console = Console(said)
    for _ in range(2):
        with pytest.raises(HostUnreachable):  # which plain linear has found out
            attempt(host=a_host(port=1), strategy="unknown_to_this_ansible", console=console)
    (line,) = (each for each in said.getvalue().splitlines() if "plays with" in each)
    assert line.split(maxsplit=1) == [
        "server",
        "unknown_to_this_ansible did not get to a first task: plays with linear, slower",
    ]


def test_a_playbook_that_cannot_begin_is_named():
    with pytest.raises(PlaybookBroken, match=r"playbooks/nothing\.yml .*could not be found"):
        attempt("nothing", host=a_host())


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.promise("an-interruption-ends-children")
def test_an_interruption_ends_a_play(strategy, temporary):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        threading.Timer(2, children.interrupt).start()
        with pytest.raises(Cancelled):
            attempt(host=a_host(port=mute.getsockname()[1]), strategy=strategy)
    assert list(private.root().iterdir()) == []
    assert left_by_plays() == []
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_play_that_falls_silent_is_ended_at_its_bound(strategy, temporary):
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and says nothing
        port = mute.getsockname()[1]
        with pytest.raises(PlaySilent, match=r"server: ansible-playbook server\.yml: did not end within 3 s"):
            attempt(host=a_host(port=port), strategy=strategy, seconds=3)
    assert list(private.root().iterdir()) == []
    assert left_by_plays() == []


@pytest.mark.parametrize(
    ("result", "said"),
    [
        ({"msg": "no space"}, "no space"),
        ({"msg": "two\nlines"}, "two / lines"),
        ({"rc": 1, "msg": "non-zero return code", "stderr": "a\nb\nc\nd\n"}, "b / c / d"),
        ({"rc": 1, "msg": "non-zero return code", "stdout": "only here"}, "only here"),
        ({"rc": 2, "msg": "[Errno 2] No such file", "stderr": ""}, "[Errno 2] No such file"),
        (
            {"msg": "failed to validate", "stderr": "unknown directive"},
            "failed to validate / unknown directive",
        ),
        ({"msg": "items", "results": [{"msg": "fine"}, {"failed": True, "msg": "bad"}]}, "bad"),
        ({"censored": "the output has been hidden"}, HIDDEN),
    ],
)
def test_a_failed_task_is_one_line(result, said):
    assert message(result) == said


def told(task, action, **result):
    failed = {"host": "i-1", "role": "release", "task": task, "task_action": action, "res": result}
    return {"event": "runner_on_failed", "event_data": failed}


def test_the_first_failure_is_named_and_the_roles_own_words_are_the_message():
    story = PlaybookEvents(playbook="release", say=silent, log=None)
    story.hear(told("Migrate", "ansible.builtin.command", rc=1, stderr="broken"))
    story.hear(told("Say so", "ansible.builtin.fail", msg="it is not signed"))
    assert str(story.failure()).splitlines()[0] == "release: i-1: release: Migrate: it is not signed"


def test_what_another_host_says_of_itself_is_not_the_message():
    story = PlaybookEvents(playbook="release", say=silent, log=None)
    story.hear(told("Check", "ansible.builtin.uri", msg="502"))
    story.hear(told("Say so", "ansible.builtin.fail", msg="502; went back to r1"))
    other = told("Say so", "ansible.builtin.fail", msg="this host is well; went back to r1")
    other["event_data"]["host"] = "i-2"
    story.hear(other)
    assert str(story.failure()).splitlines()[0] == "release: i-1: release: Check: 502; went back to r1"


def test_an_ignored_failure_is_none():
    story = PlaybookEvents(playbook="release", say=silent, log=None)
    failed = told("Look", "ansible.builtin.command", rc=1, stderr="x")
    failed["event_data"]["ignore_errors"] = True
    story.hear(failed)
    assert isinstance(story.failure(), PlaybookBroken)


def test_a_task_is_said_with_its_role_and_everything_printed_is_logged(tmp_path):
    said, log = [], tmp_path / "log"
    story = PlaybookEvents(playbook="server", say=said.append, log=log)
    event = {"role": "nginx", "task": "Configure nginx"}
    story.hear({"event": "playbook_on_task_start", "event_data": event, "stdout": "\nTASK [nginx]\n"})
    until(lambda: said)
    assert said == ["nginx: Configure nginx"]
    story.hear({"event": "playbook_on_task_start", "event_data": {"task": "Remove the site"}})
    story.hear({"event": "runner_on_skipped", "event_data": {}})
    time.sleep(2 * SKIPPED_WITHIN)
    assert said == ["nginx: Configure nginx"]
    assert log.read_text() == "TASK [nginx]\n"


@pytest.mark.parametrize(
    ("port", "line"), [(22, "127.0.0.1 ssh-ed25519 AAAA\n"), (2222, "[127.0.0.1]:2222 ssh-ed25519 AAAA\n")]
)
def test_a_known_host_is_written_as_openssh_looks_it_up(port, line):
    assert known_hosts([a_host(port=port)]) == line


def test_a_key_is_never_shown():
    assert "none" not in repr(a_host())


@pytest.mark.promise("what-is-written-is-named")
def test_what_a_role_lists_by_debug_is_noted_and_nothing_else_is():
    story = PlaybookEvents(playbook="release", say=silent, log=None)
    for action, msg in [
        ("ansible.builtin.debug", ["a was written", "b was written"]),
        ("ansible.builtin.debug", "a text"),
        ("ansible.builtin.command", ["no note"]),
    ]:
        ran = {"host": "i-1", "task": "x", "task_action": action, "res": {"msg": msg}}
        story.hear({"event": "runner_on_ok", "event_data": ran})
    assert story.notes == ["a was written", "b was written"]


def test_hosts_that_differ_are_played_at_once_each_with_a_log_of_its_own(monkeypatch, tmp_path):
    """Each begins only once all have; the refusal is that of the first that fails, when all have come to their end."""
    begun, ended = threading.Barrier(3, timeout=20), []

    def alone(playbook, *, hosts, log, own):
        (host,) = hosts
        begun.wait()
        ended.append((playbook, host.name, log and log.name, own))
        if host.name in fails:
            raise PlaybookIdle(stage=playbook, host=host.name)
        return Recap(changed=1, ok=len(host.name), seconds=2.0, recorded={host.name: Managed()})

    monkeypatch.setattr(ansible, "play", alone)
    hosts, fails = [a_host(name=each) for each in ("i-1", "i-22", "i-3")], []
    recap = ansible.play_each("server", hosts=hosts, log=tmp_path / "server.log", own=None)
    assert (recap.changed, recap.ok, recap.seconds, set(recap.recorded)) == (
        3,
        10,
        2.0,
        {"i-1", "i-22", "i-3"},
    )
    assert sorted(ended) == [("server", each.name, f"server-{each.name}.log", None) for each in hosts]
    ended.clear()
    fails += ["i-22", "i-3"]
    with pytest.raises(PlaybookIdle, match="i-22"):
        ansible.play_each("server", hosts=hosts, log=None, own=None)
    assert len(ended) == 3


AT_ONCE = """
import importlib.metadata, sys, threading, time

from tasks.hosts import ansible

importing, entry_points = threading.Event(), importlib.metadata.entry_points

def slow(**which):
    if which.get("group") == "ansible_runner.plugins":  # the last thing that the package does
        importing.set()
        time.sleep(1)
    return entry_points(**which)

importlib.metadata.entry_points = slow
threading.Thread(target=ansible._runner).start()
assert importing.wait(30)
ansible._runner()
print(type(sys.modules["ansible_runner"].plugins).__name__)
"""


def test_a_second_play_at_once_waits_until_ansible_runner_is_whole():
    """Its module `plugins` is replaced by a dictionary in the end, and a play that comes before fails by that."""
    printed = subprocess.run([sys.executable, "-c", AT_ONCE], cwd=ROOT, capture_output=True, text=True)
    assert printed.stdout == "dict\n", printed.stderr
