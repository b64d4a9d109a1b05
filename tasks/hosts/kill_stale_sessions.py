"""kill_stale_sessions: ends what a killed run still does on the hosts, before another run changes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tasks.console.console import Console
from tasks.hosts import ssh
from tasks.hosts.ssh import Host
from tasks.process import bounds, children
from tasks.process.children import CommandFailed

PROGRAM = Path(__file__).parents[1] / "process" / "orphans.py"


def kill(hosts: Sequence[Host], console: Console) -> bool:
    """End the deploy user's login sessions on the hosts. False if a host was not reached."""
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
    """Say that processes of a former run may still change a host."""
    console.event("lease", f"{host} does not answer: processes of a former run may go on there")


def _end_sessions(host: Host) -> int:
    program = ["sudo", "-n", "python3", "-IS", "-", "sessions", host.user]
    with ssh.login(host) as command:
        printed = children.run([*command, *program], stdin=PROGRAM.read_bytes(), seconds=bounds.HOST)
    return int(printed.split()[-1])
