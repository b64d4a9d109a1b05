"""What git says: ids of what `git add -A` would commit, the branch, and a clean export."""

from __future__ import annotations

import pytest

from tasks import source
from tasks.source import NoBranch, NoCommit, NoRepository
from tests.conftest import commit, git


def test_in_a_clean_tree_ids_are_those_of_the_commit(checkout):
    ids = source.Snapshot(checkout).ids(["app", "README.md", "none", "app/index.php"])
    assert ids == {
        "app": git(checkout, "rev-parse", "HEAD:app"),
        "app/index.php": git(checkout, "rev-parse", "HEAD:app/index.php"),
        "README.md": git(checkout, "rev-parse", "HEAD:README.md"),
        "none": None,
    }


def test_uncommitted_and_new_files_change_the_id_and_the_repository_stays_as_it_is(checkout):
    before = source.Snapshot(checkout).ids(["app"])
    (checkout / "app" / "new.php").write_text("x")
    status, objects = git(checkout, "status", "--porcelain"), git(checkout, "count-objects")
    after = source.Snapshot(checkout).ids(["app"])
    assert after != before
    assert (git(checkout, "status", "--porcelain"), git(checkout, "count-objects")) == (status, objects)
    commit(checkout)
    assert source.Snapshot(checkout).ids(["app"]) == after


def test_ignored_files_do_not_count_and_are_not_exported(checkout, tmp_path):
    (checkout / ".gitignore").write_text("app/vendor/\n")
    before = source.Snapshot(checkout).ids(["app"])
    (checkout / "app" / "vendor").mkdir()
    (checkout / "app" / "vendor" / "left-over.php").write_text("x")
    after = source.Snapshot(checkout)
    assert after.ids(["app"]) == before
    after.export(after.folder_id("app"), tmp_path / "out")
    assert [each.name for each in (tmp_path / "out").rglob("*")] == ["index.php"]


def test_a_shallow_clone_elsewhere_gives_the_same_ids(checkout, tmp_path):
    commit(checkout) if git(checkout, "status", "--porcelain") else None
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "other")
    assert source.Snapshot(tmp_path / "other").ids(["app"]) == source.Snapshot(checkout).ids(["app"])


def test_an_export_has_the_uncommitted_content(checkout, tmp_path):
    (checkout / "app" / "index.php").write_text("changed")
    snapshot = source.Snapshot(checkout)
    snapshot.export(snapshot.folder_id("app"), tmp_path / "out")
    assert (tmp_path / "out" / "index.php").read_text() == "changed"


@pytest.mark.parametrize("name", ["feature/ünï-cödé", "-weird", "a" * 200, "release;rm-rf"])
def test_a_branch_of_any_name_is_read(checkout, name):
    git(checkout, "symbolic-ref", "HEAD", f"refs/heads/{name}")
    assert source.branch(checkout, {}) == name


@pytest.mark.parametrize("variable", source.CI_BRANCH)
def test_a_detached_head_takes_the_ci_s_branch(checkout, variable):
    git(checkout, "checkout", "-q", "--detach")
    assert source.branch(checkout, {variable: "feature/x"}) == "feature/x"


def test_a_detached_head_without_ci_says_what_to_pass(checkout):
    git(checkout, "checkout", "-q", "--detach")
    with pytest.raises(NoBranch, match="doit branch=NAME release"):
        source.branch(checkout, {})


def test_no_repository_and_no_commit_are_refusals(tmp_path):
    with pytest.raises(NoRepository, match="is not in a git repository"):
        source.branch(tmp_path, {})
    git(tmp_path, "init", "-q")
    with pytest.raises(NoCommit):
        source.commit(tmp_path)


def test_uncommitted_files_are_listed(checkout):
    assert source.Snapshot(checkout).uncommitted == []
    (checkout / "app" / "a b.php").write_text("x")
    (checkout / "README.md").unlink()
    assert source.Snapshot(checkout).uncommitted == ["README.md", "app/a b.php"]


