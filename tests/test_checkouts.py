"""Checkouts as they come: another user's, in the middle of a merge, below an odd path, with odd names."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess

import pytest

from tasks import run as pipeline_run
from tasks import source
from tasks.source import BranchWrong, ForeignCheckout, GitRefused, NameNotText, NoCommit, UnmergedFiles
from tests.clouds import QuietCloud, run_in
from tests.conftest import commit, git

ANYONE = ("-c", "user.name=t", "-c", "user.email=t@example.com")


def conflicted(checkout):
    """Two branches that have changed the same line."""
    git(checkout, "checkout", "-qb", "other")
    (checkout / "app" / "index.php").write_text("<?php echo 2;\n")
    commit(checkout, "two")
    git(checkout, "checkout", "-q", "main")
    (checkout / "app" / "index.php").write_text("<?php echo 3;\n")
    commit(checkout, "three")
    return checkout


@pytest.mark.parametrize("way", [["merge", "other"], ["rebase", "other"], ["cherry-pick", "other"]])
def test_a_conflict_is_refused_with_its_files(checkout, way):
    root = conflicted(checkout)
    subprocess.run(["git", *ANYONE, *way], cwd=root, capture_output=True, check=False)
    with pytest.raises(UnmergedFiles, match=r"git: app/index\.php has conflicts that are not resolved"):
        source.Snapshot(root)


def test_a_conflict_of_a_stash_is_refused_too(checkout):
    (checkout / "app" / "index.php").write_text("<?php echo 4;\n")
    git(checkout, *ANYONE, "stash")
    (checkout / "app" / "index.php").write_text("<?php echo 5;\n")
    commit(checkout, "five")
    subprocess.run(["git", *ANYONE, "stash", "pop"], cwd=checkout, capture_output=True, check=False)
    with pytest.raises(UnmergedFiles):
        source.Snapshot(checkout)


@pytest.mark.parametrize(
    "name", ["a:b", "a$HOME", "${nosuch}", "a b", "a'b", 'a"b', "a\\b", "a%b", "{a}", "~"]
)
def test_a_checkout_below_an_odd_path_has_its_tree(checkout, tmp_path, name):
    root = shutil.copytree(checkout, tmp_path / "odd" / name / "shop", symlinks=True)
    assert source.Snapshot(root).tree == git(root, "rev-parse", "HEAD^{tree}")
    (root / "app" / "new.php").write_text("<?php\n")
    assert source.Snapshot(root).version.dirty
    assert source.uncommitted(root) == ["app/new.php"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a folder away")
@pytest.mark.parametrize("ask", [source.commit, source.Snapshot, source.uncommitted])
def test_another_users_checkout_is_told_as_what_it_is(checkout, ask):
    os.chown(checkout, 54321, 54321)
    os.chown(checkout / ".git", 54321, 54321)
    with pytest.raises(ForeignCheckout, match=r"git config --global --add safe\.directory"):
        ask(checkout)


def test_a_repository_without_a_commit_says_that_and_a_broken_one_what_git_says(checkout, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    with pytest.raises(NoCommit):
        source.commit(empty)
    (checkout / ".git" / "config").write_text("[core\n")
    with pytest.raises(GitRefused, match="bad config"):
        source.commit(checkout)


def test_a_file_name_that_is_not_utf_8_is_refused_with_the_name(checkout):
    (checkout / "app" / "caf\udce9.php").write_text("<?php\n")
    snapshot = source.Snapshot(checkout)
    with pytest.raises(NameNotText, match=r"caf.*: the name is not UTF-8"):
        snapshot.files(snapshot.folder_id("app"))


def test_a_branch_whose_name_is_not_utf_8_is_refused(checkout):
    run = run_in(checkout, QuietCloud("eu-central-1", None))
    with pytest.raises(BranchWrong):
        _ = dataclasses.replace(run, named_branch="caf\udce9").identity
    (checkout / ".git" / "HEAD").write_bytes(b"ref: refs/heads/caf\xe9\n")
    with pytest.raises((BranchWrong, GitRefused)):
        _ = run.branch
    assert pipeline_run.branch_identity("testing", "café").startswith("testing-")
