"""The ledger: what is recorded, what counts as drift, what is left over, and where two environments differ."""

from __future__ import annotations

import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.cloud.interface import HostDown
from tasks.console.console import Console
from tasks.environments import compare
from tasks.graph import inputs
from tasks.hosts import managed
from tasks.hosts.ssh import HostUnreachable
from tasks.infrastructure import hosts
from tasks.server import drift, ledger, ledger_host
from tasks.server.ledger import Ledger
from tests.conftest import ROOT

# --- recording ------------------------------------------------------------------------------------


def event(kind, task, action="template", role="web", **result):
    told = {
        "host": "i-1",
        "role": role,
        "task": task,
        "task_action": f"ansible.builtin.{action}",
        "res": result,
    }
    return {"event": kind, "event_data": told}


def asked(**arguments):
    return {"invocation": {"module_args": arguments}}


def recorded(*events):
    heard = managed.ManagedListener()
    for each in events:
        heard.hear(each)
    return heard.hosts["i-1"]


@pytest.mark.parametrize(
    ("action", "result", "names"),
    [
        ("template", {"dest": "/etc/a", "changed": True}, ["file /etc/a"]),
        ("ansible.builtin.copy", {"path": "/etc/a"}, ["file /etc/a"]),
        ("file", {"path": "/srv/shop/shared/"}, ["file /srv/shop/shared"]),
        ("lineinfile", asked(path="/etc/a"), ["file /etc/a"]),
        (
            "apt",
            asked(name=["nginx", "php8.2-fpm=1:2"], package=None),
            ["package nginx", "package php8.2-fpm"],
        ),
        ("apt", asked(name="nginx,redis"), ["package nginx", "package redis"]),
        ("apt", asked(update_cache=True), []),
        ("systemd_service", asked(name="nginx.service", enabled=True, state="started"), ["unit nginx"]),
        ("systemd_service", asked(name="nginx", enabled=None, state="reloaded"), []),
        ("systemd_service", asked(name=None, daemon_reload=True), []),
        ("user", asked(name="shop"), ["user shop"]),
        ("cron", asked(name="backup", user=None), ["cron root backup"]),
        ("cron", asked(name="backup", cron_file="backup"), ["file /etc/cron.d/backup"]),
        ("stat", {"path": "/etc/a"}, []),
        ("command", {"cmd": ["true"]}, []),
        ("template", {"censored": "hidden"}, []),
        ("user", {"censored": "hidden"}, []),
        ("user", {"results": []}, []),
        ("cron", {"results": []}, []),
    ],
)
def test_a_task_answers_for_what_it_manages(action, result, names):
    assert list(managed.managed(action, result)) == names


@pytest.mark.promise("skipped-task-keeps-its-items")
def test_a_task_is_whole_unless_something_of_it_was_skipped_or_failed():
    found = recorded(
        event("runner_on_start", "Start"),
        event("runner_on_ok", "Write", dest="/etc/a"),
        event("runner_item_on_ok", "Write some", dest="/etc/b"),
        event("runner_item_on_skipped", "Write some"),
        event("runner_on_ok", "Write some", results=[]),
        event("runner_on_skipped", "Not here"),
        event("runner_on_failed", "Try"),
        event("runner_on_ok", "Edit", action="lineinfile", path="/etc/c"),
    )
    assert found.resources == {
        "file /etc/a": {"task": "web: Write"},
        "file /etc/b": {"task": "web: Write some"},
        "file /etc/c": {"task": "web: Edit", "part": True},
    }
    assert found.whole == {"web: Write", "web: Edit"}


def test_what_the_playbook_and_its_roles_declare_is_known_without_running_it():
    patterns = managed.declared(ROOT, "server", ["nginx", "database"])
    assert any(re.fullmatch(each, "nginx: Configure nginx") for each in patterns)
    assert any(re.fullmatch(each, "database: Create the database and its user") for each in patterns)
    assert not any(re.fullmatch(each, "release: Switch to the new release") for each in patterns)
    assert not any(re.fullmatch(each, "nginx: Configure Apache") for each in patterns)
    assert not any(re.fullmatch(each, "redis: Configure Redis") for each in patterns), (
        "the profile has no Redis"
    )


