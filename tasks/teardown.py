"""teardown: leave nothing of an environment: its machines, its name, its keys, its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.bucket import create
from tasks.graph.stage import Outcome
from tasks.infrastructure import apply as ec2
from tasks.infrastructure import launches
from tasks.infrastructure import stage as infrastructure
from tasks.release import history
from tasks.server import ledger

if TYPE_CHECKING:
    from tasks.run import Run


def tear_down(run: Run) -> Outcome:
    """Plan for nothing, and apply."""
    name = f"{run.pipeline.name}-{run.identity}"
    changes = infrastructure.teardown_plan(name, run.host_name, ec2.find(run))
    for change in changes:
        run.console.event("teardown", str(change))
        ec2.apply(run, change)
    if create.bucket_exists(run):
        launches.forget(run)
        ledger.forget(run.store, run.identity)
        history.forget(run.store, run.identity)
    return Outcome(
        facts={},
        done=f"{run.identity} is gone, {len(changes)} changes",
        unchanged=f"nothing of {run.identity} is there",
        changed=bool(changes),
    )
