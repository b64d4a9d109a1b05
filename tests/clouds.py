"""Runs of the pipeline against the embedded cloud's own server, with no containers behind it."""

from __future__ import annotations

from pathlib import Path

from tasks import run as runs
from tasks.cloud.embedded import lifecycle


class Killed(BaseException):
    """The run dies here."""


class Paperhouse(lifecycle.Embedded):
    """Hosts without a console; and, when told so, a death after a number of calls that change something."""

    def __init__(self, region, identity):
        super().__init__(region, identity)
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


def run_in(root: Path, cloud: lifecycle.Embedded, **variables: str) -> runs.Run:
    """A run of the checkout at `root` in that cloud."""
    run = runs.read(root, variables)
    run.__dict__["cloud"] = cloud  # what the cached property would connect to
    return run