def test_a_role_that_another_one_includes_is_declared(tmp_path):
    files = {
        "playbooks/p.yml": "- hosts: all\n  roles: [{role: a}]",
        "roles/a/tasks/main.yml": "- name: Take b\n  ansible.builtin.include_role: {name: b}\n  when: false",
        "roles/b/tasks/main.yml": "- block:\n  - name: Write {{ thing }} down\n    copy: {}",
        "roles/c/tasks/main.yml": "- name: Nobody's\n  copy: {}",
    }
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    patterns = managed.declared(tmp_path, "p")
    assert any(re.fullmatch(each, "b: Write this down") for each in patterns)
    assert not any(re.fullmatch(each, "c: Nobody's") for each in patterns)


# --- drift ----------------------------------------------------------------------------------------

FILE = {"type": "file", "owner": "root", "group": "root", "mode": "0644", "digest": "d", "content": "c"}


@pytest.mark.parametrize(
    ("name", "before", "after", "said"),
    [
        ("file /etc/a", FILE, {key: value for key, value in FILE.items() if key != "content"}, []),
        ("file /etc/a", FILE, {**FILE, "digest": "e"}, ["/etc/a"]),
        ("file /etc/a", FILE, {**FILE, "mode": "0600"}, ["mode of /etc/a"]),
        ("file /etc/a", FILE, {**FILE, "owner": "x", "group": "x"}, ["owner of /etc/a", "group of /etc/a"]),
        ("file /etc/a", FILE, None, ["/etc/a is gone"]),
        ("file /etc/a", None, FILE, ["/etc/a is there"]),
        ("file /etc/a", None, None, []),
        ("file /etc/l", {"type": "link", "target": "x"}, {"type": "link", "target": "y"}, ["target of /etc/l"]),
        ("package nginx", {"version": "1"}, {"version": "2"}, []),
        ("package nginx", {"version": "1"}, None, ["package nginx is gone"]),
        ("unit nginx", {"active": True, "enabled": "enabled"}, {"active": False, "enabled": "enabled"}, ["active of unit nginx"]),
        ("cron root x", {"line": "a"}, {"line": "b"}, ["line of cron root x"]),
    ],
)  # fmt: skip
@pytest.mark.promise("drift-is-named-and-corrected", "package-version-is-no-drift")
def test_differences_from_the_record_are_named(name, before, after, said):
    assert ledger.differences({name: {"facts": before}}, {name: after}) == said


QUIET = SimpleNamespace(console=Console(io.StringIO()), environment=SimpleNamespace(certificates="own"))
"""The part of a run that the probe uses."""


class Told(drift.AsRecorded):
    """Hosts with given answers."""

    def __init__(self, *answers):
        super().__init__("server")
        self.answers = list(answers)

    def _ask(self, run, found):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def one_host(monkeypatch):
    found = hosts.parsed({"hosts": [{"id": "i-1", "address": "10.0.0.1", "host_keys": []}]})
    monkeypatch.setattr(drift, "_hosts", lambda run: found)
    monkeypatch.setattr(drift, "_recorded_hosts", lambda: found)


@pytest.mark.usefixtures("one_host")
@pytest.mark.promise("drift-is-named-and-corrected")
def test_the_reason_names_what_drifted():
    world = Told({"i-1": (["host drifted: /etc/a", "host drifted: unit nginx is gone"], [])})
    asked = inputs.World(lambda: world(QUIET))
    assert not asked()
    assert repr(asked) == "host drifted: /etc/a; host drifted: unit nginx is gone"


@pytest.mark.usefixtures("one_host")
@pytest.mark.promise("foreign-file-is-reported")
def test_an_unknown_file_is_reported_and_is_no_drift(capsys):
    world = Told({"i-1": ([], ["/etc/cron.d/x"])})
    assert world(QUIET) == []
    assert world.unknown_files == ["/etc/cron.d/x"]


@pytest.mark.usefixtures("one_host")
def test_what_was_asked_ahead_is_not_asked_again():
    world = Told({"i-1": ([], [])})
    world.begin(None)
    assert world(QUIET) == []
    assert world.answers == []


@pytest.mark.usefixtures("one_host")
def test_a_host_that_did_not_answer_ahead_is_asked_again():
    gone = HostUnreachable(stage="server", host="i-1", address="127.0.0.1", port=22)
    world = Told(gone, {"i-1": ([], [])})
    world.begin(None)
    assert world(QUIET) == []
    with pytest.raises(HostUnreachable):
        Told(gone)(None)


