"""clouds: runs of the pipeline against the embedded cloud's server without containers."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tasks.cloud.embedded import client
from tasks.cloud.interface import Cloud
from tasks.commands import command_line
from tasks.console.console import Console
from tasks.hosts.ansible import Recap
from tasks.hosts.hosts import Hosts
from tasks.infrastructure import secrets
from tasks.run import Run


class Killed(BaseException):
    """The run is killed here."""


class QuietCloud(client.Embedded):
    """A cloud whose hosts have no console. `dies_after`: kill the run after so many calls that change something."""

    def __init__(self, region, identity, job=None):
        super().__init__(region, lambda: identity, job)
        self.calls, self.dies_after = [], None

    def host_keys(self, instance_id, say):
        return [f"ssh-ed25519 {instance_id}"]

    def _connect(self, service):
        client = super()._connect(service)
        client.meta.events.register("after-call", self._count)
        return client

    def _count(self, model, **_):
        if model.name.startswith(("Get", "List", "Describe", "Head")):
            return
        self.calls.append(model.name)
        if self.dies_after is not None and len(self.calls) > self.dies_after:
            raise Killed(model.name)


class UnreachedHosts(Hosts):
    """Hosts to which nobody connects."""

    def connected(self, hosts):
        return contextlib.nullcontext(hosts)


class IdleHosts(UnreachedHosts):
    """Hosts on which every play, and every program, finds nothing to do."""

    def play(self, playbook, **_):
        return Recap(changed=0, ok=0, seconds=0, recorded={})

    def phases(self, program, phases, **_):
        return []


def run_in(
    root: Path, cloud: Cloud, hosts: Hosts | None = None, console: Console | None = None, **variables: str
) -> Run:
    """A run of the checkout at `root` in that cloud."""
    return command_line.read(root, variables, cloud=cloud, hosts=hosts, console=console)


def secrets_of(run: Run) -> secrets.Secrets:
    """The secrets of the run's environment; they are made where there are none yet."""
    return secrets.ensure(run.cloud.client("ssm"), run.secrets_folder, secrets.OF_ROLES)


def authority_of(run: Run) -> str:
    """The authority that vouches for the run's hosts, with its key; empty where there is none yet."""
    return secrets.authority(run.cloud.client("ssm"), run.authority_folder)


def with_search_engine(checkout: Path) -> None:
    """The checkout's testing environments and staging name a search engine, as an account that others use too wants it."""
    for name in ("testing", "staging"):
        settings = checkout / "environments" / f"{name}.yml"
        settings.write_text(f"{settings.read_text()}\nserver: {{search: {{host: search.example.com}}}}\n")
