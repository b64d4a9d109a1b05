"""orphans: end the processes that outlive the run that started them; a program, here and on the hosts.

`marked MARK FOLDER`: here. Waits until its standard input ends, as it does with the run that holds the other end; then
ends everything that has the mark in its environment or its command line, and removes the run's private folders.
`sessions USER`: on a host, as root. Ends every login of the user but its own, with all that was started by one.
It is sent to hosts as it is: Python's standard library, and no other module of ours.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

QUIET = 3
"""Looks that must find nobody: a process may be born behind our back."""
PAUSE, PATIENCE = 0.1, 60.0


def end(find: Callable[[], list[int]]) -> int:
    """Kill what `find` finds, until it finds nobody. Returns how many there were."""
    ended: set[int] = set()
    quiet, deadline = 0, time.monotonic() + PATIENCE
    while quiet < QUIET:
        found = find()
        for pid in found:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended.update(found)
        quiet = 0 if found else quiet + 1
        if time.monotonic() > deadline:
            raise SystemExit(f"these do not end: {found}")
        time.sleep(PAUSE)
    return len(ended)


def marked(mark: str) -> list[int]:
    """Processes that have the mark in their environment or, where they wrote a title over that, in their command line."""
    return [
        pid
        for pid in _others()
        if mark.encode() in _read(pid, "environ") or mark.encode() in _read(pid, "cmdline")
    ]


def of_sessions(user: str) -> list[int]:
    """Processes that a login of the user, but ours, has started.

    The kernel remembers who logged in, through sudo and detachment; services that systemd started have no such
    login. Where it does not, the user, sudo's variables and descent tell most of it.
    """
    uid, parents = pwd.getpwnam(user).pw_uid, _parents()
    ours = set(_lineage(os.getpid(), parents))
    found = {
        pid
        for pid in parents.keys() - ours
        if uid in (_number(pid, "loginuid"), _uid(pid)) or _by_sudo(pid, user)
        if b"/user@" not in _read(pid, "cgroup")  # the user's own systemd starts nothing of ours
    }
    return sorted(pid for pid in parents.keys() - ours if found.intersection(_lineage(pid, parents)))


def _others() -> Iterator[int]:
    """Every process but us; what has ended and only waits to be noticed has no memory."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid not in (1, os.getpid()) and _read(pid, "statm").split(b" ")[0] not in (b"", b"0"):
            yield pid


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # ended meanwhile, or somebody else's
        return b""


def _number(pid: int, name: str) -> int:
    return int(_read(pid, name).strip() or -1)


def _uid(pid: int) -> int:
    return int(
        next((line.split()[1] for line in _read(pid, "status").splitlines() if line.startswith(b"Uid:")), -1)
    )


def _by_sudo(pid: int, user: str) -> bool:
    return f"SUDO_USER={user}".encode() in _read(pid, "environ").split(b"\0")


def _parents() -> dict[int, int]:
    fields = {pid: _read(pid, "stat").rpartition(b")")[2].split() for pid in [*_others(), os.getpid()]}
    return {pid: int(words[1]) for pid, words in fields.items() if len(words) > 1}


def _lineage(pid: int, parents: dict[int, int]) -> Iterator[int]:
    while pid > 1:
        yield pid
        pid = parents.get(pid, 0)


def main(words: list[str]) -> None:
    """Do what the command line says."""
    if words[0] == "marked":
        _, mark, folder = words
        sys.stdin.buffer.read()
        end(lambda: marked(mark))
        for private in Path(folder).glob(f"*{mark}*"):
            shutil.rmtree(private, ignore_errors=True)
        return
    _, user = words
    ended = end(lambda: of_sessions(user))
    sys.stdout.write(f"{ended}\n")
    # a package manager that was cut short refuses all further work until this is done
    keep = ("--force-confdef", "--force-confold")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["dpkg", *keep, "--configure", "-a"], env=environment, check=False, capture_output=True)


if __name__ == "__main__":
    main(sys.argv[1:])
