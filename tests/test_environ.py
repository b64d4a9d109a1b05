"""The caller's environment: a child gets what is meant for it, and nothing else."""

from __future__ import annotations

import pytest

from tasks import environ, source
from tasks.process import children
from tests.conftest import git

STRANGE = {
    "ANSIBLE_RUN_TAGS": "nothing",
    "AWS_PROFILE": "nobody",
    "BASH_ENV": "/nowhere",
    "COMPOSER_HOME": "/nowhere",
    "GIT_DIR": "/nowhere",
    "LC_ALL": "POSIX",
    "LD_PRELOAD_OF_NOTHING": "x",
    "PHPRC": "/nowhere",
    "PIP_USER": "1",
    "PODMAN_USERNS": "keep-id",
    "PYTHONPATH": "/nowhere",
    "SSH_ASKPASS": "/nowhere",
    "https_proxy": "http://127.0.0.1:9",
}


@pytest.fixture
def strange(monkeypatch):
    for name, value in STRANGE.items():
        monkeypatch.setenv(name, value)


def seen(printed: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)


@pytest.mark.promise("children-get-listed-variables-only")
def test_a_child_gets_nothing_of_the_caller_s_but_what_everyone_gets(strange):
    got = seen(children.run(["env"]))
    assert got.keys() & STRANGE.keys() == set()
    assert got.keys() >= {"PATH", "HOME", "LANG"}


@pytest.mark.parametrize("child", environ.CHILDREN)
@pytest.mark.promise("children-get-listed-variables-only")
def test_no_child_gets_a_variable_that_its_line_does_not_name(child, strange):
    got = environ.of(child)
    assert got.keys() <= {*environ.FIXED, *environ.CHILDREN[child]}


@pytest.mark.promise("a-build-sees-named-variables-only")
def test_a_child_that_downloads_gets_the_proxies(strange):
    proxied = {child for child in environ.CHILDREN if "https_proxy" in environ.of(child)}
    assert proxied == {"remote", "fetching", "cloud"}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GIT_DIR", "{other}/.git"),
        ("GIT_WORK_TREE", "{other}"),
        ("GIT_INDEX_FILE", "{other}/.git/index"),
        ("GIT_OBJECT_DIRECTORY", "{other}/.git/objects"),
        ("GIT_CEILING_DIRECTORIES", "{root}"),
        ("GIT_NAMESPACE", "other"),
        ("GIT_LITERAL_PATHSPECS", "1"),
        ("GIT_CONFIG_PARAMETERS", "'core.worktree={other}'"),
        ("GIT_TRACE", "1"),
        ("GIT_REPLACE_REF_BASE", "refs/other"),
        ("LC_ALL", "de_DE.UTF-8"),
    ],
)
def test_git_s_variables_of_the_caller_change_no_answer(checkout, tmp_path, monkeypatch, name, value):
    def answers():
        source.repository.cache_clear()
        taken = source.Snapshot(checkout / "app")
        return (
            taken.tree,
            source.commit(checkout),
            taken.uncommitted,
            source.named(checkout, "README.md"),
        )

    other = tmp_path / "other"
    git(tmp_path, "init", "-qb", "other", "other")
    (other / "stranger").write_text("x")
    (checkout / "app" / "new").write_text("x")
    before = answers()
    monkeypatch.setenv(name, value.format(other=other, root=checkout))
    assert answers() == before
