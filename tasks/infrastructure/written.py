"""written: what a run has changed. It counts, whatever a list shows: a list may be some changes behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tasks.infrastructure import plan
from tasks.infrastructure.plan import Change, Existing, Machine, WholeRule


@dataclass(kw_only=True)
class Written:
    """The changes of one run, put over what it finds."""

    key: str | None = None
    group: str | None = None
    rules: dict[tuple[int, str], bool] = field(default_factory=dict)
    closed: set[WholeRule] = field(default_factory=set)
    outward: dict[WholeRule, bool] = field(default_factory=dict)
    machines: dict[str, Machine] = field(default_factory=dict)
    """The machines as they were when they had settled."""
    ended: set[str] = field(default_factory=set)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    protected: set[str] = field(default_factory=set)
    names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    started: set[str] = field(default_factory=set)
    """Machines that were made or started, and must be seen running."""

    def note(self, change: Change, made: str | None) -> None:
        """A change was made; `made`: the id of what it has made."""
        match change:
            case plan.CreateKey():
                self.key = plan.key_mark(change.public_key)
            case plan.CreateGroup():
                self.group = made
            case plan.OpenPort():
                self.rules[change.port, change.network] = True
            case plan.ClosePort():
                self.rules[change.port, change.network] = False
            case plan.CloseRule():
                self.closed.add(change.rule)
            case plan.LetOut() | plan.HoldBack():
                self.outward |= dict.fromkeys(change.rules, isinstance(change, plan.LetOut))
            case plan.CreateMachine() if made:
                self.started.add(made)
            case plan.StartMachine():
                self.started.add(change.id)
            case plan.EndMachine():
                self.ended.add(change.id)
            case plan.TagMachine() | plan.RetagMachine():
                self.tags[change.id] = {**self.tags.get(change.id, {}), **change.tags}
            case plan.ProtectMachine():
                self.protected.add(change.id)
            case plan.Point() | plan.Repoint():
                self.names[change.host_name] = change.addresses
            case plan.Unpoint():
                self.names[change.host_name] = ()

    def settled(self, machines: Iterable[Machine]) -> None:
        """What the machines were when none of them changed its state any more."""
        self.machines = {each.id: each for each in machines}
        self.started.clear()

    def over(self, found: Existing, host_names: Iterable[str]) -> Existing:
        """What exists: what was found, and what was written since."""
        records = {**found.records, **{name: self.names[name] for name in host_names if name in self.names}}
        listed = {**{each.id: each for each in found.machines}, **self.machines}
        opened = {rule for rule, open in self.rules.items() if open}
        let_out = {rule for rule, open in self.outward.items() if open}
        return dataclasses.replace(
            found,
            key=self.key or found.key,
            group=self.group or found.group,
            rules=frozenset((found.rules | opened) - (self.rules.keys() - opened)),
            hand_made=tuple(each for each in found.hand_made if each not in self.closed),
            outward=frozenset((found.outward | let_out) - (self.outward.keys() - let_out)),
            machines=tuple(self._over(each) for each in listed.values() if each.id not in self.ended),
            records={name: addresses for name, addresses in records.items() if addresses},
            replaced=tuple(each for each in found.replaced if self.names.get(each.host_name) != ()),
        )

    def _over(self, machine: Machine) -> Machine:
        tags: Mapping[str, str] = {**machine.tags, **self.tags.get(machine.id, {})}
        protected = True if machine.id in self.protected else machine.protected
        return dataclasses.replace(machine, tags=dict(tags), protected=protected)
