"""without_containers: the embedded cloud's server without containers; tests run it as a program, which ends when its input ends."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from tasks.cloud.embedded import daemon
from tasks.cloud.embedded.address import LOOPBACK
from tasks.cloud.embedded.home import CloudIdentity, Home
from tasks.cloud.embedded.listen import listen_somewhere
from tasks.cloud.embedded.runtime import Launch


class Names:
    """A runtime that only notes which hosts run."""

    def __init__(self) -> None:
        self.running: set[str] = set()

    def run(self, launch: Launch) -> None:
        self.running.add(launch.id)

    def start(self, host: str, address: str) -> None:
        self.running.add(host)

    def attach(self, host: str, address: str) -> bool:
        self.running.add(host)
        return True

    def alive(self, host: str) -> bool:
        return host in self.running

    def interface(self, host: str) -> int:
        return 0

    def wait(self, seconds: float) -> list[str]:
        threading.Event().wait(seconds)
        return []

    def exit_code(self, host: str) -> int | None:
        return 0

    def stop(self, host: str) -> None:
        self.running.discard(host)

    def remove(self, host: str) -> None:
        self.running.discard(host)

    def commit(self, host: str, ami: str) -> None:
        pass

    def remove_image(self, ami: str) -> None:
        pass

    def image(self, ami: str) -> str:
        return ami

    def all(self) -> list[str]:
        return []


def end_with_the_tests() -> None:
    """Wait for the end of what the tests' process holds open, which ends however it is killed."""
    sys.stdin.buffer.read()
    os._exit(0)


def unwanted_port() -> int:
    """A free port that no new cloud asks for, as the first one that it likes may be taken while a test restarts its cloud."""
    with listen_somewhere(LOOPBACK) as found:
        return int(found.getsockname()[1])


if __name__ == "__main__":
    threading.Thread(target=end_with_the_tests, daemon=True).start()
    home = Home(folder=Path(sys.argv[1]))
    home.make()
    identity = home.identity() or home.change(
        CloudIdentity(
            id="names",
            subnet="10.250.250.0/24",
            gateway="10.250.250.1",
            key="key",
            secret="secret",
            faults="faults" in sys.argv,
            forward_port=unwanted_port(),
        )
    )
    runtime = Names()
    runtime.all = lambda: [path.name for path in home.hosts.iterdir()]  # type: ignore[method-assign]
    daemon.serve(home, identity, runtime)
