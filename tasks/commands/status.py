"""status: `doit status` and `doit history`: show every environment, and what went live in one."""

from __future__ import annotations

import datetime

from tasks.bucket import layout
from tasks.commands.base import AS_JSON, Command, flag, json_of, run_of
from tasks.environments import status
from tasks.release import figures, history

SUBJECT = 60
"""Characters of a commit's subject that fit into a line."""


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
    doc_purpose = "show what went live in the environment, when, by whom and why"
    cmd_options = (AS_JSON, flag("verify", "check that no entry was changed since it was written"))

    def _execute(self, as_json: bool = False, verify: bool = False) -> int:
        run = run_of(self.task_list)
        found = history.whole(run.store, run.identity)
        for line in [json_of(found.releases)] if as_json else _shown(found, run.identity):
            self.console.line(line)
        if verify and (document := run.store.read(layout.history(run.identity))):
            for line in history.verify(document.value).words():
                self.console.line(line)
        return 0


def _shown(found: history.History, identity: str) -> list[str]:
    if not found.releases:
        return [f"{identity} has no release yet"]
    heads = ("live since", "release", "commit", "branch", "by", "s", "why")
    rows = [
        (
            *(each.at, each.digest.id, each.commit.marked, each.branch, each.by),
            *(f"{each.seconds:.1f}" if each.seconds else "", each.why[:SUBJECT]),
        )
        for each in found.releases
    ]
    return [
        *status.columns([heads, *rows]),
        figures.figures(found, datetime.datetime.now(datetime.UTC)).words(),
    ]
