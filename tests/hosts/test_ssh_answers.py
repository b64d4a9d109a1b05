"""What is asked of a host by OpenSSH's programs, and what their answers mean; the programs are stand-ins that say what a real one does."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from tasks.hosts import ssh
from tasks.hosts.ssh import Host, HostKeyChanged, HostUnreachable, LoginAnswer, LoginRefused, SshFailed
from tasks.process import bounds, children
from tasks.process.children import CommandFailed

ED, RSA = "ssh-ed25519 AAAA", "ssh-rsa BBBB"
HOST = Host(
    name="i-1", address="10.0.0.1", user="deploy", key="a key\n\n", host_keys=(f"{ED} root@host", RSA)
)
DENIED = "deploy@10.0.0.1: Permission denied (publickey)."


@pytest.fixture
def programs(tmp_path, monkeypatch):
    """Stand-ins of `ssh-keyscan` and `ssh`, which print this and end so; what each was told is in a file."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")

    def program(name, printed, code=0):
        path = tmp_path / "bin" / name
        (tmp_path / f"{name}.printed").write_text(printed)
        path.write_text(
            f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/{name}.told'\ncat > '{tmp_path}/{name}.read'\n"
            f"cat '{tmp_path}/{name}.printed'\nexit {code}\n"
        )
        path.chmod(0o755)

    def made(scanned=f"10.0.0.1 {ED}\n", said="", code=0, scan_code=0):
        program("ssh-keyscan", scanned, scan_code)
        program("ssh", said, code)

    return made


def told(tmp_path, name="ssh"):
    return (tmp_path / f"{name}.told").read_text().splitlines()


# --- the keys that a host shows ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("printed", "found"),
    [
        (f"10.0.0.1 {RSA}\n10.0.0.1 {ED}\n10.0.0.1 {ED}\n", [ED, RSA]),
        (f"# 10.0.0.1:22 SSH-2.0\n10.0.0.1 {ED} comment\n10.0.0.2 {RSA}\n", []),
        (f"[10.0.0.1]:22 {ED}\n", []),
        ("", []),
    ],
)
def test_the_keys_are_those_that_are_said_to_be_of_that_address(programs, printed, found, tmp_path):
    programs(printed)
    assert ssh.offered("10.0.0.1") == found
    assert told(tmp_path, "ssh-keyscan") == ["-T", "5", "-p", "22", "10.0.0.1"]


def test_at_another_port_a_host_is_named_with_it(programs, tmp_path):
    programs(f"[10.0.0.1]:2222 {ED}\n10.0.0.1 {RSA}\n")
    assert ssh.offered("10.0.0.1", 2222) == [ED]
    assert told(tmp_path, "ssh-keyscan")[2:4] == ["-p", "2222"]


def test_where_nothing_can_be_asked_nothing_is_offered(programs):
    programs(f"10.0.0.1 {ED}\n", scan_code=1)
    assert ssh.offered("10.0.0.1") == []


@pytest.mark.promise("host-keys-are-pinned")
def test_known_hosts_are_the_pinned_keys_at_their_address_and_port():
    other = Host(name="i-2", address="10.0.0.2", user="deploy", key="", host_keys=(ED,), port=2222)
    assert ssh.known_hosts([HOST, other]) == f"10.0.0.1 {ED}\n10.0.0.1 {RSA}\n[10.0.0.2]:2222 {ED}\n"


def test_a_fingerprint_is_the_one_that_ssh_keygen_prints(tmp_path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "key"], check=True)
    printed = subprocess.run(
        ["ssh-keygen", "-l", "-f", tmp_path / "key.pub"], capture_output=True, text=True, check=True
    )
    assert ssh.fingerprint((tmp_path / "key.pub").read_text()) == printed.stdout.split()[1]


# --- how far a login gets ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "answer", "kind"),
    [
        ({}, LoginAnswer.LOGIN, None),
        ({"scanned": f"10.0.0.1 {RSA}\n"}, LoginAnswer.LOGIN, None),
        ({"scanned": ""}, LoginAnswer.NOTHING, HostUnreachable),
        ({"scanned": "10.0.0.1 ssh-ed25519 CCCC\n"}, LoginAnswer.OTHER_KEY, HostKeyChanged),
        ({"said": DENIED, "code": 255}, LoginAnswer.NO_LOGIN, LoginRefused),
        ({"said": "Bad configuration option\nterminating", "code": 255}, LoginAnswer.NO_LOGIN, SshFailed),
    ],
)
@pytest.mark.promise("host-keys-are-pinned")
def test_how_far_a_login_gets_is_found_step_by_step(programs, answers, answer, kind, tmp_path):
    programs(**answers)
    assert ssh.answer(HOST) is answer
    assert (tmp_path / "ssh.told").exists() is (answer in (LoginAnswer.LOGIN, LoginAnswer.NO_LOGIN)), (
        "a foreign host is not logged in to"
    )
    refused = ssh.refusal("server", HOST)
    assert (type(refused) if refused else None) is kind
    if refused:
        assert refused.text.startswith("server: ")
        assert "i-1 (10.0.0.1)" in refused.text
    if kind is SshFailed:
        assert "ssh to i-1 (10.0.0.1): Bad configuration option; terminating\n" in refused.text


def test_a_host_is_asked_at_its_port(programs):
    programs(scanned=f"[10.0.0.1]:2222 {ED}\n")
    assert ssh.answer(dataclasses.replace(HOST, port=2222)) is LoginAnswer.LOGIN
    assert ssh.answer(HOST) is LoginAnswer.NOTHING


