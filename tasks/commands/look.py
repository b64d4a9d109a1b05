"""look: `doit list` and `doit info`: the stages, and what each depends on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import doit.cmd_info
import doit.cmd_list

from tasks.commands import missing, refusing


class List(doit.cmd_list.List):
    """`doit list`: the stages in the graph's order; `--deps` shows each path with its git id."""

    name = "list"

    @refusing
    def execute(self, params: Any, args: Any) -> Any:
        """List the tasks."""
        params.update_defaults({"sort": "definition"})
        return super().execute(params, args)

    def _print_task(
        self, template: str, task: Any, status: bool, list_deps: bool, tasks: dict[str, Any]
    ) -> None:
        super()._print_task(template, task, status, False, tasks)
        if not list_deps:
            return  # what git is not asked for need not be loaded
        for part in with_parts(task, tasks):
            for line in inputs_of(part, self.dep_manager):
                self.outstream.write(f" -  {line}\n")


class Info(doit.cmd_info.Info):
    """`doit info STAGE`: doit's own, then each path with its git id."""

    name = "info"

    @refusing
    def execute(self, params: Any, args: Any) -> Any:
        """Show one task."""
        return super().execute(params, args)

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