@pytest.mark.usefixtures("one_host")
def test_a_machine_that_is_stopped_is_only_feared_to_differ(monkeypatch):
    down = HostDown(host="i-1", state="stopped")
    assert Told(down, down)(QUIET) == ["cloud: i-1 is stopped, not running"]
    assert isinstance(Told(down, down)(QUIET)[0], inputs.Unasked)
    host = {"address": "10.0.0.1", "host_keys": []}
    two = hosts.parsed({"hosts": [{"id": "i-1", **host}, {"id": "i-2", **host}]})
    monkeypatch.setattr(drift, "_hosts", lambda run: two)
    said = Told(down, down, {"i-2": (["host drifted: /etc/a"], [])})(QUIET)
    assert [isinstance(each, inputs.Unasked) for each in said] == [True, False]


# --- on the host ----------------------------------------------------------------------------------


@pytest.mark.promise("equal-servers-compare-equal")
def test_a_file_s_facts_are_its_own(tmp_path):
    path = tmp_path / "a"
    path.write_text("password = s3cret at shop.example\n")
    path.chmod(0o640)
    facts = ledger_host.file(str(path), {"password": "s3cret", "host name": "shop.example"})
    path.write_text("password = 0ther at test.example\n")
    again = ledger_host.file(str(path), {"password": "0ther", "host name": "test.example"})
    assert (facts["type"], facts["mode"]) == ("file", "0640")
    assert facts["digest"] != again["digest"]
    assert facts["content"] == again["content"]
    (tmp_path / "l").symlink_to("a")
    assert ledger_host.file(str(tmp_path / "l")) == {"type": "link", "target": "a"}
    assert ledger_host.file(str(tmp_path))["type"] == "folder"
    assert ledger_host.file(str(tmp_path / "none")) is None


def test_folders_that_roles_fill_are_below_etc():
    names = [
        "/etc/nginx/nginx.conf",
        "/etc/nginx/conf.d/a",
        "/etc/nftables.conf",
        "/srv/shop/shared/a",
        "/etc/x/gone",
    ]
    facts = {f"file {each}": FILE for each in names} | {
        "file /etc/x/gone": None,
        "package nginx": {"version": "1"},
    }
    assert ledger_host.folders(facts) == ["/etc/nginx"]


# --- leftovers ------------------------------------------------------------------------------------


def thing(task="web: Write", facts=FILE, **more):
    return {"task": task, "facts": facts, **more}


PREVIOUS = {"things": {"file /etc/a": thing()}}


@pytest.mark.parametrize(
    ("previous", "new", "whole", "declared", "others", "left", "carried"),
    [
        # its task ran and did not name it; its task is gone
        (PREVIOUS, {}, {"web: Write"}, ["web: Write"], set(), ["file /etc/a"], []),
        (PREVIOUS, {}, set(), [], set(), ["file /etc/a"], []),
        ({}, {}, set(), [], set(), [], []),
        # its task was skipped, or lies in a part that was
        (PREVIOUS, {}, set(), ["web: Write"], set(), [], ["file /etc/a"]),
        (PREVIOUS, {}, set(), ["web: .*"], set(), [], ["file /etc/a"]),
        # another task names it now; another ledger does
        (PREVIOUS, {"file /etc/a": {}}, {"web: Write"}, [], set(), [], []),
        (PREVIOUS, {}, {"web: Write"}, [], {"file /etc/a"}, [], []),
        # it did not exist
        ({"things": {"file /etc/a": thing(facts=None)}}, {}, set(), [], set(), [], []),
        # the last run could not remove it
        ({"things": {}, "leftovers": {"file /etc/b": thing()}}, {}, set(), ["web: Write"], set(), ["file /etc/b"], []),
        ({"things": {}, "leftovers": {"file /etc/b": thing()}}, {"file /etc/b": {}}, set(), [], set(), [], []),
    ],
)  # fmt: skip
@pytest.mark.promise("leftover-is-removed", "skipped-task-keeps-its-items")
def test_what_is_left_over_and_what_is_carried_over(previous, new, whole, declared, others, left, carried):
    found = ledger_host.leftovers(previous, new, whole, declared, others)
    assert tuple(map(list, found)) == (left, carried)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("file /srv/shop", "data"),
        ("file /srv/shop/shared/pub/media", "data"),
        ("file /opt/shop/shared/env.php", "data"),
        ("file /var/lib/mysql/ibdata1", "data"),
        ("file /var/lib/redis/dump.rdb", "data"),
        ("file /var/log/nginx/access.log", "data"),
        ("file /home/x/.bashrc", "data"),
        ("file /root/.profile", "data"),
        ("file /var/mail/shop", "data"),
        ("file /var/spool/cron/x", "data"),
        ("file /var/www/index.html", "data"),
        ("user shop", "files may belong"),
        ("package sudo", "logins"),
        ("package openssh-server", "logins"),
        ("unit ssh", "logins"),
        ("unit systemd-journald", "logins"),
        ("file /etc/nginx/nginx.conf", None),
        ("file /var/library", None),
        ("file /opt/shopping", None),
        ("package nginx", None),
        ("unit nginx", None),
        ("cron root backup", None),
    ],
)
@pytest.mark.promise("data-is-never-removed", "logins-are-never-removed")
def test_what_is_never_a_leftover(name, why):
    said = ledger_host.never(name, thing(), ["/opt/shop"])
    assert said is None if why is None else why in said


