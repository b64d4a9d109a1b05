"""Drift: a host is asked for what its ledger has; the host's program is the real one, on this machine."""

from __future__ import annotations

import dataclasses
import datetime
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
from doit import Globals

from tasks.bucket import layout
from tasks.clock import Clock
from tasks.hosts.hosts import Hosts
from tasks.hosts.ssh import HostUnreachable
from tasks.infrastructure import stage as infrastructure
from tasks.server import certificates, drift, ledger, ledger_host, renewal, stage
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import QuietCloud, run_in
from tests.conftest import ROOT
from tests.paper import PaperHosts


class ThisMachine(Hosts):
    """Hosts that are this machine. `asked`: which of them were asked; `silent`: none of them answers."""

    def __init__(self):
        self.asked, self.silent = [], False

    def python(self, host, stage, program):
        self.asked.append(host.name)
        if self.silent:
            raise HostUnreachable(stage=stage, host=host.name, address=host.address, port=host.port)
        python = [sys.executable, "-IS", "-"]
        return subprocess.run(python, input=program, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def run(checkout, server):  # noqa: F811
    """An environment with a machine, which is no stage's: what exists is asked."""
    made = run_in(
        checkout, QuietCloud(REGION, server.home.load()), ThisMachine(), branch=checkout.parent.name
    )
    infrastructure.share(made)
    infrastructure.converge(made)
    return dataclasses.replace(
        made, environment=dataclasses.replace(made.environment, stages=("server",), also=())
    )


@pytest.fixture
def kept(run, tmp_path):
    """A file and a folder, as the machine's ledger has them."""
    file, folder = tmp_path / "a.conf", tmp_path / "conf.d"
    file.write_text("as provisioned\n")
    folder.mkdir()
    (machine,) = infrastructure.existing(run)
    name = f"file {file}"
    facts = ledger_host.look([name])[name]
    document = {
        "things": {name: {"task": "web: Write", "facts": facts}},
        "folders": [str(folder)],
        "files": [],
    }
    run.store.write(layout.ledger(run.identity, machine.id, "server"), document, seen=None)
    return file, folder


def test_a_machine_without_a_ledger_is_a_reason_and_is_not_asked(run):
    (machine,) = infrastructure.existing(run)
    assert drift.AsRecorded("server")(run) == [f"{machine.id} has no ledger yet"]
    assert run.hosts.asked == []


def test_a_host_as_recorded_is_no_reason_and_one_that_differs_is(run, kept):
    file, folder = kept
    world = drift.AsRecorded("server")
    assert world(run) == []
    file.write_text("by hand\n")
    assert world(run) == [f"host drifted: {file}"]
    file.write_text("as provisioned\n")
    file.chmod(0o666)
    assert world(run) == [f"host drifted: mode of {file}"]
    file.unlink()
    assert world(run) == [f"host drifted: {file} is gone"]
    assert world.unknown_files == []
    (folder / "x.conf").touch()
    world(run)
    assert world.unknown_files == [str(folder / "x.conf")]
    assert len(run.hosts.asked) == 5


def test_a_host_that_does_not_answer_is_no_proof(run, kept):
    run.hosts.silent = True
    with pytest.raises(HostUnreachable):
        drift.AsRecorded("server")(run)


def test_the_ledger_that_is_read_is_the_one_of_this_playbook(run, kept):
    (machine,) = infrastructure.existing(run)
    assert ledger.read(run.store, run.identity, machine.id, "release") is None
    assert drift.AsRecorded("release")(run) == [f"{machine.id} has no ledger yet"]


@pytest.mark.promise("a-certificate-s-end-makes-server-due")
def test_a_certificate_of_the_pipeline_s_own_that_ends_soon_is_a_reason_until_it_is_renewed(run, monkeypatch):
    """Releases of code alone provision nothing, so that nothing else would renew it."""
    shutil.copytree(ROOT / "playbooks", run.root / "playbooks")
    days, now, values = datetime.timedelta(days=1), run.clock.now(), {}
    monkeypatch.setattr(Globals, "dep_manager", SimpleNamespace(get_values=lambda name: values))
    ends = now + certificates.LASTS

    def at(left):
        """The run, so many days before the first certificate ends."""
        clock = Clock(now=lambda: ends - left * days)
        return dataclasses.replace(run, hosts=PaperHosts(), clock=clock)

    assert renewal.differences(at(59)) == [], "nothing is known of it"
    values = dict(stage.provision(at(397)).facts)
    assert renewal.differences(at(61)) == []
    words = f"the certificate for {run.host_name}: it ends on {ends:%Y-%m-%d}"
    assert renewal.differences(at(59)) == [words]
    assert drift.AsRecorded("server")(at(59)) == [words]
    values = dict(stage.provision(at(59)).facts)
    assert renewal.differences(at(59)) == []
