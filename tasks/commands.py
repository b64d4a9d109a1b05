"""commands: what doit can be asked beside its tasks; where doit has the command, ours adds to it."""

from __future__ import annotations

import functools
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit.cmd_forget
import doit.cmd_ignore
import doit.cmd_info
import doit.cmd_list
import doit.cmd_run
from doit.cmd_base import DoitCmdBase
from doit.cmdparse import CmdParseError
from doit.control import TaskControl
from doit.exceptions import InvalidCommand

from tasks import cloud, mermaid, plan, process, report, source
from tasks.refusal import (
    FAILED,
    BucketGone,
    LeaseLost,
    NotAtTheTop,
    Refusal,
    StageForbidden,
    TeardownAndMore,
    UnknownOption,
    UnknownTask,
    UnlockUnconfirmed,
)

if TYPE_CHECKING:
    from tasks.lease import Lease

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
LEASED = {"infrastructure:environment", "server", "release", "teardown"}
"""Tasks that change an environment: one run at a time."""
PATIENCE = 4.0
"""Seconds that stages get to end after an interruption; their children are ended at once."""


def refusing(method: Any) -> Any:
    """A refusal on the way of a command is one sentence and an exit code, no traceback."""

    @functools.wraps(method)
    def guarded(self: Any, *args: Any, **keywords: Any) -> Any:
        try:
            return method(self, *args, **keywords)
        except Refusal as refusal:
            said = refusal
        except Exception as error:
            if not (unanswered := cloud.refusal_of(error)):
                raise
            said = unanswered
        sys.stderr.write(f"{said.text}\n")
        return said.exit_code

    return guarded


class Run(doit.cmd_run.Run):
    """`doit run`: refuses what is not there, runs alone in its environment, and ends all it started when interrupted."""

    name = "run"
    cmd_options = (
        *doit.cmd_run.Run.cmd_options,
        {
            "name": "wait",
            "short": "",
            "long": "wait",
            "type": float,
            "default": None,
            "help": "seconds to wait for another run in the same environment, 0 to refuse at once [a time-to-live and a beat]",
        },
    )
    wait: float | None = None
    lease: Lease | None = None

    @refusing
    def parse_execute(self, in_args: Any) -> Any:
        """Parse the command line and run what was asked for."""
        try:
            return super().parse_execute(in_args)
        except CmdParseError as error:
            # doit's own words go on with all options that it knows
            problem = re.sub(r"^Error parsing \w+: ", "", str(error).partition(" (parsing options")[0])
            raise UnknownOption(problem=problem, command=self.name) from None

    def execute(self, params: Any, args: Any) -> Any:
        """Load the graph and run what was asked for."""
        self.wait = params["wait"]
        if not Path(params["dodoFile"]).exists():
            raise NotAtTheTop(path=Path.cwd())
        try:
            return super().execute(params, args)
        except InvalidCommand as error:
            if error.not_found is None:
                raise
            raise missing(self.task_list, error.not_found) from None

    @functools.wraps(doit.cmd_run.Run._execute)
    def _execute(self, **options: Any) -> Any:
        for each in INTERRUPTED:  # and never back: this process does nothing else
            signal.signal(each, _interrupt)
        try:
            self._make_sense()
            return self._alone(options)
        except (_Interrupted, LeaseLost) as end:
            if self.lease and self.lease.lost:
                raise self.lease.lost from None
            if not isinstance(end, _Interrupted):
                raise
            report.console.line(f"interrupted: what was begun is undone or done again by: {retry()}")
            return end.code

    def _make_sense(self) -> None:
        """Refuse what would be refused in the end, before anything is changed."""
        run, chosen = run_of(self.task_list), set(self.sel_tasks or ())
        if "teardown" in chosen and len(chosen) > 1:
            raise TeardownAndMore(others=", ".join(sorted(chosen - {"teardown"})))
        if LEASED & selected(self.task_list, self.sel_tasks):
            _ = run.identity, source.commit(run.root)

    def _alone(self, options: dict[str, Any]) -> Any:
        """Run the tasks; with the lease, if they change the environment."""
        process.guard(run_of(self.task_list).id)
        clean = False
        try:
            self._take_lease()
            code = super()._execute(**options)
            clean = True
            return code
        except BaseException:
            _ignore_signals()
            process.interrupt()
            process.rest(PATIENCE)
            process.kill()
            raise
        finally:
            if self.lease:
                self.lease.free(unclean=not clean)

    def _take_lease(self) -> None:
        chosen = selected(self.task_list, self.sel_tasks)
        changes = LEASED & chosen
        if not changes:
            return
        from tasks import fence
        from tasks.lease import Lease

        run = run_of(self.task_list)
        self.lease = lease = Lease(run, on_lost=_stop)  # known before it is taken: an interruption frees it
        try:
            lease.take(self.wait, run.say("lease"))
        except BucketGone:
            if changes != {"teardown"}:
                raise
            return  # nobody else gets a lease either, and giving the machines back must be possible
        self.dep_manager.backend.lease = lease
        self.dep_manager.backend.read_anew()
        if lease.unclean:
            lease.unclean = not fence.raise_around(run)


