"""trust: which CI jobs may assume which role: the trust policy of each, from the settings. Pure.

AWS compares two things of a job's token: `aud`, whom it is for, and `sub`, what the provider says of the job. What a `sub` has differs:
GitHub's has the ref, or the environment and no ref; GitLab's has the ref; Bitbucket's has the environment's id and no ref.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.nearest import meant, nearest
from tasks.refusal import UNKNOWN, Refusal

if TYPE_CHECKING:
    from tasks.settings import Ci

ROLES = ("compiler", "builder", "releaser", "branch", "pull-request", "sweeper", "driller", "pruner")
AUDIENCE = "sts.amazonaws.com"
"""Whom tokens of GitHub and GitLab are for: the CI files ask for it. Bitbucket's are for its workspace."""
PRIVILEGED = ("compiler", "builder", "releaser", "sweeper", "driller", "pruner")
"""Roles whose jobs run for the default branch."""


class CiUnset(Refusal):
    """Trust policies are asked for, and pipeline.yml does not say where CI runs, or not all that its tokens have."""

    sentence = "trust: pipeline.yml does not say {what}"
    remedy = "$EDITOR pipeline.yml  # ci.{key}"


class RoleUnknown(Refusal):
    """`doit trust` for a role that there is not."""

    sentence = "trust: there is no role {role} ({meant}known: {known})"
    remedy = "doit trust {right}"
    exit_code = UNKNOWN


def policy(ci: Ci, default_branch: str, role: str, account: str) -> dict[str, Any]:
    """The trust policy of a role in an account. Raises CiUnset or RoleUnknown."""
    if role not in ROLES:
        raise RoleUnknown(
            role=role, meant=meant(role, ROLES), known=", ".join(ROLES), right=nearest(role, ROLES) or "ROLE"
        )
    name, found = provider(ci), subjects(ci, default_branch, role)
    operator = "StringLike" if any("*" in each for each in found) else "StringEquals"
    conditions: dict[str, dict[str, Any]] = {"StringEquals": {f"{name}:aud": audience(ci)}}
    conditions.setdefault(operator, {})[f"{name}:sub"] = list(found)
    statement = {
        "Sid": role.title().replace("-", ""),
        "Effect": "Allow",
        "Principal": {"Federated": f"arn:aws:iam::{account}:oidc-provider/{name}"},
        "Action": "sts:AssumeRoleWithWebIdentity",
        "Condition": conditions,
    }
    return {"Version": "2012-10-17", "Statement": [statement]}


def provider(ci: Ci) -> str:
    """The identity provider, as AWS names it: the issuer's URL without https://. Raises CiUnset."""
    if ci.provider == "none":
        raise CiUnset(what="which provider runs CI", key="provider")
    if not ci.repository:
        raise CiUnset(what=f"which repository of {ci.provider} CI runs for", key="repository")
    if ci.provider == "bitbucket":
        if not ci.workspace or not ci.workspace_id:
            raise CiUnset(
                what="the workspace and its id", key="workspace" if not ci.workspace else "workspace_id"
            )
        return f"api.bitbucket.org/2.0/workspaces/{ci.workspace}/pipelines-config/identity/oidc"
    return {"github": "token.actions.githubusercontent.com", "gitlab": ci.gitlab}[ci.provider]


def audience(ci: Ci) -> str:
    """Whom the tokens are for."""
    return f"ari:cloud:bitbucket::workspace/{ci.workspace_id}" if ci.provider == "bitbucket" else AUDIENCE


def subjects(ci: Ci, default_branch: str, role: str) -> tuple[str, ...]:
    """The `sub` of every job that may assume a role; `*` stands for anything. Raises CiUnset."""
    known = {"github": _github, "gitlab": _gitlab, "bitbucket": _bitbucket}
    return known[ci.provider](ci, default_branch, role)


def _github(ci: Ci, default_branch: str, role: str) -> tuple[str, ...]:
    """A job with an environment says no ref: so only those jobs have one that a reviewer lets through."""
    repository = f"repo:{ci.repository}"
    if role in PRIVILEGED:
        named = (f"{repository}:environment:{each}" for each in ci.environments.get(role, ()))
        return (f"{repository}:ref:refs/heads/{default_branch}", *named)
    return {
        # `stop` of a deleted branch runs as the default branch
        "branch": (f"{repository}:environment:testing/*", f"{repository}:ref:refs/heads/*"),
        "pull-request": (f"{repository}:pull_request",),
    }[role]


def _gitlab(ci: Ci, default_branch: str, role: str) -> tuple[str, ...]:
    """A merge request's job says its source branch, as any job of that branch does."""
    branches = f"project_path:{ci.repository}:ref_type:branch:ref"
    return (f"{branches}:{'*' if role in ('branch', 'pull-request') else default_branch}",)


def _bitbucket(ci: Ci, default_branch: str, role: str) -> tuple[str, ...]:
    """No branch is said: the environment is, whose permissions name the branch."""
    if role not in PRIVILEGED:
        return (f"{ci.repository}:*",)
    if not ci.environments.get(role):
        raise CiUnset(
            what=f"in which of Bitbucket's environments the role {role} has jobs", key=f"environments.{role}"
        )
    return tuple(f"{ci.repository}:{each}:*" for each in ci.environments[role])
