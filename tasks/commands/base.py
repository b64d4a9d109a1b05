"""base: the base of all commands: help, refusals and exit codes, for our own commands and for doit's."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.dependency import JsonDB
from doit.exceptions import InvalidCommand

from tasks.commands import usage
from tasks.commands.command_line import variables
from tasks.commands.entry import answered
from tasks.console import streams
from tasks.console.console import Console
from tasks.forms import Form
from tasks.graph.state import BucketState
from tasks.nearest import meant, nearest, retyped
from tasks.refusal import UNKNOWN, Refusal


class UnknownTask(Refusal):
    """A task or command that does not exist."""

    sentence = "command line: no task or command named {name} ({meant}known: {known})"
    remedy = "doit {typed}"
    exit_code = UNKNOWN


class UnknownOption(Refusal):
    """An option that the command does not have."""

    sentence = "command line: {problem}"
    remedy = "doit {typed}"
    exit_code = UNKNOWN


class EmptyWord(Refusal):
    """An argument is empty, as where a variable of the shell is not set."""

    sentence = "command line: an argument is empty"
    remedy = "doit help"
    exit_code = UNKNOWN


class WordsNotTaken(Refusal):
    """A command with arguments that it does not take."""

    sentence = "command line: doit {typed}: the command is doit {usage}"
    remedy = "doit help {command}"
    exit_code = UNKNOWN


class StageForbidden(Refusal):
    """A stage that the environment's file does not allow."""

    sentence = "{stage}: does not exist in {environment} (environments/{environment}.yml: stages)"
    remedy = "doit environment={environment} list"
    exit_code = UNKNOWN


def flag(name: str, help: str, *, long: str = "", short: str = "") -> dict[str, Any]:
    """A boolean option."""
    long = long or name
    return {"name": name, "short": short, "long": long, "type": bool, "default": False, "help": help}


AS_JSON = flag("as_json", "print JSON, for programs", long="json")
"""The option of every command that shows something."""


def number(form: Form, kind: type[int] | type[float] = int) -> Callable[[str], float]:
    """The type of an option that takes a number within bounds."""

    def read(text: str) -> float:
        with contextlib.suppress(ValueError):
            if form.holds(value := kind(text)):
                return value
        raise ValueError(f"should be {form.words}, not {text!r}")

    return read


def json_of(value: object) -> str:
    """JSON for programs: dataclasses as objects, times as ISO 8601."""

    def plain(each: Any) -> object:
        return dataclasses.asdict(each) if dataclasses.is_dataclass(each) else str(each)  # type: ignore[arg-type]

    return json.dumps(value, indent=1, default=plain)


class CommandMixin:
    """A mixin for every command: it adds `--help`, and turns a typing error or a refusal into a sentence and an exit code.

    `passes_words_on`: the words from the first argument on belong to another program.
    """

    passes_words_on = False

    def __init__(self, cmds: Any = None, **keywords: Any) -> None:
        self.cmds = cmds
        self.init_keywords = keywords
        super().__init__(cmds=cmds, **keywords)  # type: ignore[call-arg]

    def get_backends(self) -> dict[str, type]:
        """Where doit may keep its records: the bucket, or a file for a graph without one."""
        return {"bucket": BucketState, "json": JsonDB}

    def get_options(self) -> list[Any]:
        """The options that the command takes: none of doit's that have no effect here, or would break the run."""
        found: list[Any] = super().get_options()  # type: ignore[misc]
        for each in found:
            if usage.unused(each):
                each.short = each.long = each.inverse = ""
                each.env_var = None
        return found

    def parse_execute(self, in_args: list[str]) -> Any:
        """Parse the command line and execute the command."""
        try:
            if "" in self.own_words(in_args):
                raise EmptyWord
            if usage.asked(self.own_words(in_args)):
                return self.show_help(in_args)
            return super().parse_execute(in_args)  # type: ignore[misc]
        except CmdParseError as error:
            said: Refusal = misspelt_option(self, str(error), in_args)
        except InvalidCommand as error:
            name = error.not_found or (re.findall(r"^'(.+)' is not a task", str(error)) or [None])[0]
            if not name:
                raise
            said = missing(self.task_list, name, self.cmds if self.name == "run" else ())  # type: ignore[attr-defined]
        except Exception as error:
            return answered(error, variables())
        streams.complain(said.told(variables()))
        return said.exit_code

    def own_words(self, words: list[str]) -> list[str]:
        """The words that belong to this command, not to another program."""
        if not self.passes_words_on:
            return words
        return words[: next((at for at, word in enumerate(words) if not word.startswith("-")), len(words))]

    def show_help(self, words: list[str]) -> int:
        """Print the help of the command."""
        sys.stdout.write(usage.of_command(self) + "\n")
        return 0

    def other(self, name: str) -> Any:
        """Another command, by name."""
        return self.cmds.get_plugin(name)(cmds=self.cmds, **self.init_keywords)

    @property
    def console(self) -> Console:
        """The console of the run."""
        found: Console = run_of(self.task_list).console  # type: ignore[attr-defined]
        return found


