"""plays: a role played on this machine, on files below a folder; the machine's own services are left alone."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import yaml

from tests.conftest import ROOT


def _without_services(said):
    """Its tasks, but for those that start and stop."""
    left = [each for each in said if "ansible.builtin.systemd_service" not in each]
    return [{**each, "block": _without_services(each["block"])} if "block" in each else each for each in left]


def played(role, folder, told, *options):
    """What Ansible says of the role; /etc, /run and /var are below the folder."""
    copied = folder / "roles" / role
    shutil.rmtree(copied, ignore_errors=True)
    shutil.copytree(ROOT / "roles" / role, copied)
    for path in copied.rglob("*.yml"):
        path.write_text(re.sub(r"(?<=[\s\[\"'])/(?=(etc|run|var)/)", f"{folder}/", path.read_text()))
    main = copied / "tasks" / "main.yml"
    main.write_text(yaml.safe_dump(_without_services(yaml.safe_load(main.read_text()))))
    # of no role, so that no handler runs
    told = {"ansible_python_interpreter": sys.executable, "server_roles": [], **told}
    play = [{"hosts": "localhost", "gather_facts": False, "roles": [role], "vars": told}]
    (folder / "play.yml").write_text(json.dumps(play))
    environ = {
        **os.environ,
        "ANSIBLE_ROLES_PATH": str(folder / "roles"),
        "ANSIBLE_LOCALHOST_WARNING": "0",
    }
    command = ["ansible-playbook", *options, "-c", "local", "-i", "localhost,", str(folder / "play.yml")]
    return subprocess.run(command, env=environ, capture_output=True, text=True)
