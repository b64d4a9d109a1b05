"""help: `doit help`: the help of doit, a command or a stage; the same as with `--help`."""

from __future__ import annotations

from typing import Any

import doit.cmd_help

from tasks.commands import usage
from tasks.commands.base import Command, missing


class HelpCommand(Command):
    """`doit help [COMMAND|STAGE]`: what can be typed. It needs no cloud and no git."""

    name = "help"
    doc_purpose = "show what can be typed, in all or of a command or stage"
    doc_usage = "[COMMAND|STAGE]"

    def execute(self, params: Any, args: list[str]) -> Any:
        """Print the help. dodo.py is loaded only for a stage."""
        if len(args) > 1:
            raise self.misread(args)
        if args and args[0] not in self.cmds:
            return super().execute(params, args)
        self.outstream.write(page(self, args[0] if args else "run") + "\n")
        return 0

    def _execute(self, pos_args: list[str]) -> int:
        (name,) = pos_args
        task = next((each for each in self.task_list if each.name == name), None)
        if not task:
            raise missing(self.task_list, name, self.cmds)
        doc = task.doc or next(each.doc for each in self.task_list if each.name == task.subtask_of)
        self.outstream.write(usage.of_stage(self.other("run"), name, doc) + "\n")
        return 0


def page(command: Any, name: str) -> str:
    """The help of a command. `run` need not be typed, so its help is that of doit."""
    asked = command.other(name)
    return usage.of_all(asked, command.cmds.to_dict()) if name == "run" else usage.of_command(asked)


def _print_all(self: Any, commands: dict[str, Any]) -> None:
    run = commands["run"](cmds=self._cmds, **self.init_kwargs)
    self.outstream.write(usage.of_all(run, commands) + "\n")


# doit handles a bare `doit --help` itself, before any command: make it print the same as `doit help`
doit.cmd_help.Help.print_usage = _print_all
