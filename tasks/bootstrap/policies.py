"""policies: the policies of the CI's roles, for one account: the files of build/ci/iam with the bucket's name and the account's id."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tasks.bucket import name

OF_ROLES = {
    "compiler": ("compiler",),
    "builder": ("builder", "releaser"),  # `start` on the default branch is one process
    "releaser": ("releaser",),
    "branch": ("branch",),
    "pull-request": ("pull-request",),
    "sweeper": ("sweeper",),
    "driller": ("driller",),
    "pruner": ("pruner",),
}
"""The policies that each role has."""


def filled(root: Path, policy: str, *, project: str, bucket: str, account: str) -> dict[str, Any]:
    """A policy for this bucket and this account's buckets only. In the file, the former default name stands for the bucket."""
    text = (root / "build" / "ci" / "iam" / f"{policy}.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(
        text.replace(f"arn:aws:s3:::{name.former(project)}", f"arn:aws:s3:::{bucket}")
    )
    for each in found["Statement"]:
        if all(action.startswith("s3:") for action in each["Action"]):
            only = each.setdefault("Condition", {}).setdefault("StringEquals", {})
            only.setdefault("aws:ResourceAccount", account)
    return found
