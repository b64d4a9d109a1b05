"""What a former run left on a host is ended before anybody changes the host."""

from __future__ import annotations

import io
import socket

from tasks.console.console import Console
from tasks.hosts import kill_stale_sessions
from tasks.hosts.ssh import Host


def test_a_host_that_was_not_reached_is_named():
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # bound, and nobody listens
        host = Host(
            name="i-1",
            address="127.0.0.1",
            user="deploy",
            key="none",
            host_keys=("ssh-ed25519 A",),
            port=nobody.getsockname()[1],
        )
        said = io.StringIO()
        assert not kill_stale_sessions.kill([host], Console(said))
    assert "i-1 does not answer: processes of a former run may go on there" in said.getvalue()


def test_where_there_is_no_host_nothing_was_left():
    said = io.StringIO()
    assert kill_stale_sessions.kill([], Console(said))
    assert said.getvalue() == ""
