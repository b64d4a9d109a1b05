"""iam: the policy files of the project, and what they say of a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.cloud.embedded.judge import AccessRequest, Context, judge
from tests.conftest import ROOT

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
"""What a policy of ours may have."""
ROLES = {
    "builder": ("builder", "releaser"),  # `start` on the default branch is one process
    "releaser": ("releaser",),
    "branch": ("branch",),
    "pull-request": ("pull-request",),
    "sweeper": ("sweeper",),
}
"""The policies that each role has."""
ACCOUNT = {"aws:PrincipalAccount": "1", "aws:ResourceAccount": "1"}
"""What is known of every call of these tables."""


def policy(name: str, root: Path = ROOT) -> dict[str, Any]:
    """A policy file of the project."""
    return json.loads((root / "build" / "ci" / "iam" / f"{name}.json").read_text())


def allowed(
    policies: Iterable[Mapping[str, Any]], action: str, resource: str = "*", context: Context | None = None
) -> bool:
    """Whether a call is allowed. `context`: the condition keys that AWS would set for it."""
    request = AccessRequest(action=action, resource=resource, context={**ACCOUNT, **(context or {})})
    return judge(list(policies), request).allowed
