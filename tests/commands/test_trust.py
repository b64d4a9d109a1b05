"""`doit trust`: what is printed is the policy that AWS takes; what cannot be printed is refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tasks import trust
from tasks.settings import Ci
from tests.conftest import copy_project, doit
from tests.paper import users_cloud


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A project whose settings say where CI runs."""
    root = copy_project(tmp_path_factory.mktemp("project") / "shop")
    with (root / "pipeline.yml").open("a") as file:
        file.write("ci: {provider: github, repository: team/shop, environments: {releaser: [production]}}\n")
    return root


@pytest.mark.parametrize("role", trust.ROLES)
@pytest.mark.promise("trust-by-token")
def test_a_policy_is_printed_for_every_role_and_no_cloud_is_started(project, tmp_path, role):
    answered = doit(project, "trust", role, "210987654321", XDG_STATE_HOME=str(tmp_path / "state"))
    ci = Ci(provider="github", repository="team/shop", environments={"releaser": ("production",)})
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout) == trust.policy(ci, "main", role, "210987654321")
    assert not (tmp_path / "state").exists()


def test_without_an_account_it_is_the_caller_s(project, tmp_path_factory):
    with users_cloud(tmp_path_factory.mktemp("state")):
        answered = doit(project, "trust", "builder")
    assert "arn:aws:iam::123456789012:oidc-provider/token.actions.githubusercontent.com" in answered.stdout


@pytest.mark.parametrize(
    ("typed", "code", "sentence"),
    [
        ((), 3, "doit trust: the command is doit trust ROLE [ACCOUNT]\n    doit help trust"),
        (("builder", "1", "2"), 3, "the command is doit trust ROLE [ACCOUNT]\n    doit help trust"),
        (
            ("bilder", "1"),
            3,
            "trust: there is no role bilder (did you mean builder? known: compiler, builder, ",
        ),
        (("bilder", "1"), 3, "\n    doit trust builder"),
    ],
)
def test_what_is_no_role_is_refused(project, tmp_path, typed, code, sentence):
    answered = doit(project, "trust", *typed, XDG_STATE_HOME=str(tmp_path / "state"))
    assert (answered.returncode, sentence in answered.stderr) == (code, True), answered.stderr
    assert "Traceback" not in answered.stderr


def test_without_the_settings_it_says_which(tmp_path):
    root = copy_project(tmp_path / "shop")
    answered = doit(root, "trust", "builder", "1", XDG_STATE_HOME=str(tmp_path / "state"))
    assert (answered.returncode, answered.stderr) == (
        1,
        "trust: pipeline.yml does not say which provider runs CI\n    $EDITOR pipeline.yml  # ci.provider\n",
    )
