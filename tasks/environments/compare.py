"""compare: where the servers of two environments differ, according to their ledgers and settings."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tasks.bucket import layout
from tasks.digest import Digest
from tasks.refusal import Refusal
from tasks.run import DEFAULT_ENVIRONMENT, branch_identity, elsewhere
from tasks.server.ledger import Ledger

if TYPE_CHECKING:
    from tasks.run import Run

View = Mapping[str, frozenset[str]]
"""The facts of an environment's hosts, by name."""

IGNORED = {"digest"}
"""A file's digest depends on host names and passwords; `content` is its digest without them."""


class NoLedger(Refusal):
    """`doit compare` is asked for an environment that was never provisioned, or is gone."""

    sentence = "compare: {identity} has no ledger"
    remedy = "doit {named} server"


def resolve(run: Run, name: str) -> Run:
    """A run in what a name stands for: an environment, which may be elsewhere, an identity, or a branch."""
    if _is_environment(run, name):
        return elsewhere(run, name)
    if next(run.store.keys(layout.ledgers(name)), None):
        return dataclasses.replace(run, named_identity=name)
    branch = branch_identity(DEFAULT_ENVIRONMENT, name)
    return dataclasses.replace(elsewhere(run, DEFAULT_ENVIRONMENT), named_identity=branch)


def ledgers(run: Run, name: str) -> list[Ledger]:
    """The ledgers of an environment's hosts. Raises NoLedger when there are none."""
    there = resolve(run, name)
    found = [there.store.read(key) for key in sorted(there.store.keys(layout.ledgers(there.identity)))]
    if not found:
        kind = "environment" if _is_environment(run, name) else "branch"
        raise NoLedger(identity=there.identity, named=f"{kind}={name}")
    return [Ledger.of(each.value) for each in found if each]


def view(found: list[Ledger]) -> View:
    """All facts in the ledgers of one environment."""
    shown: dict[str, set[str]] = {}
    for ledger in found:
        for name, fact in _facts(ledger):
            shown.setdefault(name, set()).add(fact)
    return {name: frozenset(facts) for name, facts in shown.items()}


def lines(first: View, second: View) -> list[str]:
    """The differences, a line each: `package nginx: 1.22.1-9 | none`."""
    return [
        f"{name}: {_shown(first.get(name))} | {_shown(second.get(name))}"
        for name in sorted(first.keys() | second.keys())
        if first.get(name) != second.get(name)
    ]


def _is_environment(run: Run, name: str) -> bool:
    return (run.root / "environments" / f"{name}.yml").is_file()


def _facts(ledger: Ledger) -> Iterator[tuple[str, str]]:
    for name, resource in ledger.resources.items():
        facts = dict(resource["facts"] or {"state": "absent"})
        if "content" in facts:
            facts = {each: value for each, value in facts.items() if each not in IGNORED}
        for each, value in facts.items():
            said = Digest(value).short if each in ("content", "digest") else value
            label = {"content": "", "digest": "", "version": "", "type": ""}.get(each, f" {each}")
            if each != "type" or value != "file":
                yield f"{name}{label}", ", ".join(said) if isinstance(said, list) else str(said)
    for path in ledger.files:
        if f"file {path}" not in ledger.resources:
            yield f"file {path}", "there"
    for name, value in ledger.settings.items():
        yield f"setting {name}", str(value)


def _shown(facts: frozenset[str] | None) -> str:
    return ", ".join(sorted(facts)) if facts else "none"
