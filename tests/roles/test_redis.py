"""redis: a server takes its configuration, and a disk that is full does not take carts and logins away."""

from __future__ import annotations

import contextlib
import subprocess

import pytest

from tests.app.conftest import need
from tests.conftest import ROOT, until
from tests.rules import configuration


@pytest.fixture
def sessions(tmp_path):
    """A function that asks a server of the role's configuration, whose disk has half a megabyte."""
    need("redis-server")
    disk, socket = tmp_path / "disk", tmp_path / "socket"
    disk.mkdir()
    text = configuration.template(ROOT, "roles/redis/templates/sessions.conf.j2")
    for before, after in {
        "port 6379": f"port 0\nunixsocket {socket}",
        "/var/lib/redis": str(disk),
        "/var/log/redis/redis-server.log": str(tmp_path / "log"),
    }.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "redis.conf").write_text(text)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "none", disk], check=True)
    server = subprocess.Popen(["redis-server", tmp_path / "redis.conf"])

    def ask(*words):
        asked = ["redis-cli", "-s", socket, *words]
        return subprocess.run(asked, capture_output=True, text=True).stdout.strip()

    ask.disk = disk
    try:
        until(lambda: ask("PING") == "PONG")
        yield ask
    finally:
        server.kill()
        server.wait()
        subprocess.run(["umount", disk], check=True)


@pytest.mark.promise("a-full-disk-takes-no-sessions")
def test_while_the_disk_is_full_sessions_are_written_and_not_saved(sessions):
    def saved():
        sessions("BGSAVE")
        until(lambda: "rdb_bgsave_in_progress:0" in sessions("INFO", "persistence"))
        return "rdb_last_bgsave_status:ok" in sessions("INFO", "persistence")

    full = sessions.disk / "full"
    with contextlib.suppress(OSError):
        full.write_bytes(bytes(1 << 20))
    assert not saved()
    assert sessions("SETEX", "session", "60", "cart") == "OK"
    assert sessions("GET", "session") == "cart"
    full.unlink()
    assert saved()
