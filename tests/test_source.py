"""What git says: ids of what `git add -A` would commit, the branch, and a clean export."""

from __future__ import annotations

import hashlib
import os
import subprocess

import pytest

from tasks import ci, source
from tasks.clock import stamped
from tasks.source import LargeFileMissing, NestedClone, NoBranch, NoCommit, NoRepository, SubmoduleMissing
from tests.conftest import commit, git


@pytest.mark.promise("inputs-are-git-ids")
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


@pytest.mark.promise("inputs-are-git-ids")
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


@pytest.mark.parametrize("variable", ci.BRANCH)
@pytest.mark.promise("branch-from-ci")
def test_a_detached_head_takes_the_ci_s_branch(checkout, variable):
    git(checkout, "checkout", "-q", "--detach")
    assert source.branch(checkout, {variable: "feature/x"}) == "feature/x"


@pytest.mark.promise("detached-head-is-asked")
def test_a_detached_head_without_ci_says_what_to_pass(checkout):
    git(checkout, "checkout", "-q", "--detach")
    with pytest.raises(NoBranch, match="doit branch=NAME release"):
        source.branch(checkout, {})


JOBS_OF_TAGS = [
    {"GITHUB_REF": "refs/tags/main", "GITHUB_REF_NAME": "main", "GITHUB_REF_TYPE": "tag"},
    {"CI_COMMIT_REF_NAME": "main", "CI_COMMIT_TAG": "main"},
    {"BITBUCKET_TAG": "main", "BITBUCKET_BRANCH": "main"},
]


@pytest.mark.parametrize("environ", JOBS_OF_TAGS)
@pytest.mark.promise("branch-from-ci")
def test_a_tag_of_a_job_is_no_branch(checkout, environ):
    git(checkout, "checkout", "-q", "--detach")
    with pytest.raises(NoBranch):
        source.branch(checkout, environ)


def test_a_head_that_refers_to_a_tag_is_detached(checkout):
    git(checkout, "tag", "main")
    git(checkout, "symbolic-ref", "HEAD", "refs/tags/main")
    with pytest.raises(NoBranch):
        source.branch(checkout, {})
    assert source.on_branch(checkout, "main", {}) is True, "the clone has the branch, which has the commit"
    git(checkout, "update-ref", "-d", "refs/heads/main")
    assert source.on_branch(checkout, "main", {}) is None


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


@pytest.mark.promise("what-shows-that-a-commit-is-trusted")
def test_a_commit_is_on_a_branch_when_its_history_has_it(checkout):
    first = git(checkout, "rev-parse", "HEAD")
    assert source.on_branch(checkout, "main", {}) is True
    assert source.on_branch(checkout, "other", {}) is False
    git(checkout, "checkout", "-q", "-b", "other")
    (checkout / "new").write_text("x")
    second = commit(checkout)
    assert source.on_branch(checkout, "main", {}) is False
    git(checkout, "checkout", "-q", second)
    assert source.on_branch(checkout, "main", {}) is False
    assert source.on_branch(checkout, "other", {}) is True
    assert source.on_branch(checkout, "nothing-known-of-it", {}) is None
    git(checkout, "checkout", "-q", first)
    assert source.on_branch(checkout, "main", {}) is True


@pytest.fixture
def job(checkout, tmp_path):
    """What a provider checks out: one commit, detached, without a branch; and that commit."""
    here = git(checkout, "rev-parse", "HEAD")
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "job")
    git(tmp_path / "job", "checkout", "-q", "--detach")
    git(tmp_path / "job", "branch", "-qD", "main")
    git(tmp_path / "job", "update-ref", "-d", "refs/remotes/origin/HEAD")
    git(tmp_path / "job", "update-ref", "-d", "refs/remotes/origin/main")
    git(tmp_path / "job", "tag", "main")
    return tmp_path / "job", here


OTHER = "0" * 40


