"""reporter: what a person sees: a line for each stage, its seconds last, and the budget at the end."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TextIO

from doit import Globals

from tasks import boundary, news, telemetry
from tasks.console import journal, streams
from tasks.console.console import WIDTH, Console
from tasks.console.journal import Journal
from tasks.graph import plan, summary
from tasks.process import children

if TYPE_CHECKING:
    from tasks.run import Run


TOLD = {"release", "rollback"}
"""The stages of which others are told."""


def title(task: Any) -> str:
    """The stage of a task: the parts of a stage have its name."""
    return str(task.name).partition(":")[0]


class Stages:
    """doit's reporter: `server  done  62 tasks, 58 changed  48.0 s`."""

    desc = "a line per stage, its seconds last"

    def __init__(self, outstream: TextIO, options: object) -> None:
        self.started: dict[str, float] = {}
        self.failures: list[str] = []
        self.run: Run | None = None
        self.console = Console()
        self.begun = time.monotonic()
        self.selected: list[str] = []
        self.changed = False
        self.working: dict[str, Any] = {}
        self.journal: Journal | None = None
        self.why: dict[str, list[str]] = {}
        self.tasks: dict[str, Any] = {}
        self.news: news.Teller | None = None
        self.began = time.time()
        self.lock = threading.Lock()

    def initialize(self, tasks: dict[str, Any], selected: list[str]) -> None:
        """Remember what was asked for."""
        self.selected, self.tasks = list(selected), tasks
        self.run = next((each.meta["run"] for each in tasks.values() if each.meta), None)
        if self.run:
            self.console, self.begun = self.run.console, self.run.began
            self._open_journal(self.run)

    def get_status(self, task: Any) -> None:
        """Called before a task is checked: its seconds include the check."""
        self.started.setdefault(task.name, time.monotonic())

    def execute_task(self, task: Any) -> None:
        """Called when a task starts, from its own thread."""
        if task.actions:
            self.started[task.name] = time.monotonic()
            self._tell_begin()
            self.working[task.name] = task
            self.why[task.name] = plan.why(task, Globals.dep_manager)
            self.console.begin(title(task))

    def add_success(self, task: Any) -> None:
        """A task ended well."""
        if not task.actions:
            return
        if task.values.get("changed", True):
            self.changed = True
            self._stage(task, "done", task.values.get("done", ""))
        else:
            self._unchanged(task, task.values)

    def skip_uptodate(self, task: Any) -> None:
        """A task has nothing to do."""
        if task.actions:
            self._unchanged(task, Globals.dep_manager.get_values(task.name))

    def skip_ignore(self, task: Any) -> None:
        """A task is ignored by `doit ignore`."""
        self._stage(task, "ignored", "doit forget " + task.name)

    def add_failure(self, task: Any, fail: Any) -> None:
        """A task failed, or could not start because another one failed."""
        name = fail.get_name()
        if name != "UnmetDependency":
            self._stage(task, "interrupted" if children.cancelled() else "failed", "")
            if not children.cancelled():
                self.failures.append(_words(fail))

    def cleanup_error(self, error: Any) -> None:
        """A teardown of doit's own failed."""
        self.failures.append(_words(error))

    def runtime_error(self, message: str) -> None:
        """doit itself refused."""
        self.failures.append(message)

    def teardown_task(self, task: Any) -> None:
        """Nothing to say."""

    def complete_run(self) -> None:
        """Print what failed, or the site's address and the time beside the budget."""
        for task in list(self.working.values()):  # tasks that were still at work when the run ended
            self._stage(task, "interrupted" if children.cancelled() else "failed", "")
        self.console.end()
        outcome = self._outcome()
        self._tell_end(outcome)
        if self.journal and self.run:
            self.journal.end(outcome, self.failures)
            summary.of_run(self.run, self.journal.content)
        for failure in dict.fromkeys(self.failures):
            streams.complain(failure)
        if self.news:
            self.news.close()
        if self.journal and self.run:
            name, console = self.run.pipeline.name, self.run.console
            telemetry.send(self.journal.content, name, lambda words: console.event("telemetry", words))
        if (
            sys.exc_info()[0]
            or outcome in ("failed", "interrupted")
            or not self.run
            or "release" not in self.selected
        ):
            return
        seconds = time.monotonic() - self.begun
        verb = "released" if self.changed else "nothing to do"
        for name in self.run.host_names:
            self.console.line(self.run.url_of(name))
        self.console.line(f"{verb} in {_seconds(seconds)} (budget {self.run.pipeline.budget} s)")

    def _tell_begin(self) -> None:
        """A run that releases has something to do: from now on, others are told."""
        with self.lock:
            if self.run and self.news is None and TOLD & set(self.selected):
                self.news = news.of(self.run)
                self.news.tell(news.event(self.run, "started"))

    def _tell_end(self, outcome: str) -> None:
        if not (self.news and self.run):
            return
        back = self.tasks["rollback"].values.get("commit", "") if "rollback" in self.selected else ""
        what = "failed" if outcome in ("failed", "interrupted") else "undone" if back else "done"
        words = (self.failures or [outcome])[0] if what == "failed" else ""
        url = self.run.url if self.run.cloud.connected and what != "failed" else ""
        self.news.tell(news.event(self.run, what, words=words, commit=back, url=url, began=self.began))

    def _outcome(self) -> str:
        if children.cancelled():
            return "interrupted"
        return "failed" if self.failures else "done" if self.changed else "nothing to do"

    def _open_journal(self, run: Run) -> None:
        with contextlib.suppress(OSError):  # a read-only checkout can still be released
            self.journal = self.console.journal = Journal(
                run.console.logs(run.logs),
                command=" ".join(["doit", *sys.argv[1:]]),
                environment=run.identity,
                by=run.who,
                commit=run.commit,
                budget=run.pipeline.budget,
            )

    def _unchanged(self, task: Any, values: Mapping[str, Any]) -> None:
        if values.get("unchanged"):
            self._stage(task, "unchanged", values["unchanged"])
        elif self.working.pop(task.name, None):
            self.console.end(title(task))

    def _stage(self, task: Any, state: str, words: str) -> None:
        seconds = time.monotonic() - self.started.get(task.name, self.begun)
        self.working.pop(task.name, None)
        self.console.end(title(task))
        self.console.line(f"{title(task):<{WIDTH}} {state:<10} {words}  {_seconds(seconds)}")
        if self.journal:
            why = self.why.get(task.name, ()) if state != "unchanged" else ()
            self.journal.note(title(task), f"{state} {words}")
            self.journal.stage(task.name, outcome=state, words=words, seconds=seconds, why=why)


def _words(fail: Any) -> str:
    """What failed. A traceback, which doit adds where no stage has answered, goes into a file."""
    if not fail.traceback:
        return str(fail.message).strip()
    log = journal.keep(boundary.ERRORS, "".join(fail.traceback))
    return boundary.PipelineBug(where="doit", problem=str(fail.message).strip(), log=log).text


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 99.5 else f"{seconds:.0f} s"
