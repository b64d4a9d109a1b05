"""sleep: `doit sleep` and `doit wake`: stop the environment's machines and start them again."""

from __future__ import annotations

from tasks.commands.base import Command, run_of
from tasks.environments import sleep


class SleepCommand(Command):
    """`doit sleep`: stops the environment's machines; everything on them is kept."""

    name = "sleep"
    doc_purpose = "stop the environment's machines; everything on them is kept"

    def _execute(self) -> int:
        run = run_of(self.task_list)
        stopped = sleep.sleep(run)
        self.console.line(f"{run.identity} sleeps: {', '.join(stopped)}; doit wake, or a release, wakes it")
        return 0


class WakeCommand(Command):
    """`doit wake`: starts the machines again that `doit sleep` has stopped."""

    name = "wake"
    doc_purpose = "start the environment's machines again"

    def _execute(self) -> int:
        run = run_of(self.task_list)
        self.console.line(f"{', '.join(sleep.wake(run))} is awake")
        self.console.line(run.url)
        return 0
