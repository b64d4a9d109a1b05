"""What a refusal advises is typed by people in a hurry: it loses nothing."""

from __future__ import annotations

import re

import pytest

from tasks import docs
from tasks.hosts.ssh import HostKeyChanged, HostUnreachable, LoginRefused, SshFailed
from tasks.settings import SettingsMissing

LOSES = re.compile(
    r"teardown|delete|--replace|--yes|--force|reset --hard|git clean|git checkout|git stash|git rm (?!.*--cached)"
    r"|\brm -r|prune|terminate|doit stop|doit sleep"
)
ASKED_FOR = {
    "BootstrapUnconfirmed": "`doit bootstrap --yes` makes what the account lacks, and takes nothing away",
    "NotConfirmed": "`doit continue --yes` brings what staging has proved to production, and takes nothing away",
    "RunUnderWay": "`doit stop` was typed, and took nothing while the run is at work",
    SettingsMissing.__name__: "`git checkout -- PATH` brings back a file that is not there",
}
"""Advice that looks like it loses something, each with the reason why it does not."""


@pytest.mark.parametrize("kind", docs.refusals(), ids=lambda kind: kind.__name__)
@pytest.mark.promise("a-refusal-says-what-to-type")
def test_no_remedy_loses_data(kind):
    if kind.__name__ not in ASKED_FOR:
        assert not LOSES.search(kind.remedy), kind.remedy


@pytest.mark.parametrize("kind", [HostKeyChanged, HostUnreachable, LoginRefused, SshFailed])
def test_a_login_problem_is_looked_into_and_nothing_is_changed(kind):
    assert re.match(r"doit (plan|status)|ssh-keyscan ", kind.remedy)
    assert "&&" not in kind.remedy


def test_what_is_excused_exists():
    assert set(ASKED_FOR) <= {kind.__name__ for kind in docs.refusals()}
