"""controls: `doit start`, `doit continue`, `doit stop`: environment and stages follow from the branch."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import select
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import doit.cmd_run
from doit import doit_cmd

from tasks import news, settings, source
from tasks import run as runs
from tasks.bucket import lease
from tasks.commands import command_line
from tasks.commands.base import flag, run_of
from tasks.commands.run import RunCommand, gently, selected
from tasks.graph import plan, summary
from tasks.promotion import gate
from tasks.promotion import record as promotion_record
from tasks.promotion.gate import OtherBranch
from tasks.refusal import UNKNOWN, Refusal
from tasks.release import ahead
from tasks.version import Version

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


PATIENCE = 600
"""Seconds that the question on the terminal waits. Nobody else changes production meanwhile, and none can go back."""


class ControlDecides(Refusal):
    """A control is called with an environment or stages, but both follow from the branch."""

    sentence = "{control}: the branch decides what it does: it takes no {more}"
    remedy = "git switch BRANCH && build/ci/run {control}"
    exit_code = UNKNOWN


class NothingGoesOn(Refusal):
    """`doit continue`, but no environment takes tarballs from another one."""

    sentence = "continue: no environment takes a tarball from another one (environments/*.yml: takes_from)"
    remedy = "$EDITOR environments"
    exit_code = UNKNOWN


class NotConfirmed(Refusal):
    """The question on the terminal was not answered with yes in time: production is held meanwhile."""

    sentence = "continue: nothing was changed, without a yes within {minutes} minutes"
    remedy = "doit continue --yes"


class RunUnderWay(Refusal):
    """`doit stop` on the default branch while the run is changing an environment."""

    sentence = "stop: the run of {commit} does not wait, it is at work: {environment} is held by {holder}"
    remedy = "doit stop"


class ControlCommand(RunCommand):
    """A run whose environment and stages follow from the branch."""

    doc_usage = ""
    doc_description = None
    tasks: ClassVar[list[str]] = ["release"]

    def choose(self, args: list[str]) -> list[str]:
        """Choose the environment by the branch; the stages are those of the control."""
        root, variables = Path.cwd(), doit_cmd._CMDLINE_VARS
        command_line.accept(variables)
        told = [*args, *(f"{name}={value}" for name, value in variables.items() if name == "environment")]
        if told:
            raise ControlDecides(control=self.name, more=", ".join(told))
        project = settings.of_pipeline(root)
        branch = variables.get("branch") or source.branch(root, os.environ)
        environment = self.environment(root, branch, project.default_branch)
        if environment:
            variables["environment"] = environment
        return self.tasks

    def environment(self, root: Path, branch: str, default: str) -> str | None:
        """The environment for a branch; None for the branch's testing environment."""
        raise NotImplementedError


class StartCommand(ControlCommand):
    """`doit start`: releases a branch to its testing environment, the default branch to the upstream environment."""

    name = "start"
    doc_purpose = (
        "release a clean commit; the default branch goes to the environment that another one takes from"
    )

    def environment(self, root: Path, branch: str, default: str) -> str | None:
        """The upstream environment for the default branch, if there is one."""
        path = promotion_record.promotion_path(root)
        return path.upstream if path and branch == default else None