@pytest.mark.parametrize(
    ("environ", "known"),
    [
        ({}, None),
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_SHA": "HERE"}, True),
        ({"CI_COMMIT_BRANCH": "main", "CI_COMMIT_SHA": "HERE"}, True),
        ({"BITBUCKET_BRANCH": "main", "BITBUCKET_COMMIT": "HERE"}, True),
        # the job is about another commit than the one that a step of it has checked out
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_SHA": OTHER}, None),
        ({"CI_COMMIT_BRANCH": "main", "CI_COMMIT_SHA": OTHER}, None),
        ({"BITBUCKET_BRANCH": "main", "BITBUCKET_COMMIT": OTHER}, None),
        ({"GITHUB_REF": "refs/heads/main"}, None),
        # only the name
        ({"GITHUB_REF_NAME": "main", "GITHUB_SHA": "HERE"}, None),
        ({"CI_COMMIT_REF_NAME": "main", "CI_COMMIT_SHA": "HERE"}, None),
        # a tag
        *(({**each, "GITHUB_SHA": "HERE", "CI_COMMIT_SHA": "HERE", "BITBUCKET_COMMIT": "HERE"}, None) for each in JOBS_OF_TAGS),
        # a pull request whose branch, in a fork, is called main; the second runs for what it goes to
        ({"GITHUB_REF": "refs/pull/5/merge", "GITHUB_HEAD_REF": "main", "GITHUB_SHA": "HERE"}, None),
        ({"GITHUB_REF": "refs/heads/main", "GITHUB_HEAD_REF": "main", "GITHUB_SHA": "HERE"}, None),
        ({"CI_COMMIT_REF_NAME": "main", "CI_MERGE_REQUEST_IID": "5", "CI_COMMIT_SHA": "HERE"}, None),
        ({"CI_COMMIT_BRANCH": "main", "CI_EXTERNAL_PULL_REQUEST_IID": "5", "CI_COMMIT_SHA": "HERE"}, None),
        ({"BITBUCKET_BRANCH": "main", "BITBUCKET_PR_ID": "5", "BITBUCKET_COMMIT": "HERE"}, None),
    ],
)  # fmt: skip
@pytest.mark.promise("what-shows-that-a-commit-is-trusted")
def test_without_history_only_what_the_provider_says_of_the_commit_makes_it_the_branch_s(job, environ, known):
    root, here = job
    said = {name: value.replace("HERE", here) for name, value in environ.items()}
    assert source.on_branch(root, "main", said) is known
    assert source.on_branch(root, "other", said) is None


@pytest.mark.promise("tags-and-requests-are-not-believed")
def test_a_merge_for_a_pull_request_is_not_the_branch_that_it_has_the_name_of(checkout, tmp_path):
    """Bitbucket clones the pull request's branch, and merges into it what it goes to."""
    git(checkout, "branch", "target")
    git(tmp_path, "clone", "-q", f"file://{checkout}", "job")
    request = {"BITBUCKET_BRANCH": "main", "BITBUCKET_PR_ID": "5"}
    assert source.on_branch(tmp_path / "job", "main", request) is True, "nothing is merged yet"
    (tmp_path / "job" / "new").write_text("x")
    commit(tmp_path / "job", "merge")
    assert source.on_branch(tmp_path / "job", "main", {}) is True
    assert source.on_branch(tmp_path / "job", "main", request) is False


def test_a_branch_below_the_name_or_a_tag_with_a_branch_s_whole_name_is_not_the_branch(checkout):
    git(checkout, "checkout", "-q", "--detach")
    git(checkout, "branch", "-qm", "main", "main/feature")
    git(checkout, "tag", "refs/heads/main")
    assert source.on_branch(checkout, "main", {}) is None


def test_in_a_clone_without_all_history_it_is_unknown_whether_a_commit_is_older(checkout, tmp_path):
    first = git(checkout, "rev-parse", "HEAD")
    for name in ("one", "two"):
        (checkout / name).write_text("x")
        last = commit(checkout)
    git(tmp_path, "clone", "-q", "--depth", "1", f"file://{checkout}", "shallow")
    git(tmp_path / "shallow", "fetch", "-q", "--depth", "1", "origin", first)
    assert source.contains(tmp_path / "shallow", last, first) is None
    git(tmp_path / "shallow", "checkout", "-q", first)
    assert source.on_branch(tmp_path / "shallow", "main", {}) is None
    git(tmp_path / "shallow", "fetch", "-q", "--unshallow")
    assert source.contains(tmp_path / "shallow", last, first) is True
    assert source.on_branch(tmp_path / "shallow", "main", {}) is True


