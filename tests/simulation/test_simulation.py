"""Releases, controls, teardowns, unlocks and sweeps at once, in a cloud where everything goes wrong that may: what must hold, holds.

A seed makes a history, always the same one. One that fails is told with its seed, and shrunk. To see it again:
`SEED=8 pytest tests/simulation -k again`.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from tests.conftest import ROOT
from tests.simulation import history, planted
from tests.simulation.scheduler import Decisions

USUAL, MANY = 300, 10_000
WITHIN = 1_000
"""Histories within which a planted bug is found."""
QUICK = (
    "compare-and-swap is dropped",
    "a record is void after the action instead of before",
    "a lease is taken over too early",
)
"""Planted bugs that the default tests look for."""


@functools.cache
def at_once() -> int:
    return os.cpu_count() or 1


def wrong(seed: int) -> tuple[int, str]:
    return seed, history.tell(Decisions(seed)).wrong


def first_wrong(seeds: range) -> int | None:
    """The first of the seeds whose history is wrong."""
    return next((seed for seed in seeds if history.tell(Decisions(seed)).wrong), None)


def hunted(name: str) -> tuple[str, int | None]:
    """Where a planted bug is found."""
    bug = next(each for each in planted.BUGS if each.name == name)
    with bug.there():
        return name, first_wrong(range(WITHIN))


def report(seed: int) -> str:
    """A failed history, shrunk, with what makes it again."""
    told = history.tell(Decisions(seed))
    small = history.shrink(told)
    lines = [
        *small.events,
        "",
        f"SEED={seed} pytest tests/simulation -k again",
        f"decisions: {small.decisions}",
    ]
    return "\n".join([small.wrong, *lines])


def none_wrong(number: int) -> None:
    begun = time.monotonic()
    with multiprocessing.get_context("spawn").Pool(at_once()) as pool:
        for seed, problem in pool.imap_unordered(wrong, range(number), chunksize=20):
            if problem:
                pool.terminate()
                pytest.fail(report(seed))
    sys.stdout.write(f"{number} histories: {time.monotonic() - begun:.0f} s, {at_once()} processes\n")


def test_usual_histories():
    none_wrong(USUAL)


@pytest.mark.long(short="tests/simulation/test_simulation.py::test_usual_histories")
def test_many_histories():
    none_wrong(MANY)


@pytest.mark.skipif("SEED" not in os.environ, reason="SEED names the history to see again")
def test_again():
    seed = int(os.environ.get("SEED", "0"))
    if history.tell(Decisions(seed)).wrong:
        pytest.fail(report(seed))


def test_every_planted_bug_has_a_place_in_the_code():
    for bug in planted.BUGS:
        with bug.there():
            pass


@pytest.mark.parametrize("name", QUICK)
def test_a_planted_bug_is_found(name):
    assert hunted(name)[1] is not None


@pytest.mark.long(short="tests/simulation/test_simulation.py::test_a_planted_bug_is_found")
def test_every_planted_bug_is_found():
    with multiprocessing.get_context("spawn").Pool(at_once()) as pool:
        found = dict(pool.imap_unordered(hunted, [each.name for each in planted.BUGS]))
    for bug in planted.BUGS:
        sys.stdout.write(f"{found[bug.name]!s:>7}  {bug.name}\n")
    assert [name for name, seed in found.items() if seed is None] == []
    assert len(found) >= 27


PRINT = """
import hashlib, sys
from tests.simulation import history
from tests.simulation.scheduler import Decisions
for seed in range(int(sys.argv[1])):
    events = "\\n".join(history.tell(Decisions(seed)).events)
    print(seed, events.count("\\n"), hashlib.sha256(events.encode()).hexdigest())
"""
BUSY = "while True: pass"


@pytest.mark.parametrize("number", [6, pytest.param(USUAL, marks=pytest.mark.long)])
def test_the_same_seed_gives_the_same_history_with_other_hashes_and_under_load(number):
    def told(hashes: str) -> subprocess.Popen[str]:
        environ = {**os.environ, "PYTHONHASHSEED": hashes}
        command = [sys.executable, "-c", PRINT, str(number)]
        return subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True)

    busy = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(at_once())]
    both = [told("1"), told("2")]
    try:
        first, second = [each.communicate()[0].splitlines() for each in both]
    finally:
        for each in (*busy, *both):
            each.kill()
            each.wait()
    assert first == second
    assert len(first) == number
    assert sum(int(line.split()[1]) for line in first) > 20 * number, "they are no histories"


def test_a_history_is_made_again_by_its_decisions_alone():
    told = history.tell(Decisions(3))
    assert history.tell(Decisions(given=told.decisions)) == told


def test_what_is_wrong_is_shrunk_to_fewer_decisions():
    bug = planted.BUGS[1]
    with bug.there():
        told = history.tell(Decisions(first_wrong(range(WITHIN))))
        small = history.shrink(told)
        assert history.tell(Decisions(given=small.decisions)).wrong == small.wrong != ""
    assert sum(map(bool, small.decisions)) < sum(map(bool, told.decisions))
