"""cloud: start, stop, show or delete the embedded cloud."""

from __future__ import annotations

from collections.abc import Callable

from tasks.cloud.embedded import lifecycle, status
from tasks.commands.base import Command


class CloudCommand(Command):
    """`doit cloud VERB`: starts, stops, shows or deletes the embedded cloud."""

    name = "cloud"
    doc_purpose = "the embedded cloud: start, stop, status, delete; env: variables for the AWS command line"
    doc_usage = "start|stop|status|env|delete"

    def _execute(self, pos_args: list[str] | None = None) -> int:
        def say(words: str) -> None:
            self.console.progress("cloud", words)

        verbs: dict[str, Callable[[], list[str]]] = {
            "start": lambda: lifecycle.start(say),
            "stop": lambda: lifecycle.stop(say),
            "status": status.lines,
            "env": status.variables,
            "delete": lambda: lifecycle.delete(say),
        }
        verb = pos_args[0] if pos_args else ""
        if verb not in verbs or len(pos_args or ()) != 1:
            raise self.misread(pos_args or [])
        for line in verbs[verb]():
            self.console.line(line)
        return 0