@pytest.fixture
def clone(checkout, tmp_path):
    """A clone that has pushed the branch `feature/x`."""
    git(checkout, "config", "receive.denyCurrentBranch", "ignore")
    git(tmp_path, "clone", "-q", f"file://{checkout}", "clone")
    git(tmp_path / "clone", "push", "-q", "origin", "HEAD:feature/x")
    return tmp_path / "clone"


@pytest.mark.promise("what-counts-as-pushed")
def test_a_branch_was_pushed_if_the_remote_that_a_sweep_asks_had_it(clone):
    assert source.pushed(clone, "feature/x")
    assert source.pushed(clone, "main")
    assert not source.pushed(clone, "feature"), "git lists what lies below a name, too"


def test_a_branch_of_another_remote_was_not_pushed(clone):
    git(clone, "remote", "rename", "origin", "fork")
    git(clone, "remote", "add", "origin", "git@example.com:team/shop.git")
    assert git(clone, "rev-parse", "refs/remotes/fork/feature/x")
    assert not source.pushed(clone, "feature/x")


@pytest.mark.parametrize("name", ["remote.origin.pushurl", "url.file:///.pushInsteadOf"])
def test_a_branch_that_goes_elsewhere_than_where_a_sweep_asks_was_not_pushed(clone, checkout, tmp_path, name):
    git(tmp_path, "clone", "-q", "--bare", f"file://{checkout}", "fork.git")
    if name.startswith("remote"):
        git(clone, "config", name, f"file://{tmp_path}/fork.git")
    else:
        git(clone, "config", f"url.file://{tmp_path}/fork.git.pushInsteadOf", f"file://{checkout}")
    git(clone, "push", "-q", "origin", "HEAD:mine")
    assert git(clone, "rev-parse", "refs/remotes/origin/mine"), "git takes it for the remote's"
    assert not source.pushed(clone, "mine")


def test_what_is_fetched_among_the_branches_and_is_none_was_not_pushed(clone, checkout):
    git(checkout, "update-ref", "refs/pull/5/head", "HEAD")
    git(clone, "config", "--add", "remote.origin.fetch", "+refs/pull/*/head:refs/remotes/origin/pr/*")
    git(clone, "fetch", "-q")
    assert git(clone, "rev-parse", "refs/remotes/origin/pr/5")
    assert not source.pushed(clone, "pr/5")
    assert source.pushed(clone, "feature/x")


def test_the_remote_is_the_one_that_git_asks(clone):
    git(clone, "remote", "set-url", "origin", "work:shop.git")
    assert source.origin(clone) == "work/shop"
    git(clone, "config", "url.https://kim:secret@example.com/team/.insteadOf", "work:")
    assert source.origin(clone) == "example.com/team/shop"
    git(clone, "remote", "rename", "origin", "fork")
    assert source.origin(clone) == ""


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


@pytest.mark.promise("git-counts-for-the-whole-repository")
def test_in_a_folder_of_a_repository_a_change_beside_it_is_uncommitted(checkout):
    (checkout / "deploy").mkdir()
    (checkout / "deploy" / "dodo.py").write_text("x\n")
    commit(checkout)
    assert source.Snapshot(checkout / "deploy").commit
    (checkout / "app" / "index.php").write_text("changed\n")
    (checkout / "deploy" / "dodo.py").write_text("changed\n")
    changed = source.Snapshot(checkout / "deploy")
    assert changed.commit is None
    assert changed.content("../app/index.php") == changed.content("dodo.py") == "changed\n"
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


def exported(root, folder, path="app"):
    """What an export writes: each file's bytes by name, and its mode or `link`."""
    taken = source.Snapshot(root)
    taken.export(taken.folder_id(path), folder)
    return {
        each.relative_to(folder).as_posix(): str(each.readlink()).encode()
        if each.is_symlink()
        else each.read_bytes()
        for each in folder.rglob("*")
        if each.is_symlink() or each.is_file()
    }


def blobs(root, path="app"):
    """What git keeps."""
    listed = git(root, "ls-tree", "-r", "--name-only", "-z", f"HEAD:{path}").split("\0")
    return {name: git_bytes(root, "cat-file", "blob", f"HEAD:{path}/{name}") for name in listed if name}


def git_bytes(root, *words):
    return subprocess.run(["git", *words], cwd=root, check=True, capture_output=True).stdout


