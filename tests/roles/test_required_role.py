"""A role of others is added by a line of requirements.yml and one of a profile; a clone that lacks it says what to type."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tasks.hosts import managed
from tasks.settings import required_roles
from tests.conftest import commit, doit
from tests.paper import copy_paper, users_cloud
from tests.roles.others import FILES, shelf
from tests.roles.test_new_role import NAME, said

TOLD = "    greeting: {text: good day, words: {first: shop, more: [1, true]}}\n"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project whose profile lists a role of others, which is fetched."""
    folder = tmp_path_factory.mktemp("project")
    with users_cloud(tmp_path_factory.mktemp("state")), shelf(folder / "shelf") as served:
        root = copy_paper(folder / "shop")
        (folder / "second").write_text(served.put({**FILES, "README": "2"}, "2.0.0"))
        served.require(root, served.put())
        profile = root / NAME
        profile.write_text(profile.read_text().replace("    self_shutdown:", f"{TOLD}    self_shutdown:"))
        commit(root, "A role of others")
        yield root


def fetch(root):
    subprocess.run([sys.executable, "-P", "-m", "tasks.required_roles"], cwd=root, check=True)
    required_roles.cache_clear()  # a command has a process of its own


@pytest.mark.promise("roles-of-others-are-inputs")
def test_a_clone_without_it_says_what_to_type_and_with_it_the_stage_depends_on_it(project):
    refused = said(doit(project, "server"), code=1)
    assert (
        refused == "requirements.yml: the role greeting 1.2.0 is not fetched here\n    build/ci/run roles\n"
    )
    fetch(project)
    said(doit(project, "server"))
    assert "role greeting" in said(doit(project, "info", "--no-status", "server"))
    file = project / "requirements.yml"
    before = file.read_text()
    try:
        second = json.loads(before)
        second["roles"][0] |= {"version": "2.0.0", "sha256": (project.parent / "second").read_text()}
        file.write_text(json.dumps(second))
        fetch(project)
        assert "role greeting 1.2.0 " in said(doit(project, "plan", "server"))
    finally:
        file.write_text(before)
        fetch(project)


def test_a_rollback_and_a_teardown_need_it_not(project, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", project, clone], check=True)
    assert "greeting" not in said(doit(clone, "list"))
    said(doit(clone, "plan", "teardown"))


def test_what_the_profile_tells_it_are_its_variables(project):
    program = (
        "from pathlib import Path; import json\n"
        "from tasks import profile, settings\n"
        "from tasks.server.stage import with_templates\n"
        "said = profile.load(Path.cwd(), settings.of_pipeline(Path.cwd()).application)\n"
        "print(json.dumps(with_templates(said.server.roles['greeting'], said.folder)))\n"
    )
    told = subprocess.run(
        [sys.executable, "-c", program], cwd=project, capture_output=True, text=True, check=True
    )
    assert json.loads(told.stdout) == {"text": "good day", "words": {"first": "shop", "more": [1, True]}}


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ("greeting: {text: 2026-11-28}", "should be a value that JSON has"),
        ("greetin: {}", "did you mean greeting?"),
    ],
)
def test_what_is_wrong_in_the_profile_is_refused(project, value, problem):
    file = project / NAME
    before = file.read_text()
    try:
        file.write_text(before.replace(TOLD.strip(), value))
        assert problem in said(doit(project, "list"), code=3)
    finally:
        file.write_text(before)


@pytest.mark.promise("roles-of-others-are-inputs")
def test_what_it_manages_is_known_to_the_ledger(project):
    fetch(project)
    names = [each.replace("\\", "") for each in managed.declared(project, "server", ["greeting"])]
    assert "greeting: greet | write the greeting" in names