def selected(tasks: list[Any], chosen: list[str] | None) -> set[str]:
    """Names of the chosen tasks and of all that they need. Raises what doit raises for a name or option unknown."""
    control = TaskControl(tasks)
    control.process(chosen)
    found: set[str] = set()
    new = set(control.selected_tasks)
    while new:
        found |= new
        new = {need for name in new for need in control.tasks[name].task_dep} - found
    return found


def retry() -> str:
    """The command line that was typed."""
    return " ".join(["doit", *sys.argv[1:]])


class _Interrupted(BaseException):
    def __init__(self, number: int) -> None:
        self.code = INTERRUPTED[signal.Signals(number)]


def _interrupt(number: int, frame: object) -> None:
    _ignore_signals()
    process.interrupt()
    raise _Interrupted(number)


def _ignore_signals() -> None:
    """A second one must not cut the clean-up short."""
    for each in INTERRUPTED:
        signal.signal(each, signal.SIG_IGN)


def _stop() -> None:
    """Called when the lease is lost, from its thread: end everything, and wake the main thread."""
    process.interrupt()
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)  # type: ignore[arg-type]


def run_of(tasks: list[Any]) -> Any:
    """The run that the tasks belong to."""
    return next(each.meta["run"] for each in tasks if each.meta)


def missing(tasks: list[Any], name: str) -> Refusal:
    """The refusal for a task that is not in the graph: forbidden here, or unknown."""
    from tasks.settings import Stage

    run = run_of(tasks)
    if name in Stage.__args__:  # type: ignore[attr-defined]
        return StageForbidden(stage=name, environment=run.environment_name)
    return UnknownTask(name=name, known=", ".join(each.name for each in tasks if not each.subtask_of))


class List(doit.cmd_list.List):
    """`doit list`: the stages in the graph's order; `--deps` shows each path with its git id."""

    name = "list"

    @refusing
    def execute(self, params: Any, args: Any) -> Any:
        """List the tasks."""
        params.update_defaults({"sort": "definition"})
        return super().execute(params, args)

    def _print_task(
        self, template: str, task: Any, status: bool, list_deps: bool, tasks: dict[str, Any]
    ) -> None:
        super()._print_task(template, task, status, False, tasks)
        if not list_deps:
            return  # what git is not asked for need not be loaded
        parts = [tasks[name] for name in task.task_dep] if task.has_subtask else []
        for line in (line for each in (task, *parts) for line in inputs_of(each, self.dep_manager)):
            self.outstream.write(f" -  {line}\n")


