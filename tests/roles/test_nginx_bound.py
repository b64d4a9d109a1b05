"""bound: nginx restarts where a reload cannot bind what it is told, and nowhere else. Sockets and `ss` are real; nginx is a process of that name."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.conftest import ROOT, until

PROGRAM = ROOT / "roles" / "nginx" / "files" / "bound.py"
HOLDER = """
import socket, sys, time
time.sleep(float(sys.argv[1]))
held = [socket.create_server((host, int(sys.argv[2]))) for host in sys.argv[3:]]
time.sleep(60)
"""


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as free:
        return free.getsockname()[1]


@contextlib.contextmanager
def holding(folder, name, port, *hosts, after=0.0):
    """A process of that name that listens there."""
    (folder / name).symlink_to(Path(sys.executable).resolve())
    command = [folder / name, "-IS", "-c", HOLDER, str(after), str(port), *hosts]
    child = subprocess.Popen(command)
    try:
        for host in () if after else hosts:
            until(
                lambda host=host: not socket.socket().connect_ex((host.replace("0.0.0.0", "127.0.0.1"), port))
            )
        yield
    finally:
        child.kill()
        child.wait()


def checked(folder, configuration):
    """Exit code, output and complaints where nginx has this configuration, and what systemd was told."""
    (folder / "bin").mkdir()
    for name, program in {
        "nginx": f"cat {folder}/nginx.conf",
        "systemctl": f'echo "$@" >> {folder}/told',
    }.items():
        (folder / "bin" / name).write_text(f"#!/bin/sh\n{program}\n")
        (folder / "bin" / name).chmod(0o755)
    (folder / "nginx.conf").write_text(configuration)
    (folder / "told").touch()
    done = subprocess.run(
        [sys.executable, "-IS", "-", "0.6"],
        input=PROGRAM.read_text(),
        env={"PATH": f"{folder / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout, done.stderr.strip(), (folder / "told").read_text()


@pytest.mark.promise("nginx-listens-where-it-is-told")
@pytest.mark.parametrize(
    ("held", "listens", "restarts"),
    [
        (["127.0.0.1"], "listen 0.0.0.0:{port};", "0.0.0.0"),
        (["127.0.0.1"], "listen {port} default_server; #listen 127.0.0.1:{port};", "0.0.0.0"),
        (["0.0.0.0"], "server {{ listen 127.0.0.1:{port} ssl; }}", "127.0.0.1"),
        (["127.0.0.1"], "\n    # listen 0.0.0.0:{port};\n    listen localhost:{port};", ""),
        (["0.0.0.0"], "listen *:{port}; listen 127.0.0.1:{port}; listen unix:/run/x; listen 1 udp;", ""),
        (["127.0.0.1", "127.0.0.2"], "listen 127.0.0.1:{port};", ""),
    ],
)
def test_nginx_restarts_where_it_does_not_listen_as_told(tmp_path, port, held, listens, restarts):
    with holding(tmp_path, "nginx", port, *held):
        said = checked(tmp_path, listens.format(port=port))
    if restarts:
        assert said == (0, f"restarted for {restarts}:{port}\n", "", "restart nginx.service\n")
    else:
        assert said == (0, "", "", "")


def test_what_it_binds_a_moment_later_is_awaited(tmp_path, port):
    with holding(tmp_path, "nginx", port, "127.0.0.1", after=0.3):
        assert checked(tmp_path, f"listen 127.0.0.1:{port};") == (0, "", "", "")


def test_a_port_that_somebody_else_has_is_a_sentence_and_nginx_goes_on(tmp_path, port):
    """A restart would end it, and not start it again."""
    with holding(tmp_path, "varnishd", port, "127.0.0.1"):
        code, printed, complaint, told = checked(tmp_path, f"listen {port};")
    assert (code, printed, told) == (1, "", "")
    assert complaint == f"nginx cannot listen on 0.0.0.0:{port}: varnishd has the port"


def test_a_reload_is_followed_by_that():
    handlers = {
        each["name"]: each
        for each in yaml.safe_load((PROGRAM.parents[1] / "handlers" / "main.yml").read_text())
    }
    follows = handlers[handlers["Reload nginx"]["notify"]]
    assert PROGRAM.name in follows["ansible.builtin.command"]["stdin"]
