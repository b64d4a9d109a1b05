"""sleep: the commands `doit sleep` and `doit wake`."""

from __future__ import annotations

from doit.cmd_base import DoitCmdBase

from tasks import report
from tasks.commands import refusing, run_of
from tasks.refusal import UnknownTask


class Sleep(DoitCmdBase):
    """`doit sleep`: stops the environment's machines; everything on them is kept."""

    name = "sleep"
    doc_purpose = "stop the environment's machines; everything on them is kept"
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: list[str] | None = None) -> int:
        from tasks import sleep

        if pos_args:
            raise UnknownTask(name=f"sleep {' '.join(pos_args)}", known="sleep, without a name")
        run = run_of(self.task_list)
        stopped = sleep.sleep(run)
        report.console.line(f"{run.identity} sleeps: {', '.join(stopped)}; doit wake, or a release, wakes it")
        return 0


class Wake(DoitCmdBase):
    """`doit wake`: starts the machines again that `doit sleep` has stopped."""

    name = "wake"
    doc_purpose = "start the environment's machines again"
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: list[str] | None = None) -> int:
        from tasks import sleep

        if pos_args:
            raise UnknownTask(name=f"wake {' '.join(pos_args)}", known="wake, without a name")
        run = run_of(self.task_list)
        report.console.line(f"{', '.join(sleep.wake(run))} is awake")
        report.console.line(run.url)
        return 0
