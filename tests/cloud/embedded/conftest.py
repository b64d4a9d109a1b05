"""Clouds for the tests, never the user's, and deleted afterwards."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.cloud.embedded import client, lifecycle
from tasks.cloud.embedded.address import LOOPBACK
from tasks.cloud.embedded.home import Home
from tasks.cloud.embedded.listen import listen_somewhere
from tests.conftest import until

REGION = "eu-central-1"
ROOT = Path(__file__).parents[3]


def unwanted_port() -> int:
    """A free port that no new cloud asks for, as the first one that it likes may be taken while a test restarts its cloud."""
    with listen_somewhere(LOOPBACK) as found:
        return int(found.getsockname()[1])


@functools.cache
def nursery() -> subprocess.Popen[str]:
    """The program that forks servers; it ends with this process, and they with it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.cloud.embedded.without_containers"],
        cwd=ROOT,
        env={**os.environ, **lifecycle.MEMORY},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@dataclass
class Server:
    """A server without containers, with a home of its own. `pid`: its process, once it has started."""

    home: Home
    faults: bool = False
    pid: int = 0

    def start(self) -> client.Embedded:
        """Start it and connect to it."""
        asked = {
            "folder": str(self.home.folder),
            "log": str(self.home.folder.parent / "log"),
            "environ": {**os.environ},
            "faults": self.faults,
            "port": unwanted_port(),
        }
        nursery().stdin.write(json.dumps(asked) + "\n")
        nursery().stdin.flush()
        self.pid = int(nursery().stdout.readline())
        until(lambda: self.home.running() == self.pid or not Path(f"/proc/{self.pid}").exists())
        return client.Embedded(REGION, self.home.load)

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{self.pid}").exists())


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    made = Server(Home(folder=tmp_path_factory.mktemp("state") / "cloud"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Iterator[client.Embedded]:
    made = Server(Home(folder=tmp_path_factory.mktemp("faulty") / "cloud"), faults=True)
    yield made.start()
    made.kill()


@pytest.fixture
def cloud(server) -> client.Embedded:
    return client.Embedded(REGION, server.home.load)


@pytest.fixture(scope="session")
def quiet() -> Callable[[str], None]:
    return lambda words: None


@pytest.fixture(scope="module")
def environ(tmp_path_factory, quiet) -> Iterator[dict[str, str]]:
    """The environment of a user whose embedded cloud, a real one, ends with the tests."""
    home = str(tmp_path_factory.mktemp("home"))
    values = {**os.environ, "XDG_STATE_HOME": home, "CLOUD_PORT": str(unwanted_port())}
    yield values
    lifecycle.delete(quiet, values)
