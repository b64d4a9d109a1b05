"""What is typed and what is answered: one sentence, what to type next, and the exit code."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from doit.doit_cmd import DoitMain

from tasks.commands.command_line import typed as typed_variables
from tasks.commands.entry import COMMANDS, Main
from tasks.commands.open import SshCommand
from tests.conftest import DOIT, ROOT, copy_project, doit, git


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A copy of this repository."""
    return copy_project(tmp_path_factory.mktemp("project") / "shop")


@pytest.mark.parametrize(
    ("arguments", "code", "sentence", "remedy"),
    [
        (["branch=", "plan"], 3, "command line: branch= has no value", "doit branch=NAME plan"),
        (["branch= ", "stop"], 3, "command line: branch= has no value", "doit branch=NAME plan"),
        (["branch=", "teardown"], 3, "command line: branch= has no value", "doit branch=NAME plan"),
        (["branch=", "start"], 3, "command line: branch= has no value", "doit branch=NAME plan"),
        (["branch=", "environment=production", "continue"], 3, "command line: branch= has no value", "doit branch=NAME plan"),
        (["environment=", "teardown"], 3, "command line: environment= has no value", "doit environment=NAME plan"),
        (["environmnet=x", "release"], 3, "environmnet=x: no such variable (did you mean environment? known: environment, branch)", "doit environment=x release"),
        (["colour=red", "release"], 3, "colour=red: no such variable (known: environment, branch)", "doit environment=testing release"),
        (["environment=prod", "release"], 3, "there is no environments/prod.yml (did you mean production? known: production, staging, testing)", "doit environment=production release"),
        (["environment=moon", "release"], 3, "there is no environments/moon.yml (known: production, staging, testing)", "ls environments"),
        (["environment=production", "teardown"], 3, "teardown: does not exist in production", "doit environment=production list"),
        (["environment=production", "tarball"], 3, "tarball: does not exist in production", "doit environment=production list"),
        (["environment=staging", "teardown"], 3, "teardown: does not exist in staging", "doit environment=staging list"),
        (["relaese"], 3, "no task or command named relaese (did you mean release? known: infrastructure, tarball", "doit release"),
        (["qqqqq"], 3, "no task or command named qqqqq (known: infrastructure, tarball", "doit list"),
        (["staus", "--json"], 3, "no task or command named staus (did you mean status? known: infrastructure", "doit status --json"),
        (["info", "relaese"], 3, "no task or command named relaese (did you mean release?", "doit info release"),
        (["list", "relaese"], 3, "no task or command named relaese (did you mean release?", "doit list release"),
        (["forget", "relaese"], 3, "no task or command named relaese (did you mean release?", "doit forget release"),
        (["plan", "tarbal"], 3, "no task or command named tarbal (did you mean tarball?", "doit plan tarball"),
        (["help", "relaese"], 3, "no task or command named relaese (did you mean release?", "doit help release"),
        (["cloud", "strat"], 3, "doit cloud strat: the command is doit cloud start|stop|status|env|delete", "doit help cloud"),
        (["keep", "long"], 3, "doit keep long: the command is doit keep DAYS (1 to 365)", "doit help keep"),
        (["status", "all"], 3, "doit status all: the command is doit status", "doit help status"),
        (["info"], 3, "doit info: the command is doit info STAGE", "doit help info"),
        (["history", "--jsn"], 3, "command line: option --jsn not recognized (did you mean --json? known: --json, --verify, --help, -h)", "doit history --json"),
        (["sweep", "--shrae=5"], 3, "option --shrae not recognized (did you mean --share? known: --yes, --share", "doit sweep --share=5"),
        (["sweep", "--share", "half"], 3, "command line: --share: should be a whole number from 0 to 100, not 'half'", "doit help sweep"),
        (["sweep", "--share=500"], 3, "command line: --share: should be a whole number from 0 to 100, not '500'", "doit help sweep"),
        (["run", "--wait=nan"], 3, "command line: --wait: should be a number of seconds from 0 to 86400, not 'nan'", "doit help run"),
        (["release", "--alwyas"], 3, "option --alwyas not recognized (did you mean --always-execute?", "doit run --always-execute release"),
        (["release", "--wait", "0"], 3, "option --wait: goes before the arguments", "doit run --wait 0 release"),
        (["release", "--qqqqq"], 3, "command line: option --qqqqq not recognized (known: --always-execute", "doit help run"),
        (["teardown", "release"], 3, "teardown goes alone, not together with release", "doit plan teardown"),
        (["rollback", "release"], 3, "rollback goes alone, not together with release", "doit plan rollback"),
        (["r*"], 3, "rollback goes alone, not together with r*", "doit plan rollback"),
        (["environment=staging", "tarbal"], 3, "no task or command named tarbal (did you mean tarball?", "doit environment=staging tarball"),
    ],
)  # fmt: skip
@pytest.mark.promise("missing-stage-is-refused")
def test_a_misspelling_is_refused(project, tmp_path, arguments, code, sentence, remedy):
    answered = doit(project, *arguments, XDG_STATE_HOME=str(tmp_path / "state"))
    assert answered.returncode == code
    assert sentence in answered.stderr
    assert f"\n    {remedy}" in answered.stderr
    assert "Traceback" not in answered.stderr
    assert not (tmp_path / "state").exists()  # no cloud was started for it


