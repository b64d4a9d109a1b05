"""What is typed and what is answered: one sentence, what to type next, and the exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import DOIT, ROOT, copy_project, doit, git


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
        (["cloud", "strat"], 3, "doit cloud strat: the command is doit cloud start|stop|status|delete", "doit help cloud"),
        (["keep", "long"], 3, "doit keep long: the command is doit keep DAYS (1 to 365)", "doit help keep"),
        (["status", "all"], 3, "doit status all: the command is doit status", "doit help status"),
        (["history", "--jsn"], 3, "command line: option --jsn not recognized", "doit help history"),
        (["sweep", "--share", "half"], 3, "command line: --share: invalid literal for int()", "doit help sweep"),
        (["release", "--alwyas"], 3, "command line: option --alwyas not recognized", "doit help run"),
        (["teardown", "release"], 3, "teardown goes alone, not together with release", "doit teardown && doit release"),
        (["environment=staging", "tarbal"], 3, "no task or command named tarbal", "doit environment=staging list"),
    ],
)  # fmt: skip
def test_a_misspelling_is_refused(project, tmp_path, arguments, code, sentence, remedy):
    answered = doit(project, *arguments, XDG_STATE_HOME=str(tmp_path / "state"))
    assert answered.returncode == code
    assert sentence in answered.stderr
    assert f"\n    {remedy}" in answered.stderr if remedy else True
    assert "Traceback" not in answered.stderr
    assert not (tmp_path / "state").exists()  # no cloud was started for it


def test_a_stage_that_nobody_makes_is_refused_where_it_is_named(project, tmp_path):
    shop = shutil.copytree(project, tmp_path / "shop")
    path = shop / "environments" / "production.yml"
    path.write_text(path.read_text().replace("server, release]", "server, relese]"))
    answered = doit(shop, "environment=production", "list")
    assert answered.returncode == 3
    assert answered.stderr.startswith(
        "environments/production.yml:2: stages: should be one of infrastructure, tarball, server, release"
    )
    assert "not 'relese'\n    $EDITOR environments/production.yml" in answered.stderr


def test_nobody_has_to_listen_to_the_end(project):
    read, write = os.pipe()
    os.close(read)
    answered = subprocess.run([DOIT, "docs"], cwd=project, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (answered.returncode, answered.stderr) == (141, "")


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
    for path in ("app", "roles/nginx", "playbooks/release.yml", "tasks/infrastructure"):
        short = git(project, "rev-parse", f"HEAD:{path}")[:12]
        assert any(line.split()[1:] == [path, short] for line in listed.splitlines()), path


def test_listing_starts_no_cloud(project, tmp_path):
    doit(project, "list", "--deps", XDG_STATE_HOME=str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


def test_the_graph_is_mermaid_and_svg(project):
    text = doit(project, "graph").stdout
    assert text.startswith("graph LR\n")
    assert "infrastructure_environment --> server" in text
    assert "tarball_pack --> release" in text
    assert "tarball_vendor --> tarball_generated" in text
    assert doit(project, "graph", "--svg").stdout.rstrip().endswith("</svg>")


def test_without_a_repository_there_is_nothing_to_release(project, tmp_path):
    shutil.copytree(project, tmp_path / "bare", ignore=shutil.ignore_patterns(".git"))
    answered = doit(tmp_path / "bare", "list", "--deps")
    assert answered.returncode == 1
    assert "is not in a git repository" in answered.stderr
    assert "Traceback" not in answered.stderr


def test_without_a_commit_nothing_is_begun(project, tmp_path):
    shutil.copytree(project, tmp_path / "new", ignore=shutil.ignore_patterns(".git"))
    git(tmp_path / "new", "init", "-q")
    answered = doit(tmp_path / "new", "release", XDG_STATE_HOME=str(tmp_path / "state"))
    assert answered.returncode == 1
    assert answered.stderr == "git: there is no commit HEAD here\n    git add -A && git commit\n"
    assert not (tmp_path / "state").exists()


def test_a_folder_below_the_top_is_told_from_a_broken_project(project):
    answered = subprocess.run([DOIT, "release"], cwd=project / "docs", capture_output=True, text=True)
    assert answered.returncode == 3
    assert answered.stderr.endswith('    cd "$(git rev-parse --show-toplevel)"\n')


def test_aws_without_credentials_is_one_sentence(project, tmp_path):
    shutil.copytree(project, tmp_path / "aws")
    settings = tmp_path / "aws" / "pipeline.yml"
    settings.write_text(settings.read_text().replace("cloud: embedded", "cloud: aws"))
    nothing = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none"}
    answered = doit(tmp_path / "aws", "release", **nothing)
    assert answered.returncode == 1
    assert "neither environment, AWS files nor a role has any" in answered.stderr
    assert "Traceback" not in answered.stderr
    assert answered.stdout == ""


def test_a_cloud_that_does_not_answer_is_one_sentence(project, tmp_path):
    shutil.copytree(project, tmp_path / "aws")
    settings = tmp_path / "aws" / "pipeline.yml"
    settings.write_text(settings.read_text().replace("cloud: embedded", "cloud: aws"))
    nowhere = {
        "AWS_ACCESS_KEY_ID": "x",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
    }
    answered = doit(tmp_path / "aws", "infrastructure", AWS_MAX_ATTEMPTS="1", **nowhere)
    assert answered.returncode == 1
    assert "Could not connect to the endpoint URL" in answered.stderr
    assert "Traceback" not in answered.stderr


def test_the_entry_is_standard_library_only():
    import ast

    tree = ast.parse((ROOT / "build" / "ci" / "run").read_text())
    names = {a.name.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    names |= {n.module.split(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
    assert names <= sys.stdlib_module_names