@pytest.mark.promise("edited-file-is-never-removed")
def test_a_file_that_was_only_edited_is_never_a_leftover():
    assert ledger_host.never("file /etc/ssh/sshd_config", thing(part=True), [])


@pytest.mark.parametrize(
    ("removals", "going"),
    [
        ({"a": {"a"}}, {"a"}),
        ({"a": {"a", "b"}}, set()),
        ({"a": {"a", "b"}, "b": {"b"}}, {"a", "b"}),
        ({"a": {"a", "b"}, "b": {"b", "c"}}, set()),
        ({"a": {"a"}, "b": {"b", "c"}}, {"a"}),
        ({}, set()),
    ],
)
@pytest.mark.promise("package-takes-nothing-along")
def test_a_package_goes_if_it_takes_nothing_else_along(removals, going):
    assert ledger_host.removable(removals) == going


@pytest.mark.parametrize(
    ("postrm", "alone"),
    [
        ("#!/bin/sh\nset -e\n", True),
        (
            "# Automatically added by dh_x/1\nif [ $1 = purge ]; then x; fi\n# End automatically added section\n",
            True,
        ),
        ('case "$1" in purge) rm -rf /var/lib/mysql ;; esac', False),
    ],
)
@pytest.mark.promise("purge-deletes-configuration-only")
def test_a_package_is_purged_if_that_deletes_configuration_alone(postrm, alone):
    assert ledger_host.configuration_alone(postrm) is alone


@pytest.fixture
def settle(tmp_path, monkeypatch):
    """The end of a provisioning on a host whose files lie in a folder of the test."""
    monkeypatch.setattr(ledger_host, "FOLDER", str(tmp_path / "ledger"))
    monkeypatch.setattr(ledger_host, "DATA", (str(tmp_path / "data"),))

    def settle(*paths, mode="remove", whole=("web: Write",), declared=("web: Write",), data=()):
        things = {f"file {tmp_path / each}": {"task": "web: Write"} for each in paths}
        for each in paths:
            (tmp_path / each).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / each).write_text(each)
        return ledger_host.settle(
            {
                "playbook": "server", "previous": None, "things": things, "whole": whole, "declared": declared,
                "data": data, "mode": mode, "own": {}, "seconds": 1, "about": {},
            }
        )  # fmt: skip

    return settle


@pytest.mark.promise("ledger-is-for-root", "leftover-is-removed")
def test_a_file_that_no_role_names_goes_and_only_root_reads_the_ledger(settle, tmp_path):
    settle("a", "b")
    settled = settle("a")
    assert settled["done"] == {f"file {tmp_path / 'b'}": "removed"}
    assert not (tmp_path / "b").exists()
    assert settle("a")["done"] == {}
    path = tmp_path / "ledger" / "server.json"
    assert os.stat(path).st_mode & 0o777 == 0o600  # noqa: PTH116
    assert json.loads(path.read_text())["things"].keys() == {f"file {tmp_path / 'a'}"}


@pytest.mark.promise("leftovers-only-reported")
def test_a_leftover_that_is_only_reported_is_reported_until_it_is_removed(settle, tmp_path):
    settle("a", "b")
    for _ in range(2):
        assert settle("a", mode="report")["stays"] == {f"file {tmp_path / 'b'}": "reported only"}
    assert (tmp_path / "b").exists()
    assert settle("a")["done"]
    assert not (tmp_path / "b").exists()


@pytest.mark.promise("skipped-task-keeps-its-items")
def test_a_skipped_task_keeps_what_it_once_wrote(settle, tmp_path):
    settle("a", "b")
    settled = settle(whole=())
    assert (settled["done"], settled["stays"]) == ({}, {})
    assert settled["ledger"]["things"].keys() == {f"file {tmp_path / each}" for each in "ab"}
    assert settle(whole=(), declared=())["done"].keys() == {f"file {tmp_path / each}" for each in "ab"}


