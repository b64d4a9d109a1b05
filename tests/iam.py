"""iam: evaluates policy files as AWS does, with the resources and conditions that moto ignores.

Identity policies only: an explicit Deny wins, else one Allow is enough. An element that it does not know fails the test.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tests.conftest import ROOT

Statement = Mapping[str, Any]
Context = Mapping[str, str | list[str]]
ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
ROLES = {
    "builder": ("builder", "releaser"),  # `start` on the default branch is one process
    "releaser": ("releaser",),
    "branch": ("branch",),
    "pull-request": ("pull-request",),
    "sweeper": ("sweeper",),
}
"""The policies that each role has."""


def policy(name: str, root: Path = ROOT) -> dict[str, Any]:
    """A policy file of the project."""
    return json.loads((root / "build" / "ci" / "iam" / f"{name}.json").read_text())


def allowed(
    policies: Iterable[Mapping[str, Any]], action: str, resource: str = "*", context: Context | None = None
) -> bool:
    """Whether a call is allowed. `context`: the condition keys that AWS would set for it."""
    effects = {
        statement["Effect"]
        for each in policies
        for statement in each["Statement"]
        if _applies(statement, action, resource, context or {})
    }
    return effects == {"Allow"}


def as_moto_judges(document: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a policy that moto enforces: all statements for S3, only action names for the rest.

    moto checks a batch of deletes against the bucket's name, not the keys.
    """
    statements = []
    for each in document["Statement"]:
        s3 = [action for action in each["Action"] if action.startswith("s3:")]
        rest = [action for action in each["Action"] if not action.startswith("s3:")]
        buckets = {resource.partition("/")[0] for resource in each["Resource"] if "s3:DeleteObject" in s3}
        keys = [*each["Resource"], *sorted(buckets)]
        statements += [{"Effect": each["Effect"], "Action": s3, "Resource": keys}] if s3 else []
        statements += [{"Effect": each["Effect"], "Action": rest, "Resource": "*"}] if rest else []
    return {"Version": document["Version"], "Statement": statements}


def _applies(statement: Statement, action: str, resource: str, context: Context) -> bool:
    assert statement.keys() <= ELEMENTS, f"not judged here: {statement.keys() - ELEMENTS}"
    return (
        any(_like(each.lower(), action.lower()) for each in statement["Action"])
        and any(_like(each, resource) for each in statement["Resource"])
        and all(
            _holds(operator, key, wanted, context)
            for operator, keys in statement.get("Condition", {}).items()
            for key, wanted in keys.items()
        )
    )


def _holds(operator: str, key: str, wanted: str | list[str], context: Context) -> bool:
    """One line of a condition. A key that the call does not have satisfies ForAllValues and nothing else."""
    values = _list({name.lower(): value for name, value in context.items()}.get(key.lower(), []))
    if operator == "Null":
        return (not values) == (wanted == "true")
    every = operator.startswith("ForAllValues:")
    compare = {"StringEquals": str.__eq__, "StringLike": _like}[operator.removeprefix("ForAllValues:")]
    matched = [any(compare(each, value) for each in _list(wanted)) for value in values]
    assert every or len(matched) <= 1, f"{key} has several values: an operator for sets is needed"
    return all(matched) if every else any(matched)


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


@functools.cache
def _like(pattern: str, text: str) -> bool:
    """IAM's wildcards."""
    return bool(re.fullmatch(re.escape(pattern).replace(r"\*", ".*").replace(r"\?", "."), text, re.DOTALL))