@pytest.mark.parametrize(
    ("answer", "words", "text"),
    [
        (
            LoginAnswer.NOTHING,
            "",
            "release: i-1 (10.0.0.1) does not answer on port 22\n    doit plan infrastructure",
        ),
        (
            LoginAnswer.OTHER_KEY,
            "",
            "release: i-1 (10.0.0.1) shows an SSH host key that is not its own\n    ssh-keyscan -p 22 10.0.0.1",
        ),
        (
            LoginAnswer.NO_LOGIN,
            DENIED,
            "release: i-1 (10.0.0.1) refuses the key of the user deploy\n    doit plan infrastructure",
        ),
        (LoginAnswer.NO_LOGIN, "no", "release: ssh to i-1 (10.0.0.1): no\n    doit status"),
    ],
)
def test_each_answer_has_a_sentence_and_a_remedy(answer, words, text):
    assert ssh.refused("release", HOST, answer, words).text == text
    assert ssh.refused("release", HOST, LoginAnswer.LOGIN, "") is None


# --- the command ------------------------------------------------------------------------------------


def test_the_options_are_those_of_ssh_config_5_and_the_files_are_ours():
    assert ssh.options(Path("/a b/known"), Path("/k%")) == [
        *("-F", "/dev/null"),
        *("-o", "StrictHostKeyChecking=yes"),
        *("-o", 'UserKnownHostsFile="/a b/known"'),
        *("-o", 'IdentityFile="/k%%"'),
        *("-o", "GlobalKnownHostsFile=/dev/null"),
        *("-o", "IdentitiesOnly=yes"),
        *("-o", "IdentityAgent=none"),
        *("-o", "BatchMode=yes"),
        *("-o", "ServerAliveInterval=15"),
        *("-o", "ServerAliveCountMax=4"),
    ]


@pytest.mark.promise("private-folders")
def test_a_login_shows_the_deploy_key_alone_and_leaves_nothing():
    with ssh.login(HOST) as command:
        trust = command[1 : command.index("ConnectTimeout=5") - 1]
        key, known = (
            Path(next(each.partition("=")[2].strip('"') for each in trust if each.startswith(name)))
            for name in ("IdentityFile", "UserKnownHostsFile")
        )
        assert trust == ssh.options(known, key)
        assert key.read_text() == "a key\n"
        assert known.read_text() == ssh.known_hosts([HOST])
        assert key.parent.name.startswith("ssh-")
        assert command[0] == "ssh"
        assert command[-7:] == ["-o", "ConnectTimeout=5", "-p", "22", "-l", "deploy", "10.0.0.1"]
    assert not key.parent.exists()


def test_a_program_is_run_by_the_host_s_python_as_root(programs, tmp_path):
    programs(said="printed\n")
    assert ssh.python(HOST, "server", "print('printed', 'ü')") == "printed"
    words = told(tmp_path)
    assert words[:3] == ["-F", "/dev/null", "-o"], "no file of the user's is read"
    assert words[-7:] == ["deploy", "10.0.0.1", "sudo", "-n", "python3", "-IS", "-"]
    assert (tmp_path / "ssh.read").read_text() == "print('printed', 'ü')"


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ({"scanned": ""}, HostUnreachable),
        ({"scanned": "10.0.0.1 ssh-ed25519 CCCC\n"}, HostKeyChanged),
        ({"said": DENIED}, LoginRefused),
        ({"said": "no such option"}, SshFailed),
    ],
)
def test_why_a_program_did_not_run_is_found_by_asking_the_host(programs, answers, kind):
    programs(**{"code": 255, **answers})
    with pytest.raises(kind, match=r"^server: "):
        ssh.python(HOST, "server", "1")


def test_a_program_that_fails_on_a_host_that_can_be_reached_shows_its_own_words(
    programs, monkeypatch, tmp_path
):
    programs(said="Traceback: no such file", code=1)
    # the login itself succeeds
    path = tmp_path / "bin" / "ssh"
    path.write_text(
        path.read_text().replace(
            "#!/bin/sh\n", '#!/bin/sh\nfor word; do :; done\n[ "$word" = true ] && exit 0\n'
        )
    )
    with pytest.raises(CommandFailed, match="Traceback: no such file"):
        ssh.python(HOST, "server", "1")


def test_a_login_and_a_program_have_their_bounds(monkeypatch):
    seconds = []
    monkeypatch.setattr(children, "run", lambda command, seconds=None, **_: bounded(command, seconds))

    def bounded(command, bound):
        seconds.append((command[0], command[-1], bound))
        return f"10.0.0.1 {ED}\n"

    ssh.answer(HOST)
    ssh.python(HOST, "server", "1")
    assert seconds == [
        ("ssh-keyscan", "10.0.0.1", bounds.LOGIN),
        ("ssh", "true", bounds.LOGIN),
        ("ssh", "-", bounds.HOST),
    ]


# --- what calls share --------------------------------------------------------------------------------


@pytest.mark.parametrize("made", [True, False])
def test_where_the_connection_is_not_there_a_call_makes_its_own(programs, made):
    programs(code=255)
    with ssh.connected([HOST]) as (near,):
        assert near == HOST
        near.connection.master.wait()
        if made:
            near.connection.socket.touch()  # a killed one leaves it
        with ssh.login(near) as command:
            assert not [each for each in command if "ControlPath" in each]


def test_where_the_kernel_takes_no_socket_of_that_length_nothing_is_shared(programs, tmp_path, monkeypatch):
    programs(said="1")
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    with ssh.connected([HOST]) as (near,):
        assert near.connection is None
        assert ssh.python(near, "server", "1") == "1"