@pytest.fixture
def all_kinds(checkout):
    """An application with everything that git's attributes could change."""
    app = checkout / "app"
    (app / "lines.txt").write_bytes(b"one\ntwo\n")
    (app / "dos.txt").write_bytes(b"one\r\ntwo\r\n")
    (app / "id.txt").write_bytes(b"$Id$ $Format:%H$\n")
    (app / "wide.txt").write_bytes("größe\n".encode())
    (app / "empty").write_bytes(b"")
    (app / "no end of line").write_bytes(b"x")
    (app / "binary").write_bytes(bytes(range(256)) * 300)
    (app / "run.sh").write_bytes(b"#!/bin/sh\n")
    (app / "run.sh").chmod(0o755)
    (app / "link").symlink_to("lines.txt")
    (app / "dangling").symlink_to("no/where")
    commit(checkout)
    return checkout


CONFIGURED = {
    "core.autocrlf": "true",
    "core.eol": "crlf",
    "core.symlinks": "false",
    "core.fileMode": "false",
    "tar.umask": "0777",
    "filter.upper.smudge": "tr a-z A-Z",
    "status.showUntrackedFiles": "no",
}
ATTRIBUTES = [
    "* text=auto eol=crlf",
    "* ident",
    "* export-subst",
    "* filter=upper",
    "*.txt export-ignore",
    "wide.txt text working-tree-encoding=UTF-16",
]


@pytest.mark.parametrize(("name", "value"), CONFIGURED.items())
@pytest.mark.parametrize("whose", ["user", "repository"])
def test_no_configuration_changes_an_exported_byte(all_kinds, tmp_path, monkeypatch, name, value, whose):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    kept = blobs(all_kinds)
    git(all_kinds, "config", *(["--global"] if whose == "user" else []), name, value)
    assert exported(all_kinds, tmp_path / "out") == kept
    assert (tmp_path / "out" / "run.sh").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out" / "lines.txt").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("line", ATTRIBUTES)
@pytest.mark.parametrize("where", ["tree", "user", "clone"])
def test_no_attribute_changes_an_exported_byte(all_kinds, tmp_path, monkeypatch, line, where):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    taken = source.Snapshot(all_kinds)  # git itself refuses a file that is not encoded as an attribute says
    if where == "tree":
        (all_kinds / "app" / ".gitattributes").write_text(f"{line}\n")
        git(all_kinds, "add", "app/.gitattributes")
        git(all_kinds, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "-qm", "attributes")
    file = {
        "user": tmp_path / "xdg" / "git" / "attributes",
        "clone": all_kinds / ".git" / "info" / "attributes",
    }
    if where in file:
        file[where].parent.mkdir(parents=True, exist_ok=True)
        file[where].write_text(f"{line}\n")
    git(all_kinds, "config", "filter.upper.smudge", "tr a-z A-Z")
    git(all_kinds, "config", "filter.upper.clean", "cat")
    git(all_kinds, "config", "filter.upper.required", "true")
    tree = git(all_kinds, "rev-parse", "HEAD:app")
    kept = blobs(all_kinds)
    taken.export(tree, tmp_path / "out")
    found = {
        each.relative_to(tmp_path / "out").as_posix(): each.read_bytes()
        for each in (tmp_path / "out").rglob("*")
        if each.is_file() and not each.is_symlink()
    }
    assert found == {name: content for name, content in kept.items() if name not in ("link", "dangling")}


def test_a_replaced_object_is_not_what_the_commit_names(all_kinds, tmp_path):
    kept = blobs(all_kinds)
    (tmp_path / "other").write_text("forged")
    other = git(all_kinds, "hash-object", "-w", str(tmp_path / "other"))
    git(all_kinds, "replace", git(all_kinds, "rev-parse", "HEAD:app/lines.txt"), other)
    assert exported(all_kinds, tmp_path / "out") == kept


def test_a_file_whose_name_is_not_utf_8_is_refused(checkout):
    (checkout / "app" / os.fsdecode(b"caf\xe9")).write_bytes(b"x")
    commit(checkout)
    taken = source.Snapshot(checkout)
    with pytest.raises(source.NameNotText, match=r"git: caf\\udce9: the name is not UTF-8"):
        taken.files(taken.folder_id("app"))


