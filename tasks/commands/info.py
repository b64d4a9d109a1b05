"""info: `doit info STAGE`: describe a stage, its inputs, and which of them have changed since it last ran."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import doit.cmd_info

from tasks.commands.base import Command, known
from tasks.graph import describe, due
from tasks.graph.inputs import NEW


class InfoCommand(Command):
    """`doit info STAGE`: describes a stage. With doit's own option `--no-status`, it asks and starts no cloud."""

    name = "info"
    doc_purpose = "show what a stage depends on, and what of that has changed since it last ran"
    doc_usage = "STAGE"
    cmd_options = (
        {
            **doit.cmd_info.opt_hide_status,
            "help": "ask no cloud: do not show whether the stage is due, nor what has changed",
        },
    )

    def _execute(self, pos_args: list[str] | None = None, hide_status: bool = False) -> int:
        if len(pos_args or ()) != 1:
            raise self.misread(pos_args or [])
        (name,) = known(self.task_list, pos_args or [])
        tasks = {each.name: each for each in self.task_list}
        for line in self._lines(tasks[name], tasks, status=not hide_status):
            self.outstream.write(f"{line}\n")
        return 0

    def _lines(self, task: Any, tasks: dict[str, Any], *, status: bool) -> Iterator[str]:
        yield task.name
        yield ""
        yield task.doc or tasks[task.subtask_of].doc
        if status:
            found = due.of(task, tasks, self.dep_manager)
            yield ""
            reasons = [NEW] if NEW in found.why else found.why
            since = f" since {found.at}" if found.what == "unchanged" and found.at else ""
            yield from (
                f"status: {found.what}{since}: {reason}" for reason in reasons or ["every input is as it was"]
            )
        parts = with_parts(task, tasks)
        for part in parts:
            yield ""
            if len(parts) > 1:
                yield f"{part.name}"
            yield from self._of_one(part, compare=status)

    def _of_one(self, task: Any, *, compare: bool) -> Iterator[str]:
        yield from describe.relations(task)
        paths = describe.inputs(task, self.dep_manager, compare=compare)
        named = describe.named(task, self.dep_manager, compare=compare)
        if paths:
            yield "inputs, with their git ids"
            yield from (f"  {line}" for line in describe.by_folder(paths))
        if named:
            yield "settings and versions"
            yield from (f"  {line}" for line in describe.by_name(named))


def with_parts(task: Any, tasks: dict[str, Any]) -> list[Any]:
    """The task, or the parts of the group."""
    if not task.has_subtask:
        return [task]
    return [tasks[name] for name in task.task_dep if tasks[name].subtask_of == task.name]