def test_a_stage_without_a_function_is_refused_with_file_and_line(project, tmp_path):
    shop = shutil.copytree(project, tmp_path / "shop")
    path = shop / "environments" / "production.yml"
    path.write_text(path.read_text().replace("server, release,", "server, relese,"))
    answered = doit(shop, "environment=production", "list")
    assert answered.returncode == 3
    assert answered.stderr.startswith(
        "environments/production.yml:2: stages: should be one of infrastructure, tarball, server, release"
    )
    assert "not 'relese' (did you mean release?)\n    $EDITOR environments/production.yml" in answered.stderr


def test_a_closed_pipe_ends_a_command_without_a_traceback(project):
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
        "rollback",
        "teardown",
        "image",
    ]
    assert all(line.endswith(".") for line in lines)


def test_the_list_shows_each_path_with_its_git_id_below_its_folder(project):
    listed = doit(project, "list", "--deps", "server", "tarball").stdout.splitlines()
    tarball = listed.index(next(line for line in listed if line.startswith("tarball")))
    for part, path in (
        (listed[:tarball], "roles/nginx"),
        (listed[tarball:], "tasks/tarball"),
        (listed[tarball:], "app"),
    ):
        folder, _, name = path.rpartition("/")
        rows = part[part.index(f"    {folder}/") :] if folder else part
        row = next(line for line in rows if line.split()[0] == name)
        assert row.split() == [name, git(project, "rev-parse", f"HEAD:{path}")[:12]]
    assert [line for line in listed[:tarball] if line.endswith("/")] == [
        f"    {folder}/" for folder in ("applications", "playbooks", "roles", "tasks", "tasks/backup")
    ]


def test_listing_starts_no_cloud(project, tmp_path):
    doit(project, "list", "--deps", XDG_STATE_HOME=str(tmp_path / "state"))
    assert not (tmp_path / "state").exists()


@pytest.mark.parametrize(
    "words",
    [*([each, "--help"] for each in sorted(COMMANDS)), *(["plan", "-h"], ["help", "plan"])],
    ids=" ".join,
)
def test_every_command_tells_what_it_takes(tmp_path, words):
    """Without a project, without git, without a cloud."""
    nowhere = {"XDG_STATE_HOME": str(tmp_path / "state"), "PATH": "", "PYTHONPATH": str(ROOT)}
    told = doit(tmp_path, *words, **nowhere)
    assert told.returncode == 0, told.stderr
    assert told.stdout.startswith("usage: doit [environment=NAME] [branch=NAME] ")
    assert "\n  -h, --help  " in told.stdout
    assert "--db-file" not in told.stdout
    assert not (tmp_path / "state").exists()


def test_doit_has_all_its_commands_from_here():
    assert {each.get_name() for each in DoitMain.DOIT_CMDS} <= set(COMMANDS)


def test_every_way_to_ask_for_help_prints_the_same(project, tmp_path):
    asked = (["--help"], ["-h"], ["help"], ["run", "--help"], ["environment=staging", "-h"])
    said = {doit(project, *words, XDG_STATE_HOME=str(tmp_path / "state")).stdout for words in asked}
    assert len(said) == 1
    listed = [line.split()[0] for line in said.pop().splitlines() if line.startswith("  ") and line[2] != " "]
    assert set(COMMANDS) <= set(listed)
    assert not (tmp_path / "state").exists()


