"""base: what doit can be asked beside its tasks; where doit has the command, ours adds to it."""

from __future__ import annotations

import os
import re
import sys
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError

from tasks.cloud import errors
from tasks.commands.command_line import typed
from tasks.console.console import Console
from tasks.refusal import UNKNOWN, Refusal

PIPE_CLOSED = 141
"""Exit code of whom nobody listens to, as a shell has it of SIGPIPE."""


class UnknownTask(Refusal):
    """A task or command that does not exist."""

    sentence = "command line: no task or command named {name} (known: {known})"
    remedy = "doit list"
    exit_code = UNKNOWN


class UnknownOption(Refusal):
    """An option that the command does not have."""

    sentence = "command line: {problem}"
    remedy = "doit help {command}"
    exit_code = UNKNOWN


class WordsNotTaken(Refusal):
    """A command with other words than it takes."""

    sentence = "command line: doit {typed}: the command is doit {usage}"
    remedy = "doit help {command}"
    exit_code = UNKNOWN


class StageForbidden(Refusal):
    """A stage that the environment's file does not allow."""

    sentence = "{stage}: does not exist in {environment} (environments/{environment}.yml: stages)"
    remedy = "doit environment={environment} list"
    exit_code = UNKNOWN


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
            if not (unanswered := errors.refusal_of(error)):
                raise
            said = unanswered
        sys.stderr.write(f"{said.told([f'{name}={value}' for name, value in typed().items()])}\n")
        return said.exit_code

    @property
    def console(self) -> Console:
        """Where it speaks."""
        found: Console = run_of(self.task_list).console  # type: ignore[attr-defined]
        return found


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
    run = run_of(tasks)
    if name in next(each.meta["elsewhere"] for each in tasks if each.meta):
        return StageForbidden(stage=name, environment=run.environment_name)
    return UnknownTask(name=name, known=", ".join(each.name for each in tasks if not each.subtask_of))


def known(tasks: list[Any], chosen: list[str]) -> list[str]:
    """The chosen names, all of which the graph has. Raises what `missing` gives."""
    names = {each.name for each in tasks}
    for each in chosen:
        if each not in names:
            raise missing(tasks, each)
    return chosen
