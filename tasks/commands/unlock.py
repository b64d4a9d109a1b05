"""unlock: `doit unlock`: take the lease of the environment from the run that holds it."""

from __future__ import annotations

import sys

from tasks.bucket.lease import Lease
from tasks.commands.base import Command, flag, run_of
from tasks.refusal import Refusal


class UnlockUnconfirmed(Refusal):
    """`doit unlock` would take the lease from its holder, and was not confirmed."""

    sentence = "unlock: {identity} is held by {holder}: not taken without a yes"
    remedy = "doit status"


class UnlockCommand(Command):
    """`doit unlock`: takes the environment from the run that holds it."""

    name = "unlock"
    doc_purpose = "take the environment from the run that holds it"
    cmd_options = (flag("yes", "do not ask", short="y"),)

    def _execute(self, yes: bool = False) -> int:
        run = run_of(self.task_list)
        lease = Lease(run)
        found = lease.look()
        if found.readable and not found.holder:
            self.console.line(f"{run.identity} is not held")
            return 0
        holder = str(found.holder or "an unknown run")
        life = f"last sign of life {found.age:.0f} s ago"
        if not yes and not _confirmed(f"{run.identity} is held by {holder}, {life}. Take it? [y/N] "):
            raise UnlockUnconfirmed(identity=run.identity, holder=f"{holder}, {life}")
        lease.seize(run.console.say("unlock"))
        self.console.line(f"{run.identity} is taken from {holder}: the next run may begin")
        return 0


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
