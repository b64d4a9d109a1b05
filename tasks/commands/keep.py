"""keep: `doit keep DAYS`: extend the life of the environment."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.environments import expiry

MOST = 365
"""Days."""


class KeepCommand(Command):
    """`doit keep DAYS`: the environment stays for so many days from now, whatever its branch does."""

    name = "keep"
    doc_purpose = "keep the environment for some days from now, whatever its branch does"
    doc_usage = f"DAYS (1 to {MOST})"

    def _execute(self, pos_args: list[str] | None = None) -> int:
        days = pos_args[0] if pos_args and len(pos_args) == 1 else ""
        if not days.isascii() or not days.isdigit() or not 0 < int(days) <= MOST:
            raise self.misread(pos_args or [])
        run = run_of(self.task_list)
        until = expiry.extend(run, int(days))
        self.console.line(f"{run.identity} is kept until {until:%Y-%m-%d %H:%M} UTC")
        return 0