def test_a_stage_tells_what_it_takes(project, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    said = [
        doit(project, *words, **state)
        for words in (["release", "--help"], ["-h", "release"], ["help", "release"])
    ]
    assert [each.returncode for each in said] == [0, 0, 0]
    assert len({each.stdout for each in said}) == 1
    assert "\n\nThe tarball goes live: fetched, verified, migrated, switched, checked.\n" in said[0].stdout
    assert "\n  --wait=ARG  " in said[0].stdout
    assert not (tmp_path / "state").exists()


def test_help_that_is_meant_for_another_program_is_passed_on():
    assert SshCommand.passes_words_on
    assert SshCommand.own_words(SshCommand, ["--json", "i-1", "ls", "-h"]) == ["--json"]


@pytest.mark.parametrize(
    ("typed", "words", "variables"),
    [
        (["environment=staging", "ssh", "i-1", "env", "A=1", ""], ["i-1", "env", "A=1", ""], {"environment": "staging"}),
        (["ssh", "environment=staging", "mariadb -e 'a=1'", "b=2"], ["mariadb -e 'a=1'", "b=2"], {"environment": "staging"}),
        (["ssh", "--json", "brnach=x"], ["--json"], {"brnach": "x"}),
    ],
)  # fmt: skip
def test_words_of_a_command_for_a_host_are_its_own(typed, words, variables):
    assert Main().process_args(typed) == ["ssh", *words]
    assert typed_variables() == variables


@pytest.mark.promise("no-status-asks-no-cloud")
def test_info_describes_a_stage_in_words_and_starts_no_cloud(project, tmp_path):
    state = {"XDG_STATE_HOME": str(tmp_path / "state")}
    answered = doit(project, "info", "--no-status", "server", **state)
    assert (answered.returncode, answered.stderr) == (0, "")
    lines = answered.stdout.splitlines()
    assert lines[:8] == [
        "server",
        "",
        "Packages, services and configuration on the machines.",
        "",
        "comes after infrastructure:environment, and gets its facts as `machines`",
        "is leased: it changes the environment, which only one run at a time may do",
        "is recorded: it is skipped as long as its inputs are unchanged",
        "is offered: it exists in every environment whose file does not list stages",
    ]
    assert f"    server.yml  {git(project, 'rev-parse', 'HEAD:playbooks/server.yml')[:12]}" in lines
    assert ["server.php.version", "8.2"] in map(str.split, lines)
    told = answered.stdout + "".join(
        doit(project, "info", "--no-status", each, **state).stdout for each in ("teardown", "tarball:pack")
    )
    told += doit(project, "environment=production", "info", "--no-status", "release", **state).stdout
    told = re.sub(r"MAGENTO_DC__OVERRIDE=\S+", "", told)  # JSON is what Magento wants there
    assert not re.search(r"<function|functools|object at|World|[\[\]{}]|'\w+'", told)
    assert "voids the records of release, server, infrastructure:environment: they are wrong" in told
    assert "is not recorded: it finds out itself what there is to do" in told
    assert "tarball" in told.rpartition("asked of the cloud")[0].splitlines()[-1]
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


def test_doit_below_the_top_of_the_repository_is_refused(project):
    answered = subprocess.run([DOIT, "release"], cwd=project / "docs", capture_output=True, text=True)
    assert answered.returncode == 3
    assert answered.stderr.endswith('    cd "$(git rev-parse --show-toplevel)"\n')


@pytest.mark.parametrize(
    ("here", "remedy"),
    [(".", "/deploy"), ("app", "/deploy"), ("deploy/docs/x", "/deploy"), ("other/tasks", "/other")],
)
def test_elsewhere_in_a_monorepo_the_way_to_the_pipeline_is_told(tmp_path, here, remedy):
    for name in ("deploy/dodo.py", "other/dodo.py", "deploy/docs/x/y", "app/x", "other/tasks/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("")
    git(tmp_path, "init", "-q")
    answered = subprocess.run([DOIT, "release"], cwd=tmp_path / here, capture_output=True, text=True)
    assert answered.returncode == 3
    assert answered.stderr.endswith(f'    cd "$(git rev-parse --show-toplevel){remedy}"\n')
    shell = ["sh", "-c", f"{answered.stderr.splitlines()[-1]} && cat dodo.py"]
    assert subprocess.run(shell, cwd=tmp_path / here).returncode == 0


def test_aws_without_credentials_is_one_sentence(project, tmp_path):
    shutil.copytree(project, tmp_path / "aws")
    settings = tmp_path / "aws" / "pipeline.yml"
    text = settings.read_text().replace("cloud: embedded", "cloud: aws")
    settings.write_text(text.replace("shop.localhost", "shop.example.com"))
    nothing = {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": "none"}
    answered = doit(tmp_path / "aws", "release", **nothing)
    assert answered.returncode == 1
    assert "neither environment, AWS files nor a role has any" in answered.stderr
    assert "Traceback" not in answered.stderr
    assert answered.stdout == ""


def test_a_cloud_that_does_not_answer_is_one_sentence(project, tmp_path):
    shutil.copytree(project, tmp_path / "aws")
    settings = tmp_path / "aws" / "pipeline.yml"
    text = settings.read_text().replace("cloud: embedded", "cloud: aws")
    settings.write_text(text.replace("shop.localhost", "shop.example.com"))
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
