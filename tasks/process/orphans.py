"""orphans: end the processes that outlive the run that started them; a program, for this machine and for hosts.

`marked MARK FOLDER`, on this machine: waits for the end of its standard input, which the run holds open. Then it ends
every process with the mark in its environment or command line, and removes the run's private folders.
`sessions USER`, on a host, as root: ends every login session of the user but its own, with all that it started.
This file alone is sent to hosts: it uses Python's standard library and no other module of ours.
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
"""Searches in a row that must find nothing: a process may start while one looks."""
PAUSE, PATIENCE = 0.1, 60.0
"""Seconds between two searches, and until they are given up."""


def end(find: Callable[[], list[int]]) -> int:
    """Kill what `find` returns, until it returns nothing. Returns how many were killed."""
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
    """Processes with the mark in their environment or, if a process title has overwritten that, in their command line."""
    return [
        pid
        for pid in _others()
        if mark.encode() in _read(pid, "environ") or mark.encode() in _read(pid, "cmdline")
    ]


def of_sessions(user: str) -> list[int]:
    """Processes of the user's login sessions, except this one.

    The kernel records the user of a login (loginuid); sudo and detaching keep it, and services do not have it. Where
    the kernel does not, the process's user, sudo's variables and the parent processes identify most of them.
    """
    uid, parents = pwd.getpwnam(user).pw_uid, _parents()
    ours = set(_lineage(os.getpid(), parents))
    found = {
        pid
        for pid in parents.keys() - ours
        if uid in (_number(pid, "loginuid"), _uid(pid)) or _by_sudo(pid, user)
        if b"/user@" not in _read(pid, "cgroup")  # the user's systemd instance runs nothing of the pipeline
    }
    return sorted(pid for pid in parents.keys() - ours if found.intersection(_lineage(pid, parents)))


def _others() -> Iterator[int]:
    """Every process but this one and init. A zombie has no memory, and is left out."""
    for folder in Path("/proc").glob("[0-9]*"):
        pid = int(folder.name)
        if pid not in (1, os.getpid()) and _read(pid, "statm").split(b" ")[0] not in (b"", b"0"):
            yield pid


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended, or belongs to another user
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
        for private in Path(folder, f"release-pipeline-{os.getuid()}").glob(f"*{mark}*"):
            shutil.rmtree(private, ignore_errors=True)
        return
    _, user = words
    ended = end(lambda: of_sessions(user))
    sys.stdout.write(f"{ended}\n")
    # after an interrupted dpkg, apt refuses to work until this is done
    keep = ("--force-confdef", "--force-confold")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["dpkg", *keep, "--configure", "-a"], env=environment, check=False, capture_output=True)


if __name__ == "__main__":
    main(sys.argv[1:])
