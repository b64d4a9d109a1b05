"""run: `doit run`: check the arguments, take the lease, run the stages, and end all children when interrupted."""

from __future__ import annotations

import contextlib
import functools
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import doit.cmd_run
from doit.control import TaskControl

from tasks import forms, source
from tasks.bucket.create import BucketGone
from tasks.bucket.lease import Lease, LeaseLost
from tasks.cloud.interface import HostDown
from tasks.commands.base import CommandMixin, number, run_of
from tasks.commands.usage import HELP
from tasks.digest import Digest
from tasks.graph.reporter import Stages
from tasks.graph.stage import properties
from tasks.hosts import kill_stale_sessions
from tasks.infrastructure import hosts
from tasks.process import behind, children
from tasks.promotion import gate
from tasks.promotion.gate import Proof
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.run import Run

INTERRUPTED = {signal.SIGINT: 130, signal.SIGTERM: 143}
PATIENCE = 4.0
"""Seconds that stages have to end after an interruption. Their children are ended at once."""


BOUNDED = {"num_process": number(forms.between(0, 64))}
"""Options of doit's that it takes out of bounds: with -1 stages at a time, nothing ever runs."""


class TeardownAndMore(Refusal):
    """A stage that removes or undoes what others have made is called together with other stages, but their order is undefined."""

    sentence = "command line: {stage} goes alone, not together with {others}"
    remedy = "doit plan {stage}"
    exit_code = UNKNOWN


class NotAtTheTop(Refusal):
    """doit is not called in the pipeline's folder."""

    sentence = "command line: there is no dodo.py in {path}"
    remedy = 'cd "$(git rev-parse --show-toplevel){folder}"'
    exit_code = UNKNOWN


class RunCommand(CommandMixin, doit.cmd_run.Run):
    """`doit run`: runs stages under the lease of the environment, and ends all children when interrupted."""

    name = "run"
    doc_purpose = "run stages, and all that they need, where that is due; without a stage: release"
    doc_usage = "[STAGE ...]"
    cmd_options = (
        *({**each, "type": BOUNDED.get(each["name"], each["type"])} for each in doit.cmd_run.Run.cmd_options),
        {
            "name": "wait",
            "short": "",
            "long": "wait",
            "type": number(forms.SECONDS, float),
            "default": None,
            "help": "seconds to wait for another run in the same environment, 0 to refuse at once [80: until a dead holder is known as dead]",
        },
    )
    wait: float | None = None
    lease: Lease | None = None

    def get_reporters(self) -> dict[str, type]:
        """What prints a run."""
        return {"stages": Stages}

    def execute(self, params: Any, args: Any) -> Any:
        """Load the graph and run the chosen tasks."""
        self.wait = params["wait"]
        if not Path(params["dodoFile"]).exists():
            raise NotAtTheTop(path=Path.cwd(), folder=_pipeline_folder(Path.cwd()))
        return super().execute(params, self.choose(args))

    def show_help(self, words: list[str]) -> int:
        """Print the help of the named stage, else that of doit, as `run` need not be typed."""
        if self.name != "run":
            return super().show_help(words)
        _, stages = self.cmdparser.parse([each for each in words if each not in HELP])
        code: int = self.other("help").parse_execute(stages[:1])
        return code

    def choose(self, args: list[str]) -> list[str]:
        """The tasks to run. A control overrides this."""
        return args

    @functools.wraps(doit.cmd_run.Run._execute)
    def _execute(self, **options: Any) -> Any:
        _listen(_interrupt)
        try:
            self._refuse_early()
            self.console.steady = True
            code = self._run_leased(options)
            if self.console.lost:
                raise self.console.lost
            return code
        except (_Interrupted, LeaseLost) as end:
            if self.lease and self.lease.lost:
                raise self.lease.lost from None
            if not isinstance(end, _Interrupted):
                raise
            self.console.line(f"interrupted: what was begun is undone or done again by: {retry()}")
            return end.code

    def _refuse_early(self) -> None:
        """Refuse early, before anything is changed."""
        run, typed = run_of(self.task_list), set(self.sel_tasks or ())
        chosen = selected(self.task_list, self.sel_tasks)
        for each in self.task_list:
            if each.name in chosen and properties(each).voids and len(chosen) > 1:
                raise TeardownAndMore(stage=each.name, others=", ".join(sorted(typed - {each.name})))
        if self._leased():
            _ = run.identity, source.commit(run.root)
            gate.check_checkout(run, self.name, self.sel_tasks[0] if self.sel_tasks else "release")

    def _run_leased(self, options: dict[str, Any]) -> Any:
        """Run the tasks, under the lease if they change the environment."""
        children.watch(run_of(self.task_list).id)
        refused: Refusal | None = None
        clean = False
        try:
            self._take_lease()
            chosen = selected(self.task_list, self.sel_tasks)  # a pattern names stages too
            with self.agreed() if self.lease else contextlib.nullcontext():
                finish = gate.begin(run_of(self.task_list), self.name, chosen) if self.lease else None
            proving = self._proving()
            code = super()._execute(**options)
            _finish(told=bool(code))
            if finish and self.lease:
                self.lease.check()
                refused = finish(proof_of(proving))
            clean = True
        except BaseException:
            _ignore_signals()
            children.interrupt()
            children.rest(PATIENCE)
            children.kill()
            raise
        finally:
            if self.lease:
                self.lease.free(unclean=not clean)
        if refused and not code:
            raise refused
        return code

    @contextlib.contextmanager
    def agreed(self) -> Iterator[None]:
        """Under the lease, before the gate's record says that the run begins. A control that asks overrides this."""
        yield

    def _proving(self) -> list[Any]:
        """The stage `release` and all its upstreams. Ask before the run: `--single` cuts them off."""
        if not any(each.name == gate.RELEASE for each in self.task_list):
            return []
        upstream = selected(self.task_list, [gate.RELEASE])
        return [each for each in self.task_list if each.name in upstream and each.actions]

    def _take_lease(self) -> None:
        leased = self._leased()
        if not leased:
            return
        run = run_of(self.task_list)
        self.lease = lease = Lease(
            run, on_lost=_stop
        )  # set before it is taken, so that an interruption frees it
        try:
            lease.take(self.wait, run.console.say("lease"))
        except BucketGone:
            if any(properties(each).recorded for each in leased):
                raise
            return  # without a bucket no other run gets a lease, and a teardown must be possible
        self.dep_manager.backend.lease = lease
        self.dep_manager.backend.read_anew()
        if lease.unclean:
            lease.unclean = not _end_former_run(run)

    def _leased(self) -> list[Any]:
        """The tasks to run that change the environment."""
        chosen = selected(self.task_list, self.sel_tasks)
        return [each for each in self.task_list if each.name in chosen and properties(each).leased]


