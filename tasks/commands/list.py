"""list: `doit list` and `doit info`: the stages, and what each depends on."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import doit.cmd_info
import doit.cmd_list

from tasks.commands.base import AS_JSON, Asked, json_of, missing
from tasks.console.console import WIDTH
from tasks.graph import due


class ListCommand(Asked, doit.cmd_list.List):
    """`doit list`: the stages in the graph's order; `--deps` shows each path with its git id, `--status` what is due."""

    name = "list"
    cmd_options = (*doit.cmd_list.List.cmd_options, AS_JSON)

    def execute(self, params: Any, args: Any) -> Any:
        """List the tasks."""
        params.update_defaults({"sort": "definition"})
        self.as_json, self.status = params["as_json"], params["status"]
        params["status"] = False  # doit's own is a letter
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
            return  # what git is not asked for need not be loaded
        for part in with_parts(task, tasks):
            for line in inputs_of(part, self.dep_manager):
                self.outstream.write(f" -  {line}\n")


class InfoCommand(Asked, doit.cmd_info.Info):
    """`doit info STAGE`: doit's own, then each path with its git id."""

    name = "info"

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> Any:
        tasks = {each.name: each for each in self.task_list}
        if pos_args and pos_args[0] not in tasks:
            raise missing(self.task_list, pos_args[0])
        result = super()._execute(pos_args, hide_status)
        self.outstream.write("\ngit ids    :\n")
        for part in with_parts(tasks[pos_args[0]], tasks):
            for line in inputs_of(part, self.dep_manager):
                self.outstream.write(f" - {line}\n")
        return result


def with_parts(task: Any, tasks: dict[str, Any]) -> list[Any]:
    """A task, and what it is a group of."""
    return [task, *(tasks[name] for name in (task.task_dep if task.has_subtask else ()))]


def inputs_of(task: Any, dep_manager: Any) -> Iterator[str]:
    """Each path that a task depends on, with its git id."""
    width = max((len(path) for path in task.file_dep), default=0)
    for path in sorted(task.file_dep):
        found = dep_manager.checker.id(path)
        yield f"{path:<{width}}  {found[:12] if found else 'missing'}"
