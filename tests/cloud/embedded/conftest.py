"""Clouds for the tests, never the user's, and deleted afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tasks.cloud.embedded import client, lifecycle
from tasks.cloud.embedded.home import Home
from tests.cloud.embedded.without_containers import unwanted_port
from tests.conftest import until

REGION = "eu-central-1"
ROOT = Path(__file__).parents[3]


@dataclass
class Server:
    """A server without containers, with a home of its own."""

    home: Home
    words: tuple[str, ...] = ()
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> client.Embedded:
        """Start it and connect to it."""
        command = [sys.executable, "-m", "tests.cloud.embedded.without_containers", str(self.home.folder)]
        with (self.home.folder.parent / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, *self.words],
                cwd=ROOT,
                env={**os.environ, **lifecycle.MEMORY},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        until(lambda: self.home.running() == self.process.pid or self.process.poll() is not None)
        return client.Embedded(REGION, self.home.load)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait()


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    made = Server(Home(folder=tmp_path_factory.mktemp("state") / "cloud"))
    made.start()
    yield made
    made.kill()


@pytest.fixture(scope="module")
def faulty(tmp_path_factory) -> Iterator[client.Embedded]:
    made = Server(Home(folder=tmp_path_factory.mktemp("faulty") / "cloud"), words=("faults",))
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