@pytest.mark.promise("data-is-never-removed")
def test_data_is_no_leftover(settle, tmp_path):
    settle("data/rows", "shop/media", "a")
    settled = settle("a", data=[str(tmp_path / "shop")])
    assert settled["done"] == {}
    assert settled["stays"].keys() == {f"file {tmp_path / each}" for each in ("data/rows", "shop/media")}
    assert (tmp_path / "data" / "rows").exists()


@pytest.mark.promise("another-ledgers-item-stays")
def test_what_another_ledger_of_the_host_names_is_no_leftover(settle, tmp_path):
    settle("a", "b")
    (tmp_path / "ledger" / "other.json").write_text(json.dumps({"things": {f"file {tmp_path / 'b'}": {}}}))
    assert settle("a")["done"] == {}
    assert (tmp_path / "b").exists()


@pytest.mark.promise("full-folder-stays")
def test_a_folder_with_something_in_it_stays(settle, tmp_path):
    (tmp_path / "conf").mkdir()
    first = settle("conf/a")
    folder = {f"file {tmp_path / 'conf'}": {"task": "web: Write"}}
    path = tmp_path / "ledger" / "server.json"
    known = first["ledger"]
    known["things"] |= {name: {**each, "facts": {"type": "folder"}} for name, each in folder.items()}
    path.write_text(json.dumps(known))
    (tmp_path / "conf" / "by hand").write_text("x")
    settled = settle()
    assert settled["done"] == {f"file {tmp_path / 'conf/a'}": "removed"}
    assert settled["stays"] == {f"file {tmp_path / 'conf'}": "is not empty"}


def test_a_broken_ledger_removes_nothing(settle, tmp_path):
    settle("a", "b")
    (tmp_path / "ledger" / "server.json").write_text("{")
    assert settle("a")["done"] == {}
    assert Path(tmp_path / "b").exists()


def test_a_ledger_is_written_with_every_key_that_it_was_read_with(settle):
    kept = {**settle("a")["ledger"], "settings": {"server.php.version": "8.2"}, "by": "kim", "mood": "good"}
    assert json.loads(json.dumps(Ledger.of(kept).as_dict())) == kept
    assert {"things", "leftovers", "folders", "files"} <= kept.keys()


def test_an_older_ledger_lacks_what_was_not_written_then():
    assert Ledger.of({"things": {}}) == Ledger(resources={})


# --- comparison -----------------------------------------------------------------------------------


def host(*, things, files=(), settings=None):
    return Ledger.of(
        {
            "things": {name: {"facts": facts} for name, facts in things.items()},
            "files": files,
            "settings": settings or {},
        }
    )


SERVER = {
    "file /etc/a": FILE,
    "package nginx": {"version": "1.22"},
    "unit nginx": {"active": True, "enabled": "enabled"},
    "user shop": {"home": "/srv/shop", "shell": "/bin/false", "groups": ["shop"]},
}


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({}, []),
        ({"file /etc/a": {**FILE, "digest": "another password"}}, []),
        ({"file /etc/a": {**FILE, "content": "e"}}, ["file /etc/a: c | e"]),
        ({"file /etc/a": {**FILE, "mode": "0600"}}, ["file /etc/a mode: 0644 | 0600"]),
        ({"package nginx": {"version": "1.24"}}, ["package nginx: 1.22 | 1.24"]),
        ({"package nginx": None}, ["package nginx: 1.22 | none", "package nginx state: none | absent"]),
        ({"package php": {"version": "8.2"}}, ["package php: none | 8.2"]),
        ({"unit nginx": {"active": False, "enabled": "enabled"}}, ["unit nginx active: True | False"]),
    ],
)
@pytest.mark.promise("compare-servers")
def test_exactly_what_differs_is_printed(change, lines):
    first, second = (compare.view([host(things=things)]) for things in (SERVER, {**SERVER, **change}))
    assert compare.lines(first, second) == lines


@pytest.mark.promise("compare-servers")
def test_settings_and_files_of_packages_are_compared():
    first = compare.view([host(things={}, files=["/etc/cron.d/x"], settings={"server.php.version": "8.2"})])
    second = compare.view([host(things={}, settings={"server.php.version": "8.3"})])
    assert compare.lines(first, second) == [
        "file /etc/cron.d/x: there | none",
        "setting server.php.version: 8.2 | 8.3",
    ]


def test_hosts_of_one_environment_that_differ_show_both():
    first = compare.view([host(things=SERVER), host(things={**SERVER, "package nginx": {"version": "1.24"}})])
    assert compare.lines(first, compare.view([host(things=SERVER)])) == ["package nginx: 1.22, 1.24 | 1.22"]
