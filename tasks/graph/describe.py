"""describe: a stage in words: its place in the graph, its properties, its inputs, and which of them have changed."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tasks.graph import plan
from tasks.graph.inputs import Named, words
from tasks.graph.stage import properties

SHORT = 12
"""Digits of a git id."""
LONGEST = 80
"""Characters of a value."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """An input of a stage: its value now and at the last recorded run. `compared`: whether there was such a run."""

    name: str
    now: str | None
    before: str | None = None
    compared: bool = False

    @property
    def changed(self) -> bool:
        """Whether the stage runs because of it."""
        return self.compared and self.now != self.before

    def row(self, width: int, none: str) -> str:
        """One line; `none` stands for a missing value."""
        former = f"  changed, was {_short(self.before) if self.before else none}" if self.changed else ""
        return f"{self.name:<{width}}  {_short(self.now) if self.now else none}{former}"


def relations(task: Any) -> Iterator[str]:
    """What the task comes after, and its properties, in words."""
    needs = {upstream: keyword for keyword, (upstream, _) in task.getargs.items()}
    for each in dict.fromkeys(task.task_dep):
        facts = f", and gets its facts as `{needs[each]}`" if each in needs else ""
        yield f"comes after {each}{facts}"
    found = properties(task)
    if found.leased:
        yield "is leased: it changes the environment, which only one run at a time may do"
    if found.recorded and task.uptodate:
        yield "is recorded: it is skipped as long as its inputs are unchanged"
    elif found.recorded:
        yield f"is recorded, and {plan.ALWAYS}"
    else:
        yield "is not recorded: it finds out itself what there is to do"
    if found.voids:
        yield f"voids the records of {', '.join(found.voids)}: they are wrong from the moment it starts"
    if found.offered:
        yield "is offered: it exists in every environment whose file does not list stages"
    else:
        yield "is not offered: it exists only in environments whose file lists it"


def inputs(task: Any, dep_manager: Any, *, compare: bool) -> list[Part]:
    """The paths that a task depends on, with their git ids. `compare`: with the ids of its record, which is in the bucket."""
    former: Mapping[str, str] = {}
    recorded = compare and dep_manager.backend.in_(task.name)
    if recorded:
        paths = {*task.file_dep, *(dep_manager.backend.get(task.name, "deps:") or ())}
        former = {path: dep_manager.backend.get(task.name, path) for path in paths}
    return [
        Part(name=path, now=dep_manager.checker.id(path), before=former.get(path), compared=bool(recorded))
        for path in sorted({*task.file_dep, *former})
    ]


def named(task: Any, dep_manager: Any, *, compare: bool) -> list[Part]:
    """Everything else that a task depends on, by name. Without `compare`, the cloud is not asked."""
    check = next((each for each, *_ in task.uptodate if isinstance(each, Named)), None)
    if not check:
        return []
    before = (dep_manager.get_values(task.name).get("inputs") if compare else None) or {}
    now = _flat(check.now() if compare else check.declared())
    former = _flat(before)
    return [
        Part(name=name, now=now.get(name), before=former.get(name), compared=bool(before))
        for name in sorted({*now, *former})
    ]


def by_folder(parts: Iterable[Part]) -> Iterator[str]:
    """A line for each path, below its folder."""
    ordered = sorted(parts, key=lambda each: each.name.rpartition("/"))
    for folder, found in itertools.groupby(ordered, key=lambda each: each.name.rpartition("/")[0]):
        rows = [
            Part(name=each.name.rpartition("/")[2], now=each.now, before=each.before, compared=each.compared)
            for each in found
        ]
        if folder:
            yield f"{folder}/"
        width = max(len(each.name) for each in rows)
        yield from (f"{'  ' if folder else ''}{each.row(width, 'missing')}" for each in rows)


def by_name(parts: list[Part]) -> Iterator[str]:
    """A line for each named part."""
    width = max((len(each.name) for each in parts), default=0)
    return (each.row(width, "none") for each in parts)


def _flat(values: Mapping[str, object], prefix: str = "") -> dict[str, str]:
    """Every value in words. A nested value gets a dotted name."""
    found: dict[str, str] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = words(value)
    return found


def _short(text: str) -> str:
    if len(text) == 40 and all(each in "0123456789abcdef" for each in text):
        return text[:SHORT]
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
