"""kill_stale_sessions: before a host is changed, nothing that a former run left there may still be changing it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.console.console import Console
from tasks.hosts import ssh
from tasks.hosts.ssh import Host
from tasks.process import children
from tasks.process.children import CommandFailed

PROGRAM = Path(__file__).parents[1] / "process" / "orphans.py"


def kill(hosts: Sequence[Host], console: Console) -> bool:
    """End every login of the deploy user on the hosts, with what it started. False if one of them was not reached."""
    reached = True
    for host in hosts:
        try:
            ended = _end_sessions(host)
        except CommandFailed:
            unreached(host.name, console)
            reached = False
        else:
            console.event("lease", f"{host.name}: ended {ended} processes of a former run")
    return reached


def unreached(host: str, console: Console) -> None:
    """Say that a host may still be changed by what nobody could end."""
    console.event("lease", f"{host} does not answer: what a former run left there may go on")


def _end_sessions(host: Host) -> int:
    program = ["sudo", "-n", "python3", "-IS", "-", "sessions", host.user]
    with ssh.login(host) as command:
        printed = children.run([*command, *program], stdin=PROGRAM.read_bytes())
    return int(printed.split()[-1])
