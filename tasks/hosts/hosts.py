"""hosts: plays a playbook, or runs a small program, on an environment's hosts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tasks.console.console import Console
from tasks.hosts import ansible, phased, ssh
from tasks.hosts.ansible import Recap
from tasks.hosts.phased import Answer, Program
from tasks.hosts.ssh import Host
from tasks.process import bounds


class Hosts:
    """The hosts, over SSH. The run is given this value, so that a test can give it another."""

    def play(
        self,
        playbook: str,
        *,
        hosts: Sequence[Host],
        variables: Mapping[str, object],
        strategy: str,
        console: Console,
        log: Path | None,
        own: ansible.Own | None = None,
        differ: bool = False,
    ) -> Recap:
        """Play `playbooks/PLAYBOOK.yml`. `own`: variables that each host alone has; `differ`: with them, they have other roles.

        Raises a refusal of the play, or of SSH.
        """
        play = ansible.play_each if differ else ansible.play
        return play(
            playbook, hosts=hosts, variables=variables, own=own, strategy=strategy, console=console, log=log
        )

    def phases(
        self,
        program: Program,
        phases: Sequence[str],
        *,
        stage: str,
        hosts: Sequence[Host],
        plan: Mapping[str, object],
        console: Console,
        log: Path | None,
    ) -> list[Answer]:
        """Run phases of a program on all hosts; `log` gets their steps. Raises PhaseFailed, or a refusal of SSH."""
        say = console.say(stage)

        def ask(host: Host, text: str) -> str:
            return ssh.python(
                host, stage, text, say=lambda line: phased.progress(line, say), seconds=bounds.PLAY
            )

        answers = phased.perform(program, phases, plan, stage=stage, hosts=hosts, ask=ask)
        return phased.accept(answers, stage=stage, console=console, log=log)

    def connected(self, hosts: Sequence[Host]) -> AbstractContextManager[Sequence[Host]]:
        """The hosts, for calls that share one connection to each."""
        return ssh.connected(hosts)

    def offered(self, address: str, proxy: str = "") -> list[str]:
        """The public SSH keys that whatever answers at an address offers. Nobody vouches for them."""
        return ssh.offered(address, proxy=proxy)

    def python(self, host: Host, stage: str, program: str, *, seconds: float = bounds.HOST) -> str:
        """Run a Python program on the host as root; return what it prints. Raises a refusal of SSH, or CommandFailed."""
        return ssh.python(host, stage, program, seconds=seconds)
