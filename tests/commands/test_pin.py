"""Keys that nobody has seen on a console are pinned by hand or from the settings, and never unseen."""

from __future__ import annotations

import dataclasses
import io
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from tasks.cloud.host_keys import HostKeysMissing
from tasks.commands.base import WordsNotTaken
from tasks.commands.open import HostUnknown
from tasks.commands.pin import FingerprintsDiffer, NothingOffered, PinCommand, PinUnconfirmed
from tasks.console.console import Console
from tasks.hosts import ssh
from tasks.infrastructure import find, hosts
from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in

KEYS = ["ecdsa-sha2-nistp256 AAAAE2VjZHNh", "ssh-ed25519 AAAAC3NzaC1l"]
MARKS = [ssh.fingerprint(each) for each in KEYS]
OTHER = "SHA256:" + 43 * "A"


class Silent(QuietCloud):
    """Consoles that show nothing."""

    def host_keys(self, instance_id, say):
        raise HostKeysMissing(host=instance_id)


class Offering(IdleHosts):
    """Hosts that offer keys."""

    keys = KEYS

    def offered(self, address, proxy=""):
        return self.keys


@pytest.fixture
def run(checkout, server):  # noqa: F811
    told = Console(stream=io.StringIO())
    made = run_in(checkout, Silent(REGION, server.home.load()), Offering(), told, branch=checkout.parent.name)
    infrastructure.share(made)
    with pytest.raises(HostKeysMissing):
        infrastructure.converge(made)
    return made


def id_of(run):
    (machine,) = find.everything(run).machines
    return machine.id


def pin(run, *words, yes=False):
    command = PinCommand(task_loader=None)
    command.task_list = [SimpleNamespace(meta={"run": run})]
    return command._execute(yes=yes, pos_args=list(words))


def listed(run, *marks):
    settings = dataclasses.replace(run.environment.infrastructure, host_keys=marks)
    return dataclasses.replace(run, environment=dataclasses.replace(run.environment, infrastructure=settings))


@pytest.mark.promise("pin-by-hand")
def test_a_machine_whose_fingerprint_is_given_is_pinned_and_the_run_goes_on(run):
    assert pin(run, id_of(run), MARKS[1], yes=True) == 0
    assert infrastructure.converge(run).facts["hosts"][0]["host_keys"] == [KEYS[1]]
    assert pin(run, id_of(run), MARKS[1]) == 0, "it is asked once"


@pytest.mark.promise("pin-by-hand")
def test_nothing_is_pinned_that_nobody_has_compared(run):
    with pytest.raises(PinUnconfirmed) as caught:
        pin(run, id_of(run))
    assert all(each in caught.value.text for each in MARKS)
    with pytest.raises(PinUnconfirmed):
        pin(run, id_of(run), yes=True)
    with pytest.raises(PinUnconfirmed):
        pin(run, id_of(run), MARKS[0])  # given, but nobody says yes
    with pytest.raises(FingerprintsDiffer, match=MARKS[0][7:20].replace("+", r"\+")):
        pin(run, id_of(run), OTHER, yes=True)
    assert hosts.host_keys(run.store, run.identity) == {}


@pytest.mark.parametrize(("answer", "pinned"), [("y\n", KEYS), ("n\n", None), ("\n", None)])
@pytest.mark.promise("pin-by-hand")
def test_at_a_terminal_the_person_is_asked(run, monkeypatch, answer, pinned):
    ours, theirs = os.openpty()
    with os.fdopen(theirs) as terminal:
        os.write(ours, answer.encode())
        monkeypatch.setattr(sys, "stdin", terminal)
        if pinned:
            pin(run, id_of(run))
        else:
            with pytest.raises(PinUnconfirmed):
                pin(run, id_of(run))
    os.close(ours)
    assert hosts.host_keys(run.store, run.identity).get(id_of(run)) == pinned


@pytest.mark.promise("fingerprints-in-the-settings")
def test_fingerprints_of_the_settings_pin_without_a_question_and_others_do_not(run):
    for marks in ((OTHER,), (OTHER, MARKS[0])):  # a host shows its Ed25519 key only, once it is provisioned
        with pytest.raises(HostKeysMissing):
            infrastructure.converge(listed(run, *marks))
    assert infrastructure.converge(listed(run, OTHER, MARKS[1])).facts["hosts"][0]["host_keys"] == [KEYS[1]]


def test_what_is_typed_wrong_is_told(run):
    for words in ((), (id_of(run), "ab:cd:ef")):
        with pytest.raises(WordsNotTaken):
            pin(run, *words)
    with pytest.raises(HostUnknown):
        pin(run, "i-0123456789abcdef0")
    run.hosts.keys = []
    with pytest.raises(NothingOffered):
        pin(run, id_of(run))


def test_a_fingerprint_is_the_one_that_openssh_shows(tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    shown = subprocess.run(["ssh-keygen", "-lf", str(key)], capture_output=True, text=True, check=True).stdout
    assert ssh.fingerprint(key.with_suffix(".pub").read_text()) == shown.split()[1]