class ContinueCommand(ControlCommand):
    """`doit continue`: releases the upstream environment's tarball to the downstream environment, byte for byte."""

    name = "continue"
    doc_purpose = "let what has proved itself go on, byte for byte"
    cmd_options = (*RunCommand.cmd_options, flag("yes", "do not ask", short="y"))
    yes = False

    def execute(self, params: Any, args: Any) -> Any:
        """Keep `--yes` for later, then run."""
        self.yes = params["yes"]
        return super().execute(params, args)

    def environment(self, root: Path, branch: str, default: str) -> str | None:
        """The downstream environment. Raises NothingGoesOn or OtherBranch."""
        path = promotion_record.promotion_path(root)
        if not path:
            raise NothingGoesOn
        if branch != default:
            raise OtherBranch(task="continue", environment=path.downstream, default=default, branch=branch)
        return path.downstream

    def _refuse_early(self) -> None:
        super()._refuse_early()
        _accept(run_of(self.task_list))

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Show what would go live, and ask, while production brings it if nothing else is due. Raises NotConfirmed."""
        run = run_of(self.task_list)
        _accept(run)  # until the lease was taken, everything may have changed
        found = self._verdicts()
        due = {each.stage: each.what for each in found if each.what not in plan.IDLE}
        alone = set(due) == {gate.RELEASE}
        with ahead.brought(run) if alone else contextlib.nullcontext(), gently():
            for line in [*gate.pending_changes(run, self._inputs()), *self._expected(due, found)]:
                self.console.line(line)
            # without a terminal, the user has confirmed in CI, where the job was started
            if not self.yes and sys.stdin.isatty() and not _answered_yes(run):
                raise NotConfirmed(minutes=PATIENCE // 60)
            yield

    def _inputs(self) -> dict[str, set[str]]:
        """The paths that each chosen stage and its upstreams depend on, in the graph's order."""
        found: dict[str, set[str]] = {}
        chosen = selected(self.task_list, self.tasks)
        for each in self.task_list:
            if each.name in chosen and each.actions:
                found.setdefault(each.name.partition(":")[0], set()).update(each.file_dep)
        return found

    def _verdicts(self) -> list[plan.Verdict]:
        return plan.verdicts({each.name: each for each in self.task_list}, self.tasks, self.dep_manager)

    def _expected(self, due: Mapping[str, str], found: list[plan.Verdict]) -> Iterator[str]:
        yield "runs " + (", ".join(due) if due else "nothing: every stage is unchanged")
        if due:
            yield plan.expectation({each.name: each for each in self.task_list}, found)


class StopCommand(ControlCommand):
    """`doit stop`: tears down a branch's environment; on the default branch it ends the run that waits."""

    name = "stop"
    doc_purpose = "tear down the branch's environment, on the default branch end the run that waits"
    tasks: ClassVar[list[str]] = ["teardown"]
    ends_run = False

    def environment(self, root: Path, branch: str, default: str) -> str | None:
        """The branch's testing environment; for the default branch only the run is ended."""
        self.ends_run = branch == default
        return None

    @functools.wraps(doit.cmd_run.Run._execute)
    def _execute(self, **options: Any) -> Any:
        if not self.ends_run:
            return super()._execute(**options)
        run = run_of(self.task_list)
        self.console.line(said := f"stop: {_end(run)}")
        summary.of_lines(run, self.name, [said])
        return 0


def _accept(run: runs.Run) -> None:
    """Raise the gate's refusal, if it has one."""
    if refused := gate.refusal(run):
        raise refused


def _answered_yes(run: runs.Run) -> bool:
    """Whether somebody answers the question with yes, in time. The end of input is no yes."""
    told = news.of(run)
    told.tell(news.event(run, "asked"))
    try:
        return _yes_is_typed()
    finally:
        told.close()


def _yes_is_typed() -> bool:
    sys.stdout.write("Continue? [y/N] ")
    sys.stdout.flush()
    ready, _, _ = select.select([sys.stdin], [], [], PATIENCE)
    return bool(ready) and sys.stdin.readline().strip().lower() in ("y", "yes")


def _end(run: runs.Run) -> str:
    """End the run that waits, without touching a machine. Returns the result in words. Raises RunUnderWay."""
    path = promotion_record.promotion_path(run.root)
    upstream = runs.elsewhere(run, path.upstream) if path else run
    record, endable = promotion_record.current(upstream.store), (*promotion_record.OPEN, "continuing")
    if not record or not path or record.state not in endable:
        return "no run waits"
    for name in dataclasses.astuple(path):
        _refuse_at_work(run, name, record.commit)
    stopped = dataclasses.replace(record, steps=(*record.steps, promotion_record.step(upstream, "stopped")))
    # only what was read before the leases: a run that has begun since is at work
    if (
        promotion_record.change(upstream.store, record.commit, lambda now: stopped if now == record else None)
        != stopped
    ):
        return f"the run of {record.commit.short} has gone on or ended meanwhile"
    return f"the run of {record.commit.short} goes no further; no machine was touched"


def _refuse_at_work(run: runs.Run, environment: str, commit: Version) -> None:
    there = runs.elsewhere(run, environment)
    found = lease.look(there.store, there.identity)
    if not found.readable or (found.holder and not found.dead):
        holder = found.holder or "an unknown run"
        raise RunUnderWay(commit=commit.short, environment=environment, holder=holder)
