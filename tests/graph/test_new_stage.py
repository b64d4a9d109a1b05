"""A stage is added by a module, a function of dodo.py and a page; nothing else needs a change."""

from __future__ import annotations

import json
import os
import subprocess

import pytest

from tests.conftest import DOIT, commit, doit
from tests.paper import copy_paper, users_cloud

MODULE = '''"""smoke_test: asks the site that went live for a page."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from tasks.bucket import lease
from tasks.graph.stage import Outcome
from tasks.refusal import Refusal

if TYPE_CHECKING:
    from tasks.run import Run


class SmokeSeen(Refusal):
    """The site answers with something else than its page."""

    sentence = "smoke_test: {url} answers with smoke"
    remedy = "doit logs"


def ask(run: Run, release: dict[str, Any]) -> Outcome:
    """Ask for the page."""
    if os.environ.get("SMOKE"):
        raise SmokeSeen(url=run.url)
    holder = lease.look(run.store, run.identity).holder
    done = f"held by {holder}" if holder else "held by nobody"
    return Outcome(facts={}, done=done, unchanged=f"{run.host_name} has answered")
'''
FUNCTION = '''
def task_smoke_test() -> Task:
    """The site that went live answers."""
    return stage(RUN, smoke_test.ask, inputs=["tasks/smoke_test.py", *SHARED], release="release", leased=True)


declare('''


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project with one stage more, and a cloud for it."""
    with users_cloud(tmp_path_factory.mktemp("state")):
        root = copy_paper(tmp_path_factory.mktemp("project") / "shop")
        (root / "tasks" / "smoke_test.py").write_text(MODULE)
        (root / "docs" / "smoke_test.md").write_text("# smoke_test\n\nThe site answers.\n")
        dodo = (root / "dodo.py").read_text()
        added = dodo.replace("\nfrom tasks import ", "\nfrom tasks import smoke_test, ")
        added = added.replace("\ndeclare(", FUNCTION)
        assert added.count("smoke_test") == 4
        (root / "dodo.py").write_text(added)
        commit(root, "A stage more")
        yield root


def said(answered, code=0):
    assert answered.returncode == code, answered.stdout + answered.stderr
    return answered.stderr if code else answered.stdout


def line(text):
    """The line of the stage."""
    (found,) = [each for each in text.splitlines() if each.startswith("smoke_test ")]
    return found.split(maxsplit=2)


def test_it_is_listed_drawn_and_described(project):
    assert line(said(doit(project, "list")))[1:] == ["The", "site that went live answers."]
    assert "    release --> smoke_test\n" in said(doit(project, "graph"))
    described = said(doit(project, "info", "--no-status", "smoke_test"))
    assert "comes after release, and gets its facts as `release`" in described
    assert "is leased: " in described
    assert "\n    smoke_test.py  " in described
    assert "usage: doit [environment=NAME] [branch=NAME] smoke_test\n" in said(
        doit(project, "smoke_test", "-h")
    )


@pytest.mark.promise("a-stage-without-other-changes")
def test_it_is_planned_runs_alone_and_is_unchanged_then(project):
    assert line(said(doit(project, "plan", "smoke_test")))[1] == "run"
    refused = said(doit(project, "smoke_test", SMOKE="1"), code=1)
    assert "answers with smoke\n    doit logs\n" in refused
    name, state, words = line(said(doit(project, "smoke_test")))
    assert (name, state) == ("smoke_test", "done")
    assert words.startswith("held by ")
    assert "nobody" not in words
    assert "| smoke_test | done | held by " in (project / ".run" / "report.md").read_text()
    name, state, words = line(said(doit(project, "smoke_test")))
    assert (name, state) == ("smoke_test", "unchanged")
    assert "has answered" in words
    assert "| smoke_test | unchanged | " in (project / ".run" / "report.md").read_text()
    assert line(said(doit(project, "plan", "smoke_test")))[1] == "unchanged"


@pytest.mark.promise("info-names-former-values")
def test_an_input_that_changed_is_marked_with_its_former_id(project):
    said(doit(project, "smoke_test"))
    path = project / "tasks" / "smoke_test.py"
    module, before = path.read_text(), said(doit(project, "info", "smoke_test"))
    assert "status: unchanged since 20" in before
    assert "changed, was" not in before
    former = before.partition("smoke_test.py  ")[2].split()[0]
    settings = project / "environments" / "testing.yml"
    declared = settings.read_text()
    try:
        path.write_text(f"{module}\n# changed\n")
        settings.write_text(f"{declared.rstrip()}\n  keep: 4\n")
        now = said(doit(project, "info", "smoke_test"))
        assert "status: run: tasks/smoke_test.py changed\n" in now
        assert f"  changed, was {former}\n" in now
        assert now.count("changed, was") == 1
        release = said(doit(project, "info", "release"))
        assert "  release.keep                     4  changed, was 3\n" in release
        assert release.count("changed, was") == 1
    finally:
        path.write_text(module)
        settings.write_text(declared)


@pytest.mark.long(short="tests/graph/test_new_stage.py::test_it_is_listed_drawn_and_described")
def test_the_contract_of_the_layers_and_the_test_of_inputs_hold_with_it(project):
    for command in (
        ["lint-imports", "--no-cache"],
        ["pytest", "-q", "-n", "0", "-p", "no:cacheprovider", "tests/test_inputs.py"],
    ):
        answered = subprocess.run(
            [DOIT.parent / command[0], *command[1:]],
            cwd=project,
            env={**os.environ, "PYTHONPATH": str(project)},
            capture_output=True,
            text=True,
        )
        assert answered.returncode == 0, answered.stdout + answered.stderr


def test_a_teardown_voids_its_record_as_those_of_all_that_is_leased(project):
    described = said(doit(project, "info", "--no-status", "teardown"))
    assert "voids the records of smoke_test, release, server, infrastructure:environment: " in described


def test_its_refusal_is_in_the_docs(project):
    said(doit(project, "docs"))
    errors = (project / "docs" / "errors.md").read_text()
    assert (
        "## smoke_test\n\n### SmokeSeen\nThe site answers with something else than its page. Exit code 1."
        in errors
    )


@pytest.mark.promise("a-stage-without-other-changes")
def test_it_exists_where_the_environment_s_file_lets_it(project):
    assert "smoke_test" in said(doit(project, "environment=testing", "list"))
    assert "smoke_test" not in said(doit(project, "environment=production", "list"))
    assert json.loads(said(doit(project, "environment=production", "graph", "--json")))["nodes"]
    refused = said(doit(project, "environment=production", "smoke_test"), code=3)
    assert refused.startswith("smoke_test: does not exist in production")
