"""The handler that imports a changed configuration, played on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import yaml

from tests.conftest import ROOT


@pytest.mark.parametrize(("fails", "code"), [(0, 0), (2, 0), (9, 2)])
def test_an_import_that_meets_a_restart_of_the_database_is_tried_again(tmp_path, fails, code):
    handler, *_ = yaml.safe_load((ROOT / "roles" / "shared" / "handlers" / "main.yml").read_text())
    task = {name: told for name, told in handler.items() if not name.startswith(("listen", "become"))}
    asked = tmp_path / "asked"
    program = f"echo once >> {asked}; [ $(wc -l < {asked}) -gt {fails} ]"
    told = {
        "ansible_python_interpreter": sys.executable,
        "server_roles": ["shared"],
        "application_path": str(tmp_path),
        "shared_import": ["sh", "-c", program],
    }
    (tmp_path / "current").mkdir()
    play = {"hosts": "localhost", "gather_facts": False, "tasks": [{**task, "delay": 0}], "vars": told}
    (tmp_path / "play.yml").write_text(json.dumps([play]))
    command = ["ansible-playbook", "-c", "local", "-i", "localhost,", str(tmp_path / "play.yml")]
    environ = {**os.environ, "ANSIBLE_LOCALHOST_WARNING": "0"}
    said = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert said.returncode == code, said.stdout
    assert len(asked.read_text().split()) == min(fails, 3) + 1