def test_a_commit_is_on_a_branch_when_its_history_has_it(checkout):
    first = git(checkout, "rev-parse", "HEAD")
    assert source.on_branch(checkout, "main")
    assert not source.on_branch(checkout, "other")
    git(checkout, "checkout", "-q", "-b", "other")
    (checkout / "new").write_text("x")
    second = commit(checkout)
    assert not source.on_branch(checkout, "main")
    git(checkout, "checkout", "-q", second)
    assert not source.on_branch(checkout, "main")
    assert source.on_branch(checkout, "other")
    assert source.on_branch(checkout, "nothing-known-of-it")
    git(checkout, "checkout", "-q", first)
    assert source.on_branch(checkout, "main")


def test_what_a_commit_has_and_another_has_not(checkout):
    first = git(checkout, "rev-parse", "HEAD")
    (checkout / "new").write_text("x")
    second = commit(checkout, "Something new")
    assert source.contains(checkout, second, first) is True
    assert source.contains(checkout, second, second) is True
    assert source.contains(checkout, first, second) is False
    assert source.contains(checkout, second, "0" * 40) is None
    assert source.commits(checkout, first, second) == [f"{second[:7]}  t  Something new"]
    assert source.touched(checkout, first, second) == ["new"]


def test_in_a_folder_of_a_repository_paths_are_told_and_asked_from_there(checkout):
    first, home = git(checkout, "rev-parse", "HEAD"), checkout / "deploy"
    for name in ("deploy/tasks/run.py", "shop/index.php"):
        (checkout / name).parent.mkdir(parents=True)
        (checkout / name).write_text("x\n")
    assert source.Snapshot(home).uncommitted == ["tasks/run.py", "../shop/index.php"]
    second = commit(checkout)
    assert source.Snapshot(home).uncommitted == []
    assert source.touched(home, first, second) == ["tasks/run.py", "../shop/index.php"]
    ids = source.Snapshot(home).ids(["tasks", ".", "../shop", "../README.md", "..", "shop", "../../shop"])
    assert ids == {
        "tasks": git(checkout, "rev-parse", "HEAD:deploy/tasks"),
        ".": git(checkout, "rev-parse", "HEAD:deploy"),
        "..": git(checkout, "rev-parse", "HEAD^{tree}"),
        "../shop": git(checkout, "rev-parse", "HEAD:shop"),
        "../README.md": git(checkout, "rev-parse", "HEAD:README.md"),
        "shop": None,
        "../../shop": None,
    }


def test_in_a_folder_of_a_repository_a_change_beside_it_is_uncommitted(checkout):
    (checkout / "deploy").mkdir()
    (checkout / "deploy" / "dodo.py").write_text("x\n")
    commit(checkout)
    assert source.Snapshot(checkout / "deploy").commit
    (checkout / "app" / "index.php").write_text("changed\n")
    (checkout / "deploy" / "dodo.py").write_text("changed\n")
    changed = source.Snapshot(checkout / "deploy")
    assert changed.commit is None
    assert changed.content("../app/index.php") == changed.content("dodo.py") == "changed"
    assert source.Snapshot(checkout / "deploy").uncommitted == ["../app/index.php", "dodo.py"]


def test_a_folder_without_some_of_its_files_has_the_id_that_git_would_give_it(checkout):
    for name in ("docs/ours.md", "docs/api/theirs.md", "docsy", "ünï cödé/a"):
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(f"{name}\n")
    (checkout / "docs" / "api" / "theirs.md").chmod(0o755)
    status = git(checkout, "status", "--porcelain")
    snapshot = source.Snapshot(checkout)
    found = snapshot.folder_id(".", ["docs", "pipeline.yml"], ["docs/api"])
    assert git(checkout, "status", "--porcelain") == status
    git(checkout, "rm", "-q", "pipeline.yml")
    (checkout / "docs" / "ours.md").unlink()
    commit(checkout)
    assert found == git(checkout, "rev-parse", "HEAD^{tree}")
    assert snapshot.folder_id("app") == git(checkout, "rev-parse", "HEAD:app")
