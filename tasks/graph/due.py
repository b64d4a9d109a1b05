"""due: whether each stage of the graph is due, and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tasks.graph import plan
from tasks.graph.inputs import NEW

ON_DEMAND = "on demand"
"""The state of a task without inputs to compare: it is never due."""
ORDER = (ON_DEMAND, "unchanged", "ignored", "point", "maybe", "run")
SHOWN = 3
"""Reasons that a line has at most."""


@dataclass(frozen=True, kw_only=True)
class Due:
    """The state of a task or of a group. `what`: the plan's verdict; `at`: when the record was written."""

    task: str
    what: str
    why: tuple[str, ...]
    at: str = ""
    seconds: float | None = None


def of(task: Any, tasks: dict[str, Any], dep_manager: Any) -> Due:
    """The state of a task. A group has the state of the part with most to do."""
    parts = [each for each in task.task_dep if tasks[each].subtask_of == task.name] or [task.name]
    by_task = {each.task: each for each in plan.verdicts(tasks, parts, dep_manager)}
    found = [_state(by_task[each], dep_manager) for each in parts]
    first = max(found, key=lambda each: ORDER.index(each.what))
    why = tuple(dict.fromkeys(reason for each in found if each.what == first.what for reason in each.why))
    return Due(task=task.name, what=first.what, why=why, at=first.at, seconds=first.seconds)


def words(found: Due) -> str:
    """The reasons in one line; of many, the first ones."""
    if NEW in found.why:
        return NEW
    first, more = found.why[:SHOWN], len(found.why[SHOWN:])
    since = f" ({found.at})" if found.what == "unchanged" and found.at else ""
    return "; ".join(first) + (f" and {more} more" if more else "") + since


def of_all(tasks: dict[str, Any], dep_manager: Any) -> list[Due]:
    """The state of every task that has actions."""
    return [
        _state(each, dep_manager)
        for each in plan.verdicts(tasks, [name for name in tasks if tasks[name].actions], dep_manager)
    ]


def _state(verdict: plan.Verdict, dep_manager: Any) -> Due:
    what = ON_DEMAND if verdict.reasons == (plan.ALWAYS,) else verdict.what
    at = dep_manager.backend.at.get(verdict.task, "")
    return Due(task=verdict.task, what=what, why=verdict.reasons, at=at, seconds=verdict.seconds)
