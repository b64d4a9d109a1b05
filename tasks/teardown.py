"""teardown: leave nothing of an environment: its machines, its name, its keys, its secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks import ec2, history, infrastructure, ledger, machines, report, shared
from tasks.graph import Outcome

if TYPE_CHECKING:
    from tasks.run import Run

VOID = ("release", "server", "infrastructure:environment")
"""Records that say what was true of the machines. Voided first: a killed teardown must not look released."""


def tear_down(run: Run) -> Outcome:
    """Plan for nothing, and apply."""
    from doit import Globals

    for task in VOID:
        Globals.dep_manager.backend.void(task)
    name = f"{run.pipeline.name}-{run.identity}"
    changes = infrastructure.teardown_plan(name, run.host_name, ec2.find(run))
    for change in changes:
        report.console.event("teardown", str(change))
        ec2.apply(run, change)
    if shared.bucket_exists(run):
        machines.forget(run)
        ledger.forget(run)
        history.forget(run)
    return Outcome(
        facts={},
        done=f"{run.identity} is gone, {len(changes)} changes",
        unchanged=f"nothing of {run.identity} is there",
        changed=bool(changes),
    )
