"""list: `doit list`: the stages, what each depends on, and whether it is due."""

from __future__ import annotations

import dataclasses
from typing import Any

import doit.cmd_list

from tasks.commands.base import AS_JSON, CommandMixin, json_of
from tasks.commands.info import with_parts
from tasks.console.console import WIDTH
from tasks.graph import describe, due

HELP = {
    "subtasks": "list the parts of stages as well",
    "quiet": "print names only",
    "status": "print whether each stage is due, and why",
    "list_deps": "print the paths that each stage depends on, with their git ids",
}
"""What doit's own options do here."""


class ListCommand(CommandMixin, doit.cmd_list.List):
    """`doit list`: the stages in the graph's order; `--deps` shows each path with its git id, `--status` what is due."""

    name = "list"
    doc_purpose = "list the stages, what each depends on, and where it stands"
    doc_usage = "[STAGE ...]"
    cmd_options = (
        *({**each, "help": HELP.get(each["name"], each["help"])} for each in doit.cmd_list.List.cmd_options),
        AS_JSON,
    )

    def execute(self, params: Any, args: Any) -> Any:
        """List the tasks."""
        params.update_defaults({"sort": "definition"})
        self.as_json, self.status = params["as_json"], params["status"]
        params["status"] = False  # doit's own status is a letter
        self.shown: list[dict[str, object]] = []
        code = super().execute(params, args)
        if self.as_json:
            self.outstream.write(json_of(self.shown) + "\n")
        return code

    def _print_task(
        self, template: str, task: Any, status: bool, list_deps: bool, tasks: dict[str, Any]
    ) -> None:
        found = due.of(task, tasks, self.dep_manager) if self.status else None
        if self.as_json:
            told = dataclasses.asdict(found) if found else {"task": task.name}
            self.shown.append({**told, "doc": task.doc})
            return
        if found:
            self.outstream.write(f"{found.task:<{WIDTH}} {found.what:<10} {due.words(found)}\n")
            return
        super()._print_task(template, task, False, False, tasks)
        if not list_deps:
            return  # without --deps, git need not be loaded
        for part in with_parts(task, tasks):
            for line in describe.by_folder(describe.inputs(part, self.dep_manager, compare=False)):
                self.outstream.write(f"    {line}\n")
