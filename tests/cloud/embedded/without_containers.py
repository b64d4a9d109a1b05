"""without_containers: servers of the embedded cloud without containers; tests run it as a program, which ends when its input ends."""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from typing import Any, NoReturn

from tasks.cloud.embedded import daemon
from tasks.cloud.embedded.home import CloudIdentity, Home
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


def serve(folder: Path, *, faults: bool, port: int) -> None:
    """Be the server of the cloud of a folder."""
    home = Home(folder=folder)
    home.make()
    identity = home.identity() or home.change(
        CloudIdentity(
            id="names",
            subnet="10.250.250.0/24",
            gateway="10.250.250.1",
            key="key",
            secret="secret",
            faults=faults,
            forward_port=port,
        )
    )
    runtime = Names()
    runtime.all = lambda: [path.name for path in home.hosts.iterdir()]  # type: ignore[method-assign]
    daemon.serve(home, identity, runtime)


def be(asked: dict[str, Any], parent: int) -> NoReturn:
    """Be one of the servers, as a process of its own would be: it ends with its parent."""
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == parent:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            log = os.open(asked["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            for number, opened in enumerate((os.open(os.devnull, os.O_RDONLY), log, log)):
                os.dup2(opened, number)
            os.environ.clear()
            os.environ.update(asked["environ"])
            mock_random.seed()  # or each would give the ids that the others give
            serve(Path(asked["folder"]), faults=asked["faults"], port=asked["port"])
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def main() -> None:
    """Fork a server for each line of the input, and print its process id. What all of them import is imported once."""
    for service in api.SERVICES:
        moto.backends.get_backend(service)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    gc.freeze()
    nursery = os.getpid()
    for line in sys.stdin:
        child = os.fork()
        if not child:
            be(json.loads(line), nursery)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    os.environ.update(daemon.SETTINGS)
    import moto.backends  # it reads its settings when it is imported
    from moto.moto_api._internal import mock_random

    from tasks.cloud.embedded import access, api, debian_ami, disk, faults, instances, moto_patches  # noqa: F401

    main()
