"""plan: `doit plan` and `doit why`: show what a run would do, and why, without changing anything."""

from __future__ import annotations

from typing import Any

from tasks import boundary
from tasks.commands.base import AS_JSON, Command, flag, json_of, known, run_of
from tasks.commands.command_line import variables
from tasks.console import streams
from tasks.console.console import WIDTH
from tasks.graph import plan
from tasks.graph.stage import properties
from tasks.infrastructure.stage import NoMachine
from tasks.refusal import FAILED, Refusal
from tasks.server import stage as server


class PlanCommand(Command):
    """`doit plan [TASK...]`: what a run would do, and why; it changes nothing."""

    name = "plan"
    doc_purpose = "show what would run, and why"
    doc_usage = "[TASK ...]"
    cmd_options = (
        flag(
            "detailed_exitcode",
            "exit with 0 when there is nothing to do, 2 when there is, 1 when the plan fails",
            long="detailed-exitcode",
        ),
        AS_JSON,
        flag("diff", "show what Ansible's check mode says that `server` would change"),
    )

    def execute(self, params: Any, args: Any) -> Any:
        """Load the graph and plan. An error must not look like work to do: exit code 1, not 2."""
        try:
            return super().execute(params, args)
        except Refusal:
            raise
        except Exception as error:
            if not params["detailed_exitcode"]:
                raise
            streams.complain(boundary.told(error).told(variables()))
            return FAILED

    def _execute(self, detailed_exitcode: bool = False, as_json: bool = False, diff: bool = False) -> int:
        chosen = known(self.task_list, self.sel_tasks)
        tasks = {each.name: each for each in self.task_list}
        found = plan.verdicts(tasks, chosen, self.dep_manager)
        work = any(verdict.what not in plan.IDLE for verdict in found)
        code = 2 if work and detailed_exitcode else 0
        if as_json:
            self.console.line(json_of(found))
            return code
        for verdict in found:
            if verdict.what == "unchanged" and not properties(tasks[verdict.task]).speaks:
                continue
            first, *more = verdict.reasons or ("",)
            self.console.line(f"{verdict.stage:<{WIDTH}} {verdict.what:<10} {first}".rstrip())
            for reason in more:
                self.console.line(f"{'':<{WIDTH + 11}} {reason}")
        if work:
            self.console.line(plan.expectation(tasks, found))
        if diff:
            self._show_difference()
        return code

    def _show_difference(self) -> None:
        try:
            lines = server.preview(run_of(self.task_list))
        except NoMachine:
            lines = ["server: there is no machine yet to compare with"]
        for line in lines:
            self.console.line(line)


class WhyCommand(Command):
    """`doit why STAGE`: why a stage would run, or that it would not."""

    name = "why"
    doc_purpose = "say why a stage would run"
    doc_usage = "STAGE"

    def _execute(self, pos_args: list[str] | None = None) -> int:
        (name,) = known(self.task_list, pos_args or ["release"])[:1]
        tasks = {each.name: each for each in self.task_list}
        found = plan.verdicts(tasks, [name], self.dep_manager)
        for verdict in (each for each in found if each.stage == name.partition(":")[0]):
            for reason in verdict.reasons:
                self.console.line(f"{verdict.task}: {verdict.what}: {reason}")
            if not verdict.reasons:
                self.console.line(f"{verdict.task}: {verdict.what}: every input is as it was")
        return 0
