"""own: doit's own commands, which get our help and refusals."""

from __future__ import annotations

import doit.cmd_clean
import doit.cmd_completion
import doit.cmd_strace

from tasks.commands.base import Command, CommandMixin, json_of


class CleanCommand(CommandMixin, doit.cmd_clean.Clean):
    """`doit clean`: no stage leaves files that it would remove."""

    name = "clean"
    doc_purpose = (
        "remove the files that stages leave (none here does; an environment goes by `doit teardown`)"
    )
    doc_usage = "[STAGE ...]"


class CompletionCommand(CommandMixin, doit.cmd_completion.TabCompletion):
    """`doit tabcompletion`: completion for a shell."""

    name = "tabcompletion"
    doc_purpose = "print a script that completes commands and stages in a shell"


class DumpCommand(Command):
    """`doit dumpdb`: prints the records of the environment's stages. doit's own reads a file, which is not used here."""

    name = "dumpdb"
    doc_purpose = "print the records of the environment's stages, as JSON"

    def _execute(self) -> int:
        found = {each.name: self.dep_manager.backend.record(each.name) for each in self.task_list}
        self.console.line(json_of({name: record for name, record in found.items() if record}))
        return 0


class TraceCommand(CommandMixin, doit.cmd_strace.Strace):
    """`doit strace`: which files a command of a task opens; the stages here are functions."""

    name = "strace"
    doc_purpose = "trace which files a stage opens (for stages that are commands)"
    doc_usage = "STAGE"
