"""What is typed and what is answered: one sentence, what to type next, and the exit code."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT, copy_project, doit, git


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of this repository."""
    return copy_project(tmp_path_factory.mktemp("project") / "shop")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence", "remedy"),
    [
        (["environmnet=x", "release"], 3, "environmnet=x: no such variable (known: environment, branch)", "doit environment=testing release"),
        (["environment=prod", "release"], 3, "there is no environments/prod.yml (known: production, staging, testing)", "ls environments"),
        (["environment=production", "teardown"], 3, "teardown: does not exist in production", "doit environment=production list"),
        (["environment=production", "tarball"], 3, "tarball: does not exist in production", "doit environment=production list"),
        (["environment=staging", "teardown"], 3, "teardown: does not exist in staging", "doit environment=staging list"),
        (["relaese"], 3, "no task or command named relaese (known: infrastructure, tarball", "doit list"),
        (["info", "relaese"], 3, "no task or command named relaese", "doit list"),
        (["list", "relaese"], 3, "relaese", ""),
        (["cloud", "strat"], 3, "cloud strat (known: start, stop, status, delete)", ""),
        (["release", "--alwyas"], 3, "alwyas", ""),
    ],
)  # fmt: skip
def test_a_misspelling_is_refused(project, arguments, code, sentence, remedy):
    answered = doit(project, *arguments)
    assert answered.returncode == code
    assert sentence in answered.stderr
    assert f"\n    {remedy}" in answered.stderr if remedy else True
    assert "Traceback" not in answered.stderr


def test_the_list_has_the_stages_in_order_with_a_sentence_each(project):
    lines = doit(project, "list").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [
        "infrastructure",
        "tarball",
        "server",
        "release",
        "teardown",
        "image",
    ]
    assert all(line.endswith(".") for line in lines)


def test_the_list_shows_each_path_with_its_git_id(project):
    listed = doit(project, "list", "--deps").stdout
    for path in ("app", "roles/nginx", "playbooks/release.yml", "tasks/infrastructure.py"):
        short = git(project, "rev-parse", f"HEAD:{path}")[:12]
        assert any(line.split()[1:] == [path, short] for line in listed.splitlines()), path


def test_listing_starts_no_cloud(project, tmp_path):
    doit(project, "list", "--deps", XDG_STATE_HOME=str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_graph_is_mermaid_and_svg(project):
    text = doit(project, "graph").stdout
    assert text.startswith("graph LR\n")
    assert "infrastructure_environment --> server" in text
    assert "tarball --> release" in text
    assert doit(project, "graph", "--svg").stdout.rstrip().endswith("</svg>")


def test_without_a_repository_there_is_nothing_to_release(project, tmp_path):
    shutil.copytree(project, tmp_path / "bare", ignore=shutil.ignore_patterns(".git"))
    answered = doit(tmp_path / "bare", "list", "--deps")
    assert answered.returncode == 1
    assert "is not in a git repository" in answered.stderr
    assert "Traceback" not in answered.stderr


def test_the_entry_is_standard_library_only():
    import ast

    tree = ast.parse((ROOT / "build" / "ci" / "run").read_text())
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert names <= sys.stdlib_module_names