class Info(doit.cmd_info.Info):
    """`doit info STAGE`: doit's own, then each path with its git id."""

    name = "info"

    @refusing
    def execute(self, params: Any, args: Any) -> Any:
        """Show one task."""
        return super().execute(params, args)

    def _execute(self, pos_args: list[str], hide_status: bool = False) -> Any:
        tasks = {each.name: each for each in self.task_list}
        if pos_args and pos_args[0] not in tasks:
            raise missing(self.task_list, pos_args[0])
        result = super()._execute(pos_args, hide_status)
        self.outstream.write("\ngit ids    :\n")
        for line in inputs_of(tasks[pos_args[0]], self.dep_manager):
            self.outstream.write(f" - {line}\n")
        return result


class Forget(doit.cmd_forget.Forget):
    """`doit forget STAGE`: the stage runs again next time."""

    name = "forget"
    execute = refusing(doit.cmd_forget.Forget.execute)


class Ignore(doit.cmd_ignore.Ignore):
    """`doit ignore STAGE`: the stage is skipped until it is forgotten."""

    name = "ignore"
    execute = refusing(doit.cmd_ignore.Ignore.execute)


class Unlock(DoitCmdBase):
    """`doit unlock`: takes the environment from the run that holds it."""

    name = "unlock"
    doc_purpose = "take the environment from the run that holds it"
    doc_usage = ""
    doc_description = None
    cmd_options = (
        {
            "name": "yes",
            "short": "y",
            "long": "yes",
            "type": bool,
            "default": False,
            "help": "do not ask",
        },
    )

    @refusing
    def _execute(self, yes: bool = False, pos_args: list[str] | None = None) -> int:
        from tasks.lease import Lease

        if pos_args:
            raise UnknownTask(name=f"unlock {' '.join(pos_args)}", known="unlock, without a stage")
        run = run_of(self.task_list)
        lease = Lease(run)
        found = lease.look()
        if found.readable and not found.holder:
            report.console.line(f"{run.identity} is held by nobody")
            return 0
        holder = str(found.holder or "nobody can tell whom")
        life = f"last sign of life {found.age:.0f} s ago"
        if not yes and not _confirmed(f"{run.identity} is held by {holder}, {life}. Take it? [y/N] "):
            raise UnlockUnconfirmed(identity=run.identity, holder=f"{holder}, {life}")
        lease.seize(run.say("unlock"))
        report.console.line(f"{run.identity} is taken from {holder}: the next run may begin")
        return 0


def _confirmed(question: str) -> bool:
    return sys.stdin.isatty() and input(question).strip().lower() in ("y", "yes")


def inputs_of(task: Any, dep_manager: Any) -> Iterator[str]:
    """Each path that a task depends on, with its git id."""
    width = max((len(path) for path in task.file_dep), default=0)
    for path in sorted(task.file_dep):
        found = dep_manager.checker.id(path)
        yield f"{path:<{width}}  {found[:12] if found else 'missing'}"


class Graph(DoitCmdBase):
    """`doit graph`: the graph as Mermaid, or as SVG."""

    name = "graph"
    doc_purpose = "print the graph (Mermaid; --svg for a picture)"
    doc_usage = ""
    doc_description = None
    cmd_options = (
        {
            "name": "svg",
            "short": "",
            "long": "svg",
            "type": bool,
            "default": False,
            "help": "print SVG instead of Mermaid",
        },
    )

    @refusing
    def _execute(self, svg: bool = False, pos_args: object = None) -> int:
        picture = mermaid.picture(self.task_list)
        self.outstream.write(mermaid.svg(picture) if svg else mermaid.text(picture))
        return 0


