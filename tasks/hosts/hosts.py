"""hosts: what the pipeline asks of an environment's machines: to play a playbook, or to run a small program there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from tasks.console.console import Console
from tasks.hosts import ansible, ssh
from tasks.hosts.ansible import Recap
from tasks.hosts.ssh import Host


class Hosts:
    """The real ones, over SSH. It is handed to the run, so that a test can hand in others."""

    def play(
        self,
        playbook: str,
        *,
        hosts: Sequence[Host],
        variables: Mapping[str, object],
        strategy: str,
        console: Console,
        log: Path | None,
    ) -> Recap:
        """Play `playbooks/PLAYBOOK.yml`. Raises a refusal of the play, or of SSH."""
        return ansible.play(
            playbook, hosts=hosts, variables=variables, strategy=strategy, console=console, log=log
        )

    def python(self, host: Host, stage: str, program: str, *, quick: bool = False) -> str:
        """What a Python program prints that runs on the host as root. Raises a refusal of SSH, or CommandFailed."""
        return ssh.python(host, stage, program, quick=quick)
