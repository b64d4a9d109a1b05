"""commands: what doit can be asked beside its tasks; where doit has the command, ours adds to it."""

from __future__ import annotations

import functools
import sys
from typing import Any

from tasks import cloud
from tasks.refusal import Refusal, StageForbidden, UnknownTask

AS_JSON: dict[str, Any] = {
    "name": "as_json",
    "short": "",
    "long": "json",
    "type": bool,
    "default": False,
    "help": "print JSON, for programs",
}
"""The option of every command that shows something."""


def json_of(value: object) -> str:
    """What a program reads: dataclasses as objects, times as ISO 8601."""
    import dataclasses
    import json

    def plain(each: Any) -> object:
        return dataclasses.asdict(each) if dataclasses.is_dataclass(each) else str(each)  # type: ignore[arg-type]

    return json.dumps(value, indent=1, default=plain)


def refusing(method: Any) -> Any:
    """A refusal on the way of a command is one sentence and an exit code, no traceback."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **keywords: Any) -> Any:
        try:
            return method(self, *args, **keywords)
        except Refusal as refusal:
            said = refusal
        except Exception as error:
            if not (unanswered := cloud.refusal_of(error)):
                raise
            said = unanswered
        sys.stderr.write(f"{said.text}\n")
        return said.exit_code

    return guarded


def run_of(tasks: list[Any]) -> Any:
    """The run that the tasks belong to."""
    return next(each.meta["run"] for each in tasks if each.meta)


def missing(tasks: list[Any], name: str) -> Refusal:
    """The refusal for a task that is not in the graph: forbidden here, or unknown."""
    from tasks.settings import Stage

    run = run_of(tasks)
    if name in Stage.__args__:  # type: ignore[attr-defined]
        return StageForbidden(stage=name, environment=run.environment_name)
    return UnknownTask(name=name, known=", ".join(each.name for each in tasks if not each.subtask_of))


def known(tasks: list[Any], chosen: list[str]) -> list[str]:
    """The chosen names, all of which the graph has. Raises what `missing` gives."""
    names = {each.name for each in tasks}
    for each in chosen:
        if each not in names:
            raise missing(tasks, each)
    return chosen
