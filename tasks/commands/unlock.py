"""unlock: take the environment from the run that holds it."""

from __future__ import annotations

import sys

from doit.cmd_base import DoitCmdBase

from tasks import report
from tasks.commands import refusing, run_of
from tasks.refusal import UnknownTask, UnlockUnconfirmed


class Unlock(DoitCmdBase):
    """`doit unlock`: takes the environment from the run that holds it."""

    name = "unlock"
    doc_purpose = "take the environment from the run that holds it"
    doc_usage = ""
    doc_description = None
    cmd_options = (
        {
            "name": "yes",
            "short": "y",
            "long": "yes",
            "type": bool,
            "default": False,
            "help": "do not ask",
        },
    )

    @refusing
    def _execute(self, yes: bool = False, pos_args: list[str] | None = None) -> int:
        from tasks.lease import Lease

        if pos_args:
            raise UnknownTask(name=f"unlock {' '.join(pos_args)}", known="unlock, without a stage")
        run = run_of(self.task_list)
        lease = Lease(run)
        found = lease.look()
        if found.readable and not found.holder:
            report.console.line(f"{run.identity} is held by nobody")
            return 0
        holder = str(found.holder or "nobody can tell whom")
        life = f"last sign of life {found.age:.0f} s ago"
        if not yes and not _confirmed(f"{run.identity} is held by {holder}, {life}. Take it? [y/N] "):
            raise UnlockUnconfirmed(identity=run.identity, holder=f"{holder}, {life}")
        lease.seize(run.say("unlock"))
        report.console.line(f"{run.identity} is taken from {holder}: the next run may begin")
        return 0


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")
