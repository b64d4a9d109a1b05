"""inputs: what counts as a change since the last success, and by which name."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.graph.inputs import NEW, Named


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({"a": 1}, {"a": 2}, ["a 1 → 2"]),
        ({"a": 1}, {"a": 1, "b": 2}, ["b none → 2"]),
        ({"a": 1, "b": 2}, {"a": 1}, ["b 2 → none"]),
        ({}, {"a": False}, ["a none → false"]),
        ({"a": ["x"]}, {"a": lambda: ["x", "y"]}, ["a x → x, y"]),
        (None, {}, [NEW]),
    ],
)
@pytest.mark.promise("changed-inputs-are-named")
def test_a_part_that_was_changed_added_or_removed_is_a_change(before, now, said):
    task, named = SimpleNamespace(value_savers=[]), Named(lambda: now)
    assert named(task, {} if before is None else {"inputs": before}) is (said == [])
    assert named.changed == said
    (save,) = task.value_savers
    assert save() == {"inputs": {name: each() if callable(each) else each for name, each in now.items()}}
