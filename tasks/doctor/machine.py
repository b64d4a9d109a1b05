"""machine: looks for what a release needs of the machine that runs it, and of the CI that starts it there."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tasks.doctor.finding import Finding
from tasks.process import children

TOOLS = {"git": ("git", "--version"), "ssh": ("ssh", "-V")}
"""What every release needs: commands that print a version."""
ROLES = (
    *("COMPILER_ROLE", "BUILDER_ROLE", "RELEASER_ROLE"),
    *("SWEEPER_ROLE", "DRILLER_ROLE", "PRUNER_ROLE", "BRANCH_ROLE", "PULL_REQUEST_ROLE"),
)
"""The provider's variables with the roles of its jobs."""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """A CI. `mark`: a variable of each of its jobs. `shows`: whether a job sees all of the project's variables.

    `variable`: how one is set. `token`: where a job is granted the token by which AWS knows it.
    """

    mark: str
    shows: bool
    variable: str
    token: str


PROVIDERS = (
    Provider(
        mark="GITHUB_ACTIONS",
        shows=False,
        variable="gh variable set {name} --body arn:aws:iam::ACCOUNT:role/ROLE",
        token="$EDITOR .github/workflows/pipeline.yml  # permissions: id-token: write",  # noqa: S106  no secret
    ),
    Provider(
        mark="GITLAB_CI",
        shows=True,
        variable="glab variable set {name} arn:aws:iam::ACCOUNT:role/ROLE",
        token="$EDITOR .gitlab-ci.yml  # id_tokens: OIDC_TOKEN",  # noqa: S106
    ),
    Provider(
        mark="BITBUCKET_BUILD_NUMBER",
        shows=True,
        variable="curl --user USER https://api.bitbucket.org/2.0/repositories/WORKSPACE/REPOSITORY/pipelines_config/variables "
        '--json \'{{"key": "{name}", "value": "arn:aws:iam::ACCOUNT:role/ROLE"}}\'',
        token="$EDITOR bitbucket-pipelines.yml  # oidc: true",  # noqa: S106
    ),
)


def tools(commands: Mapping[str, Sequence[str]], ask: Callable[[Sequence[str]], str | None]) -> str | Finding:
    """Whether all tools are there. `ask`: the version that a command prints; None where it cannot."""
    versions = {name: ask(command) for name, command in sorted(commands.items())}
    if missing := [name for name, version in versions.items() if version is None]:
        return Finding(
            sentence=f"not installed: {', '.join(missing)}",
            remedy="rm -f .run/installed-* && build/ci/run list",
        )
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def version(command: Sequence[str]) -> str | None:
    """The version that a command prints; None where it is missing or fails."""
    try:
        code, out, complaints = children.ask(command)
    except children.CommandMissing:
        return None
    found = re.search(rb"\d[\w.+:~-]*", out or complaints)
    return found[0].decode() if found and not code else None


def variables(environ: Mapping[str, str]) -> str | Finding:
    """Whether the provider tells a job its role, and gives it the token that AWS asks for; outside of CI there is no job."""
    provider = next((each for each in PROVIDERS if environ.get(each.mark)), None)
    if not provider:
        return f"not in CI; its provider needs {', '.join(ROLES)}"
    missing = [name for name in ROLES if not environ.get(name)] if provider.shows else []
    if missing:
        return Finding(
            sentence=f"the provider has no variable {', '.join(missing)}",
            remedy=provider.variable.format(name=missing[0]),
        )
    role = environ.get("AWS_ROLE_ARN", "")
    if not role:
        return Finding(
            sentence=f"this job has no role (AWS_ROLE_ARN): the provider's variable for it, one of {', '.join(ROLES)}, is not set",
            remedy=provider.variable.format(name=ROLES[0]),
        )
    if not environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return Finding(
            sentence=f"this job has the role {role}, and its provider gives it no token to assume it with",
            remedy=provider.token,
        )
    return role