@pytest.mark.parametrize("name", ["ünï".encode(), b"a\nb", b'"quoted"', b" blank ", b"-n"])
def test_a_file_of_any_name_is_listed_and_exported(checkout, tmp_path, name):
    (checkout / "app" / os.fsdecode(name)).write_bytes(b"x")
    commit(checkout)
    taken = source.Snapshot(checkout)
    taken.export(taken.folder_id("app"), tmp_path / "out")
    assert {os.fsencode(each.name) for each in (tmp_path / "out").iterdir()} == {name, b"index.php"}
    assert {each.encode("utf-8", "surrogateescape") for each in taken.files(taken.folder_id("app"))} == {
        name,
        b"index.php",
    }


# --- what is uncommitted --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status.showUntrackedFiles", "no"),
        ("status.relativePaths", "true"),
        ("diff.ignoreSubmodules", "all"),
        ("diff.relative", "true"),
        ("core.fsmonitor", "{root}/.git/nothing-changes"),
        ("core.untrackedCache", "true"),
        ("core.splitIndex", "true"),
        ("core.quotePath", "true"),
        ("color.ui", "always"),
    ],
)
def test_no_configuration_hides_an_uncommitted_file(checkout, name, value):
    hook = checkout / ".git" / "nothing-changes"
    hook.write_text("#!/bin/sh\nprintf 'token\\0'\n")
    hook.chmod(0o755)
    git(checkout, "config", name, value.format(root=checkout))
    git(checkout, "status")
    (checkout / "app" / "new.php").write_text("x")
    (checkout / "app" / "index.php").write_text("changed")
    (checkout / "other.md").write_text("x")
    taken = source.Snapshot(checkout / "app")
    assert taken.uncommitted == ["index.php", "new.php", "../other.md"]
    assert taken.commit is None
    assert taken.version.dirty


def test_what_is_said_to_be_uncommitted_is_what_the_tree_differs_in(checkout):
    """One truth: whatever makes the tree another one is listed, and nothing else is."""
    git(checkout, "config", "add.ignoreErrors", "true")
    (checkout / "app" / "index.php").chmod(0o755)
    taken = source.Snapshot(checkout)
    assert taken.uncommitted == ["app/index.php"]
    assert (taken.commit is None) == (taken.tree != git(checkout, "rev-parse", "HEAD^{tree}"))
    (checkout / "app" / "index.php").chmod(0o644)
    (checkout / "empty").mkdir()  # git keeps no empty folder
    again = source.Snapshot(checkout)
    assert (again.uncommitted, again.commit) == ([], source.commit(checkout))


# --- submodules, nested clones, Git LFS -----------------------------------------------------------


