"""The ledger, as the pipeline keeps it: what it asks a host, what it writes into the bucket, and what it forgets."""

from __future__ import annotations

import ast
import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tasks.bucket import layout
from tasks.bucket.store import RecordTaken
from tasks.hosts.managed import Managed
from tasks.hosts.ssh import Host
from tasks.server import ledger, ledger_host
from tasks.server.ledger import Ledger
from tests.simulation.alone import Alone
from tests.simulation.controllers import TESTING

KEY = layout.ledger(TESTING, "i-1", "server")
FILES = {
    "playbooks/server.yml": "- hosts: all\n  roles: [{role: web}]",
    "roles/web/tasks/main.yml": "- name: Write\n  copy: {}",
    "roles/told/tasks/main.yml": "- name: Tell\n  copy: {}",
    "roles/other/tasks/main.yml": "- name: Other\n  copy: {}",
}


def host(name):
    return Host(name=name, address="10.0.0.1", user="admin", key="", host_keys=())


class Answers:
    """Hosts that note what they are asked, and give the test's answers, by name."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def python(self, host, stage, program):
        *_, call = program.splitlines()
        assert program == f"{Path(ledger_host.__file__).read_text()}\n\n{call}\n"
        (function,) = ast.parse(call).body[0].value.args[0].args
        request = json.loads(function.args[0].args[0].value)
        self.asked.append((host.name, stage, function.func.id, request))
        return f"a banner\n{json.dumps(self.answers[host.name.replace('-', '_')])}\n"


@pytest.fixture
def world():
    return Alone()


@pytest.fixture
def root(tmp_path):
    """A checkout with a playbook and some roles."""
    for path, text in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


def settled(*, done=(), stays=(), **more):
    document = {"things": {"file /etc/a": {"task": "web: Write", "facts": {"mode": "0644"}}}, "leftovers": {}}
    return {"ledger": {**document, **more}, "done": dict(done), "stays": dict(stays)}


def kept(world, root, hosts, names=("i-1",), recorded=None):
    """Keep the ledgers after a provisioning; what the console said."""
    said = []

    def act(run):
        run = dataclasses.replace(run, root=root, hosts=hosts)
        run.console.event = lambda stage, words: said.append((stage, words))
        ledger.keep(
            run,
            "server",
            hosts=[host(each) for each in names],
            roles={key: ["told"] for key in names},
            recorded=recorded or {},
            seconds=7.5,
            own={"password": "s3cret"},
            settings={"server.php.version": "8.2"},
        )

    world.does(act)
    return said


def test_a_host_is_asked_with_all_that_decides_what_is_left_over(world, root):
    hosts = Answers(i_1=settled())
    world.put(KEY, {"things": {"file /etc/b": {}}, "leftovers": {"unit x": {}}, "nonce": "n"})
    recorded = {
        "i-1": Managed(
            resources={"file /etc/a": {"task": "web: Write"}},
            ran={"web: b", "web: a", "web: cut"},
            cut_short={"web: cut"},
        )
    }
    kept(world, root, hosts, recorded=recorded)
    ((name, stage, function, request),) = hosts.asked
    assert (name, stage, function) == ("i-1", "server", "settle")
    assert {r"web:\ Write", r"told:\ Tell"} <= {
        each.replace(": ", r":\ ") for each in request.pop("declared")
    }
    assert request == {
        "playbook": "server",
        "previous": {
            "things": {"file /etc/b": {}}, "leftovers": {"unit x": {}}, "nonce": "n",
            "folders": [], "files": [], "settings": {},
        },
        "things": {"file /etc/a": {"task": "web: Write"}},
        "whole": ["web: a", "web: b"],
        "data": ["/srv/shop"],
        "mode": "remove",
        "own": {"password": "s3cret"},
        "seconds": 7.5,
        "about": {"settings": {"server.php.version": "8.2"}, "by": "me", "at": "2026-03-02 08:00 UTC"},
    }  # fmt: skip


def test_what_no_role_names_is_not_declared(world, root):
    hosts = Answers(i_1=settled())
    kept(world, root, hosts)
    (_, _, _, request) = hosts.asked[0]
    assert not [each for each in request["declared"] if "Other" in each]
    assert (request["things"], request["whole"], request["previous"]) == ({}, [], None), (
        "nothing was recorded"
    )


def test_what_was_removed_and_what_stays_is_said(world, root):
    answer = settled(done={"file /etc/b": "removed"}, stays={"user x": "files may belong to it"})
    assert kept(world, root, Answers(i_1=answer)) == [
        ("server", "leftover file /etc/b: removed"),
        ("server", "leftover user x: stays, files may belong to it"),
    ]


@pytest.mark.parametrize("before", [None, {"things": {}}, b"half"])
def test_the_host_s_answer_is_written_whatever_was_there(world, root, before):
    if before is not None:
        world.put(KEY, before)
    answer = settled(folders=["/etc/nginx"], files=["/etc/nginx/a"], settings={"a": "b"}, by="me", newer=[1])
    kept(world, root, Answers(i_1=answer))
    written = world.value(KEY)
    written.pop("nonce")
    assert written == answer["ledger"]
    read = world.does(lambda run: ledger.read(run.store, TESTING, "i-1", "server"))
    assert read.resources == answer["ledger"]["things"]
    assert (read.folders, read.files, read.settings) == (("/etc/nginx",), ("/etc/nginx/a",), {"a": "b"})
    assert {name: each for name, each in read.more.items() if name != "nonce"} == {
        "by": "me", "leftovers": {}, "newer": [1],
    }  # fmt: skip


def test_a_ledger_that_another_run_has_written_meanwhile_is_not_overwritten(world, root):
    class Meanwhile(Alone):
        def call(self, process, name, effect, *, changes=False):
            if name == "put_object":
                self.put(KEY, {"by": "kim"})
            return super().call(process, name, effect, changes=changes)

    world = Meanwhile()
    with pytest.raises(RecordTaken, match=f"^state: {KEY} was changed by kim"):
        kept(world, root, Answers(i_1=settled()))


def test_what_is_no_ledger_is_none(world):
    def read(run):
        return ledger.read(run.store, TESTING, "i-1", "server")

    assert world.does(read) is None
    world.put(KEY, b"half")
    assert world.does(read) is None
    world.put(KEY, {"things": {}})
    assert world.does(read) == Ledger(resources={}, more={})
    world.put(KEY, {})
    assert world.does(read) == Ledger(resources={})


# --- forgetting ---------------------------------------------------------------------------------------


def ledgers(world):
    return {key for key in world.objects if key.startswith("ledgers/")}


def test_the_ledgers_of_hosts_that_are_no_more_are_forgotten(world, root):
    """Those of the hosts stay, also of another playbook, and those of other environments."""
    gone = [layout.ledger(TESTING, "i-9", "server"), layout.ledger(TESTING, "i-9", "release")]
    stay = {layout.ledger(TESTING, "i-2", "release"), layout.ledger("testing-0000000000", "i-9", "server")}
    for key in (*gone, *stay):
        world.put(key, {"things": {}})
    kept(world, root, Answers(i_1=settled(), i_2=settled()), names=["i-1", "i-2"])
    assert ledgers(world) == {KEY, layout.ledger(TESTING, "i-2", "server"), *stay}


def test_all_ledgers_of_an_environment_are_found_and_forgotten(world):
    other, strange = layout.ledger("testing-0000000000", "i-1", "server"), f"{layout.ledgers(TESTING)}strange"
    for key in (KEY, other, strange):
        world.put(key, {"things": {}})

    def act(run):
        keys = ledger.stored(run.store, TESTING)
        ledger.forget(run.store, keys)
        return keys

    assert sorted(world.does(act)) == sorted([KEY, strange])
    assert ledgers(world) == {other, strange}, "what the pipeline has not written it does not delete"


# --- asking -------------------------------------------------------------------------------------------


class Python:
    """A host whose Python is this one, as `ssh.python` starts it."""

    def python(self, host, stage, program):
        assert (host.name, stage) == ("i-1", "server")
        command = [sys.executable, "-IS", "-"]
        return subprocess.run(command, input=program, capture_output=True, text=True, check=True).stdout


def test_a_function_is_called_on_the_host_with_its_request(tmp_path):
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "it's").write_text("")
    request = {"names": [], "folders": [str(tmp_path / "new")], "files": []}
    answer = ledger.ask(Python(), host("i-1"), "server", ledger_host.probe, request)
    assert answer == {"facts": {}, "strange": [str(tmp_path / "new" / "it's")]}


# --- differences --------------------------------------------------------------------------------------

FILE = {"type": "file", "owner": "root", "mode": "0644", "digest": "d", "content": "c"}


def test_differences_are_said_in_the_order_of_their_names():
    resources = {f"file /etc/{each}": {"facts": FILE} for each in "cab"} | {
        "unit x": {"facts": {"active": True, "enabled": "enabled"}}
    }
    resources |= {"file /etc/ as it was": {"facts": FILE}, "file /etc/z z": {"facts": FILE}}
    facts = {
        "file /etc/ as it was": FILE,
        "file /etc/a": {**FILE, "content": "e"},
        "file /etc/b": {name: value for name, value in FILE.items() if name != "mode"} | {"digest": "e"},
        "file /etc/c": {**FILE, "owner": "x", "digest": "e"},
    }
    assert ledger.differences(resources, facts) == [
        "mode of /etc/b",
        "/etc/b",
        "owner of /etc/c",
        "/etc/c",
        "/etc/z z is gone",
        "unit x is gone",
    ]
