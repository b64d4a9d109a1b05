"""forget: `doit forget`, `doit ignore` and `doit reset-dep`: change the records by hand."""

from __future__ import annotations

from typing import Any

import doit.cmd_forget
import doit.cmd_ignore
import doit.cmd_resetdep

from tasks.commands.base import CommandMixin, run_of
from tasks.refusal import Refusal


class RecordByHand(Refusal):
    """`doit ignore` or `doit reset-dep` in an environment that all branches share: its records must say what its stages did."""

    sentence = "{command}: {environment} proves what it runs: only its stages write its records"
    remedy = "doit forget {stages}"


class ForgetCommand(CommandMixin, doit.cmd_forget.Forget):
    """`doit forget STAGE`: the stage runs again next time."""

    name = "forget"
    doc_purpose = "forget what stages have done: they run again next time"
    doc_usage = "[STAGE ...]"


class ByHand(CommandMixin):
    """A mixin for the commands that make a stage look done or skip it: only where every branch has its own environment."""

    def _execute(self, pos_args: Any = None) -> Any:
        run = run_of(self.task_list)  # type: ignore[attr-defined]
        if not run.environment.per_branch:
            stages = " ".join(pos_args or ["release"])
            raise RecordByHand(command=self.name, environment=run.environment_name, stages=stages)  # type: ignore[attr-defined]
        return super()._execute(pos_args)  # type: ignore[misc]


class IgnoreCommand(ByHand, doit.cmd_ignore.Ignore):
    """`doit ignore STAGE`: the stage is skipped until it is forgotten."""

    name = "ignore"
    doc_purpose = "skip stages until they are forgotten"
    doc_usage = "STAGE ..."


class ResetCommand(ByHand, doit.cmd_resetdep.ResetDep):
    """`doit reset-dep`: records the inputs as they are now, without running anything."""

    name = "reset-dep"
    doc_purpose = "record the inputs as they are now, without running anything"
    doc_usage = "[STAGE ...]"
