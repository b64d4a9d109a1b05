"""cloud: the embedded cloud's own switch."""

from __future__ import annotations

from collections.abc import Callable

from tasks import report
from tasks.commands import Command


class CloudCommand(Command):
    """`doit cloud VERB`: the embedded cloud's own switch."""

    name = "cloud"
    doc_purpose = "the embedded cloud: start, stop, status, delete"
    doc_usage = "start|stop|status|delete"

    def _execute(self, pos_args: list[str] | None = None) -> int:
        from tasks.cloud import embedded

        def say(words: str) -> None:
            report.console.progress("cloud", words)

        verbs: dict[str, Callable[[], list[str]]] = {
            "start": lambda: embedded.start(say),
            "stop": lambda: embedded.stop(say),
            "status": embedded.status,
            "delete": lambda: embedded.delete(say),
        }
        verb = pos_args[0] if pos_args else ""
        if verb not in verbs or len(pos_args or ()) != 1:
            raise self.misread(pos_args or [])
        for line in verbs[verb]():
            report.console.line(line)
        return 0
