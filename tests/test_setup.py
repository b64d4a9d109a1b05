"""build/ci/run: what is around the set-up does not change it, and what is missing is made again."""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.conftest import ROOT

DEBIAN = "3.11.2"
"""Debian 12's Python."""


@pytest.fixture
def entry(tmp_path):
    """build/ci/run as a module, in a checkout of its own, whose pip and venv note what they are given."""
    loader = importlib.machinery.SourceFileLoader("entry", str(ROOT / "build" / "ci" / "run"))
    loaded = importlib.util.module_from_spec(importlib.util.spec_from_loader("entry", loader))
    loader.exec_module(loaded)
    place(loaded, tmp_path / "shop")
    return loaded


def place(entry, root):
    """Move the module's checkout to another folder, with all that a set-up looks at."""
    for name in ("build/ci/packages", "requirements.lock", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("")
    entry.ROOT, entry.ENVIRONMENT, entry.BIN = root, root / ".run" / "venv", root / ".run" / "venv" / "bin"
    entry.LOCKS = {"release": root / "requirements.lock"}
    entry.steps = []

    def step(what, command, environ=None):
        entry.steps.append((what, command, environ))
        entry.BIN.mkdir(parents=True, exist_ok=True)
        for name in ("python", "doit", "ansible-playbook"):
            (entry.BIN / name).write_text(f"#!{entry.BIN}/python\n")

    entry.step = step


@pytest.mark.promise("packages-have-their-hashes")
def test_every_package_is_held_to_the_hash_of_the_lock(entry):
    entry.prepare("release")
    commands = {what: command for what, command, _ in entry.steps}
    assert {"--require-hashes", "--requirement"} <= set(commands["Python packages"])
    assert {"--no-build-isolation", "--no-deps"} <= set(commands["the pipeline itself"]), "it fetches nothing"


def test_the_entry_point_is_run_by_the_python_whose_module_venv_it_installs():
    """A version manager's is often built without a profile, and slower."""
    folder = ROOT / "build" / "ci"
    assert (folder / "run").read_text().startswith("#!/usr/bin/python3\n")
    assert "python3-venv" in (folder / "packages").read_text().split()


def test_every_package_runs_on_debian_s_python():
    wanted = {each.name: each.metadata["Requires-Python"] for each in importlib.metadata.distributions()}
    assert len(wanted) > 100
    assert {name: each for name, each in wanted.items() if each and DEBIAN not in SpecifierSet(each)} == {}


def test_a_second_set_up_does_nothing(entry):
    entry.prepare("release")
    assert [what for what, *_ in entry.steps] == [
        "virtual environment",
        "Python packages",
        "the pipeline itself",
    ]
    entry.steps.clear()
    entry.prepare("release")
    assert entry.steps == []


@pytest.mark.parametrize("program", ["doit", "ansible-playbook", "python"])
def test_a_program_that_is_gone_is_made_again_with_all_of_them(entry, program):
    entry.prepare("release")
    (entry.BIN / program).unlink()
    (entry.ENVIRONMENT / "stale").write_text("")
    entry.steps.clear()
    entry.prepare("release")
    assert [what for what, *_ in entry.steps] == [
        "virtual environment",
        "Python packages",
        "the pipeline itself",
    ]
    assert not (entry.ENVIRONMENT / "stale").exists()


def test_the_environment_of_another_checkout_stays_where_a_link_leads_to_it(entry, tmp_path):
    entry.prepare("release")
    (entry.BIN / "pip").write_text(f"#!{entry.BIN}/python\n")
    other = entry.ROOT
    place(entry, tmp_path / "linked")
    (tmp_path / "linked" / ".run").symlink_to(other / ".run")
    with pytest.raises(entry.Refused, match=r"/linked/\.run leads to another checkout's"):
        entry.prepare("release")
    assert (other / ".run" / "venv" / "bin" / "doit").exists()
    assert entry.steps == []


def test_the_environment_of_a_moved_checkout_is_made_again(entry, tmp_path):
    entry.prepare("release")
    (entry.BIN / "pip").write_text(f"#!{entry.BIN}/python\n")
    shop, there = entry.ROOT, tmp_path / "moved"
    shop.rename(there)
    place(entry, there)
    (entry.ENVIRONMENT / "stale").write_text("")
    entry.prepare("release")
    assert not (entry.ENVIRONMENT / "stale").exists()


@pytest.mark.parametrize(("version", "stays"), [("3.9.18", False), (platform.python_version(), True)])
def test_the_environment_of_the_python_before_an_update_of_the_system_is_made_again(entry, version, stays):
    entry.prepare("release")
    (entry.ENVIRONMENT / "pyvenv.cfg").write_text(f"home = /usr/bin\nversion = {version}\n")
    (entry.ENVIRONMENT / "stale").write_text("")
    (entry.ROOT / ".run" / "installed-release").unlink()
    entry.prepare("release")
    assert (entry.ENVIRONMENT / "stale").exists() is stays


@pytest.mark.parametrize("name", ["PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_CONSTRAINT", "PIP_DRY_RUN"])
def test_pip_is_told_nothing_of_where_packages_go(entry, monkeypatch, name):
    monkeypatch.setenv(name, "1")
    monkeypatch.setenv("PIP_TIMEOUT", "7")
    entry.prepare("release")
    assert len(entry.steps) > 1
    for what, command, environ in entry.steps[1:]:
        assert name not in environ, what
        assert "--no-user" in command, what  # the user's pip.conf is read, too
        assert environ["PIP_TIMEOUT"] == "7"


def test_pip_installs_into_its_environment_whatever_its_configuration_says(tmp_path):
    (tmp_path / "pip.conf").write_text("[install]\nuser = true\n")
    asked = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-user", "--dry-run", "pip"]  # fmt: skip
    environ = {**os.environ, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "PIP_NO_INDEX": "1"}
    assert subprocess.run(asked, env=environ, capture_output=True, check=False).returncode == 0
    asked.remove("--no-user")
    assert b"user" in subprocess.run(asked, env=environ, capture_output=True, check=False).stderr


def test_a_path_with_a_colon_is_refused(entry, tmp_path):
    place(entry, tmp_path / "a:b")
    with pytest.raises(entry.Refused, match="no program is found below a path with `:`"):
        entry.prepare("release")


def test_a_checkout_that_cannot_be_written_is_a_sentence(entry, capsys):
    (entry.ROOT / ".run").write_text("in the way")
    assert entry.main(["list"]) == 1
    said = capsys.readouterr().err
    assert said.startswith("setup: ")
    assert "Traceback" not in said


def test_a_program_that_falls_silent_is_ended_and_named(entry, tmp_path):
    with pytest.raises(entry.Refused, match=r"setup: sh -c .*: did not end within 1 s and was ended"):
        entry.ran(["sh", "-c", f"echo $$ > {tmp_path}/pid; exec sleep 60"], seconds=1)
    assert not Path("/proc", (tmp_path / "pid").read_text().strip()).exists()


@pytest.mark.parametrize(
    ("word", "told"), [("list", ["BIN/doit", "list"]), ("roles", ["-P", "-m", "tasks.required_roles"])]
)
def test_what_a_word_means_is_begun_by_its_python_whatever_the_path_is_called(entry, tmp_path, word, told):
    place(entry, tmp_path / "a$HOME b")
    entry.prepare("release")
    program = entry.BIN / "python"
    program.write_text(f"#!/bin/sh\nprintf '%s\\n' \"$@\" > '{tmp_path}/told'\n")
    program.chmod(0o755)
    child = os.fork()
    if not child:
        try:
            entry.main([word])
        finally:
            os._exit(1)  # it became no other program
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    expected = [each.replace("BIN", str(entry.BIN)) for each in told]
    assert (tmp_path / "told").read_text().splitlines() == expected


@pytest.mark.promise("roles-of-others-come-by-themselves")
def test_roles_of_others_are_fetched_once_they_are_listed_and_what_fails_is_tried_again(entry, tmp_path):
    entry.prepare("release")
    program, told, listed = entry.BIN / "python", tmp_path / "told", entry.ROOT / "requirements.yml"
    told.touch()

    def fetched(code=0):
        program.write_text(f"#!/bin/sh\necho $@ >> {told}; exit {code}\n")
        program.chmod(0o755)
        before = len(told.read_text().splitlines())
        entry.fetch_roles({})
        return told.read_text().splitlines()[before:]

    listed.write_text("roles: [one]\n")
    assert [fetched(1), fetched(), fetched()] == [["-P -m tasks.required_roles"]] * 2 + [[]]
    listed.write_text("roles: [two]\n")
    assert [fetched(), fetched()] == [["-P -m tasks.required_roles"], []]
