"""drill: `doit drill`: restore the newest backup on a throw-away host, and say whether it is what was backed up."""

from __future__ import annotations

from tasks import drill
from tasks.backup import host
from tasks.commands.base import Command, run_of
from tasks.graph import summary


class DrillCommand(Command):
    """`doit drill`: whether the newest backup can be restored, shown by a restore on a host of its own."""

    name = "drill"
    doc_purpose = "restore the newest backup on a throw-away host, and compare it with what was backed up"
    doc_description = (
        "Of the environment that is typed (environment=NAME), else of each one here that backs up. The host reaches the bucket alone, "
        "and is removed in any case. A backup that was not restored counts as none: doit status."
    )

    def _execute(self) -> int:
        run = run_of(self.task_list)
        lines = list[str]()
        try:
            for line in host.of_each(run, self.name, drill.hold):
                self.console.line(line)
                lines.append(line)
        finally:
            summary.of_lines(run, self.name, lines)
        return 0