class Command(CommandMixin, DoitCmdBase):
    """A command of our own. `doc_usage`: its arguments; `cmd_options`: its options, which are keywords of `_execute`."""

    def execute(self, params: Any, args: list[str]) -> Any:
        """Refuse arguments if the command takes none, then execute it."""
        if args and not self.doc_usage:
            raise self.misread(args)
        return super().execute(params, args)

    def misread(self, words: list[str]) -> Refusal:
        """The refusal of arguments that the command does not take."""
        typed = " ".join([self.name, *words])
        return WordsNotTaken(typed=typed, usage=f"{self.name} {self.doc_usage}".rstrip(), command=self.name)


def run_of(tasks: list[Any]) -> Any:
    """The run that the tasks belong to."""
    return next(each.meta["run"] for each in tasks if each.meta)


def missing(tasks: list[Any], name: str, commands: Iterable[str] = ()) -> Refusal:
    """The refusal of a task that is not in the graph: forbidden in this environment, or unknown. `commands`: names that may be meant too."""
    run = run_of(tasks)
    if name in next(each.meta["elsewhere"] for each in tasks if each.meta):
        return StageForbidden(stage=name, environment=run.environment_name)
    known = [*(each.name for each in tasks), *commands]
    return UnknownTask(
        name=name,
        meant=meant(name, known),
        known=", ".join(each.name for each in tasks if not each.subtask_of),
        typed=retyped(name, nearest(name, known)) or "list",
    )


def misspelt_option(command: Any, error: str, words: Sequence[str]) -> UnknownOption:
    """The refusal of an option, from doit's error message."""
    problem = error.partition(" (parsing options")[0]  # doit adds all options that it knows
    problem = re.sub(r"^Error parsing \w+: ", "", problem)
    problem = re.sub(r"^Error parsing parameter '(\w+)' <.+>\.\s*", r"--\1: ", problem).strip()
    found = re.fullmatch(r"option (-\S+) not recognized", problem)
    if not found:
        return UnknownOption(problem=problem, typed=f"help {command.name}")
    known = [f"--{each.long}" for each in usage.options(command) if each.long]
    right = nearest(found[1], known)
    if right == found[1]:
        problem = f"option {right}: goes before the arguments"
    else:
        problem += f" ({meant(found[1], known)}known: {', '.join([*known, *usage.HELP])})"
    return UnknownOption(
        problem=problem, typed=_with(command.name, found[1], right, words) or f"help {command.name}"
    )


def _with(command: str, wrong: str, right: str | None, words: Sequence[str]) -> str | None:
    """The command line with the right option, which goes before the arguments."""
    at = next((at for at, word in enumerate(words) if word.partition("=")[0] == wrong), None)
    if right is None or at is None:
        return None
    option, *more = words[at:]
    return shlex.join([command, option.replace(wrong, right, 1), *more, *words[:at]])


def known(tasks: list[Any], chosen: list[str]) -> list[str]:
    """The chosen names, if the graph has all of them. Raises the refusal of `missing`."""
    names = {each.name for each in tasks}
    for each in chosen:
        if each not in names:
            raise missing(tasks, each)
    return chosen
