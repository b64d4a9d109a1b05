"""plan: what a run would do, and why, without doing it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.graph.inputs import Named, Unasked, World, words
from tasks.graph.stage import foreseen

SHORT = 12
"""Characters of a fact that are shown."""
ALWAYS = "runs whenever it is asked for"
IDLE = ("unchanged", "ignored")
"""Verdicts on tasks that would do nothing."""
FILES = {
    "missing_file_dep": "is missing",
    "added_file_dep": "is new among the inputs",
    "removed_file_dep": "is no longer an input",
    "changed_file_dep": "changed",
}


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What would happen to one task: `run`, `maybe` (if an upstream's outcome differs), `point`, `unchanged` or `ignored`.

    `point`: its result exists already, and only a document about it is written. `ignored`: by `doit ignore`. `reasons`: why;
    for an unchanged task, what it has made. `facts`: the facts of its outcome, if they are known already.
    """

    task: str
    what: str
    reasons: tuple[str, ...]
    seconds: float | None = None
    """The median of the last times that it took when it changed something here."""
    facts: Mapping[str, Any] | None = None

    @property
    def stage(self) -> str:
        """The stage that the task is a part of."""
        return self.task.partition(":")[0]


def verdicts(tasks: dict[str, Any], selected: list[str], dep_manager: Any) -> list[Verdict]:
    """A verdict for each selected task and each of its upstreams, upstreams first."""
    found: dict[str, Verdict] = {}
    for name in _in_order(tasks, selected):
        task = tasks[name]
        status = dep_manager.get_status(task, tasks, get_log=True)
        if ignored := _ignored(task, found, dep_manager):
            found[name] = Verdict(task=name, what="ignored", reasons=(f"doit forget {ignored}",))
            continue
        reasons = [*_reasons(status), *_differing(task, found, dep_manager)]
        ahead = foreseen(task) if reasons else None
        unsure = sorted({found[each].stage for each in _feeds(task) if found[each].facts is None})
        seconds = dep_manager.backend.expected(name)
        if ahead:
            told = ahead.words or (tuple(reasons) if ahead.what == "run" else ())
            took = seconds if ahead.what == "run" else 0.0
            found[name] = Verdict(task=name, what=ahead.what, reasons=told, seconds=took, facts=ahead.facts)
        elif any(not isinstance(each, Unasked) for each in reasons) or (reasons and not unsure):
            found[name] = Verdict(task=name, what="run", reasons=tuple(reasons), seconds=seconds)
        elif unsure:
            why = f"if the outcome of {' or '.join(unsure)} differs"
            found[name] = Verdict(task=name, what="maybe", reasons=(why, *reasons), seconds=seconds)
        else:
            holds = dep_manager.get_values(name).get("unchanged")
            # it may have run since those behind it did
            facts = dep_manager.get_result(name)
            told = (holds,) if holds else ()
            found[name] = Verdict(task=name, what="unchanged", reasons=told, facts=facts)
    return list(found.values())


def _differing(task: Any, found: Mapping[str, Verdict], dep_manager: Any) -> Iterator[str]:
    """Where the facts of an upstream's outcome are known to differ from those that this task had last time."""
    had = dep_manager.get_values(task.name)
    for upstream in sorted(_feeds(task)):
        facts, last = found[upstream].facts, had.get(f"_result:{upstream}")
        if last is None:  # a first run has a reason already
            if had:
                yield f"it has run without the outcome of {found[upstream].stage}"
            continue
        if facts is None:
            continue
        for name in sorted({*facts, *last}):
            if facts.get(name) != last.get(name):
                yield f"{name} {words(last.get(name))[:SHORT]} → {words(facts.get(name))[:SHORT]}"


def _ignored(task: Any, found: Mapping[str, Verdict], dep_manager: Any) -> str:
    """The task that `doit ignore` names: this one or one of its upstreams. doit skips all that come behind it."""
    if dep_manager.status_is_ignore(task):
        return str(task.name)
    behind = (found[each] for each in task.task_dep if each in found and found[each].what == "ignored")
    return next((each.reasons[0].rpartition(" ")[2] for each in behind), "")


def why(task: Any, dep_manager: Any) -> list[str]:
    """Why a task runs, from the checks that were made already: no new requests."""
    found = [
        each for check, *_ in task.uptodate if isinstance(check, (Named, World)) for each in check.changed
    ]
    for path in sorted(task.file_dep):
        before = dep_manager.backend.get(task.name, path)
        if before and before != dep_manager.checker.id(path):
            found.append(f"{path} changed")
    if not found and task.getargs:
        found = [
            f"the outcome of {' or '.join(sorted(each.partition(':')[0] for each in _feeds(task)))} differs"
        ]
    return found or [ALWAYS]


def changed_inputs(task: Any, dep_manager: Any) -> list[str]:
    """Which inputs of a task are others than at its last success. Neither the cloud nor a host is asked."""
    backend, values = dep_manager.backend, dep_manager.get_values(task.name)
    found = [
        f"{path} changed"
        for path in sorted(task.file_dep)
        if backend.get(task.name, path) != dep_manager.checker.id(path)
    ]
    for check, *_ in task.uptodate:
        if isinstance(check, Named) and not check(task, values):
            found += check.changed
    return found


def expectation(tasks: dict[str, Any], found: list[Verdict]) -> str:
    """How long the work will take, in words: tasks wait for their upstreams, the others run in parallel."""
    due = {each.task: each for each in found if each.what not in IDLE}
    unknown = sorted({each.stage for each in due.values() if each.seconds is None})
    ends: dict[str, float] = {}
    for name in _in_order(tasks, list(due)):
        begins = max((ends.get(upstream, 0.0) for upstream in tasks[name].task_dep), default=0.0)
        ends[name] = begins + ((due[name].seconds or 0.0) if name in due else 0.0)
    known = (
        f"about {max(ends.values(), default=0.0):.0f} s"
        if any(each.seconds is not None for each in due.values())
        else ""
    )
    missing = f"no history here of {', '.join(unknown)}" if unknown else ""
    return f"expected: {', '.join(filter(None, (known, missing)))}"


def _in_order(tasks: dict[str, Any], selected: list[str]) -> Iterator[str]:
    seen: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name not in seen:
            seen.add(name)
            for upstream in tasks[name].task_dep:
                yield from visit(upstream)
            if tasks[name].actions:
                yield name

    for name in selected:
        yield from visit(name)


def _feeds(task: Any) -> set[str]:
    """The tasks whose outcome is an input of this task."""
    return {upstream for upstream, _ in task.getargs.values()}


def _reasons(status: Any) -> Iterator[str]:
    """Each reason to run. That an upstream would run is not a reason yet."""
    told: set[str] = set()  # doit calls a new input changed as well
    for kind, what in FILES.items():
        for path in sorted(set(status.reasons.get(kind) or ()) - told):
            told.add(path)
            yield f"{path} {what}"
    for check, _, _ in status.reasons.get("uptodate_false") or ():
        if isinstance(check, (Named, World)):
            yield from check.changed
    if status.reasons.get("has_no_dependencies"):
        yield ALWAYS
