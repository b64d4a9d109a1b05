"""stage: make a doit task from a stage of dodo.py: its inputs, its upstreams and its outcome."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doit import Globals
from doit.exceptions import TaskError, TaskFailed

from tasks import application, boundary, hooks, settings
from tasks.full_disk import full_disk
from tasks.graph.inputs import Named, World, checker
from tasks.graph.state import BucketState, Records
from tasks.process import children
from tasks.refusal import BUG

if TYPE_CHECKING:
    from tasks.run import Run

Task = dict[str, Any]
CREATOR = "task_"
"""The prefix of the functions of dodo.py that make the tasks of a stage."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of a stage.

    `facts` go to the stages that need it; those run again if the facts differ. `done` says what it did, `unchanged` what
    holds as long as it is skipped; if that is empty, the skip gets no line.
    """

    facts: Mapping[str, Any]
    done: str
    unchanged: str
    changed: bool = True


@dataclass(frozen=True, kw_only=True)
class Foreseen:
    """The outcome of a stage that is known before it acts.

    `what`: `run`; `point` if the result exists and only a document about it is still to be written; `unchanged` if nothing is
    to be done. `words`: what is to be written, or what holds; without any, a run keeps the reasons of the checks.
    `facts`: the facts of the outcome, if they are known.
    """

    what: str
    words: tuple[str, ...] = ()
    facts: Mapping[str, Any] | None


@dataclass(frozen=True, kw_only=True)
class Properties:
    """How the graph, the commands and the records treat a task.

    `leased`: it changes the environment, so only one run at a time may run it. `recorded`: it leaves a record, so that it can
    be skipped. `takes_away`: it removes what the leased tasks have made; `voids`: records of others, which are wrong from the
    moment it starts: all of theirs where it takes away. `offered`: it exists in every environment
    whose file does not list stages. `speaks`: a plan has a line for it even if it has nothing to do.
    """

    leased: bool = False
    recorded: bool = True
    takes_away: bool = False
    voids: tuple[str, ...] = ()
    offered: bool = True
    speaks: bool = True


def stage(
    run: Run,
    action: Callable[..., Outcome],
    *,
    name: str | None = None,
    subject: object = None,
    inputs: Sequence[str] = (),
    parts: Callable[[Any], Mapping[str, object]] | None = None,
    world: Callable[[Any], list[str]] | None = None,
    foresee: Callable[[Any], Foreseen | None] | None = None,
    meanwhile: Sequence[Callable[[], None]] = (),
    after: Sequence[str] = (),
    always: bool = False,
    leased: bool = False,
    recorded: bool = True,
    takes_away: bool = False,
    voids: Sequence[str] = (),
    offered: bool = True,
    speaks: bool = True,
    **needs: str,
) -> Task:
    """The doit task of a stage, or of its part `name`.

    `subject`: the argument of action, parts, world and foresee; by default the run. `inputs`: folders and files that it
    depends on, by git id. `parts`: everything else that it depends on, by name. `world`: returns where the cloud or the hosts
    are not as wanted. `foresee`: the outcome, if it is known before the action. `meanwhile`: functions that start in advance
    what later stages will ask. `after`: tasks that come first. `needs`: tasks that come first and whose facts the action gets
    under that keyword. `always`: there is nothing to compare, the action finds out what to do. The rest: see `Properties`.
    """
    subject = run if subject is None else subject
    properties = Properties(
        leased=leased,
        recorded=recorded,
        takes_away=takes_away,
        voids=tuple(voids),
        offered=offered,
        speaks=speaks,
    )
    # `meanwhile` comes first; it returns None, which doit ignores
    checks: list[object] = [
        *((each, []) for each in meanwhile),
        Named(functools.partial(parts, subject) if parts else dict),
    ]
    if world:
        announced = getattr(world, "announced", False)
        checks.append(World(functools.partial(world, subject), announced=announced))
    task: Task = {
        "actions": [(perform, [action, run, subject])],
        "file_dep": list(inputs),
        "uptodate": [] if always else checks,
        # task_dep too: getargs alone would not run the stage when its upstream changes (doit #367)
        "task_dep": [*after, *needs.values()],
        "getargs": {keyword: (upstream, None) for keyword, upstream in needs.items()},
        "meta": {
            "run": run,
            "properties": properties,
            "foresee": functools.partial(foresee, subject) if foresee else None,
        },
        # threads share one stdout: stages speak through the console instead
        "io": {"capture": False},
    }
    return task | ({"name": name} if name else {})


def declare(namespace: dict[str, Any], run: Run) -> None:
    """Reduce dodo.py's functions to the graph of this environment: stages that its file does not allow are removed.

    Completes DOIT_CONFIG with what follows from the graph. Raises SettingWrong if the file lists a stage that no function makes.
    """
    made = {
        name.removeprefix(CREATOR): (creator, _listed(creator()))
        for name, creator in namespace.items()
        if name.startswith(CREATOR)
    }
    for each in run.environment.named_stages:
        if each not in made:
            raise settings.stage_unknown(run.root, run.environment_name, each, made)
    here = {
        name: tasks
        for name, (_, tasks) in made.items()
        if run.environment.has(name, offered=all(each["meta"]["properties"].offered for each in tasks))
    }
    all_here = [
        (f"{name}:{each['name']}" if "name" in each else name, each)
        for name, found in here.items()
        for each in found
    ]
    records = {name: each["meta"]["properties"] for name, each in all_here}
    for hook in hooks.found(run.root, [name for name, (_, tasks) in made.items() if len(tasks) == 1]):
        if hook.of in here:
            _hook_in(here[hook.of][0], run, hook)
    leased = tuple(name for name in reversed(records) if records[name].leased and records[name].recorded)
    elsewhere = made.keys() - here.keys()
    for name, (creator, tasks) in made.items():
        if name in here:
            reduced = [_within(each, here, elsewhere, leased) for each in tasks]
            namespace[f"{CREATOR}{name}"] = _made(creator, reduced)
        else:
            del namespace[f"{CREATOR}{name}"]
    config = namespace["DOIT_CONFIG"]
    config["check_file_uptodate"] = checker(
        run.root,
        {path for _, each in all_here for path in each["file_dep"]},
        {application.place(run).path: functools.partial(application.tree, run)},
    )
    config["dep_file"] = Records(
        run=run,
        unrecorded=frozenset(name for name, each in records.items() if not each.recorded),
    )


def properties(task: Any) -> Properties:
    """The properties of a doit task; a group of parts has none of its own."""
    found: Properties = (task.meta or {}).get("properties") or Properties(speaks=False)
    return found


def foreseen(task: Any) -> Foreseen | None:
    """The outcome of a doit task, if it is known before the action."""
    ask: Callable[[], Foreseen | None] | None = (task.meta or {}).get("foresee")
    return ask() if ask else None


def _listed(made: Task | Iterator[Task]) -> list[Task]:
    return [made] if isinstance(made, dict) else list(made)


def _within(task: Task, here: Iterable[str], elsewhere: Iterable[str], leased: tuple[str, ...]) -> Task:
    """The task without its needs of stages that this environment does not have; it keeps their names, for a refusal."""
    known: Properties = task["meta"]["properties"]
    voids = leased if known.takes_away else tuple(each for each in known.voids if each in leased)
    known = dataclasses.replace(known, voids=voids)
    return {
        **task,
        "meta": {**task["meta"], "properties": known, "elsewhere": frozenset(elsewhere)},
        "task_dep": [each for each in task["task_dep"] if each.partition(":")[0] in here],
        "getargs": {
            keyword: need for keyword, need in task["getargs"].items() if need[0].partition(":")[0] in here
        },
    }


def _hook_in(task: Task, run: Run, hook: hooks.Hook) -> None:
    """Let a stage run a script before or after its own action, and depend on it."""
    action = (hooks.run_here, [run, hook])
    task["actions"].insert(0 if hook.when == "before" else len(task["actions"]), action)
    task["file_dep"].append(hook.path)


def _made(creator: Callable[[], Any], tasks: list[Task]) -> Callable[[], Any]:
    """The creator with its tasks already made; it keeps the line and the docstring, which doit reads."""

    @functools.wraps(creator)
    def again() -> Any:
        return (each for each in tasks) if "name" in tasks[0] else tasks[0]

    return again


def act(state: BucketState, wrong: Iterable[str], action: Callable[[], Outcome]) -> Outcome:
    """Void the records that are wrong from the moment that the action starts, then act."""
    for each in wrong:
        state.void(each)
    return action()


def perform(action: Callable[..., Outcome], run: Run, subject: object, task: Any, **needs: Any) -> Any:
    """Run one stage: void its records, act, and return the facts. A refusal becomes doit's TaskFailed."""
    started = time.monotonic()
    stage_name = task.name.partition(":")[0]
    for check, *_ in task.uptodate:
        for reason in check.changed if isinstance(check, World) and check.announced else ():
            run.console.event(stage_name, reason)
    try:
        with children.at_work(), full_disk(stage_name, ".run"):
            wrong = (*properties(task).voids, task.name)
            outcome = act(Globals.dep_manager.backend, wrong, functools.partial(action, subject, **needs))
    except Exception as error:
        said = boundary.told(error, run.root / boundary.ERRORS)
        return (TaskError if said.exit_code == BUG else TaskFailed)(said.told(run.variables))
    told = {"done": outcome.done, "unchanged": outcome.unchanged, "changed": outcome.changed}
    told["seconds"] = round(time.monotonic() - started, 1)
    task.value_savers.append(lambda: told)
    return dict(outcome.facts)
