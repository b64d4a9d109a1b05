"""own: doit's own commands, which get our help and refusals."""

from __future__ import annotations

import doit.cmd_clean
import doit.cmd_completion
import doit.cmd_dumpdb
import doit.cmd_strace

from tasks.commands.base import CommandMixin


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


class DumpCommand(CommandMixin, doit.cmd_dumpdb.DumpDB):
    """`doit dumpdb`: prints doit's own database file, which is not used here."""

    name = "dumpdb"
    doc_purpose = "dump a file of doit's records (here they lie in the bucket, as JSON)"


class TraceCommand(CommandMixin, doit.cmd_strace.Strace):
    """`doit strace`: which files a command of a task opens; the stages here are functions."""

    name = "strace"
    doc_purpose = "trace which files a stage opens (for stages that are commands)"
    doc_usage = "STAGE"
