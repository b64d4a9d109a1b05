"""sweep: what is typed decides whether anything is deleted, and how much."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import pytest

from tasks.commands.sweep import SweepCommand, SweepTooMuch
from tasks.environments import inventory
from tests.plain import Plain
from tests.sweep.test_plan import (  # noqa: F401  (fixtures among them)
    BRANCHES,
    DIGESTS,
    NOW_AND_ALL,
    aws,
    identity,
    populate,
    project,
    run_in,
)


def typed(run, **options):
    """`doit sweep`, as doit calls it."""
    command = SweepCommand.__new__(SweepCommand)  # doit makes it from a whole command line
    command.task_list = [SimpleNamespace(meta={"run": run})]
    return command._execute(**options)


def there(run):
    """Everything that a sweep could change: resources by name, and the bucket's objects by version."""
    found = inventory.survey(run)
    return {f"{each.kind} {each.id}" for each in found.resources}, {
        key: run.store.read(key).etag for key in run.store.keys("") if key.endswith(".json")
    }


@pytest.mark.promise("sweep-shows-first")
def test_without_a_yes_nothing_is_deleted_and_nothing_is_remembered(aws, project):  # noqa: F811
    run, gone = run_in(project / "clone", Plain("eu-central-1"), NOW_AND_ALL), identity(BRANCHES[-1])
    populate(run, [BRANCHES[0], BRANCHES[-1]])
    before = there(run)
    assert typed(run) == 0
    assert there(run) == before
    assert typed(run, yes=True) == 0  # it is seen for the first time
    before = there(run)
    assert typed(run) == 0
    assert there(run) == before
    assert typed(run, yes=True) == 0
    assert gone not in inventory.survey(run).environments


@pytest.mark.promise("sweep-takes-a-share-at-most")
def test_more_than_its_share_is_taken_only_when_that_is_typed(aws, project):  # noqa: F811
    settings = dataclasses.replace(NOW_AND_ALL, record_days=-1, share=50)
    run = run_in(project / "clone", Plain("eu-central-1"), settings)
    populate(run, [BRANCHES[0]])
    for each in DIGESTS[:40]:
        run.store.write(f"runs/{each}.json", {}, seen=None)
    assert typed(run, yes=True) == 0  # they are seen for the first time
    before = there(run)
    with pytest.raises(SweepTooMuch, match=r"more than 50 % .*\n    doit sweep --share \d+"):
        typed(run, yes=True)
    with pytest.raises(SweepTooMuch, match="more than 60 % "):
        typed(run, yes=True, share=60)
    assert there(run) == before
    assert typed(run, yes=True, share=100) == 0
    left = {key.removeprefix("runs/").removesuffix(".json") for key in run.store.keys("runs/")}
    assert left == set(DIGESTS[:2])  # the commits that environments run
