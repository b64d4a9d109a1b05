"""A database server of the tests' own, and a host on this machine: its programs run, on files and a server that are no host's."""

from __future__ import annotations

import ast
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from tasks.hosts.ansible import Recap
from tasks.hosts.hosts import Hosts
from tasks.hosts.ssh import HostKeyChanged, LoginRefused
from tasks.infrastructure import find, hosts, secrets
from tasks.infrastructure import stage as infrastructure
from tasks.release import stage as release
from tasks.server.stage import provision
from tests.app.conftest import need
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import Killed, QuietCloud, run_in
from tests.conftest import ROOT, until
from tests.paper import PaperHosts

READY = ROOT / "roles" / "database" / "templates" / "database_ready.sql.j2"
SQL = ROOT / "roles" / "database" / "templates" / "database.sql.j2"


@pytest.fixture(scope="session")
def mariadb():
    """A server of its own; the environment in which `mariadb` reaches it."""
    need("mariadbd")
    folder = Path(tempfile.mkdtemp(prefix="rotation-"))  # the path of a socket may have 107 characters
    own = ["--no-defaults", f"--datadir={folder}/data", *(["--user=root"] if os.getuid() == 0 else [])]
    quietly = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    socket = f"{folder}/socket"
    install = ["mariadb-install-db", *own, "--auth-root-authentication-method=socket", "--skip-test-db"]
    subprocess.run(install, check=True, **quietly)
    started = subprocess.Popen(["mariadbd", *own, "--skip-networking", f"--socket={socket}"], **quietly)
    found = folder / "mariadb"  # Debian's own settings name the socket of Debian's own server
    found.write_text(f'#!/bin/sh\nexec {shutil.which("mariadb")} "$@" --socket={socket}\n')
    found.chmod(0o755)
    environ = {"PATH": f"{folder}:{os.environ['PATH']}", "HOME": "/nonexistent"}
    try:
        ask = ["mariadb", "--execute=SELECT 1"]
        until(lambda: subprocess.run(ask, env=environ, capture_output=True).returncode == 0)
        yield environ
    finally:
        started.kill()
        started.wait()
        shutil.rmtree(folder)


class StepCloud(QuietCloud):
    """It looks after each step whether all is well, and is killed after the step `dies_at`."""

    dies_at = None

    def _count(self, model, **_):
        if model.name.startswith(("Get", "List", "Describe", "Head")):
            return
        if threading.current_thread() is not threading.main_thread():  # the lease's
            return
        self.calls.append(model.name)
        self.well()
        if len(self.calls) == self.dies_at:
            raise Killed(model.name)

    def well(self):
        """Whether visitors are served, and the host is reached."""

    def host_keys(self, instance_id, say):
        return [self.shown()]


class HostHere(Hosts):
    """A host: its keys and those that it admits are files, its configuration is a password."""

    def __init__(self, folder, mariadb):
        self.folder, self.mariadb, self.cloud, self.configured, self.asleep = folder, mariadb, None, "", False
        self.admitted, self.root, self.key = folder / "admitted", folder / "root", folder / "host_key"
        subprocess.run(["ssh-keygen", "-qt", "ed25519", "-N", "", "-C", "", "-f", self.key], check=True)

    def shown(self):
        return self.key.with_suffix(".pub").read_text().strip()

    def enters(self, password):
        """Whether the database lets the application in with a password."""
        login = f'[client]\nuser="shop"\npassword="{password}"\n'
        ask = ["mariadb", "--defaults-file=/dev/stdin", "--execute=SELECT 1", "shop"]
        return (
            subprocess.run(ask, input=login, text=True, env=self.mariadb, capture_output=True).returncode == 0
        )

    def sql(self, statements):
        done = subprocess.run(
            ["mariadb"], input=statements, text=True, env=self.mariadb, capture_output=True, check=True
        )
        return done.stdout

    def stepped(self, name):
        self.cloud._count(SimpleNamespace(name=name))

    def play(self, playbook, *, variables, **_):
        """What the roles do, in their order: the database, then the configuration."""
        ready = release.rendered(READY, variables)
        if "ready" not in self.sql(ready).split():
            self.sql(release.rendered(SQL, variables))
        assert "ready" in self.sql(ready).split(), "done again, it would change something"
        self.stepped("role database")
        self.configured = variables["database_password"]
        self.stepped("role shared")
        return Recap(changed=0, ok=0, seconds=0, recorded={})

    def python(self, host, stage, program, **_):
        facts = {"stage": stage, "host": host.name, "address": host.address, "port": host.port}
        if self.shown() not in host.host_keys:
            raise HostKeyChanged(**facts)
        if secrets.public_key(host.key).split()[1] not in self.admitted.read_text():
            raise LoginRefused(**facts, user=host.user)
        first, _, rest = program.partition("\n")
        if not first.startswith("TOLD = "):  # only what a rotation sends runs on this machine
            return PaperHosts().python(host, stage, program) if program else ""
        told = json.loads(ast.literal_eval(first.removeprefix("TOLD = ")))
        here = {"files": [str(self.admitted), str(self.root)], "key": str(self.key), "reload": ["true"]}
        told |= {name: value for name, value in here.items() if name in told}
        program = f"TOLD = {json.dumps(told)!r}\n{rest}"
        done = subprocess.run(
            [sys.executable, "-IS", "-"], input=program, text=True, env=self.mariadb, capture_output=True
        )
        assert done.returncode == 0, done.stderr
        self.stepped("program")
        return done.stdout


@pytest.fixture
def host(tmp_path, mariadb):
    return HostHere(tmp_path, mariadb)


@pytest.fixture
def run(checkout, server, host, monkeypatch):  # noqa: F811
    """A branch's environment with one host that was provisioned once."""
    monkeypatch.setattr(find, "READS", 1)  # this cloud's lists are not behind
    shutil.copytree(ROOT / "playbooks", checkout / "playbooks")
    cloud = StepCloud(REGION, server.home.load())
    cloud.shown, host.cloud = host.shown, cloud
    made = run_in(checkout, cloud, host, branch=checkout.parent.name)
    infrastructure.share(made)
    infrastructure.converge(made)
    known = secrets.ensure(cloud.client("ssm"), made.secrets_folder, secrets.OF_ROLES)
    host.admitted.write_text(f"{known.deploy_key_public} cloud-init\nssh-ed25519 AAAAbyhand alice\n")
    host.root.write_text(f'command="echo no" {known.deploy_key_public}\n')
    hosts.pin(made, {each.id: [host.shown()] for each in infrastructure.existing(made)})
    provision(made)
    cloud.calls.clear()
    return made
