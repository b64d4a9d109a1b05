"""What the cloud has is found by tag."""

from __future__ import annotations

import io
import time

import pytest

from tasks.console.console import Console
from tasks.infrastructure import apply, find
from tasks.infrastructure import stage as infrastructure
from tasks.infrastructure.plan import Existing
from tests.clouds import run_in
from tests.infrastructure.conftest import instances


def test_machines_carry_the_tags_that_find_them(run):
    infrastructure.converge(run)
    (machine,) = instances(run)
    tags = {each["Key"]: each["Value"] for each in machine["Tags"]}
    assert tags == find.tags(run)
    assert tags["branch"] == run.branch


@pytest.mark.promise("long-tags-are-shortened")
def test_a_branch_with_a_name_that_no_tag_can_hold_is_released_and_said(checkout, run):
    long = f"feature/{'x' * 200}/{'y' * 200}"
    told = run_in(checkout, run.cloud, console=Console(stream=io.StringIO()), branch=long)
    infrastructure.converge(told)
    assert not infrastructure.converge(told).changed
    (machine,) = instances(told)
    (branch,) = [each["Value"] for each in machine["Tags"] if each["Key"] == "branch"]
    assert (len(branch), branch[:200]) == (256, long[:200])
    assert branch != find.fitted(long.replace("y", "z"))
    said = told.console.stream.getvalue()
    assert said.count("shortens the branch's name to 256 characters in tags") == 1


def test_of_an_environment_that_was_never_made_nothing_is_found(run):
    assert find.everything(run) == Existing()


def test_everything_that_was_made_is_found(run):
    infrastructure.converge(run)
    found = find.everything(run)
    assert found.key
    assert found.group
    assert {port for port, _ in found.rules} == {22, 80, 443}
    ways = {(each.protocol, each.first) for each in found.outward}
    assert ways == infrastructure.wanted(run, None).ways_out
    assert [each.tags for each in found.machines] == [find.tags(run)]
    assert found.records == {run.host_name: (found.machines[0].address,)}
    assert {each.rpartition("/")[0] for each in found.secrets} == {run.secrets_folder}


@pytest.mark.promise("the-oldest-machine-stays")
def test_a_machine_that_was_stopped_and_started_is_as_old_as_before(run):
    infrastructure.converge(run)
    (before,) = find.everything(run).machines
    apply.stop(run, before.id)
    time.sleep(1.1)  # the cloud's launch times have whole seconds
    infrastructure.converge(run)
    (after,) = find.everything(run).machines
    assert (after.id, after.launched) == (before.id, before.launched)
    assert instances(run)[0]["LaunchTime"].isoformat() > after.launched
