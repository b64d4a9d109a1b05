"""Hooks: files of the repository whose names say when they run; what is none is refused, as it would never run."""

from __future__ import annotations

import pytest
from doit.exceptions import TaskFailed

from tasks import hooks
from tasks.graph import stage
from tasks.hooks import Hook, HookUnknown
from tasks.release import phases
from tests.clouds import run_in
from tests.conftest import copy_project
from tests.plain import Plain

STAGES = ("server", "release")
SCRIPT = "#!/bin/sh\n"


def written(folder, name, text=SCRIPT):
    path = folder / "hooks" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return folder


def test_the_names_of_phases_are_those_of_the_program():
    assert sorted(hooks.PHASES) == sorted(phases.PHASES)
    assert set(hooks.MUST) == set(phases.SEEN) & set(phases.UNDONE)


def test_a_repository_without_hooks_has_none(tmp_path):
    assert (hooks.found(tmp_path, STAGES), hooks.for_hosts(tmp_path), hooks.inputs(tmp_path)) == ([], [], [])


@pytest.mark.parametrize("name", ["pre-commit", "lib.sh", "useCart.ts", "prepare-commit-msg"])
def test_a_team_s_own_files_are_left_alone(tmp_path, name):
    written(tmp_path, name, "anything")
    (tmp_path / "hooks/own").mkdir()
    assert (hooks.found(tmp_path, STAGES), hooks.for_hosts(tmp_path)) == ([], [])


def test_a_name_says_when_where_and_as_whom(tmp_path):
    for name in ("before-live", "after-open.root.must", "after-server", "README.md"):
        written(tmp_path, name)
    found = {each.name: each for each in hooks.found(tmp_path, STAGES)}
    assert found["before-live"] == Hook(
        path="hooks/before-live", when="before", of="live", root=False, must=False
    )
    assert found["after-open.root.must"].root
    assert found["after-open.root.must"].must
    assert found.keys() == {"before-live", "after-open.root.must", "after-server"}
    assert [each["name"] for each in hooks.for_hosts(tmp_path)] == ["after-open.root.must", "before-live"]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("before-lvie", SCRIPT, "did you mean before-live? known: before- or after-, and one of bring, live"),
        ("live", SCRIPT, "is no hook"),
        ("befor-live", SCRIPT, "did you mean before-live?"),
        ("before-work", SCRIPT, "is no hook"),
        ("before-live.sh", SCRIPT, "sh cannot be said of it (can: root)"),
        ("before-live.must", SCRIPT, "must cannot be said of it (can: root)"),
        ("after-settle.must", SCRIPT, "must cannot be said of it (can: root)"),
        ("after-live.root.root", SCRIPT, "root cannot be said of it (can: root, must)"),
        ("before-server.root", SCRIPT, "root cannot be said of it (can: nothing)"),
        ("before-live", "echo done\n", "is no script: its first line does not say what reads it"),
        ("before-live", "", "is no script"),
    ],
)
@pytest.mark.promise("what-is-no-hook-is-refused")
def test_what_would_not_run_as_its_name_says_is_refused(tmp_path, name, text, said):
    with pytest.raises(HookUnknown) as refused:
        hooks.found(written(tmp_path, name, text), STAGES)
    assert said in refused.value.text
    assert f"hooks/{name}" in refused.value.text


@pytest.fixture
def here(tmp_path):
    """A function that lets a stage run beside a hook: the run, and the stage's doit task."""
    run = run_in(copy_project(tmp_path / "project"), Plain("eu-central-1"))

    def declared(name, text):
        written(run.root, name, text)
        stages = ("server", "release", "teardown", "image")
        made = {f"task_{each}": lambda: stage.stage(run, len) for each in stages} | {"DOIT_CONFIG": {}}
        stage.declare(made, run)
        return run, made["task_server"]()

    return declared


@pytest.mark.promise("a-hook-here-is-part-of-its-stage")
def test_a_stage_s_hook_is_an_action_of_its_task_and_an_input(here):
    run, task = here("before-server", '#!/bin/sh\necho "$RELEASE_STAGE $RELEASE_ENVIRONMENT" > seen\n')
    (action, (_, hook)), perform = task["actions"]
    assert perform[0] is stage.perform
    assert task["file_dep"] == ["hooks/before-server"]
    assert action(run, hook) is None
    assert (run.root / "seen").read_text() == f"server {run.identity}\n"
    _, task = here("after-server", SCRIPT)
    assert [each[0] for each in task["actions"]] == [hooks.run_here, stage.perform, hooks.run_here]


@pytest.mark.promise("a-hook-here-is-part-of-its-stage")
def test_a_stage_s_hook_that_fails_is_the_stage_s_failure(here):
    run, task = here("before-server", "#!/bin/sh\necho no licence; exit 3\n")
    action, (_, hook) = task["actions"][0]
    failed = action(run, hook)
    assert isinstance(failed, TaskFailed)
    assert "no licence" in failed.message
    assert "doit server" in failed.message
