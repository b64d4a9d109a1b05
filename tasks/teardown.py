"""teardown: deletes everything of an environment: its machines, its name, its keys, its secrets."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from tasks.bucket import create
from tasks.graph.stage import Outcome
from tasks.infrastructure import find, memory, secrets
from tasks.infrastructure.apply import apply
from tasks.infrastructure.plan import Existing, teardown_plan
from tasks.release import history
from tasks.server import ledger

if TYPE_CHECKING:
    from tasks.run import Run


def tear_down(run: Run) -> Outcome:
    """Plan the deletion of everything, and apply it."""
    # read first: a run that takes the lease while this one stands still writes them anew
    released, noted = history.version(run.store, run.identity), memory.version(run.store, run.identity)
    ledgers = ledger.stored(run.store, run.identity)
    found = find.everything(run)
    for name, words in found.foreign.items():
        run.console.event("teardown", f"leaves {name}, {words}")
    if found != Existing():  # a list may not show yet what was made last
        found = dataclasses.replace(found, secrets=secrets.expected(run.secrets_folder, found.secrets))
    changes = teardown_plan(run.name, run.pipeline.dns_zone, found)
    for change in changes:
        run.console.event("teardown", str(change))
        apply(run, change)
    if create.bucket_exists(run.store, run.pipeline.name):
        memory.forget(run.store, run.identity, noted)
        ledger.forget(run.store, ledgers)
        history.forget(run.store, run.identity, released)
    return Outcome(
        facts={},
        done=f"{run.identity} is gone, {len(changes)} changes",
        unchanged=f"nothing of {run.identity} is there",
        changed=bool(changes),
    )
