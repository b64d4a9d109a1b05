"""What OpenSSH is told, whatever this machine's folders are called, and what is said of its own failures."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from pathlib import Path

import pytest

from tasks.hosts import ansible, ssh
from tasks.hosts.ssh import Host, LoginAnswer, LoginRefused, SshFailed

HOST = Host(name="i-1", address="127.0.0.1", user="deploy", key="a key", host_keys=("ssh-ed25519 AAAA",))
NAMES = [
    "plain",
    "a b",
    "a  b ",
    "a%h",
    "%d",
    "a#b",
    'a"b',
    "a'b",
    "a\\b",
    "a\\\\b",
    'a\\"b',
    "a=b",
    "a,b",
    "ünï",
    "-o",
    "~",
]


def _shown(value):
    return value.replace("%%", "%")  # -G shows a key before its percent signs are expanded


def understood(command):
    """The files that OpenSSH itself reads out of a command: known hosts and keys."""
    shown = subprocess.run(
        [command[0], "-G", *command[1:]], capture_output=True, text=True, check=True
    ).stdout
    lines = [line.partition(" ") for line in shown.splitlines()]
    return {
        name: [_shown(value) for key, _, value in lines if key == name]
        for name in ("userknownhostsfile", "identityfile")
    }


@pytest.fixture(params=NAMES)
def folder(request, tmp_path, monkeypatch):
    """The folder for temporary files, with a name that somebody has chosen."""
    made = tmp_path / request.param
    made.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(made))
    return made


def test_a_login_reads_its_own_files_whatever_the_folder_is_called(folder):
    with ssh.login(HOST) as command:
        found = understood(command)
        (known,), (key,) = found["userknownhostsfile"], found["identityfile"]
        assert Path(known).read_text() == "127.0.0.1 ssh-ed25519 AAAA\n"
        assert Path(key).read_text() == "a key\n"
        assert Path(known).is_relative_to(folder)
        assert Path(key).stat().st_mode & 0o777 == 0o600
        assert Path(key).parent.stat().st_mode & 0o777 == 0o700


def test_a_play_s_ssh_reads_its_own_files_whatever_the_folder_is_called(folder):
    inventory = ansible._inventory(folder, [HOST], {}, {})
    assert {each.name: each.stat().st_mode & 0o777 for each in folder.iterdir()} == dict.fromkeys(
        ("inventory.json", "known_hosts", "key-0"), 0o600
    )
    told = ansible.json.loads(inventory.read_text())["all"]["hosts"]["i-1"]
    assert "ansible_ssh_private_key_file" not in told  # Ansible and mitogen each quote it in another way
    found = understood(["ssh", *shlex.split(told["ansible_ssh_common_args"]), "127.0.0.1"])
    assert found == {
        "userknownhostsfile": [str(folder / "known_hosts")],
        "identityfile": [str(folder / "key-0")],
    }


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("deploy@127.0.0.1: Permission denied (publickey).", LoginRefused),
        ("Host key verification failed.", SshFailed),
        ('Load key "/a": error in libcrypto\ndeploy@127.0.0.1: Permission denied (publickey).', LoginRefused),
        ('command-line line 0: unsupported option "maybe".', SshFailed),
        ("Connection closed by 127.0.0.1 port 22", SshFailed),
    ],
)
def test_a_failure_of_our_own_ssh_is_told_in_its_words(words, kind):
    told = ssh.refused("release", HOST, LoginAnswer.NO_LOGIN, words)
    assert isinstance(told, kind)
    if kind is SshFailed:
        assert words in told.text


def test_a_login_does_not_wait_for_a_host_that_has_fallen_silent():
    with ssh.login(HOST) as command:
        shown = subprocess.run(
            [command[0], "-G", *command[1:]], capture_output=True, text=True, check=True
        ).stdout
    settings = dict(line.partition(" ")[::2] for line in shown.splitlines())
    assert (settings["serveraliveinterval"], settings["serveralivecountmax"]) == ("15", "4")


def test_a_play_does_not_either_whatever_its_strategy_is(tmp_path):
    """mitogen tells OpenSSH signs of life of its own, before our options, and OpenSSH takes the first."""
    inventory = ansible._inventory(tmp_path, [HOST], {}, {})
    told = ansible.json.loads(inventory.read_text())["all"]["hosts"]["i-1"]
    assert (told["mitogen_ssh_keepalive_interval"], told["mitogen_ssh_keepalive_count"]) == (15, 4)
    shown = subprocess.run(
        ["ssh", "-G", *shlex.split(told["ansible_ssh_common_args"]), "127.0.0.1"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "serveraliveinterval 15\n" in shown


STRICT = {
    "stricthostkeychecking": "true",
    "globalknownhostsfile": "/dev/null",
    "identitiesonly": "yes",
    "identityagent": "none",
    "batchmode": "yes",
}
"""What OpenSSH must have understood: no key but the known one, no identity but ours, and nobody is asked."""


@pytest.mark.promise("host-keys-are-pinned")
def test_only_the_known_key_and_our_own_are_trusted(tmp_path):
    told = ansible.json.loads(ansible._inventory(tmp_path, [HOST], {}, {}).read_text())["all"]["hosts"]["i-1"]
    with ssh.login(HOST) as command:
        for words in (command, ["ssh", *shlex.split(told["ansible_ssh_common_args"]), "127.0.0.1"]):
            shown = subprocess.run(
                [words[0], "-G", *words[1:]], capture_output=True, text=True, check=True
            ).stdout
            settings = dict(line.partition(" ")[::2] for line in shown.splitlines())
            assert {name: settings.get(name) for name in STRICT} == STRICT
            assert settings["hostname"] == "127.0.0.1"


@pytest.mark.promise("private-folders")
def test_a_key_is_for_its_owner_alone_from_the_beginning(tmp_path):
    before = os.umask(0)
    try:
        ansible._inventory(tmp_path, [HOST], {}, {})
        with ssh.login(HOST) as command:
            (key,) = understood(command)["identityfile"]
            assert Path(key).stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(before)
    assert {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()} == {0o600}
