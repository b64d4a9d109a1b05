"""status: `doit status` and `doit history`: show every environment, and what went live in one."""

from __future__ import annotations

import datetime

from tasks.commands.base import AS_JSON, Command, json_of, run_of
from tasks.environments import status
from tasks.release import history


class StatusCommand(Command):
    """`doit status`: every environment, what runs there and whether it answers now."""

    name = "status"
    doc_purpose = "show every environment: what runs there, and whether it answers now"
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False) -> int:
        run = run_of(self.task_list)
        found, now = status.look(run), datetime.datetime.now(datetime.UTC)
        shown = [json_of(found)] if as_json else [*status.lines(found, now), *status.elsewhere(run)]
        for line in shown:
            self.console.line(line)
        return 0


class HistoryCommand(Command):
    """`doit history`: what went live in the environment, when and by whom; the newest last."""

    name = "history"
    doc_purpose = "show what went live in the environment, when and by whom"
    cmd_options = (AS_JSON,)

    def _execute(self, as_json: bool = False) -> int:
        run = run_of(self.task_list)
        found = history.read(run.store, run.identity)
        rows = [(each.at, each.digest.id, each.commit.marked, each.branch, each.by) for each in found]
        shown = status.columns([("live since", "release", "commit", "branch", "by"), *rows])
        for line in (
            [json_of(found)] if as_json else shown if rows else [f"{run.identity} has no release yet"]
        ):
            self.console.line(line)
        return 0
