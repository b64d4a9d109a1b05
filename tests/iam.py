"""iam: the policy files of the project, and what they say of a call."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tasks.bootstrap import policies
from tasks.bucket import name as bucket_name
from tasks.cloud.embedded.address import ACCOUNT as OWN
from tasks.cloud.embedded.judge import AccessRequest, Context, judge
from tests.conftest import ROOT

ELEMENTS = {"Sid", "Effect", "Action", "Resource", "Condition"}
"""What a policy of ours may have."""
ROLES = policies.OF_ROLES
ACCOUNT = {"aws:PrincipalAccount": "1", "aws:ResourceAccount": "1"}
"""What is known of every call of these tables."""


def policy(name: str, root: Path = ROOT) -> dict[str, Any]:
    """A policy file of the project."""
    return json.loads((root / "build" / "ci" / "iam" / f"{name}.json").read_text())


def attached(name: str) -> dict[str, Any]:
    """A policy as a role of the embedded cloud's account has it."""
    bucket = bucket_name.default("shop", OWN, "eu-central-1")
    return policies.filled(ROOT, name, project="shop", bucket=bucket, account=OWN)


def allowed(
    documents: Iterable[Mapping[str, Any]], action: str, resource: str = "*", context: Context | None = None
) -> bool:
    """Whether a call is allowed. `context`: the condition keys that AWS would set for it."""
    request = AccessRequest(action=action, resource=resource, context={**ACCOUNT, **(context or {})})
    return judge(list(documents), request).allowed
