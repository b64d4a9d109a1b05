"""What `build/ci/run new` puts into an empty folder for the profile `php`: it is built and answers as the profile asks."""

from __future__ import annotations

import http.client
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tasks import profile
from tasks.settings import Application
from tests.conftest import ROOT, until

PHP = profile.load(ROOT, Application(profile="php"))


def run(folder: Path, command, **environ: str) -> int:
    seen = {"PATH": os.environ["PATH"], "HOME": str(folder.parent), **environ}
    return subprocess.run(command, cwd=folder, env=seen, capture_output=True).returncode


@pytest.fixture
def starter(tmp_path) -> Path:
    """The starter, with the layers of the profile built where it stands."""
    root = tmp_path / "app"
    shutil.copytree(PHP.folder / "starter", root)
    for layer in PHP.layers:
        for command in layer.commands:
            assert run(root, command, **layer.environment) == 0, command
        assert all((root / each).exists() for each in layer.promises)
    return root


@pytest.fixture
def address(starter) -> Iterator[tuple[str, int]]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = starter / PHP.server.roles["application"]["web_root"]
    server = subprocess.Popen(
        ["php", "-S", f"127.0.0.1:{port}", "-t", str(root), str(root / "index.php")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until(lambda: listens(port))
        yield "127.0.0.1", port
    finally:
        server.kill()
        server.wait()


def listens(port: int) -> bool:
    with socket.socket() as asked:
        return asked.connect_ex(("127.0.0.1", port)) == 0


def test_the_starter_has_nothing_to_migrate_and_what_cron_runs(starter):
    migration = PHP.release.migration
    assert run(starter, migration.due) == 0 != migration.due_exit
    assert run(starter, migration.run) == 0
    assert [run(starter, each["command"]) for each in PHP.server.roles["cron"]["jobs"]] == [0]
    assert run(starter, ["php", "bin/console", "migrate:stat"]) == 1


def test_the_starter_s_worker_runs_until_it_is_ended(starter):
    (unit,) = PHP.server.roles["workers"]["units"]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(unit["command"], cwd=starter, timeout=1)


def test_the_starter_s_page_is_healthy_and_others_do_not_exist(address):
    connection = http.client.HTTPConnection(*address)
    answers = []
    for path in (PHP.release.health_path, "/nothing"):
        connection.request("GET", path)
        answer = connection.getresponse()
        answers.append(answer.status)
        answer.read()
    assert answers == [200, 404]