def _finish(*, told: bool) -> None:
    """Wait for what goes on behind. Its error is the run's, unless a failed stage has told one: it may be the same."""
    try:
        behind.finish()
    except Refusal:
        if not told:
            raise


def proof_of(tasks: list[Any]) -> Proof:
    """What these tasks have done in this run: a task that ran through, or was found unchanged, has the values of its record."""
    idle = [each.name.partition(":")[0] for each in tasks if "done" not in each.values]
    digest = next((each.values.get("digest") for each in tasks if each.name == gate.RELEASE), None)
    return Proof(digest=Digest(digest) if digest else None, idle=tuple(dict.fromkeys(idle)))


def selected(tasks: list[Any], chosen: list[str] | None) -> set[str]:
    """Names of the chosen tasks and of all their upstreams. Raises doit's InvalidCommand for an unknown name."""
    control = TaskControl(tasks)
    control.process(chosen)
    found: set[str] = set()
    new = set(control.selected_tasks)
    while new:
        found |= new
        new = {need for name in new for need in control.tasks[name].task_dep} - found
    return found


def _pipeline_folder(here: Path) -> str:
    """The folder of a dodo.py, from the top of the repository: the next one above, else the first of all."""
    with contextlib.suppress(Refusal):
        found = {Path("/", each).parent for each in source.named(here, "dodo.py")}
        above = Path("/", source.prefix(here))
        chosen = next((each for each in above.parents if each in found), min(found, default=Path("/")))
        return str(chosen).rstrip("/")
    return ""


def _end_former_run(run: Run) -> bool:
    """End what a former run left on the environment's hosts. False if a host was not reached."""
    up, reached = [], True
    for each in hosts.known(run):
        try:
            up += hosts.reachable(run, [each])
        except HostDown:
            kill_stale_sessions.unreached(each.id, run.console)
            reached = False
    return kill_stale_sessions.kill(up, run.console) and reached


def retry() -> str:
    """The command line that was typed."""
    return " ".join(["doit", *sys.argv[1:]])


class _Interrupted(BaseException):
    def __init__(self, number: int) -> None:
        self.code = INTERRUPTED[signal.Signals(number)]


def _interrupt(number: int, frame: object) -> None:
    _ignore_signals()
    children.interrupt()
    raise _Interrupted(number)


@contextlib.contextmanager
def gently() -> Iterator[None]:
    """Meanwhile an interruption ends no child: somebody takes back what they do. A second one does not wait for that."""

    def interrupt(number: int, frame: object) -> None:
        _listen(_interrupt)
        raise _Interrupted(number)

    _listen(interrupt)
    try:
        yield
    finally:
        _listen(_interrupt)


def _listen(handler: Callable[[int, object], None]) -> None:
    for each in INTERRUPTED:  # never restored: the process ends after the run
        signal.signal(each, handler)


def _ignore_signals() -> None:
    """A second signal must not interrupt the clean-up."""
    for each in INTERRUPTED:
        signal.signal(each, signal.SIG_IGN)


def _stop() -> None:
    """Called by the lease's thread when the lease is lost: end all children and wake the main thread."""
    children.interrupt()
    signal.pthread_kill(threading.main_thread().ident, signal.SIGTERM)  # type: ignore[arg-type]
