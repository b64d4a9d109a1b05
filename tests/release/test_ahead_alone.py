"""What is brought ahead of a yes: it is told and refuses nothing, and without a yes it is removed, unless it was live before."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest

from tasks.hosts.hosts import Hosts
from tasks.hosts.phased import Answer
from tasks.hosts.ssh import HostUnreachable
from tasks.infrastructure import hosts as machines
from tasks.infrastructure import stage as infrastructure
from tasks.release.ahead import brought
from tasks.release.stage import go_live
from tests.simulation.alone import Alone
from tests.simulation.controllers import Quiet, pack

DOWN = HostUnreachable(stage="release", host="i-1", address="10.0.0.1", port=22)


class Told(Hosts):
    """Hosts that answer as they are told, by phase; `asked`: the phases, and whether there was an address to fetch from."""

    def __init__(self, **answers):
        self.answers, self.asked = answers, []

    def phases(self, program, phases, *, hosts, plan, **_):
        self.asked.append((*phases, bool(plan["url"])))
        if phases[0] in self.answers:
            raise self.answers[phases[0]]
        return [
            Answer(host=each.name, changed=True, steps=(("Fetch", 1.0), ("Unpack", 2.5))) for each in hosts
        ]


class Heard(Quiet):
    """What was said; nothing that the phases say themselves, as somebody is being asked."""

    def __init__(self):
        super().__init__()
        self.events = []

    def event(self, stage, words):
        self.events.append(words)


class No(BaseException):
    """No yes, in any of its forms."""


READY = "ready ahead, in 3.5 s"
BRING, DISCARD = ("bring", "rehearse", True), ("discard", False)


def decided(yes, *, known=True, live=False, **answers):
    """Somebody decides; what the hosts were asked, and what was said."""
    told, heard = Told(**answers), Heard()

    def act(run):
        if known:
            found = infrastructure.converge(run).facts
            assert machines.known(run)
        tarball = pack(run).facts
        if live:
            go_live(run, tarball=tarball, machines=found)
        with brought(dataclasses.replace(run, hosts=told, console=heard)):
            if not yes:
                raise No

    try:
        Alone().does(act)
    except No:
        assert not yes
    else:
        assert yes
    return told.asked, heard.events


@pytest.mark.promise("brought-ahead-of-the-yes")
def test_with_a_yes_it_is_there():
    assert decided(yes=True) == ([BRING], [READY])


@pytest.mark.promise("without-a-yes-nothing-stays")
def test_without_a_yes_it_is_removed():
    assert decided(yes=False) == ([BRING, DISCARD], [READY])


@pytest.mark.promise("what-somebody-may-need-is-not-discarded")
def test_what_was_live_before_is_not_removed():
    assert decided(yes=False, live=True) == ([BRING], [READY])


@pytest.mark.promise("bringing-ahead-refuses-nothing")
@pytest.mark.parametrize(
    ("problem", "told"),
    [
        (DOWN, str(DOWN)),
        (OSError("no room"), "this machine: no room"),
        (
            TypeError("no digest"),
            r"tasks/release/ahead.py:\d+: this is a bug of the pipeline: TypeError: no digest",
        ),
    ],
)
def test_what_cannot_be_brought_is_told_and_refuses_nothing(problem, told):
    asked, (said,) = decided(yes=True, bring=problem)
    assert asked == [BRING]
    assert re.match(f"not ready ahead: {told if isinstance(problem, TypeError) else re.escape(told)}", said)
    if problem is not DOWN:
        kept = Path(said.rpartition("cat ")[2]).read_text()
        assert kept.startswith("Traceback")
        assert str(problem) in kept
    assert decided(yes=False, bring=problem)[0] == [BRING, DISCARD]


def test_what_cannot_be_removed_is_told():
    asked, said = decided(yes=False, discard=DOWN)
    assert (asked, said) == ([BRING, DISCARD], [READY, f"what is ready ahead stays there: {DOWN}"])


@pytest.mark.parametrize("yes", [True, False])
def test_where_no_playbook_has_run_nothing_is_asked(yes):
    assert decided(yes=yes, known=False) == ([], [])
