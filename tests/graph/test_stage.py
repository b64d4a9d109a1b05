"""stage: a record is void before its stage changes anything, so that nothing half done looks done."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import doit
import pytest
from doit.exceptions import TaskFailed

from tasks.bucket.store import RecordTaken
from tasks.graph.stage import Outcome, Properties, perform
from tasks.graph.state import BucketState, Records
from tasks.source import NoCommit
from tests.cloud.embedded.conftest import server  # noqa: F401  (a fixture)
from tests.graph.test_state import run, saved  # noqa: F401  (fixtures)


@pytest.fixture
def recorded(run, monkeypatch):  # noqa: F811
    """A function that tells which tasks have a record, as everybody else sees it. Two have one."""
    for task in ("server", "release"):
        saved(run, task, value=1)
    state = SimpleNamespace(backend=BucketState(Records(run=run), None))
    monkeypatch.setattr(doit.Globals, "dep_manager", state)
    return lambda: {each for each in ("server", "release") if BucketState(Records(run=run), None).in_(each)}


def a_task(**known):
    return SimpleNamespace(
        name="server", uptodate=[], value_savers=[], meta={"properties": Properties(**known)}
    )


@pytest.mark.parametrize(("known", "left"), [({}, {"release"}), ({"voids": ("release",)}, set())])
@pytest.mark.promise("voided-before-anything-changes", "teardown-voids-first")
def test_the_records_are_void_when_the_stage_begins_to_act(run, recorded, known, left):  # noqa: F811
    seen = []

    def act(_):
        seen.append(recorded())
        return Outcome(facts={"a": 1}, done="", unchanged="")

    assert recorded() == {"server", "release"}
    assert perform(act, run, run, a_task(**known)) == {"a": 1}
    assert seen == [left]


@pytest.mark.promise("voided-before-anything-changes")
def test_a_stage_that_fails_leaves_no_record(run, recorded):  # noqa: F811
    def fail(_):
        raise NoCommit(name="x")

    assert isinstance(perform(fail, run, run, a_task()), TaskFailed)
    assert recorded() == {"release"}


@pytest.mark.promise("records-are-not-overwritten")
def test_the_late_success_of_a_run_that_was_paused_is_not_believed(run, recorded):  # noqa: F811
    paused = BucketState(Records(run=dataclasses.replace(run, id="paused")), None)
    assert paused.in_("server")
    perform(lambda _: Outcome(facts={}, done="", unchanged=""), run, run, a_task())
    with pytest.raises(RecordTaken):
        paused.set("server", "deps:", [])
    assert recorded() == {"release"}
