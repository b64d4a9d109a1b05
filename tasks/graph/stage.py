"""stage: how a stage becomes a doit task: its inputs, what it waits for, and what its end leaves behind."""

from __future__ import annotations

import datetime
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tasks.cloud import interface as cloud
from tasks.graph import inputs, reporter
from tasks.process import children
from tasks.refusal import Refusal, full_disk
from tasks.run import Run

Task = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a stage leaves.

    `facts` go to the stages that need it, and run those again when they differ. `done` says what it did,
    `unchanged` what holds as long as it is skipped; where that is empty, the skip is not worth a line.
    """

    facts: Mapping[str, Any]
    done: str
    unchanged: str
    changed: bool = True


def stage(
    run: Run,
    action: Callable[..., Outcome],
    *,
    name: str | None = None,
    paths: Sequence[str] = (),
    parts: Mapping[str, object] | Callable[[], Mapping[str, object]] | None = None,
    world: Callable[[Run], list[str]] | None = None,
    meanwhile: Sequence[Callable[[Run], None]] = (),
    after: Sequence[str] = (),
    always: bool = False,
    **needs: str,
) -> Task:
    """The doit task of a stage.

    `paths`: files and folders it depends on, by git id. `parts`: everything else, by name. `world`: asks
    where the world is not as it should be. `meanwhile`: start to find out what later stages will ask.
    `after`: tasks that come first. `needs`: tasks that come
    first and whose facts the action gets, under that keyword. Both leave out stages that the environment does
    not have. `always`: nothing to compare with, the action finds out what there is to do.
    """
    inputs.GitIds.wanted.update(paths)
    here = run.environment.stages
    after = [each for each in after if each.partition(":")[0] in here]
    needs = {keyword: each for keyword, each in needs.items() if each.partition(":")[0] in here}
    # what is started comes first; it returns None, which doit does not count
    checks: list[object] = [*((each, [run]) for each in meanwhile), inputs.Named(parts or {})]
    if world:
        announced = getattr(world, "announced", False)
        checks.append(inputs.World(functools.partial(world, run), announced=announced))
    task: Task = {
        "actions": [(perform, [action, run])],
        "file_dep": list(paths),
        "uptodate": [] if always else checks,
        # both: getargs alone would not run the stage when its upstream changes (doit #367)
        "task_dep": [*after, *needs.values()],
        "getargs": {keyword: (upstream, None) for keyword, upstream in needs.items()},
        "meta": {"run": run},
        # threads share one stdout: stages speak through the console instead
        "io": {"capture": False},
    }
    return task | ({"name": name} if name else {})


def now() -> str:
    """This moment, for records and for people: `2026-11-24 07:46 UTC`."""
    return f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d %H:%M} UTC"


def perform(action: Callable[..., Outcome], run: Run, task: Any, **needs: Any) -> Any:
    """Run one stage: void its record, act, keep its facts. A refusal becomes doit's failed task."""
    from doit import Globals
    from doit.exceptions import TaskFailed

    started = time.monotonic()
    stage_name = task.name.partition(":")[0]
    for check, *_ in task.uptodate:
        for reason in check.changed if isinstance(check, inputs.World) and check.announced else ():
            reporter.console.event(stage_name, reason)
    try:
        with children.at_work(), full_disk(stage_name, ".run"):
            Globals.dep_manager.backend.void(task.name)
            outcome = action(run, **needs)
    except Refusal as refusal:
        return TaskFailed(refusal.text)
    except Exception as error:
        if not (unanswered := cloud.refusal_of(error)):
            raise
        return TaskFailed(unanswered.text)
    told = {"done": outcome.done, "unchanged": outcome.unchanged, "changed": outcome.changed}
    told["seconds"] = round(time.monotonic() - started, 1)
    task.value_savers.append(lambda: told)
    return dict(outcome.facts)
