"""bench: how long a release with nothing to do takes, beside Ansible run again on the same host, in one run.

Prints Markdown. Runs in a copy of the checkout and in a cloud of its own, which it deletes at the end.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.release import DOIT, TIMES, doit, median, project
from tasks.commands import command_line
from tasks.hosts import ansible
from tasks.infrastructure import hosts
from tasks.infrastructure import stage as infrastructure
from tasks.server import stage as server

PLAYS = 3
"""Plays of each kind: they take seconds, and differ little."""


def main() -> None:
    """Measure and print."""
    with project() as root:
        doit(root, "release")
        table(root)


def table(root: Path) -> None:
    """A row for each way to find out that there is nothing to do."""
    skip = median(root, "release")
    rows = [
        (f"`doit release`, nothing to do (median of {TIMES})", skip, "1.0"),
        (f"`doit list` (median of {TIMES})", median(root, "list"), "0.35"),
    ]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        for strategy in ("mitogen_linear", "linear"):
            seconds = statistics.median(again(root, Path(folder), strategy) for _ in range(PLAYS))
            rows.append(
                (f"`ansible-playbook server.yml` again, {strategy} (median of {PLAYS})", seconds, "-")
            )
    print("| nothing to do | seconds | reference | × `doit release` |\n| --- | --- | --- | --- |")  # noqa: T201
    for what, seconds, reference in rows:
        print(f"| {what} | {seconds:.2f} | {reference} | {seconds / skip:.1f} |")  # noqa: T201


def again(root: Path, folder: Path, strategy: str) -> float:
    """Seconds of the playbook on a host where it has nothing to change; fails if it changes something."""
    here = command_line.read(root, {})
    found = infrastructure.existing(here)
    own = {each.id: server.beside(here, found, each) for each in found}
    inventory = ansible._inventory(folder, hosts.reachable(here, found), server.variables(here), own)
    environ = {**os.environ, **ansible._environment(folder, strategy)}
    play = [str(DOIT.parent / "ansible-playbook"), "-i", str(inventory)]
    begun = time.monotonic()
    done = subprocess.run(
        [*play, "playbooks/server.yml"], cwd=root, env=environ, capture_output=True, text=True
    )
    seconds = time.monotonic() - begun
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    if set(re.findall(r"changed=(\d+)", done.stdout)) != {"0"}:
        sys.exit(done.stdout)
    return seconds


if __name__ == "__main__":
    main()
