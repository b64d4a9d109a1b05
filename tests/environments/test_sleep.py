"""An environment that sleeps, and one that is kept: its machines stop, its tags say how long it stays, its hosts are told."""

from __future__ import annotations

import dataclasses
import datetime
import os
import re

import pytest

from tasks.clock import Clock
from tasks.environments import expiry, sleep
from tasks.environments.expiry import NoExpiry
from tasks.environments.sleep import NothingToWake, SleepForbidden
from tasks.infrastructure import find
from tasks.infrastructure import stage as infrastructure
from tests.cloud.embedded.conftest import REGION, server  # noqa: F401  (a fixture)
from tests.clouds import IdleHosts, QuietCloud, run_in


class Hearing(IdleHosts):
    """Hosts that note what they are told."""

    def __init__(self):
        self.heard = []

    def python(self, host, stage, program):
        self.heard.append(program)
        return ""


@pytest.fixture
def run(checkout, server):  # noqa: F811
    """A run in an environment with one machine, whose hosts shut themselves down."""
    cloud = QuietCloud(REGION, server.home.load())
    made = run_in(checkout, cloud, hosts=Hearing(), branch=checkout.parent.name)
    infrastructure.share(made)
    infrastructure.converge(made)
    return made


@pytest.mark.promise("sleep-stops-the-machines")
def test_an_environment_that_sleeps_has_stopped_machines_with_their_hours(run):
    (machine,) = find.everything(run).machines
    assert sleep.sleep(run) == [machine.id]
    (asleep,) = find.everything(run).machines
    assert (asleep.id, asleep.state) == (machine.id, "stopped")
    assert float(asleep.tags["hours-before"]) >= 0
    with pytest.raises(NothingToWake):
        sleep.sleep(run)


def test_what_may_not_be_torn_down_does_not_sleep(run):
    staging = run_in(run.root, run.cloud, environment="staging")
    for act in (sleep.sleep, sleep.wake):
        with pytest.raises(SleepForbidden, match="staging may not sleep"):
            act(staging)


@pytest.mark.promise("keep-extends-from-now", "keep-tells-the-hosts")
def test_an_environment_is_kept_for_days_from_now_and_its_hosts_are_told(run):
    now = datetime.datetime(2026, 11, 24, 7, 46, 30, tzinfo=datetime.UTC)
    run = dataclasses.replace(run, clock=Clock(now=lambda: now))
    until = expiry.extend(run, 3)
    assert until == now + datetime.timedelta(days=3)
    (machine,) = find.everything(run).machines
    kept = expiry.kept_until(machine.tags)
    assert kept == until.replace(second=0, microsecond=0)
    (told,) = run.hosts.heard
    assert expiry.TOLD in told
    assert re.search(rf"\b{int(kept.timestamp())}\b", told)


@pytest.mark.promise("keep-tells-the-hosts")
def test_an_environment_that_sleeps_is_kept_and_no_host_of_it_is_told_yet(run):
    sleep.sleep(run)
    until = expiry.extend(run, 3)
    (machine,) = find.everything(run).machines
    assert expiry.kept_until(machine.tags) == until.replace(second=0, microsecond=0)
    assert run.hosts.heard == []


@pytest.fixture
def answering(run, tmp_path, monkeypatch):
    """Programs that stand for OpenSSH's, for hosts that accept logins."""
    (machine,) = find.everything(run).machines
    (tmp_path / "bin").mkdir()
    for name, text in {
        "ssh-keyscan": f'for address; do :; done\nport=22\n[ "$3" = -p ] && port=$4\n'
        f'[ "$port" = 22 ] || address="[$address]:$port"\necho "$address ssh-ed25519 {machine.id}"',
        "ssh": "exit 0",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")


@pytest.mark.usefixtures("answering")
@pytest.mark.promise("keep-tells-the-hosts")
@pytest.mark.parametrize(("before", "days"), [("kept", 3), ("expired", 1), ("young", None)])
def test_a_host_that_wakes_is_told_until_when_it_is_kept(run, before, days):
    """It was kept while it slept; or it had expired, and gets a day."""
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    sleep.sleep(run)
    if before == "kept":
        expiry.extend(run, 3)
    later = now + datetime.timedelta(days=20 if before == "expired" else 0)
    awake = dataclasses.replace(run, clock=Clock(now=lambda: later))
    (machine,) = find.everything(run).machines
    assert sleep.wake(awake) == [machine.id]
    (machine,) = find.everything(run).machines
    assert machine.state == "running"
    kept = expiry.kept_until(machine.tags)
    if days is None:
        assert (kept, run.hosts.heard) == (None, []), "it is not kept beyond its release"
        return
    assert kept.date() == (later + datetime.timedelta(days=days)).date()
    (told,) = run.hosts.heard
    assert expiry.TOLD in told
    assert re.search(rf"\b{int(kept.timestamp())}\b", told)


def test_what_never_expires_is_not_kept(run):
    with pytest.raises(NoExpiry, match="staging never expires"):
        expiry.extend(run_in(run.root, run.cloud, environment="staging"), 3)
