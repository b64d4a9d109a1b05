"""kill_stale_sessions: ends what a killed run still does on the hosts, before another run changes them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.cloud.interface import HostDown
from tasks.hosts.ssh import PATIENCE, Host, known_hosts, options
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import launches, secrets
from tasks.process import children
from tasks.process.children import CommandFailed

if TYPE_CHECKING:
    from tasks.run import Run

PROGRAM = Path(__file__).parents[1] / "process" / "orphans.py"


def kill(run: Run) -> bool:
    """End the deploy user's login sessions on the environment's hosts. False if a host was not reached.

    A host that does not run, or whose keys are not yet known, has no session.
    """
    known = launches.host_keys(run)
    reached = True
    for each in (each for each in ec2.find(run).machines if each.state == "running" and each.id in known):
        try:
            host = Host(
                name=each.id,
                address=run.cloud.reachable_at({"InstanceId": each.id}),
                user=run.cloud.login_user,
                key=secrets.ensure(run).deploy_key,
                host_keys=tuple(known[each.id]),
            )
            ended = _end_sessions(host)
        except (CommandFailed, HostDown):
            run.console.event(
                "lease", f"{each.id} does not answer: processes of a former run may go on there"
            )
            reached = False
        else:
            run.console.event("lease", f"{each.id}: ended {ended} processes of a former run")
    return reached


def _end_sessions(host: Host) -> int:
    with tempfile.TemporaryDirectory(prefix="ssh-") as folder:
        known, key = Path(folder, "known_hosts"), Path(folder, "key")
        known.write_text(known_hosts([host]))
        key.touch(mode=0o600)
        key.write_text(host.key.rstrip("\n") + "\n")
        login = ["ssh", *options(known), "-o", f"ConnectTimeout={PATIENCE}", "-i", str(key)]
        there = ["-p", str(host.port), "-l", host.user, host.address]
        program = ["sudo", "-n", "python3", "-IS", "-", "sessions", host.user]
        printed = children.run([*login, *there, *program], stdin=PROGRAM.read_bytes())
    return int(printed.split()[-1])
