"""base: what doit can be asked beside its tasks; where doit has the command, ours adds to it."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError

from tasks.cloud import interface as cloud
from tasks.refusal import Refusal, StageForbidden, UnknownOption, UnknownTask, WordsNotTaken

PIPE_CLOSED = 141
"""Exit code of whom nobody listens to, as a shell has it of SIGPIPE."""


def flag(name: str, help: str, *, long: str = "", short: str = "") -> dict[str, Any]:
    """An option that is there or not."""
    long = long or name
    return {"name": name, "short": short, "long": long, "type": bool, "default": False, "help": help}


AS_JSON = flag("as_json", "print JSON, for programs", long="json")
"""The option of every command that shows something."""


def json_of(value: object) -> str:
    """What a program reads: dataclasses as objects, times as ISO 8601."""
    import dataclasses
    import json

    def plain(each: Any) -> object:
        return dataclasses.asdict(each) if dataclasses.is_dataclass(each) else str(each)  # type: ignore[arg-type]

    return json.dumps(value, indent=1, default=plain)


class Asked:
    """Before any of doit's commands: one that is typed wrongly, or declines, is one sentence and an exit code, no traceback."""

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse the command line and do what was asked for."""
        try:
            return super().parse_execute(in_args)  # type: ignore[misc]
        except CmdParseError as error:
            # doit's own words go on with all options that it knows
            problem = str(error).partition(" (parsing options")[0]
            problem = re.sub(r"^Error parsing \w+: ", "", problem)
            problem = re.sub(r"^Error parsing parameter '(\w+)' <class '\w+'>\.\s*", r"--\1: ", problem)
            said: Refusal = UnknownOption(problem=problem.strip(), command=self.name)  # type: ignore[attr-defined]
        except Refusal as refusal:
            said = refusal
        except BrokenPipeError:  # `| head` has seen enough; what is still buffered must not complain at exit
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return PIPE_CLOSED
        except Exception as error:
            if not (unanswered := cloud.refusal_of(error)):
                raise
            said = unanswered
        sys.stderr.write(f"{said.text}\n")
        return said.exit_code


class Command(Asked, DoitCmdBase):
    """A command of our own. `doc_usage`: the words that it takes; `cmd_options`: its options, as keywords of `_execute`."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Refuse words where none are taken, then do it."""
        if args and not self.doc_usage:
            raise self.misread(args)
        return super().execute(params, args)

    def misread(self, words: list[str]) -> Refusal:
        """The refusal of words that are not the ones it takes."""
        typed = " ".join([self.name, *words])
        return WordsNotTaken(typed=typed, usage=f"{self.name} {self.doc_usage}".rstrip(), command=self.name)


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