@pytest.fixture
def with_submodule(checkout, tmp_path, monkeypatch):
    """A repository with the submodule app/lib, which has a submodule of its own."""
    for name, value in {"COUNT": "1", "KEY_0": "protocol.file.allow", "VALUE_0": "always"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    for name in ("inner", "library"):
        git(tmp_path, "init", "-qb", "main", name)
        (tmp_path / name / f"{name}.php").write_text(f"{name}\n")
        if name == "library":
            git(tmp_path / name, "submodule", "--quiet", "add", str(tmp_path / "inner"), "deep")
        commit(tmp_path / name)
    git(checkout, "submodule", "--quiet", "add", str(tmp_path / "library"), "app/lib")
    git(checkout, "submodule", "--quiet", "update", "--init", "--recursive")
    commit(checkout)
    return checkout


INSIDE = {"lib/library.php": b"library\n", "lib/deep/inner.php": b"inner\n"}


def test_a_submodule_s_content_is_listed_and_exported(with_submodule, tmp_path):
    taken = source.Snapshot(with_submodule)
    assert (taken.uncommitted, taken.commit) == ([], source.commit(with_submodule))
    found = exported(with_submodule, tmp_path / "out")
    assert INSIDE.items() <= found.items()
    assert taken.files(taken.folder_id("app")).keys() == found.keys()
    assert taken.ids(["app/lib/library.php"])["app/lib/library.php"]
    git(tmp_path, "clone", "-q", "--recurse-submodules", str(with_submodule), "again")
    assert source.Snapshot(tmp_path / "again").tree == taken.tree


@pytest.mark.parametrize("folder", ["app/lib", "app/lib/deep"])
@pytest.mark.parametrize("how", ["file", "commit"])
def test_a_change_in_a_submodule_is_uncommitted_and_in_the_export(with_submodule, tmp_path, folder, how):
    git(with_submodule, "config", "diff.ignoreSubmodules", "all")
    git(with_submodule, "config", "submodule.app/lib.ignore", "all")
    (with_submodule / folder / "new.php").write_text("x")
    if how == "commit":
        commit(with_submodule / folder)
    taken = source.Snapshot(with_submodule)
    assert (taken.uncommitted, taken.commit) == (["app/lib"], None)
    assert f"{folder.removeprefix('app/')}/new.php" in exported(with_submodule, tmp_path / "out")


@pytest.mark.parametrize("depth", ["", "--recurse-submodules=app/lib --shallow-submodules"])
def test_a_submodule_that_is_not_checked_out_is_refused_with_what_to_type(with_submodule, tmp_path, depth):
    git(tmp_path, "clone", "-q", *depth.split()[:0], str(with_submodule), "other")
    if depth:
        git(tmp_path / "other", "submodule", "--quiet", "update", "--init")
    missing = "app/lib/deep" if depth else "app/lib"
    taken = source.Snapshot(tmp_path / "other")
    for ask in (taken.files, lambda tree: taken.export(tree, tmp_path / "out")):
        with pytest.raises(
            SubmoduleMissing, match=f"git: {missing} is a submodule .*\n    git submodule update --init"
        ):
            ask(taken.folder_id("app"))
    assert taken.folder_id("environments")  # a submodule elsewhere is none of its business
    assert taken.files(taken.folder_id("app", ["lib"])).keys() == {"index.php"}
    git(tmp_path / "other", "submodule", "--quiet", "update", "--init", "--recursive")
    assert INSIDE.items() <= exported(tmp_path / "other", tmp_path / "out").items()


def test_a_nested_clone_is_uncommitted_content_and_once_committed_a_refusal_elsewhere(checkout, tmp_path):
    git(tmp_path, "init", "-qb", "main", str(checkout / "app" / "nested"))
    (checkout / "app" / "nested" / "x.php").write_text("x")
    with pytest.raises(
        NestedClone, match=r"app/nested is a git repository of its own.*\n    .*git submodule add"
    ):
        exported(checkout, tmp_path / "unborn")
    commit(checkout / "app" / "nested")
    with pytest.raises(NestedClone, match="app/nested"):
        exported(checkout, tmp_path / "alone")
    commit(checkout)
    git(tmp_path, "clone", "-q", str(checkout), "other")
    for root in (checkout, tmp_path / "other"):
        with pytest.raises(NestedClone, match="app/nested"):
            exported(root, tmp_path / "out")


CONTENT = b"a large picture" * 1000
POINTER = (
    f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(CONTENT).hexdigest()}\n"
    f"size {len(CONTENT)}\n"
)


@pytest.mark.parametrize("kept", [None, b"damaged", CONTENT])
def test_an_lfs_pointer_is_the_file_that_it_points_to_or_a_refusal(checkout, tmp_path, kept):
    (checkout / "app" / "picture.png").write_text(POINTER)
    commit(checkout)
    digest = hashlib.sha256(CONTENT).hexdigest()
    if kept:
        file = checkout / ".git" / "lfs" / "objects" / digest[:2] / digest[2:4] / digest
        file.parent.mkdir(parents=True)
        file.write_bytes(kept)
    if kept == CONTENT:
        assert exported(checkout, tmp_path / "out")["picture.png"] == CONTENT
    else:
        with pytest.raises(
            LargeFileMissing, match=r"app/picture\.png is a pointer of Git LFS.*\n    git lfs pull"
        ):
            exported(checkout, tmp_path / "out")


def test_a_text_about_lfs_pointers_is_no_pointer(checkout, tmp_path):
    text = f"A pointer begins with\n{POINTER}"
    (checkout / "app" / "lfs.md").write_text(text)
    assert exported(checkout, tmp_path / "out")["lfs.md"] == text.encode()


def test_a_commit_says_why_it_is_released(checkout):
    subject = "Prices\u2028with tax \x01"
    git(checkout, "-c", "user.name=Ána", "-c", "user.email=a@example.com", "commit", "-qm", f"{subject}\n\nmore", "--allow-empty",
        "--date=2020-01-01T00:00Z")  # fmt: skip
    told = source.reason(checkout, source.commit(checkout))
    assert (told.author, told.subject) == ("Ána", subject.strip())
    assert stamped(told.committed).timestamp() == int(git(checkout, "log", "-1", "--format=%ct")) // 60 * 60