class Plan(DoitCmdBase):
    """`doit plan [TASK...]`: what a run would do, and why; it changes nothing."""

    name = "plan"
    doc_purpose = "show what would run, and why"
    doc_usage = "[TASK ...]"
    doc_description = None
    cmd_options = (
        {
            "name": "detailed_exitcode",
            "short": "",
            "long": "detailed-exitcode",
            "type": bool,
            "default": False,
            "help": "exit with 0 when there is nothing to do, 2 when there is, 1 when the plan fails",
        },
    )

    @refusing
    def execute(self, params: Any, args: Any) -> Any:
        """Load the graph and look; what goes wrong must not be taken for work to do."""
        try:
            return super().execute(params, args)
        except Refusal:
            raise
        except Exception:
            if not params["detailed_exitcode"]:
                raise
            traceback.print_exc()
            return FAILED

    def _execute(self, detailed_exitcode: bool = False, pos_args: object = None) -> int:
        chosen = _known(self.task_list, self.sel_tasks)
        found = plan.verdicts({each.name: each for each in self.task_list}, chosen, self.dep_manager)
        for verdict in found:
            if verdict.what == "unchanged" and verdict.task.endswith(":shared"):
                continue
            first, *more = verdict.reasons or ("",)
            report.console.line(f"{verdict.stage:<{report.WIDTH}} {verdict.what:<10} {first}".rstrip())
            for reason in more:
                report.console.line(f"{'':<{report.WIDTH + 11}} {reason}")
        work = any(verdict.what != "unchanged" for verdict in found)
        return 2 if work and detailed_exitcode else 0


class Why(DoitCmdBase):
    """`doit why STAGE`: why a stage would run, or that it would not."""

    name = "why"
    doc_purpose = "say why a stage would run"
    doc_usage = "STAGE"
    doc_description = None
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: list[str] | None = None) -> int:
        (name,) = _known(self.task_list, pos_args or ["release"])[:1]
        tasks = {each.name: each for each in self.task_list}
        found = plan.verdicts(tasks, [name], self.dep_manager)
        for verdict in (each for each in found if each.stage == name.partition(":")[0]):
            for reason in verdict.reasons:
                report.console.line(f"{verdict.task}: {verdict.what}: {reason}")
            if not verdict.reasons:
                report.console.line(f"{verdict.task}: {verdict.what}: every input is as it was")
        return 0


def _known(tasks: list[Any], chosen: list[str]) -> list[str]:
    names = {each.name for each in tasks}
    for each in chosen:
        if each not in names:
            raise missing(tasks, each)
    return chosen


class Docs(DoitCmdBase):
    """`doit docs`: writes the pages that are made from the code."""

    name = "docs"
    doc_purpose = "write the pages of docs/ that are made from the code"
    doc_usage = ""
    doc_description = None
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: object = None) -> int:
        from tasks import docs

        for path, text in docs.pages().items():
            path.write_text(text)
            report.console.line(str(path))
        return 0


class Compare(DoitCmdBase):
    """`doit compare A B`: where the servers of two environments differ. Exit code 1 if they do."""

    name = "compare"
    doc_purpose = "print where the servers of two environments differ"
    doc_usage = "A B"
    doc_description = (
        "A and B: an environment, a branch, or an environment's full name such as testing-0d6e4079e3."
    )
    cmd_options = ()

    @refusing
    def _execute(self, pos_args: list[str] | None = None) -> int:
        from tasks import compare

        if len(pos_args or ()) != 2:
            raise UnknownTask(name=f"compare {' '.join(pos_args or ())}", known="compare A B")
        run = next(each.meta["run"] for each in self.task_list if each.meta)
        first, second = (compare.view(compare.ledgers(run, each)) for each in pos_args or ())
        found = compare.lines(first, second)
        for line in found:
            report.console.line(line)
        report.console.line(
            f"{' and '.join(pos_args or ())}: {f'{len(found)} differences' if found else 'the same'}"
        )
        return 1 if found else 0


class CloudCommand(DoitCmdBase):
    """`doit cloud VERB`: the embedded cloud's own switch."""

    name = "cloud"
    doc_purpose = "the embedded cloud: start, stop, status, delete"
    doc_usage = "start|stop|status|delete"
    doc_description = None
    cmd_options = ()

    @refusing
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
            raise UnknownTask(name=f"cloud {' '.join(pos_args or ())}", known=", ".join(verbs))
        for line in verbs[verb]():
            report.console.line(line)
        return 0
