"""releases: `doit releases`: what the environment's machines have."""

from __future__ import annotations

from tasks.commands.base import AS_JSON, Command, json_of, run_of
from tasks.environments import releases


class ReleasesCommand(Command):
    """`doit releases`: the releases on the machines: the current one, the one to go back to, and what was undone."""

    name = "releases"
    doc_purpose = "show the releases on the machines: what runs, and what `rollback` goes to"
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False) -> int:
        found = releases.look(run_of(self.task_list))
        for line in [json_of(found)] if as_json else releases.lines(found):
            self.console.line(line)
        return 0
