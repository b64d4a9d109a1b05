"""What a plan expects: the longest way through what is due."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tasks.graph.plan import Verdict, expectation

NEEDS = {"machines": [], "tarball": [], "server": ["machines"], "release": ["server", "tarball"]}
TASKS = {name: SimpleNamespace(task_dep=needs, actions=[1]) for name, needs in NEEDS.items()}


def verdicts(**seconds):
    return [
        Verdict(
            task=name, what="run" if name in seconds else "unchanged", reasons=(), seconds=seconds.get(name)
        )
        for name in NEEDS
    ]


@pytest.mark.parametrize(
    ("due", "words"),
    [
        ({"machines": 30.0, "tarball": 5.0, "server": 40.0, "release": 7.0}, "about 77 s"),
        ({"tarball": 100.0, "server": 40.0, "release": 7.0}, "about 107 s"),
        ({"release": 7.0}, "about 7 s"),
        ({"tarball": 3.0, "server": None}, "about 3 s, no history here of server"),
        ({"server": None}, "no history here of server"),
    ],
)
@pytest.mark.promise("plan-says-what-runs")
def test_stages_side_by_side_take_as_long_as_the_longer_one(due, words):
    assert expectation(TASKS, verdicts(**due)) == f"expected: {words}"


def test_of_parts_without_a_history_no_time_is_guessed():
    parts = {name: SimpleNamespace(task_dep=[], actions=[1]) for name in ("tarball:vendor", "tarball:pack")}
    found = [Verdict(task=name, what="run", reasons=()) for name in parts]
    assert expectation(parts, found) == "expected: no history here of tarball"
