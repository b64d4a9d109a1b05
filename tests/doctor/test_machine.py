"""What the machine and the CI lack."""

from __future__ import annotations

import pytest

from tasks.doctor import machine
from tasks.doctor.finding import Finding

ROLE = "arn:aws:iam::123456789012:role/shop"
ALL = dict.fromkeys(machine.ROLES, ROLE)
JOB = {"AWS_ROLE_ARN": ROLE, "AWS_WEB_IDENTITY_TOKEN_FILE": "/proc/self/fd/3"}
GITHUB, GITLAB, BITBUCKET = ({each.mark: "1"} for each in machine.PROVIDERS)


@pytest.mark.parametrize(
    "environ",
    [{}, GITHUB | JOB, GITLAB | ALL | JOB, BITBUCKET | ALL | JOB],
    ids=["none", "GitHub", "GitLab", "Bitbucket"],
)
def test_a_job_that_has_everything_lacks_nothing(environ):
    assert isinstance(machine.variables(environ), str)


@pytest.mark.parametrize(
    ("environ", "words", "remedy"),
    [
        (GITHUB, "no role", "gh variable set COMPILER_ROLE"),
        (GITHUB | {"AWS_ROLE_ARN": ROLE}, "no token", "id-token: write"),
        (
            GITLAB | {**ALL, "SWEEPER_ROLE": ""} | JOB,
            "no variable SWEEPER_ROLE",
            "glab variable set SWEEPER_ROLE",
        ),
        (GITLAB | ALL, "no role", "glab variable set"),
        (GITLAB | ALL | {"AWS_ROLE_ARN": ROLE}, "no token", "id_tokens"),
        (
            BITBUCKET | JOB,
            "no variable COMPILER_ROLE, BUILDER_ROLE, RELEASER_ROLE, SWEEPER_ROLE, DRILLER_ROLE, PRUNER_ROLE, BRANCH_ROLE, PULL_REQUEST_ROLE",
            '"key": "COMPILER_ROLE"',
        ),
        (BITBUCKET | ALL | {"AWS_ROLE_ARN": ROLE}, "no token", "oidc: true"),
    ],
)
def test_what_the_provider_has_not_set_is_named_with_how_to_set_it(environ, words, remedy):
    found = machine.variables(environ)
    assert isinstance(found, Finding)
    assert words in found.sentence
    assert remedy in found.remedy


def test_a_program_that_is_missing_or_fails_has_no_version():
    assert machine.version(["no-such-program"]) is None
    assert machine.version(["false"]) is None
    assert machine.version(["git", "--version"])
    assert machine.version(["ssh", "-V"]), "it says so among its complaints"


def test_all_tools_that_are_missing_are_named_at_once():
    asked = {"git": "2.39"}.get
    found = machine.tools({"git": ("git",), "a": ("a",), "b": ("b",)}, lambda command: asked(command[0]))
    assert found == Finding(
        sentence="not installed: a, b", remedy="rm -f .run/installed-* && build/ci/run list"
    )
    assert machine.tools({"git": ("git",)}, lambda command: "2.39") == "git 2.39"
